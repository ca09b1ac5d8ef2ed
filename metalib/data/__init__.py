"""Where examples come from: banks of images sorted by class, and the data root that keeps them."""

from metalib.data.glyphs import glyphs
from metalib.data.images import ClassImages
from metalib.data.root import data_root

__all__ = ["ClassImages", "data_root", "glyphs"]
