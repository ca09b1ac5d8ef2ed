"""Files that are either whole or absent, and hold no code: what saved learners and training state are written to."""

import contextlib
import errno
import os
import re
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from metalib.arguments import plain


def write(content: dict[str, Any], path: str | os.PathLike[str], *, replace: bool = True) -> None:
    """torch.save to a temporary file in the same folder, flushed to disk, then renamed over `path`.

    A process killed at any moment leaves the old file or the new one, never half of one; of several threads or
    processes that write to one path the last one wins, with a whole file. A link stays a link: the file that it points
    to is written. A kill -9 while it writes leaves a hidden `.NAME.*.partial` beside the file, which may be deleted;
    a later write of the same file deletes those that nobody has written to for an hour.

    Args:
        content: tensors and plain values.
        path: where to.
        replace: False leaves a file that is there alone, and of several processes lets exactly one write it.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full; FileExistsError: see `replace`.
        TypeError: something in it could be written but not read again; nothing is written.
        ValueError: the path is a device or a pipe.
    """
    path = Path(path)
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    _check_ordinary(path)
    _check_readable(content, "")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    prefix = f".{path.name[:100]}."
    temporary = path.with_name(f"{prefix}{uuid.uuid4().hex}.partial")  # nobody else's
    _remove_dead(path.parent, prefix)
    with _named(path):
        file = open(temporary, "xb")
    try:
        with _named(path), file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        if replace or not _linked(temporary, path):
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_dead(folder: Path, prefix: str) -> None:
    """Delete what writers of a file left behind that were killed: nobody has written to it for an hour."""
    with contextlib.suppress(OSError):  # somebody else has deleted it, or it is not ours: no reason not to write
        for name in os.listdir(folder):
            if name.startswith(prefix) and re.fullmatch(r"[0-9a-f]{32}\.partial", name[len(prefix):]):
                left = folder / name
                if time.time() - left.stat().st_mtime > 3600:
                    left.unlink()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """An OSError of what is done inside says which file could not be written, also where PyTorch hid it."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # a full disk is a RuntimeError about positions in an archive
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        if cause is None:
            raise
        raise type(cause)(cause.errno, f"cannot write {path} ({cause.strerror or cause}): make room, or choose a "
                          "folder you may write to. A file that was there is as it was") from error


def _linked(temporary: Path, path: Path) -> bool:
    """Give the file its name unless that is taken (FileExistsError); False where the file system has no such links."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if path.exists():  # where there are no links, this is as close as it gets
            raise FileExistsError(error.errno, f"{path} exists") from error
        return False
    return True


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The dict that `write` stored; tensors and plain values only, so an untrusted file cannot run code.

    Raises:
        OSError, MemoryError: as the system reports them; they say nothing about the file.
        ValueError: the file is damaged (its checksums are wrong, its end is missing), or somebody else's.
    """
    path = Path(path)
    _check_ordinary(path)
    try:
        file = open(path, "rb")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no such file: {path.absolute()}") from error
    with file:  # one open file: what another process renames over the path meanwhile does not mix with it
        if _damaged(file):
            raise ValueError(f"{path} is damaged or was not written by metalib: delete it, or restore a copy")
        file.seek(0)
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # torch raises many types for what it will not read
            if isinstance(error, RuntimeError) and "allocat" in str(error):  # how PyTorch says "out of memory" on a CPU
                raise
            raise ValueError(f"{path} is damaged or was not written by metalib ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} was not written by metalib: it holds a {type(content).__name__}")
    return content


def _damaged(file: BinaryIO) -> bool:
    """Whether a file was whole once and is not any more: empty, cut short, or with bytes that changed.

    `torch.load` compares no checksum: a flipped bit in the weights would be read as another weight.
    """
    start = file.read(4)
    file.seek(0)
    try:
        if not zipfile.is_zipfile(file):
            return start[:2] == b"PK" or not start
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is not None
    except (zipfile.BadZipFile, EOFError, RuntimeError, UnicodeDecodeError):
        return True
    except OSError as error:  # an offset that became negative; a disk that fails says something else
        if error.errno != errno.EINVAL:
            raise
        return True


def _check_ordinary(path: Path) -> None:
    """ValueError for a device or a pipe: one of them never ends, another never answers, and root can replace both."""
    if path.exists() and not path.is_file() and not path.is_dir():  # open() has a word for folders
        raise ValueError(f"{path} is a device or a pipe: name an ordinary file")


def _check_readable(value: Any, where: str) -> None:
    """TypeError, with the name, for what torch.save would write and `read` would refuse."""
    if isinstance(value, dict):
        for k, v in value.items():
            _check_readable(v, f"{where}.{k}" if where else str(k))
    elif isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        for i, v in enumerate(value):
            _check_readable(v, f"{where}[{i}]")
    elif type(value) not in (Tensor, nn.Parameter):
        if type(value) is not type(plain(value, where)):
            raise TypeError(f"{where} is a {type(value).__name__}, which a file cannot keep as it is")
