"""Saved learners: what a learner was built from, and its weights."""

import os
import re
from typing import Any

from torch import Tensor, nn

from metalib import learners, nets
from metalib.arguments import Recorded, arguments, plain, same
from metalib.learner import Learner
from metalib.training.files import read, write

FORMAT = 2  # raise it when the meaning of a stored field changes
KNOWN = {name: getattr(learners, name) for name in learners.__all__} | {
    net.__name__: net for net in (nets.mlp, nets.conv4, nets.WithContext)}


def save(learner: Learner, path: str | os.PathLike[str]) -> None:
    """Write a learner to one file, atomically: its constructor arguments and its weights, no code and no pickle.

    Which parameters are frozen (`requires_grad`) and which modules are in eval mode is written as well. Of networks,
    losses and learners of your own the file holds the names and settings, not the code: `load` needs `into=` for them.

    Raises:
        OSError: the folder is missing or not writable.
        TypeError: a constructor argument cannot be stored (an open file, say); nothing is written.
        ValueError: a setting was changed in a way that no constructor argument says.
    """
    try:
        spec = _spec(learner, type(learner).__name__)
    except (TypeError, ValueError) as error:  # a learner that took hours must not be lost to one of its settings
        raise type(error)(f"{error}. To keep the weights alone: torch.save(learner.state_dict(), path)") from error
    content = {"format": FORMAT, "spec": spec, "weights": learner.state_dict(),
               "frozen": [k for k, p in learner.named_parameters() if not p.requires_grad],
               "eval": [k for k, m in learner.named_modules() if not m.training]}
    write(content, path)


def load(path: str | os.PathLike[str], *, into: Learner | None = None) -> Learner:
    """Read a learner that `save` wrote, on the CPU.

    Args:
        path: the file.
        into: a learner of your own with the same architecture and settings, for networks and losses that metalib does
            not know. It is left as it was if the file does not fit it.

    Raises:
        OSError: the file cannot be read; FileNotFoundError: there is none.
        ValueError: the file is damaged, of a newer format, or needs `into=`; or `into` has other settings or weights of
            other shapes than the learner that was saved.
    """
    content = read(path)
    if not {"format", "spec", "weights"} <= set(content):
        raise ValueError(f"{path} is not a saved learner (it holds {sorted(content)}); a training checkpoint is read "
                         "by meta_train(..., TrainConfig(checkpoint=...))")
    if content["format"] > FORMAT:
        raise ValueError(f"{path} has format {content['format']}, this metalib reads up to {FORMAT}: upgrade metalib")
    learner, weights = into if into is not None else _build(content["spec"], path), content["weights"]
    theirs, mine = ({k: "x".join(map(str, v.shape)) for k, v in state.items() if isinstance(v, Tensor)}
                    for state in (weights, learner.state_dict()))
    if wrong := [f"{k} {theirs.get(k, 'missing')} in the file, {mine.get(k, 'missing')} here"
                 for k in theirs | mine if theirs.get(k) != mine.get(k)]:
        raise ValueError(f"the weights in {path} do not fit {type(learner).__name__}: {'; '.join(wrong[:4])}")
    if into is not None:
        _compare(content, into, path)
    for name, t in (*learner.named_parameters(), *learner.named_buffers()):
        if name in weights:
            t.data = t.data.to(weights[name].dtype)
    learner.load_state_dict(weights)
    for name, p in learner.named_parameters():
        p.requires_grad_(name not in content.get("frozen", ()))  # format 1 knew neither of the two
    for name, m in learner.named_modules():
        m.training = name not in content.get("eval", ())
    return learner


def _spec(module: nn.Module, where: str) -> dict[str, Any]:
    """{"name": class, "args": its constructor's arguments}; a name of None for what cannot be rebuilt from that."""
    if not isinstance(module, Recorded):
        text = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(module))
        return {"name": None, "class": type(module).__name__, "repr": text}
    args = {}
    for name, value in arguments(module).items():
        if isinstance(value, nn.Module):
            args[name] = _spec(value, f"{where}({name}=)")
        elif callable(value):
            args[name] = {"name": None, "class": getattr(value, "__name__", type(value).__name__), "repr": "a function"}
        else:
            args[name] = plain(value, f"{where}({name}=)")
    known = type(module) in KNOWN.values()
    return {"name": type(module).__name__ if known else None, "class": type(module).__name__, "args": args}


def _build(spec: dict[str, Any], path: str | os.PathLike[str]) -> Any:
    if spec["name"] not in KNOWN:
        part = " ".join(f"{spec.get('class', '')} {spec.get('repr', 'a class of your own')}".split())[:80]
        raise ValueError(f"{path} has a part that metalib cannot rebuild ({part}): "
                         "build the same learner yourself and call load(path, into=learner)")
    args = {k: _build(v, path) if isinstance(v, dict) else v for k, v in spec["args"].items()}
    return KNOWN[spec["name"]](**args)


def _compare(content: dict[str, Any], into: Learner, path: str | os.PathLike[str]) -> None:
    """ValueError, naming what differs, unless `into` was built with the settings that the file records."""
    saved, here = _flat(content["spec"]), _flat(_spec(into, type(into).__name__))
    if wrong := [f"{k}: {saved.get(k)!r} in the file, {here.get(k)!r} here" for k in saved | here
                 if not same(saved.get(k), here.get(k))]:
        raise ValueError(f"the learner in {path} was built with other settings than into=: {'; '.join(wrong[:6])}. "
                         "Build into= with those of the file")


def _flat(spec: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A spec as {dotted name: value}."""
    flat, own = {}, {k: spec[k] for k in ("class", "repr") if k in spec}
    for name, value in (own | spec.get("args", {})).items():
        if isinstance(value, dict) and "name" in value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
