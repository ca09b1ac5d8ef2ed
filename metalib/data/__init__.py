"""Where examples come from: banks of images sorted by class, and the data root that keeps them."""

from metalib.data.images import ClassImages  # isort: skip
from metalib.data.glyphs import glyphs  # isort: skip
from metalib.data.omniglot import omniglot  # isort: skip
from metalib.data.root import data_root  # isort: skip
from metalib.data.vision import import_torchvision  # isort: skip

__all__ = ["ClassImages", "glyphs", "omniglot", "data_root", "import_torchvision"]
