"""The data root: where files are looked for, kept after a download, and cached after decoding.

The root is the folder named by METALIB_DATA, else a user cache folder. It may be read-only: what has to be
written then goes to the user cache folder, and if nothing is writable, results are kept in memory only.
"""

import hashlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

with warnings.catch_warnings():  # pooch imports tqdm.auto, which warns in every notebook that has no ipywidgets
    warnings.simplefilter("ignore")
    import pooch

Arrays = dict[str, np.ndarray]


def user_folder() -> Path:
    """The user's cache folder for metalib, e.g. ~/.cache/metalib on Linux."""
    return Path(pooch.os_cache("metalib"))


def data_root() -> Path:
    """The folder named by METALIB_DATA, else `user_folder()`. Raises FileNotFoundError if it is no folder."""
    named = os.environ.get("METALIB_DATA")
    if not named:
        return user_folder()
    root = Path(named).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"METALIB_DATA names {named!r} ({root}), which is not a folder: create it, correct the "
                                f"name, or unset METALIB_DATA to use {user_folder()}")
    return root


def fetch(relative: str, url: str, md5: str | None) -> Path:
    """The path of a data file: found under the data root or the user folder, else downloaded from `url`.

    The MD5 is verified for what is downloaded, not for what is already there; None where the source packs its files
    anew for each download, so that the reader has to check what is in them. A download is written to a
    temporary name first, so an interrupted one leaves nothing behind.
    Raises FileNotFoundError saying what is missing, where it was looked for, and how to get it.
    """
    wanted = [folder / relative for folder in _folders()]
    for path in wanted:
        if path.is_file():
            return path
    target = next((path for path in wanted if _writable(path.parent)), None)
    looked = " and ".join(str(path) for path in wanted)
    by_hand = (f"To get it by hand: download {url}{f' (MD5 {md5})' if md5 else ''} on any machine and put it at "
               f"{wanted[0]}, or set METALIB_DATA to a folder that has it.")
    if target is None:
        raise FileNotFoundError(f"{wanted[0].name} is missing: looked for {looked}; not writable. {by_hand}")
    try:
        pooch.retrieve(url, f"md5:{md5}" if md5 else None, fname=target.name, path=target.parent,
                       progressbar=sys.stderr.isatty())
    except ValueError as error:  # pooch's word for a checksum that does not match
        raise FileNotFoundError(f"{url}: its checksum is wrong, nothing was kept: try again. {by_hand}") from error
    except OSError as error:  # requests' network errors, too, are OSErrors, and chain five tracebacks
        raise FileNotFoundError(f"{target.name} is missing: looked for {looked}, and the download failed "
                                f"({type(error).__name__}). {by_hand}") from None
    return target


@contextmanager
def reading(url: str, *paths: Path) -> Iterator[None]:
    """Whatever goes wrong while published files are read: a ValueError that names the files, the reason and the fix."""
    try:
        yield
    except MemoryError:  # says enough, and the file may be in order
        raise
    except Exception as error:  # a damaged file raises almost anything
        raise ValueError(f"{' or '.join(map(str, paths))} is damaged or not the official file ({error}): delete "
                         f"{'it' if len(paths) == 1 else 'both'}, and it is downloaded again from {url}; without a "
                         "network, copy the official file there") from error


def cached(name: str, make: Callable[[], Arrays], valid: Callable[[Arrays], bool], *,
           made_from: Iterable[Path] = ()) -> Arrays:
    """The arrays that `make()` returns, kept in `<root>/cache/<name>.npz` (or under the user folder).

    The content of the files that they are `made_from` is a part of the name, so the cache is never stale.
    The file is written under a temporary name and renamed, so it is whole or absent. One that cannot be read,
    or is not `valid`, is made again with a warning; if nothing is writable, a warning says so.
    """
    if files := [*made_from]:
        name += f"-{hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()[:8]}"
    paths = [folder / "cache" / f"{name}.npz" for folder in _folders()]
    for path in paths:
        if path.is_file():
            try:
                with np.load(path, allow_pickle=False) as file:
                    arrays = dict(file)
                if valid(arrays):
                    return arrays
                problem = "has unexpected content"
            except Exception as error:  # a damaged zip raises almost anything
                problem = f"cannot be read ({type(error).__name__})"
            warnings.warn(f"the cache file {path} {problem}; making it again", stacklevel=3)
    arrays = make()
    if not any(_save(path, arrays) for path in paths):
        warnings.warn(f"cannot write {' or '.join(str(p.parent) for p in paths)}: {name} is kept in memory only, and "
                      "made again in every process; set METALIB_DATA to a writable folder to keep it", stacklevel=3)
    return arrays


def _folders() -> list[Path]:
    return list(dict.fromkeys([data_root(), user_folder()]))


def _writable(folder: Path) -> bool:
    try:
        there = next(f for f in (folder, *folder.parents) if f.exists())
        if not there.stat().st_mode & 0o222:  # nobody may write here; the administrator could, and should not
            return False
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # os.access does not see a read-only mount
            return True
    except OSError:
        return False


def _save(path: Path, arrays: Arrays) -> bool:
    if not _writable(path.parent):
        return False
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
        temporary.replace(path)
        return True
    except OSError:  # a full disk
        return False
    finally:
        temporary.unlink(missing_ok=True)
