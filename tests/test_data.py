"""Banks of images, a reader's own folders, the data root and torchvision's import."""

import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from metalib import ClassImages, FewShot
from metalib.data import root


def bank(n=10, per_class=4, size=6, seed=0, **kwargs):
    images = np.random.default_rng(seed).integers(0, 256, (n * per_class, size, size), dtype=np.uint8)
    return ClassImages.from_arrays(images, np.arange(n).repeat(per_class), **kwargs)


def write_folder(path, classes, size=6, per_class=3):
    for name in classes:
        (path / name).mkdir(parents=True)
        for i in range(per_class):
            value = zlib.crc32(f"{name} {i}".encode()) % 256
            Image.fromarray(np.full((size, size), value, dtype=np.uint8)).save(path / name / f"{i}.png")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An empty data root and an empty user folder."""
    data, user = tmp_path / "data", tmp_path / "user"
    data.mkdir()
    monkeypatch.setenv("METALIB_DATA", str(data))
    monkeypatch.setattr(root, "user_folder", lambda: user)
    return data, user


def test_images_in_any_order_come_out_sorted_by_class():
    images, labels = np.arange(6, dtype=np.uint8).repeat(4).reshape(6, 2, 2), np.array([7, 3, 7, 3, 3, 9])
    b = ClassImages.from_arrays(images, labels)
    assert b.images[:, 0, 0, 0].tolist() == [1, 3, 4, 0, 2, 5]
    assert b.labels.tolist() == [0, 0, 0, 1, 1, 2] and b.starts.tolist() == [0, 3, 5] and b.counts.tolist() == [3, 2, 1]
    assert b.names == ("3", "7", "9") and b.shape == (1, 2, 2) and len(b) == b.n_classes == 3
    assert b.base.tolist() == [0, 1, 2] and "3 classes x 1-3 images" in repr(b)


def test_floats_in_0_1_are_the_same_bank_as_bytes():
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 5), dtype=np.uint8)
    as_bytes, as_floats = (ClassImages.from_arrays(x, [0, 0, 1, 1]) for x in (images, images.astype(np.float32) / 255))
    assert torch.equal(as_bytes.images, as_floats.images) and as_bytes.digest() == as_floats.digest()


@pytest.mark.parametrize(
    "images, labels, error, message",
    [
        (np.zeros((4, 5)), [0] * 4, ValueError, r"shape \(4, 5\)"),
        (np.zeros((0, 5, 5)), [], ValueError, "none of them 0"),
        (np.zeros((4, 28, 28, 3)), [0] * 4, ValueError, r"np\.moveaxis"),
        (np.zeros((4, 5, 5), dtype=np.int64), [0] * 4, TypeError, r"astype\('uint8'\)"),
        (np.full((4, 5, 5), 200.0), [0] * 4, ValueError, "divide by 255"),
        (np.full((4, 5, 5), np.nan), [0] * 4, ValueError, "divide by 255"),
        (np.zeros((4, 5, 5)), [0] * 3, ValueError, "4 images but labels of shape"),
        (np.zeros((4, 5, 5)), [0.5] * 4, TypeError, "expected integers"),
    ],
)
def test_wrong_arrays_get_an_error_that_names_the_fix(images, labels, error, message):
    with pytest.raises(error, match=message):
        ClassImages.from_arrays(images, labels)


def test_names_and_splits_must_fit_the_classes():
    with pytest.raises(ValueError, match="names= has 3 entries; expected 10"):
        bank(names=["a", "b", "c"])
    with pytest.raises(ValueError, match="split 'test' has class 10; this bank has classes 0 to 9"):
        bank(splits={"train": range(5), "test": [10]})
    with pytest.raises(ValueError, match="is in splits 'train' and 'test'"):
        bank(splits={"train": range(5), "test": [4]})


def test_a_bank_without_splits_says_how_to_make_them():
    with pytest.raises(ValueError, match="split_classes"):
        bank().split("train")
    with pytest.raises(ValueError, match="no split named 'dev'; this bank has 'train', 'val', 'test'"):
        bank().split_classes().split("dev")
    with pytest.raises(ValueError, match="one split already"):
        bank().split_classes().split("train").split("train")


@pytest.mark.parametrize("seed", range(5))
def test_class_splits_share_no_class_and_lose_none(seed):
    b = bank(20).split_classes(seed=seed)
    parts = [set(b.split(s).names) for s in ("train", "val", "test")]
    assert set.union(*parts) == set(b.names) and sum(map(len, parts)) == 20
    assert parts != [set(bank(20).split_classes(seed=seed + 1).split(s).names) for s in ("train", "val", "test")]


def test_too_few_classes_to_split_is_an_error():
    with pytest.raises(ValueError, match="2 classes are too few"):
        bank(2).split_classes()
    with pytest.raises(ValueError, match="that sum to 1"):
        bank().split_classes((0.5, 0.1, 0.1))


def test_a_subset_holds_exactly_the_images_of_its_classes():
    b = bank(6, splits={"train": [0, 1, 2], "test": [3, 4, 5]})
    s = b.subset([4, 1])
    assert torch.equal(s.images, torch.cat([b.images[16:20], b.images[4:8]]))
    assert s.labels.tolist() == [0] * 4 + [1] * 4 and s.names == ("4", "1")
    assert s.splits == {"train": (1,), "test": (0,)} and s.base.tolist() == [1, 0]
    for wrong in ([], [6], [1, 1]):
        with pytest.raises(ValueError, match="subset"):
            b.subset(wrong)


def test_rotations_are_new_classes_that_know_their_character():
    b = bank(5, splits={"train": [0, 1, 2], "test": [3, 4]})
    turned = b.with_rotations()
    assert len(turned) == 20 and turned.base.tolist() == list(range(5)) * 4
    for r in range(4):
        assert np.array_equal(turned.images[20 * r + 7, 0].numpy(), np.rot90(b.images[7, 0].numpy(), r))
    assert turned.names[5] == "0 rot90" and turned.splits["test"] == (3, 4, 8, 9, 13, 14, 18, 19)
    assert turned.starts.tolist() == list(range(0, 80, 4)) and turned.labels[turned.starts].tolist() == list(range(20))
    assert not set(turned.split("train").base.tolist()) - {0, 1, 2} and len(turned.split("test")) == 8
    with pytest.raises(ValueError, match="rotations already"):
        turned.with_rotations()
    with pytest.raises(ValueError, match="square"):
        ClassImages.from_arrays(np.zeros((2, 4, 5)), [0, 1]).with_rotations()


def test_rotations_of_one_character_stay_in_one_split():
    b = bank(12).with_rotations().split_classes(seed=3)
    characters = [set(b.base[list(b.splits[s])].tolist()) for s in ("train", "val", "test")]
    assert sum(map(len, characters)) == len(set.union(*characters)) == 12


def test_the_digest_sees_images_labels_and_names():
    digests = {bank().digest(), bank(seed=1).digest(), bank(5, 8).digest(), bank(names="abcdefghij").digest()}
    assert len(digests) == 4 and bank().digest() == bank().to("cpu").digest()


def test_a_bank_is_immutable():
    with pytest.raises(AttributeError):
        bank().images = None


def test_too_few_examples_names_the_class_and_the_fix():
    with pytest.raises(ValueError, match="has 4 examples; 1-shot .*needs 16.*lower query="):
        FewShot(bank(), way=5, shot=1)


# a reader's own folders ------------------------------------------------------------------------------------------


def test_a_folder_a_class_with_or_without_groups(tmp_path):
    write_folder(tmp_path / "flat", ["b", "a"])
    write_folder(tmp_path / "nested", ["x/b", "x/a", "y/a"])
    flat, nested = ClassImages.from_folder(tmp_path / "flat"), ClassImages.from_folder(tmp_path / "nested")
    assert flat.names == ("a", "b") and flat.groups == ("", "") and flat.counts.tolist() == [3, 3]
    assert nested.names == ("x/a", "x/b", "y/a") and nested.groups == ("x", "x", "y")
    assert flat.images[4, 0, 0, 0] == zlib.crc32(b"b 1") % 256
    inverted = ClassImages.from_folder(tmp_path / "flat", invert=True)
    assert torch.equal(inverted.images, 255 - flat.images)


def test_the_order_in_which_files_were_written_does_not_matter(tmp_path):
    names = [f"c{i}" for i in range(8)]
    write_folder(tmp_path / "one", names)
    write_folder(tmp_path / "two", reversed(names))
    one, two = (ClassImages.from_folder(tmp_path / f).split_classes(seed=5) for f in ("one", "two"))
    assert one.digest() == two.digest() and one.splits == two.splits


def test_mixed_sizes_name_the_file_unless_size_is_given(tmp_path):
    write_folder(tmp_path, ["a", "b"])
    Image.new("L", (9, 7)).save(tmp_path / "b" / "9.png")
    with pytest.raises(ValueError, match=r"9\.png is 9 x 7, but 0\.png is 6 x 6: give size="):
        ClassImages.from_folder(tmp_path)
    assert ClassImages.from_folder(tmp_path, size=5).shape == (1, 5, 5)
    assert ClassImages.from_folder(tmp_path, size=5, grayscale=False).shape == (3, 5, 5)


def test_folders_that_cannot_be_read_name_the_fix(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        ClassImages.from_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no images in"):
        ClassImages.from_folder(tmp_path)
    write_folder(tmp_path, ["a"])
    (tmp_path / "a" / "zz.png").write_bytes((tmp_path / "a" / "0.png").read_bytes()[:30])
    with pytest.raises(ValueError, match=r"zz\.png cannot be read"):
        ClassImages.from_folder(tmp_path)
    (tmp_path / "a" / "zz.png").rename(tmp_path / "zz.png")
    with pytest.raises(ValueError, match="put each image in the folder of its class"):
        ClassImages.from_folder(tmp_path)


# the data root ---------------------------------------------------------------------------------------------------


def arrays(value):
    return {"x": np.full(3, value)}


def test_the_root_is_metalib_data_else_the_user_folder(folders, monkeypatch):
    data, user = folders
    assert root.data_root() == data
    monkeypatch.delenv("METALIB_DATA")
    assert root.data_root() == user


def test_a_missing_data_root_says_so(folders, monkeypatch):
    monkeypatch.setenv("METALIB_DATA", str(folders[0] / "typo"))
    with pytest.raises(FileNotFoundError, match="METALIB_DATA names .*typo.*create it, correct the name, or unset"):
        root.cached("thing", lambda: arrays(1), lambda a: True)


def test_what_is_cached_is_made_once_and_leaves_no_partial_file(folders):
    made = []

    def make():
        made.append(1)
        return arrays(1)

    for _ in range(2):
        assert root.cached("thing", make, lambda a: True)["x"].tolist() == [1, 1, 1]
    assert made == [1] and [p.name for p in (folders[0] / "cache").iterdir()] == ["thing.npz"]


@pytest.mark.parametrize("damage", ["truncated", "text", "unexpected"])
def test_a_damaged_cache_is_made_again_with_a_warning(folders, damage):
    root.cached("thing", lambda: arrays(1), lambda a: True)
    file = folders[0] / "cache" / "thing.npz"
    if damage != "unexpected":
        file.write_bytes(file.read_bytes()[:40] if damage == "truncated" else b"not a zip")
    with pytest.warns(UserWarning, match="making it again"):
        again = root.cached("thing", lambda: arrays(2), lambda a: a["x"][0] == 2)
    assert again["x"][0] == 2 and np.load(file)["x"][0] == 2


def test_a_read_only_root_is_left_alone_and_the_user_folder_keeps_the_cache(folders, recwarn):
    data, user = folders
    data.chmod(0o555)
    try:
        root.cached("thing", lambda: arrays(1), lambda a: True)
    finally:
        data.chmod(0o755)
    assert not list(data.iterdir()) and (user / "cache" / "thing.npz").is_file() and not recwarn


def test_when_nothing_is_writable_it_works_in_memory_and_warns_once(folders):
    data, user = folders
    user.mkdir()
    for folder in folders:
        folder.chmod(0o555)
    try:
        with pytest.warns(UserWarning, match="kept in memory only.*METALIB_DATA") as warned:
            assert root.cached("thing", lambda: arrays(1), lambda a: True)["x"][0] == 1
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert len(warned) == 1


# torchvision -----------------------------------------------------------------------------------------------------


def test_torchvision_imports_beside_any_torch():
    code = (
        "from metalib.data import import_torchvision\n"
        "import sys; assert 'torchvision' not in sys.modules\n"
        "grid = import_torchvision().utils.make_grid\n"
        "import torch; print(tuple(grid(torch.zeros(4, 1, 8, 8), nrow=2).shape), import_torchvision().__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert done.stdout.strip() == "(3, 22, 22) torchvision", done.stderr[-2000:]


def test_torchvision_is_imported_in_one_place_only(root):
    # A second import elsewhere would miss the fallback.
    found = [p.name for p in (root / "metalib").rglob("*.py") if "import torchvision" in p.read_text(encoding="utf-8")]
    assert not [name for name in found if name != "vision.py"]
