"""Where examples come from: banks of examples sorted by class, and the data root that keeps them."""

from metalib.data.classes import ClassData  # isort: skip
from metalib.data.images import ClassImages  # isort: skip
from metalib.data.glyphs import glyphs  # isort: skip
from metalib.data.omniglot import omniglot  # isort: skip
from metalib.data.pictograms import pictograms  # isort: skip
from metalib.data.digits import digits  # isort: skip
from metalib.data.medmnist import medmnist  # isort: skip
from metalib.data.bccd import bccd  # isort: skip
from metalib.data.phantoms import phantoms  # isort: skip
from metalib.data.texts import ClassTexts, Vocabulary  # isort: skip
from metalib.data.clinc import clinc150, out_of_scope  # isort: skip
from metalib.data.languages import languages  # isort: skip
from metalib.data.root import data_root  # isort: skip
from metalib.data.vision import import_torchvision  # isort: skip

__all__ = ["ClassData", "ClassImages", "ClassTexts", "Vocabulary", "glyphs", "omniglot", "pictograms", "digits",
           "medmnist", "bccd", "phantoms", "clinc150", "out_of_scope", "languages", "data_root", "import_torchvision"]
