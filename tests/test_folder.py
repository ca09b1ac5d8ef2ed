"""A reader's own folders: read right, or refused by name. Every file is drawn here."""

import io
import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from metalib import ClassImages, FewShot, seeded


def save(path, pixels, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    (image.convert(mode) if mode else image).save(path, **options)


def plain(path, value=7, size=4):
    save(path, np.full((size, size), value))


def classes(root, *names, per_class=2):
    for n, name in enumerate(names):
        for i in range(per_class):
            plain(root / name / f"{i}.png", 20 + 10 * n + i)


BAR = np.zeros((4, 4), dtype=np.uint8)
BAR[:, 1] = 255  # opaque in the second column


# --- Transparency ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", ["RGBA", "LA", "P with a transparent colour", "P with an alpha a colour",
                                  "grey with a transparent colour", "RGB with a transparent colour"])
def test_black_on_transparent_is_black_on_paper(tmp_path, mode):
    file = tmp_path / "a" / "0.png"
    file.parent.mkdir()
    black = np.zeros((4, 4), dtype=np.uint8)
    if mode == "RGBA":
        Image.fromarray(np.stack([black] * 3 + [BAR], -1)).save(file)
    elif mode == "LA":
        Image.fromarray(np.stack([black, BAR], -1)).save(file)
    elif mode.startswith("P "):
        image = Image.fromarray(BAR // 255)  # 0 is see-through, 1 is black
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.save(file, transparency=b"\0\xff" if "alpha" in mode else 0)
    else:  # one grey, or colour, that is seen through: everything but the bar, which is black
        image = Image.fromarray(np.where(BAR == 255, 0, 9).astype(np.uint8))
        image = image.convert("RGB") if mode.startswith("RGB") else image
        image.save(file, transparency=9 if image.mode == "L" else (9, 9, 9))
    bank = ClassImages.from_folder(tmp_path)
    assert bank.images[0, 0].tolist() == (255 - BAR).tolist(), "dark ink on white paper"
    assert ClassImages.from_folder(tmp_path, invert=True).images[0, 0].tolist() == BAR.tolist(), "bright ink on 0"
    assert ClassImages.from_folder(tmp_path, grayscale=False).images[0, 2].tolist() == (255 - BAR).tolist()


def test_half_transparent_ink_is_grey_and_an_opaque_image_is_itself(tmp_path):
    save(tmp_path / "a" / "half.png", np.stack([np.zeros((4, 4))] * 3 + [np.full((4, 4), 51)], -1))
    save(tmp_path / "a" / "opaque.png", np.stack([np.full((4, 4), 77)] * 3 + [np.full((4, 4), 255)], -1))
    images = ClassImages.from_folder(tmp_path).images
    assert images[0].unique().tolist() == [204] and images[1].unique().tolist() == [77]


@pytest.mark.parametrize("channels", [3, 1])
def test_white_on_transparent_would_vanish_and_is_refused(tmp_path, channels):
    save(tmp_path / "a" / "icon.png", np.stack([np.full((4, 4), 255)] * channels + [BAR], -1))
    with pytest.raises(ValueError, match=r"icon\.png.* white on transparent.*dark"):
        ClassImages.from_folder(tmp_path)


# --- Links and what is no class ---------------------------------------------------------------------------------------

def test_linked_class_folders_and_linked_files_are_followed(tmp_path):
    classes(tmp_path / "elsewhere", "cat", "dog")
    root = tmp_path / "root"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (root / "dog").mkdir()
    for i in range(2):
        (root / "dog" / f"{i}.png").symlink_to(tmp_path / "elsewhere" / "dog" / f"{i}.png")
    assert ClassImages.from_folder(root).digest() == ClassImages.from_folder(tmp_path / "elsewhere").digest()
    (tmp_path / "alias").symlink_to(root)
    assert ClassImages.from_folder(tmp_path / "alias").names == ("cat", "dog")


def test_a_folder_that_is_reached_twice_is_refused(tmp_path):
    classes(tmp_path / "loop", "a")
    (tmp_path / "loop" / "a" / "up").symlink_to(tmp_path / "loop")
    with pytest.raises(ValueError, match=r"up and .*loop are one folder.*remove the link"):
        ClassImages.from_folder(tmp_path / "loop")
    classes(tmp_path / "twins", "a")
    (tmp_path / "twins" / "b").symlink_to(tmp_path / "twins" / "a")
    with pytest.raises(ValueError, match=r"twins.b and .*twins.a are one folder"):
        ClassImages.from_folder(tmp_path / "twins")


@pytest.mark.parametrize("name", ["b", "a/1.png"])
def test_a_broken_link_is_named(tmp_path, name):
    classes(tmp_path, "a", per_class=1)
    (tmp_path / name).symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"is a link to .*gone, which is not there"):
        ClassImages.from_folder(tmp_path)


@pytest.mark.parametrize("name", [".thumbnails", ".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git"])
def test_hidden_folders_are_no_classes(tmp_path, name):
    classes(tmp_path, "a", "b")
    before = ClassImages.from_folder(tmp_path).digest()
    plain(tmp_path / name / "0.png")
    plain(tmp_path / "a" / name / "a" / "0.png")
    plain(tmp_path / "a" / "._0.png")
    (tmp_path / "a" / "notes.txt").write_text("drawn on Monday", encoding="utf-8")
    assert ClassImages.from_folder(tmp_path).digest() == before


@pytest.mark.parametrize("inside", [None, "readme.txt"])
def test_an_empty_class_folder_is_named(tmp_path, inside):
    classes(tmp_path, "a")
    (tmp_path / "forgotten").mkdir()
    if inside:
        (tmp_path / "forgotten" / inside).write_text("soon", encoding="utf-8")
    with pytest.raises(ValueError, match="forgotten holds no image"):
        ClassImages.from_folder(tmp_path)


@pytest.mark.parametrize("name", ["x.svg", "x.HEIC"])
def test_an_image_of_a_kind_that_is_not_read_is_not_dropped_in_silence(tmp_path, name):
    classes(tmp_path, "a")
    (tmp_path / "a" / name).write_bytes(b"")
    with pytest.raises(ValueError, match="convert it to PNG"):
        ClassImages.from_folder(tmp_path)


# --- Splits -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("train, val, test", [("train", "val", "test"), ("Training", "valid", "Test"),
                                              ("train", "validation", "testing")])
def test_a_root_that_holds_splits_is_read_as_splits(tmp_path, train, val, test):
    classes(tmp_path / train, "c", "x/a")
    classes(tmp_path / val, "b")
    classes(tmp_path / test, "d", "x/e")
    bank = ClassImages.from_folder(tmp_path)
    assert bank.names == ("b", "c", "d", "x/a", "x/e") and bank.groups == ("", "", "", "x", "x")
    assert {s: bank.split(s).names for s in bank.splits} == {"train": ("c", "x/a"), "val": ("b",), "test": ("d", "x/e")}


def test_two_splits_are_enough_and_one_can_be_read_alone(tmp_path):
    classes(tmp_path / "train", "a", "b")
    classes(tmp_path / "test", "c")
    assert ClassImages.from_folder(tmp_path).splits == {"train": (0, 1), "test": (2,)}
    alone = ClassImages.from_folder(tmp_path / "train")
    assert alone.names == ("a", "b") and alone.splits is None


@pytest.mark.parametrize("other", ["test", "valid"])
def test_a_class_in_two_splits_is_a_leak(tmp_path, other):
    classes(tmp_path / "train", "cat", "dog")
    classes(tmp_path / other, "cow", "dog")
    with pytest.raises(ValueError, match=r"class 'dog' stands in .*dog and in .*dog.*split_classes\(seed=0\)"):
        ClassImages.from_folder(tmp_path)


def test_splits_in_doubtful_company_are_refused(tmp_path):
    classes(tmp_path / "beside" / "train", "a")
    classes(tmp_path / "beside", "b")
    with pytest.raises(ValueError, match="train, which look like splits of the classes, beside b"):
        ClassImages.from_folder(tmp_path / "beside")
    classes(tmp_path / "flat", "train", "test")
    with pytest.raises(ValueError, match="images directly in test, train"):
        ClassImages.from_folder(tmp_path / "flat")
    classes(tmp_path / "mixed" / "train", "a")
    plain(tmp_path / "mixed" / "train" / "0.png")
    with pytest.raises(ValueError, match="images directly in train"):
        ClassImages.from_folder(tmp_path / "mixed")
    classes(tmp_path / "synonyms" / "val", "a")
    classes(tmp_path / "synonyms" / "valid", "b")
    with pytest.raises(ValueError, match="two mean one split: merge them"):
        ClassImages.from_folder(tmp_path / "synonyms")


@pytest.mark.parametrize("names", [("cat/train", "cat/test"), ("photos/train/cat", "photos/test/cat"),
                                   ("train/cat/valid", "train/cat/train")])
def test_splits_below_the_top_are_not_merged_either(tmp_path, names):
    classes(tmp_path, *names)
    with pytest.raises(ValueError, match="looks like a split of the classes, which belongs to the top"):
        ClassImages.from_folder(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    classes(tmp_path, "car", "train", "vehicles/train")
    assert ClassImages.from_folder(tmp_path).names == ("car", "train", "vehicles/train")


# --- Files ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("orientation, turned", [(3, lambda p: p[::-1, ::-1]), (6, lambda p: np.rot90(p, -1)),
                                                 (8, np.rot90), (2, lambda p: p[:, ::-1])])
def test_the_camera_s_rotation_is_applied(tmp_path, orientation, turned):
    pixels = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "a" / "0.png", pixels, exif=exif)
    assert ClassImages.from_folder(tmp_path).images[0, 0].tolist() == turned(pixels).tolist()


@pytest.mark.parametrize("factor", [2, 8])
def test_a_decompression_bomb_is_named(tmp_path, monkeypatch, factor):
    """More pixels than Pillow trusts: it warns, and above twice as many it raises; neither names the file."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100 * 100 // factor + 1)
    plain(tmp_path / "a" / "big.png", size=100)
    with pytest.raises(ValueError, match=r"big\.png has more pixels than Pillow trusts"):
        ClassImages.from_folder(tmp_path)


@pytest.mark.parametrize("name, damage", [("0.png", lambda b: b[:60]), ("0.jpg", lambda b: b[:200]),
                                          ("0.png", lambda b: b""), ("0.gif", lambda b: b"GIF89a nonsense"),
                                          ("0.tif", lambda b: b[:20]),
                                          ("0.png", lambda b: b[:50] + bytes(8) + b[58:])])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_file_is_named(tmp_path, name, damage):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 30), dtype=np.uint8)
    save(tmp_path / "a" / name, pixels)
    (tmp_path / "a" / name).write_bytes(damage((tmp_path / "a" / name).read_bytes()))
    with pytest.raises(ValueError, match=rf"{name} cannot be read \(.*\): replace or remove it"):
        ClassImages.from_folder(tmp_path)


@pytest.mark.parametrize("pixels", [np.full((4, 4), 40000, np.uint16), np.full((4, 4), 70000, np.int32),
                                    np.full((4, 4), 0.5, np.float32)])
def test_more_than_8_bits_a_channel_are_refused(tmp_path, pixels):
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "deep.tif")
    with pytest.raises(ValueError, match=r"deep\.tif .*expected 8 bits a channel"):
        ClassImages.from_folder(tmp_path)


@pytest.mark.parametrize("mode, suffix", [("1", "png"), ("1", "tif"), ("P", "png"), ("P", "gif"), ("CMYK", "tif"),
                                          ("CMYK", "jpg"), ("RGB", "ppm"), ("L", "PGM"), ("YCbCr", "jpg")])
def test_other_kinds_of_pixels_keep_their_brightness(tmp_path, mode, suffix):
    pixels = np.zeros((16, 16), dtype=np.uint8)
    pixels[:, 8:] = 255
    options = {"quality": 100} if suffix == "jpg" else {}
    save(tmp_path / "a" / f"0.{suffix}", pixels, mode, **options)
    for grayscale in (True, False):
        images = ClassImages.from_folder(tmp_path, grayscale=grayscale).images
        assert (images[0].int() - torch.as_tensor(pixels).int()).abs().max() <= 2, (mode, suffix, grayscale)


@pytest.mark.parametrize("name", ["0.gif", "0.tif", "0.webp", "0.png"])
def test_several_frames_or_pages_are_refused(tmp_path, name):
    (tmp_path / "a").mkdir()
    frames = [Image.new("L", (4, 4), v) for v in (0, 120, 250)]
    frames[0].save(tmp_path / "a" / name, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=rf"{name}.*has 3 frames or pages; expected one"):
        ClassImages.from_folder(tmp_path)


def test_a_phone_s_jpeg_with_a_second_picture_is_a_photograph(tmp_path):
    (tmp_path / "a").mkdir()
    photograph, small = Image.new("RGB", (8, 8), (9, 9, 9)), Image.new("RGB", (4, 4), (200, 0, 0))
    photograph.save(tmp_path / "a" / "0.jpg", format="MPO", save_all=True, append_images=[small])
    assert ClassImages.from_folder(tmp_path, grayscale=False).images.unique().tolist() == [9]


def test_upper_case_suffixes_are_read(tmp_path):
    plain(tmp_path / "a" / "0.PNG")
    plain(tmp_path / "a" / "1.Bmp")
    assert len(ClassImages.from_folder(tmp_path).images) == 2


def test_names_that_are_no_utf8_can_be_printed_and_hashed(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "PNG")
    with open(os.path.join(folder, b"\xff.png"), "wb") as f:
        f.write(file.getvalue())
    other = "größe" if sys.getfilesystemencoding() == "utf-8" else "groesse"  # a locale of ASCII has no name for it
    classes(tmp_path, other)
    bank = ClassImages.from_folder(tmp_path)
    assert set(bank.names) == {"caf\\xe9", other} and len(bank.digest()) == 12 and str(bank.names).encode()


@pytest.mark.parametrize("size", [0, -3, 28.0, True, (28, 28)])
def test_a_size_is_one_positive_integer(tmp_path, size):
    classes(tmp_path, "a")
    with pytest.raises(ValueError, match="expected one positive integer"):
        ClassImages.from_folder(tmp_path, size=size)


def test_a_big_text_chunk_does_not_hide_the_file_s_name(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 2_000_000, zip=True)  # more than Pillow unpacks
    save(tmp_path / "a" / "0.png", BAR, pnginfo=info)
    try:
        assert ClassImages.from_folder(tmp_path).images[0, 0].tolist() == BAR.tolist()
    except ValueError as error:
        assert "0.png cannot be read" in str(error)


def test_the_splits_of_a_folder_make_tasks(tmp_path):
    classes(tmp_path / "train", *"abcdef", per_class=3)
    classes(tmp_path / "test", *"uvwxyz", per_class=3)
    episode = FewShot(ClassImages.from_folder(tmp_path).split("test"), 5, 1, 2).sample(2, generator=seeded(0))
    assert episode.query.x.shape == (2, 10, 1, 4, 4)
