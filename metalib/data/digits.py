"""digits(): the 1,797 handwritten digits, 8 x 8, that come with scikit-learn, placed on 28 x 28."""

import hashlib

import numpy as np
import torch
from PIL import Image

from metalib.arguments import check_whole
from metalib.data.images import ClassImages
from metalib.functional import seeded

CONTENT = ("87ff0c9e40dc",)  # SHA-256 of the images, one byte a pixel, then of the labels: of all accepted versions
SIDE, MARGIN = 20, 4  # of the enlarged digit, and around it: 28 pixels of paper


def digits(shift: int = 0, seed: int = 0) -> ClassImages:
    """Ten classes, 174 to 183 drawings each, uint8 28 x 28, ink 255; no splits: a domain to be tested on.

    The 8 x 8 counts of ink that scikit-learn ships are enlarged to 20 x 20 (bilinear) in the middle of the paper. With
    `shift`, each is then moved by whole pixels, drawn uniformly from -shift .. shift to the right and down: at most 4,
    the margin, so that no ink is lost and the place alone differs. The seed changes the shifts.

    Raises ImportError without scikit-learn, ValueError for a shift above 4 or if its digits are other ones.

    Alpaydin and Kaynak (1998), "Optical recognition of handwritten digits", UCI Machine Learning Repository,
    doi:10.24432/C50P49, CC BY 4.0.
    """
    check_whole(0, shift=shift)
    if shift > MARGIN:
        raise ValueError(f"shift={shift}: at most {MARGIN} pixels, or ink would be lost at the edge")
    try:
        from sklearn.datasets import load_digits  # 100 MB that only this needs
    except ImportError as error:
        raise ImportError('digits() needs scikit-learn: pip install "metalib[images]"') from error
    small, labels = load_digits(return_X_y=True)
    content = small.astype(np.uint8).tobytes() + labels.astype(np.uint8).tobytes()
    if (found := hashlib.sha256(content).hexdigest()[:12]) not in CONTENT:
        raise ValueError(f"scikit-learn's digits are other ones ({found}): pip install --force-reinstall scikit-learn")
    ink = (small.reshape(-1, 8, 8) * 255 // 16).astype(np.uint8)
    large = (np.asarray(Image.fromarray(x).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for x in ink)
    paper = [np.pad(x, MARGIN) for x in large]
    moves = torch.randint(-shift, shift + 1, (len(paper), 2), generator=seeded(seed)).tolist()
    return ClassImages.from_arrays(np.stack([np.roll(x, move, (0, 1)) for x, move in zip(paper, moves)]), labels,
                                   names=[f"digit/{d}" for d in range(10)], groups=["digits"] * 10)
