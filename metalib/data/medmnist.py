"""medmnist(name): small medical images with a diagnosis, from MedMNIST v2 (Yang et al. 2023).

MedMNIST v2: J. Yang, R. Shi, D. Wei, Z. Liu, L. Zhao, B. Ke, H. Pfister, B. Ni. "MedMNIST v2: A large-scale
lightweight benchmark for 2D and 3D biomedical image classification". Scientific Data 10:41 (2023),
doi:10.1038/s41597-022-01721-8. Files: https://zenodo.org/records/10519652. Licence: CC BY 4.0. Not for clinical use.
Made from: breast, W. Al-Dhabyani et al., "Dataset of breast ultrasound images", Data in Brief 28:104863 (2020),
doi:10.1016/j.dib.2019.104863; pneumonia, D. S. Kermany et al., "Identifying medical diagnoses and treatable diseases by
image-based deep learning", Cell 172(5):1122-1131 (2018), doi:10.1016/j.cell.2018.02.010; retina, R. Liu et al.,
"DeepDRiD: Diabetic retinopathy, grading and image quality estimation challenge", Patterns 3(6):100512 (2022),
doi:10.1016/j.patter.2022.100512.
"""

import hashlib
from pathlib import Path

import numpy as np

from metalib.arguments import check_choice
from metalib.data.classes import SPLIT_NAMES
from metalib.data.images import ClassImages
from metalib.data.root import fetch, reading

URL = "https://zenodo.org/records/10519652/files/{}?download=1"
MD5 = {"breast": "750601b1f35ba3300ea97c75c52ff8f6", "pneumonia": "28209eda62fecd6e6a2d98b1501bb15f",
       "retina": "bd4c0672f1bba3e3a89f0e4e876791e4"}  # of the official files
# Digests of what is in them, in canonical order; another packing of the same content passes.
CONTENT = {"breast": ["afd7b7af915ebb0d"], "pneumonia": ["3bd33ef965dd3f7e"], "retina": ["f0e6008f2163f200"]}
CLASSES = {"breast": ("malignant", "benign or normal"), "pneumonia": ("normal", "pneumonia"),
           "retina": ("grade 0", "grade 1", "grade 2", "grade 3", "grade 4")}


def medmnist(name: str) -> ClassImages:
    """Images of one source, uint8 RGB 3 x 28 x 28 (grey ones in three equal channels), with the fact "part".

        name           classes                              images (train / val / test)
        "breast"       malignant; benign or normal          546 / 78 / 156, ultrasound
        "pneumonia"    normal; pneumonia                    4,708 / 524 / 624, chest X-rays of children
        "retina"       five ordinal grades of retinopathy   1,080 / 120 / 400, photographs of the retina
        "referable"    not referable; grade 2 and above     the same

    `bank.where(part="test")` is the official test part. The files do not say which images are of one patient, so that a
    split by patient cannot be made from them; of "breast" the parts share nearly equal images. The order is
    canonical (part, class, pixels), however the file is packed. This module's docstring has licences and citations.

    Reads `<data root>/medmnist/<name>mnist.npz`, or downloads it there once (MD5 verified); what it holds is compared
    with the digest of the published content. Raises FileNotFoundError (no file and no network) or ValueError (a damaged
    file, another version, or an unknown name), naming the fix.
    """
    check_choice(name, "name", *MD5, "referable")
    source = "retina" if name == "referable" else name
    url = URL.format(f"{source}mnist.npz")
    path = fetch(f"medmnist/{source}mnist.npz", url, MD5[source])
    with reading(url, path):
        parts = [_part(path, part) for part in SPLIT_NAMES]
        digest = hashlib.sha256(b"".join(array.tobytes() for part in parts for array in part)).hexdigest()[:16]
        if digest not in CONTENT[source]:
            raise ValueError(f"it holds {[len(y) for _, y in parts]} images of shape {parts[0][0].shape[1:]}, whose "
                             f"digest {digest} is not that of MedMNIST v2 at 28 x 28, {CONTENT[source]}")
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts))
    names = CLASSES[source]
    if name == "referable":
        labels, names = (labels >= 2).astype(int), ("not referable", "referable")
    return ClassImages.from_arrays(np.moveaxis(images, -1, 1), labels, names=names,
                                   about={"part": np.repeat(SPLIT_NAMES, [len(y) for _, y in parts])})


def _part(path: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (M, H, W, 3) and labels (M,) of one part, by class and pixels."""
    with np.load(path, allow_pickle=False) as file:
        images, labels = file[f"{part}_images"], file[f"{part}_labels"].ravel()
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(labels):
        raise ValueError(f"{part}_images is {images.dtype} {images.shape} with {len(labels)} labels")
    order = sorted(range(len(labels)), key=lambda i: (int(labels[i]), images[i].tobytes()))
    images = images if images.ndim == 4 else np.repeat(images[..., None], 3, -1)
    return np.ascontiguousarray(images[order]), labels[order].astype(np.int64)
