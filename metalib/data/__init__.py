"""Where examples come from: banks of examples sorted by class, and the data root that keeps them."""

from metalib.data.classes import ClassData  # isort: skip
from metalib.data.images import ClassImages  # isort: skip
from metalib.data.glyphs import glyphs  # isort: skip
from metalib.data.omniglot import omniglot  # isort: skip
from metalib.data.root import data_root  # isort: skip
from metalib.data.vision import import_torchvision  # isort: skip

__all__ = ["ClassData", "ClassImages", "glyphs", "omniglot", "data_root", "import_torchvision"]
