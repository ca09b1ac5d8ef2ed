"""What recipes measured: the records and saved learners that chapters read.

They lie in results/ of a checkout, the folder that holds the book's source. The wheel carries a copy of those that the
chapters read, so that a downloaded notebook finds them as well.
"""

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
HOW = ("Those that chapters read come with metalib's wheel (in the book's source: `make wheel`, then `python -m "
       "pip install dist/metalib-*.whl`); all lie in results/ of the book's source, where `make records` makes them")


def record(name: str) -> dict[str, Any]:
    """What a recipe wrote down: `record("joint")` is the content of joint.json.

    It is looked for in results/ of the checkout, where there is one, otherwise in the copy that the wheel carries.
    Raises FileNotFoundError, saying where records come from, if it is not there.
    """
    return json.loads(_found(f"{name}.json").read_text(encoding="utf-8"))


def records(pattern: str = "*") -> list[str]:
    """The names of the records that are here and match, in order: `records("omniglot-*")`.

    Raises FileNotFoundError if there is no place with records at all.
    """
    return sorted(path.stem for path in _folder().glob("*.json") if fnmatch(path.stem, pattern))


def checkpoint(name: str) -> Path:
    """The file of a saved learner, found as `record` finds a record: `load(checkpoint("play-protonet"))`."""
    return _found(f"checkpoints/{name}.pt")


def _folder() -> Path:
    """results/ of the checkout that this package or the notebook stands in, else the wheel's copy."""
    for place in (PACKAGE.parent, Path.cwd(), *Path.cwd().parents):
        if (place / "results").is_dir() and (place / "recipes" / "record.py").is_file():
            return place / "results"
    if not (PACKAGE / "recorded").is_dir():
        raise FileNotFoundError(f"no records: this metalib ({PACKAGE}) was installed without them. {HOW}")
    return PACKAGE / "recorded"


def _found(relative: str) -> Path:
    path = _folder() / relative
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. {HOW}; metalib.records() lists what is here")
    return path
