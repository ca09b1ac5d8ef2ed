"""Real medical images: what is read, and what happens when files are damaged, changed or missing; phantoms."""

import hashlib
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metalib import FewShot, RidgeHead, audit, meta_test
from metalib.data import root
from metalib.data.bccd import bccd
from metalib.data.medmnist import medmnist
from metalib.data.phantoms import phantoms
from metalib.tasks.sham import Sham

cells, mnist = sys.modules["metalib.data.bccd"], sys.modules["metalib.data.medmnist"]
COUNTS = {"train": 12, "val": 3, "test": 5}


def there(name):
    folders = (Path(os.environ.get("METALIB_DATA") or root.user_folder()), root.user_folder())
    return any((folder / name).is_file() for folder in folders)


real = pytest.mark.skipif(not there("medmnist/breastmnist.npz") or not there("bccd/BCCD.zip"),
                          reason="MedMNIST's and BCCD's files are not in the data root (METALIB_DATA)")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty data root, and no network."""
    monkeypatch.setenv("METALIB_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(root, "user_folder", lambda: tmp_path / "user")
    monkeypatch.setattr(mnist, "URL", "http://127.0.0.1:9/{}")  # the discard port: nothing answers
    monkeypatch.setattr(cells, "URL", "http://127.0.0.1:9/BCCD.zip")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "data"


# MedMNIST ------------------------------------------------------------------------------------------------------------


def write_npz(data, *, seed=0, size=28, drop=None, colour=False, order=False, **changed):
    g, arrays = np.random.default_rng(seed), {}
    for part, n in COUNTS.items():
        arrays[f"{part}_images"] = g.integers(0, 256, (n, size, size, 3) if colour else (n, size, size), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(n, dtype=np.uint8)[:, None] % 2
        if order:
            turn = np.random.default_rng(9).permutation(n)
            for what in ("images", "labels"):
                arrays[f"{part}_{what}"] = arrays[f"{part}_{what}"][turn]
    arrays = {k: v for k, v in (arrays | changed).items() if k != drop}
    path = data / "medmnist" / "breastmnist.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **arrays)
    return path


@pytest.fixture
def breast(data, monkeypatch):
    """A miniature of the breast images, whose digest the loader is told."""
    path = write_npz(data)
    with pytest.raises(ValueError, match="is not that of MedMNIST v2") as told:
        medmnist("breast")
    monkeypatch.setitem(mnist.CONTENT, "breast", ["0" * 16, str(told.value).split("digest ")[1].split()[0]])
    return path


def test_grey_images_become_rgb_and_the_official_part_is_a_fact(breast):
    images = medmnist("breast")
    assert images.names == ("malignant", "benign or normal") and images.shape == (3, 28, 28)
    assert {p: int((images.about["part"] == p).sum()) for p in COUNTS} == COUNTS
    assert (images.images[:, :1] == images.images).all()
    with np.load(breast) as file:
        test = {i.tobytes(): int(y) for i, y in zip(file["test_images"], file["test_labels"].ravel())}
    part = images.where(part="test")
    assert {i.numpy().tobytes(): int(y) for i, y in zip(part.images[:, 0], part.labels)} == test


def test_the_packing_does_not_matter(breast, data):
    one = medmnist("breast")
    write_npz(data, order=True)  # the same examples in another order, in a file with another checksum
    assert medmnist("breast").digest() == one.digest()
    with np.load(breast) as file:
        np.savez_compressed(breast, **{k: file[k] for k in reversed(file.files)})
    assert torch.equal(medmnist("breast").images, one.images)


@pytest.mark.parametrize("fault, message", [
    (lambda p: p.write_bytes(p.read_bytes()[:3000]), "damaged or not the official file"),
    (lambda p: p.write_bytes(b"<html>not found</html>"), "damaged or not the official file"),
    (lambda p: p.write_bytes(b""), "damaged or not the official file"),
    (lambda p: p.write_bytes(p.read_bytes().replace(b"val_images", b"vol_images")), "val_images"),
    (lambda p: write_npz(p.parents[1], drop="test_labels"), "test_labels"),
    (lambda p: write_npz(p.parents[1], size=64), r"\(64, 64, 3\), whose digest .* is not that of MedMNIST v2 at 28"),
    (lambda p: write_npz(p.parents[1], seed=1), "is not that of MedMNIST v2"),
    (lambda p: write_npz(p.parents[1], colour=True), "is not that of MedMNIST v2"),
    (lambda p: write_npz(p.parents[1], train_images=np.zeros((3, 28, 28))), r"train_images is float64 \(3, 28, 28\)"),
    (lambda p: write_npz(p.parents[1], val_labels=np.zeros(9)), "with 9 labels"),
    (lambda p: write_npz(p.parents[1], test_images=np.array([None] * 5)), "damaged or not the official file"),
])
def test_a_file_that_is_not_the_published_one_is_refused_with_the_way_to_get_it(breast, fault, message):
    fault(breast)
    with pytest.raises(ValueError, match=message) as told:
        medmnist("breast")
    assert all(part in str(told.value) for part in (f"{breast} is damaged", "delete it", "127.0.0.1:9/breastmnist.npz"))


def test_one_flipped_bit_is_seen(breast):
    with np.load(breast) as file:
        arrays = dict(file)
    arrays["train_images"][0, 0, 0] ^= 1
    np.savez(breast, **arrays)
    with pytest.raises(ValueError, match="is not that of MedMNIST v2"):
        medmnist("breast")


@pytest.mark.parametrize("load, name, md5", [(lambda: medmnist("retina"), "retinamnist.npz", "bd4c0672"),
                                             (bccd, "BCCD.zip", None)])
def test_without_file_and_network_the_error_says_how_to_get_it(data, load, name, md5):
    with pytest.raises(FileNotFoundError, match=f"{name} is missing.*the download failed.*To get it by hand") as told:
        load()
    assert ("MD5 bd4c0672" in str(told.value)) if md5 else ("MD5" not in str(told.value))
    assert not list(data.rglob(name))  # nothing half downloaded


def test_a_download_with_another_checksum_is_not_kept(data, monkeypatch, tmp_path):
    (tmp_path / "other").write_bytes(b"something else")

    def retrieve(url, known_hash, fname, path, **options):
        if hashlib.md5(b"something else").hexdigest() != known_hash.removeprefix("md5:"):
            raise ValueError("hash")

    monkeypatch.setattr(root.pooch, "retrieve", retrieve)
    with pytest.raises(FileNotFoundError, match="its checksum is wrong"):
        medmnist("breast")


def test_an_unknown_name_lists_those_that_there_are(data):
    with pytest.raises(ValueError, match="'breast'.*'pneumonia'.*'retina'.*'referable'"):
        medmnist("skin")


# BCCD ----------------------------------------------------------------------------------------------------------------

BOX = ("<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>")
BOXES = [("RBC", 10, 10, 40, 30), ("WBC", 0, 0, 60, 50), ("Platelets", 70, 50, 79, 59), ("RBC", 33, 33, 33, 33)]


def write_zip(data, prefix="", backwards=False, boxes=BOXES):
    path = data / "bccd" / "BCCD.zip"
    path.parent.mkdir(exist_ok=True)
    files = {"LICENSE": b"MIT"}
    for i, part in enumerate(("train", "val", "test")):
        picture = np.random.default_rng(i).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(picture).save(data / "one.jpg", quality=90)
        files[f"BCCD/JPEGImages/BloodImage_{i}.jpg"] = (data / "one.jpg").read_bytes()
        text = "<annotation>" + "".join(BOX.format(*box) for box in boxes) + "</annotation>"
        files[f"BCCD/Annotations/BloodImage_{i}.xml"] = text.encode()
        files[f"BCCD/ImageSets/Main/{part}.txt"] = f"BloodImage_{i}\n".encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(files, reverse=backwards):
            archive.writestr(prefix + name, files[name])
    return path


@pytest.fixture
def smears(data, monkeypatch):
    """A miniature of BCCD: three smears of three cells, and one box without width each."""
    path = write_zip(data)
    with pytest.raises(ValueError, match="have the digest") as told:
        bccd()
    monkeypatch.setattr(cells, "CONTENT", [str(told.value).split("digest ")[1].split(";")[0]])
    return path


def test_cells_are_cut_square_and_know_their_photograph(smears):
    images = bccd()
    assert images.names == ("red", "white", "platelet") and images.counts.tolist() == [3, 3, 3]
    assert images.about["photograph"].tolist() == [f"BloodImage_{i}" for i in range(3)] * 3
    assert images.about["part"].tolist() == ["train", "val", "test"] * 3 and images.shape == (3, 28, 28)
    with zipfile.ZipFile(smears) as archive, archive.open("BCCD/JPEGImages/BloodImage_1.jpg") as file:
        picture = Image.open(file).convert("RGB")
    for kind, box in enumerate([(10, 5, 40, 35), (0, 0, 60, 60), (70, 50, 79, 59)]):  # (x, y) to (x, y)
        expected = np.asarray(picture.resize((28, 28), Image.Resampling.LANCZOS, box=box))
        assert np.array_equal(images.images[3 * kind + 1].numpy(), np.moveaxis(expected, -1, 0))


def test_github_s_own_zip_and_another_order_are_the_same_data(smears, data):
    one = bccd()
    write_zip(data, "BCCD_Dataset-d272fb14/", backwards=True)
    assert bccd().digest() == one.digest() and len(list((data / "cache").iterdir())) == 2


@pytest.mark.parametrize("fault", [
    lambda p: p.write_bytes(p.read_bytes()[:2000]), lambda p: p.write_bytes(b""), lambda p: p.write_bytes(b"no zip"),
    lambda p: write_zip(p.parents[1], boxes=BOXES[:3]), lambda p: write_zip(p.parents[1], "elsewhere"),
])
def test_another_zip_is_refused(smears, fault):
    fault(smears)
    with pytest.raises(ValueError, match="damaged or not the official file .*delete it"):
        bccd()


def test_a_read_only_root_is_read(smears, data):
    smears.parent.chmod(0o555)
    data.chmod(0o555)
    try:
        assert len(bccd().images) == 9
    finally:
        data.chmod(0o755)
        smears.parent.chmod(0o755)
    assert not (data / "cache").exists() and list((data.parent / "user" / "cache").iterdir())


# the real files ------------------------------------------------------------------------------------------------------


@real
def test_the_real_files_hold_what_is_published():
    assert medmnist("breast").counts.tolist() == [210, 570]
    retina = medmnist("retina")
    assert retina.counts.tolist() == [714, 186, 326, 282, 92] and set(retina.about["part"]) == {*COUNTS}
    assert medmnist("referable").counts.tolist() == [900, 700]
    assert medmnist("referable").images.float().mean() == retina.images.float().mean()
    blood = bccd()
    assert blood.counts.tolist() == [4153, 372, 361] and len(set(blood.about["photograph"])) == 364
    tasks = FewShot(blood, 3, 5, 15, apart="photograph")
    assert audit(tasks, episodes=20).passed


# phantoms ------------------------------------------------------------------------------------------------------------


def test_phantoms_hold_half_lesions_on_every_slide():
    p = phantoms(slides=6, per_slide=8, seed=3)
    assert p.names == ("healthy", "lesion") and p.shape == (3, 28, 28) and p.counts.tolist() == [24, 24]
    assert all(p.where(slide=s).counts.tolist() == [4, 4] for s in set(p.about["slide"]))
    assert p.digest() == phantoms(slides=6, per_slide=8, seed=3).digest() != phantoms(slides=6, per_slide=8).digest()
    with pytest.raises(ValueError, match="expected an even number"):
        phantoms(per_slide=5)


def test_the_lesion_is_what_contrast_says_and_nothing_else_differs():
    none, some = (phantoms(slides=6, contrast=c, nuisance=0) for c in (0, 0.4))
    assert torch.equal(none.subset([0]).images, some.subset([0]).images)  # the healthy ones
    gain = (some.subset([1]).images.float() - none.subset([1]).images.float()) / 255
    peak = gain.mean(1).flatten(1).amax(1)
    assert ((peak > 0.2) & (peak < 0.5)).all() and gain.min() >= 0


def test_without_nuisance_slides_are_alike_and_with_it_they_are_not():
    for nuisance, alike in ((0.0, True), (1.0, False)):
        p = phantoms(slides=8, per_slide=10, contrast=0, nuisance=nuisance).by("slide")
        means = p.images.double().mean((2, 3)).view(8, 10, 3)
        spread = means.mean(1).std(0).mean() / means.std(1).mean()
        assert (spread < 1) == alike, spread


def test_a_sham_is_predicted_by_image_and_not_by_slide():
    slides, learner = phantoms(slides=40, per_slide=10, contrast=0, size=12).by("slide"), RidgeHead(torch.nn.Flatten())
    by_image, by_slide = (meta_test(learner, Sham(slides, apart=apart), 80) for apart in (False, True))
    assert by_image.mean > 0.7 and abs(by_slide.mean - 0.5) < 3 * by_slide.ci95 / 1.96
