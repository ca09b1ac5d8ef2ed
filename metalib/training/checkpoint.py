"""Files that are either whole or absent: saved learners and training state."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metalib import nets
from metalib.learner import Learner
from metalib.learners import maml, metric

FORMAT = 1  # raise it when the meaning of a stored field changes
KNOWN = {c.__name__: c for c in (maml.MAML, metric.ProtoNet, metric.Pretrained, metric.PixelFloor,
                                 nets.mlp, nets.conv4)}


def save(learner: Learner, path: str | os.PathLike[str]) -> None:
    """Write a learner to one file, atomically: its constructor arguments and its weights, no code and no pickle.

    Raises:
        OSError: the folder is missing or not writable.
    """
    content = {"format": FORMAT, "spec": _spec(learner), "weights": learner.state_dict(), "training": learner.training}
    write(content, path)


def load(path: str | os.PathLike[str], *, into: Learner | None = None) -> Learner:
    """Read a learner that `save` wrote, on the CPU.

    Args:
        path: the file.
        into: a learner of your own with the same architecture, for networks and losses that metalib does not know.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of a newer format, or needs `into=`.
    """
    content = read(path)
    if not {"format", "spec", "weights"} <= set(content):
        raise ValueError(f"{path} is not a saved learner (it holds {sorted(content)}); a training checkpoint is read "
                         "by meta_train(..., TrainConfig(checkpoint=...))")
    if content["format"] > FORMAT:
        raise ValueError(f"{path} has format {content['format']}, this metalib reads up to {FORMAT}: upgrade metalib")
    learner = into if into is not None else _build(content["spec"], path)
    dtypes = {w.dtype for w in content["weights"].values() if w.is_floating_point()}
    if len(dtypes) == 1:
        learner = learner.to(dtypes.pop())
    try:
        learner.load_state_dict(content["weights"])
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit {type(learner).__name__}: {error}") from error
    return learner.train(content.get("training", True))


def write(content: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """torch.save to a temporary file in the same folder, flushed to disk, then renamed over `path`.

    A process killed at any moment leaves the old file or the new one, never half of one.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        file = open(temporary, "wb")
    except OSError as error:
        raise OSError(f"cannot write in {path.parent} ({error.strerror}): choose a folder you may write to") from error
    try:
        with file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The dict that `write` stored; tensors and plain values only, so an untrusted file cannot run code."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path.absolute()}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        raise ValueError(f"{path} is damaged or was not written by metalib ({type(error).__name__}): delete it, or "
                         "restore a copy") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} was not written by metalib: it holds a {type(content).__name__}")
    return content


def _spec(module: nn.Module) -> dict[str, Any]:
    """{"name": class, "args": its constructor's arguments}, read from the attributes of the same names."""
    args = {}
    for name in inspect.signature(type(module).__init__).parameters:
        if name != "self":
            value = getattr(module, name, None)
            known_net = isinstance(value, nn.Module) and type(value).__name__ in KNOWN
            plain = value is None or isinstance(value, (bool, int, float, str, list))
            args[name] = _spec(value) if known_net else value if plain else {"name": None, "repr": repr(value)[:80]}
    return {"name": type(module).__name__ if type(module) in KNOWN.values() else None, "args": args}


def _build(spec: dict[str, Any], path: str | os.PathLike[str]) -> Any:
    if spec["name"] not in KNOWN:
        raise ValueError(f"{path} has a part that metalib cannot rebuild ({spec.get('repr', 'a class of your own')}): "
                         "build the same learner yourself and call load(path, into=learner)")
    args = {k: _build(v, path) if isinstance(v, dict) else v for k, v in spec["args"].items()}
    return KNOWN[spec["name"]](**args)
