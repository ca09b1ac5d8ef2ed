"""The real benchmark: what is read, how it is split, and what happens when files or the network are missing."""

import functools
import hashlib
import http.server
import io
import json
import os
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import metalib.data
from metalib import FewShot, meta_test, omniglot
from metalib.data import root
from metalib.learners.metric import PixelFloor

module = sys.modules["metalib.data.omniglot"]  # the package's attribute of that name is the function
PUBLISHED = json.loads(Path(module.__file__).with_name("vinyals.json").read_text(encoding="utf-8"))
# A miniature: the same folders and files, five characters.
MINI = {
    "images_background": ["Armenian/character01", "Greek/character01", "Greek/character02"],
    "images_evaluation": ["Oriya/character01", "Tibetan/character01"],
}


def has_real_data():
    folders = [Path(os.environ.get("METALIB_DATA") or root.user_folder()), root.user_folder()]
    return all(any((f / "omniglot" / f"{n}.zip").is_file() for f in folders) for n in module.MD5)


real = pytest.mark.skipif(not has_real_data(), reason="Omniglot's zips are not in the data root (METALIB_DATA)")


def png(character, drawer, size=105):
    rng = np.random.default_rng(list(f"{character} {drawer}".encode()))
    image = Image.fromarray(np.where(rng.random((size, size)) < 0.1, 0, 255).astype(np.uint8)).convert("1")
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def write_zip(path, name, *, backwards=False, size=105, drawers=20):
    files = [(c, d) for c in MINI[name] for d in range(1, drawers + 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for character, drawer in reversed(files) if backwards else files:
            archive.writestr(f"{name}/{character}/0001_{drawer:02d}.png", png(character, drawer, size))


@pytest.fixture
def mini(tmp_path, monkeypatch):
    """The loader set up for the miniature, with an empty data root and no network."""
    monkeypatch.setenv("METALIB_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(root, "user_folder", lambda: tmp_path / "user")
    monkeypatch.setattr(module, "CHARACTERS", {name: len(cs) for name, cs in MINI.items()})
    monkeypatch.setattr(module, "_vinyals", lambda names: {"train": [1, 2, 3], "val": [0], "test": [4]})
    monkeypatch.setattr(module, "URL", "http://127.0.0.1:9/")  # the discard port: nothing answers
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "data"


@pytest.fixture
def server(tmp_path, mini, monkeypatch):
    """A local copy of the official source, with the checksums of the miniature; lists what was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    for name in MINI:
        write_zip(tmp_path / "www" / f"{name}.zip", name)
    sums = {name: hashlib.md5((tmp_path / "www" / f"{name}.zip").read_bytes()).hexdigest() for name in MINI}
    monkeypatch.setattr(module, "MD5", sums)
    handler = functools.partial(Handler, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        monkeypatch.setattr(module, "URL", f"http://127.0.0.1:{running.server_port}/")
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield asked
        running.shutdown()
        thread.join()


def put(folder, **kwargs):
    for name in MINI:
        write_zip(folder / "omniglot" / f"{name}.zip", name, **kwargs)


# the published split, without the images ----------------------------------------------------------------------------


def test_the_published_split_is_1028_172_423_and_names_its_source():
    assert [sum(map(len, PUBLISHED[s].values())) for s in ("train", "val", "test")] == [1028, 172, 423]
    characters = [{(a, c) for a, cs in PUBLISHED[s].items() for c in cs} for s in ("train", "val", "test")]
    assert len(set.union(*characters)) == 1623  # no character in two splits
    assert "pytorch-meta" in PUBLISHED["source"] and "Tristan Deleu" in PUBLISHED["licence"]


def test_its_train_and_test_share_an_alphabet_though_no_character():
    assert set(PUBLISHED["train"]) & set(PUBLISHED["test"]) == {"Gurmukhi"}
    assert (len(PUBLISHED["train"]["Gurmukhi"]), len(PUBLISHED["test"]["Gurmukhi"])) == (41, 4)
    assert not set(PUBLISHED["val"]) & (set(PUBLISHED["train"]) | set(PUBLISHED["test"]))


# reading, on the miniature ------------------------------------------------------------------------------------------


def test_zips_in_the_data_root_are_read_without_unpacking_whatever_their_checksum(mini):
    put(mini)
    images = omniglot()
    assert images.names == tuple(sum(MINI.values(), []))
    assert images.groups == ("Armenian", "Greek", "Greek", "Oriya", "Tibetan") and images.counts.tolist() == [20] * 5
    drawing = Image.open(io.BytesIO(png("Greek/character02", 7))).convert("L")
    expected = 255 - np.asarray(drawing.resize((28, 28), Image.Resampling.LANCZOS))  # ink is 255
    assert np.array_equal(images.images[2 * 20 + 6, 0].numpy(), expected)
    assert sorted(p.name for p in mini.iterdir()) == ["cache", "omniglot"]


def test_the_order_of_files_in_the_zips_does_not_matter(mini):
    put(mini)
    one = omniglot()
    put(mini, backwards=True)
    assert omniglot().digest() == one.digest() and omniglot().splits == one.splits


def test_it_is_decoded_once(mini, monkeypatch):
    put(mini)
    one = omniglot()
    monkeypatch.setattr(module, "_decode", lambda zips: pytest.fail("decoded again although it is in the cache"))
    assert omniglot("background").digest() == one.digest()


def test_background_keeps_alphabets_apart(mini):
    put(mini)
    assert omniglot("background").splits == {"train": (1, 2), "val": (0,), "test": (3, 4)}


@pytest.mark.parametrize(
    "rotations, sizes", [(False, (3, 1, 1)), (True, (12, 1, 1)), ("train", (12, 1, 1)), ("all", (12, 4, 4))]
)
def test_rotations_are_classes_of_train_or_of_all_splits(mini, rotations, sizes):
    put(mini)
    images = omniglot(rotations=rotations)
    assert tuple(len(images.split(s)) for s in ("train", "val", "test")) == sizes and len(images) == sum(sizes)
    train = images.split("train")
    assert len(set(train.base.tolist())) == 3 and len(set(train.names)) == len(train)


@pytest.mark.parametrize("kwargs", [{"split": "Vinyals"}, {"rotations": "test"}])
def test_unknown_options_are_named(mini, kwargs):
    with pytest.raises(ValueError, match="expected"):
        omniglot(**kwargs)


# faults -------------------------------------------------------------------------------------------------------------


def test_missing_files_are_downloaded_once_and_verified(mini, server):
    assert omniglot().names == tuple(sum(MINI.values(), []))
    assert sorted(server) == ["/images_background.zip", "/images_evaluation.zip"]
    assert sorted(p.name for p in (mini / "omniglot").iterdir()) == ["images_background.zip", "images_evaluation.zip"]
    omniglot("background")
    assert len(server) == 2


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(mini, server, monkeypatch):
    monkeypatch.setattr(module, "MD5", dict.fromkeys(MINI, "0" * 32))
    with pytest.raises(FileNotFoundError, match="checksum is wrong.*try again") as error:
        omniglot()
    assert "0" * 32 in str(error.value) and not list((mini / "omniglot").iterdir())


def test_no_network_says_what_is_missing_where_it_looked_and_how_to_get_it(mini):
    with pytest.raises(FileNotFoundError) as error:
        omniglot()
    message = str(error.value)
    for part in ("images_background.zip is missing", str(mini / "omniglot"), "http://127.0.0.1:9/images_background.zip"):
        assert part in message
    assert "put it at" in message and "METALIB_DATA" in message


def test_a_read_only_root_downloads_to_the_user_folder_and_is_left_alone(mini, server):
    mini.chmod(0o555)
    try:
        assert len(omniglot()) == 5
    finally:
        mini.chmod(0o755)
    assert not list(mini.iterdir()) and len(list((root.user_folder() / "omniglot").iterdir())) == 2


def test_nowhere_to_write_says_so(mini, server, monkeypatch):
    monkeypatch.setattr(root, "_writable", lambda folder: False)
    with pytest.raises(FileNotFoundError, match="not writable.*To get it by hand"):
        omniglot()
    assert server == []


def test_a_missing_data_root_is_named(mini, monkeypatch):
    monkeypatch.setenv("METALIB_DATA", str(mini / "typo"))
    with pytest.raises(FileNotFoundError, match="METALIB_DATA names .*typo"):
        omniglot()


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_a_truncated_zip_says_to_delete_it(mini, keep):
    put(mini)
    path = mini / "omniglot" / "images_evaluation.zip"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"images_evaluation\.zip is damaged.*delete it"):
        omniglot()
    put(mini)
    assert len(omniglot()) == 5  # nothing of the failure was cached


def test_a_flipped_byte_inside_is_found(mini):
    put(mini)
    path = mini / "omniglot" / "images_background.zip"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"images_background\.zip is damaged"):
        omniglot()


def test_an_incomplete_zip_is_refused_by_its_counts(mini):
    put(mini, drawers=19)
    with pytest.raises(ValueError, match="3 characters with 19 drawings; expected 3 with 20"):
        omniglot()


def test_images_of_another_size_are_refused(mini):
    put(mini, size=28)
    with pytest.raises(ValueError, match=r"0001_01\.png is 28 x 28; expected 105 x 105"):
        omniglot()


# the real data ------------------------------------------------------------------------------------------------------


@real
def test_all_of_omniglot_is_read():
    images = omniglot()
    assert len(images) == 1623 and set(images.counts.tolist()) == {20} and images.shape == (1, 28, 28)
    assert len(set(images.groups)) == 50 and 0.05 < images.images.float().mean() / 255 < 0.15  # ink is bright
    assert [len(images.split(s)) for s in ("train", "val", "test")] == [1028, 172, 423]
    assert set(images.split("train").groups) & set(images.split("test").groups) == {"Gurmukhi"}


@real
def test_the_images_are_those_of_an_independent_decoder():
    copy = Path(os.environ.get("METALIB_DATA", "")) / "omniglot" / "omniglot_28x28.npz"
    if not copy.is_file():
        pytest.skip("no decoded copy beside the zips")
    with np.load(copy) as file:
        expected = np.concatenate([file["background_images"], file["evaluation_images"]]).reshape(-1, 28, 28)
        names = [*file["background_names"].tolist(), *file["evaluation_names"].tolist()]
    assert list(omniglot().names) == names and np.array_equal(omniglot().images[:, 0].numpy(), expected)


@real
def test_background_and_evaluation_share_no_alphabet():
    images = omniglot("background")
    parts = {s: images.split(s) for s in ("train", "val", "test")}
    assert {s: len(p) for s, p in parts.items()} == {"train": 792, "val": 172, "test": 659}
    assert [len(set(p.groups)) for p in parts.values()] == [25, 5, 20]
    assert len(set().union(*(p.groups for p in parts.values()))) == 50


@real
def test_rotations_give_the_papers_class_counts():
    assert len(omniglot(rotations=True).split("train")) == 4 * 1028
    assert len(omniglot(rotations="all").split("test")) == 4 * 423


@real
def test_raw_pixels_score_47_6_percent_on_the_evaluation_characters():
    tasks = FewShot(omniglot("background").split("test"), way=5, shot=1)
    floor = meta_test(PixelFloor(), tasks, episodes=2000)
    assert abs(100 * floor.mean - 47.6) < 0.8 + 100 * floor.ci95  # published as 47.6 +- 0.8


def test_both_names_lead_to_the_same_thing():
    assert metalib.data.omniglot is metalib.omniglot is module.omniglot
