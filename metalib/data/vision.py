"""torchvision, imported late and in one place: for augmentation and image grids."""

import importlib
import sys
from types import ModuleType

import torch

_declared: list[torch.library.Library] = []  # a Library that is collected takes its declarations with it


def import_torchvision() -> ModuleType:
    """The torchvision module, also where its compiled operators do not fit the installed torch.

    PyPI's torchvision is built for CUDA; beside a CPU build of torch its import fails with "operator
    torchvision::nms does not exist". Datasets, transforms and grids need none of those operators, so after
    that error, and only then, the two names that the import asks for are declared (calling them still fails).
    Raises ImportError naming the fix if torchvision is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        raise ImportError("torchvision is not installed: pip install torchvision") from error
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    library = torch.library.Library("torchvision", "DEF")
    _declared.append(library)
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    return importlib.import_module("torchvision")
