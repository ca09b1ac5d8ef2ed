"""The embedded default: enough characters and scripts, no leak between splits, the same bytes everywhere."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont

import metalib.data
from metalib import FewShot, glyphs, meta_test
from metalib.data import root
from metalib.learners.metric import PixelFloor

module = sys.modules["metalib.data.glyphs"]  # the package's attribute of that name is the function
DIGEST = "8ab12cca00fd"  # of glyphs(0) with the fonts of matplotlib 3.9 to 3.11 and Pillow 11 to 13


@pytest.fixture(scope="module")
def images():
    return glyphs()


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty data root and an empty user folder."""
    monkeypatch.setenv("METALIB_DATA", str(tmp_path))
    monkeypatch.setattr(root, "user_folder", lambda: tmp_path / "user")
    return tmp_path


def test_it_has_a_thousand_characters_in_a_dozen_scripts_with_twenty_drawings_each(images):
    assert len(images) >= 1000 and len(set(images.groups)) >= 12
    assert set(images.counts.tolist()) == {20} and images.shape == (1, 28, 28) and images.images.dtype == torch.uint8
    assert len(set(images.names)) == len(images)
    assert all(name.startswith(f"{script}/") for name, script in zip(images.names, images.groups))


def test_no_script_is_in_two_splits_and_no_class_is_in_none(images):
    scripts = {s: set(images.split(s).groups) for s in ("train", "val", "test")}
    assert sum(map(len, scripts.values())) == len(set.union(*scripts.values())) == len(set(images.groups))
    assert sorted(c for cs in images.splits.values() for c in cs) == list(range(len(images)))
    assert len(scripts["test"]) >= 3 and len(scripts["val"]) >= 2
    assert scripts == {s: set(group.values()) for s, group in module.SCRIPTS.items()}  # as the docstring says
    assert all(script in module.__doc__ for script in set.union(*scripts.values()))


def test_the_ink_is_bright_on_dark_paper_and_stays_inside(images):
    x = images.images[:, 0].float() / 255
    assert x.amax((1, 2)).min() > 0.5 and 0.02 < x.mean((1, 2)).median() < 0.3
    border = torch.cat([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], dim=1)
    assert border.mean() < 0.01 and (x.mean((1, 2)) > 0.6).sum() == 0


def test_no_two_drawings_of_a_character_are_the_same(images):
    drawings = images.images.reshape(len(images), 20, -1)
    assert all(len(torch.unique(drawings[c], dim=0)) == 20 for c in range(0, len(images), 10))


def test_the_same_seed_gives_the_same_bytes(images, empty, monkeypatch):
    assert images.digest() == DIGEST, "the drawings changed: other fonts, or another renderer"
    again = glyphs()  # drawn anew, in an empty data root
    assert (empty / "cache").is_dir()
    assert again.digest() == DIGEST and again.splits == images.splits
    monkeypatch.setattr(module, "_draw_all", lambda *_: pytest.fail("drawn again although it is in the cache"))
    assert glyphs().digest() == DIGEST


def test_a_damaged_cache_is_drawn_again_with_a_warning(empty, monkeypatch):
    images = np.zeros((3, 20, 28, 28), dtype=np.uint8)
    few = {"images": images, "names": np.array(list("abc")), "scripts": np.array(list("xyz"))}
    few["splits"] = np.array(["train", "val", "test"])
    monkeypatch.setattr(module, "_draw_all", lambda fonts, seed: few)
    assert len(glyphs()) == 3
    (file,) = (empty / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.warns(UserWarning, match="making it again"):
        assert glyphs().names == ("a", "b", "c")


def test_the_seed_changes_the_drawings_and_not_the_characters():
    fonts = module._font_files()
    style = ImageFont.truetype(str(fonts["DejaVuSans"]), 96, layout_engine=ImageFont.Layout.BASIC)
    letter = module.Letter("R", "Latin/capital r", "Latin", "train")
    one, two = module._drawings(letter, [style], 0), module._drawings(letter, [style], 1)
    assert not np.array_equal(one, two) and np.array_equal(one, module._drawings(letter, [style], 0))


def test_missing_fonts_name_the_fix(monkeypatch, tmp_path):
    monkeypatch.setattr(module.matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match="DejaVuSans, .*force-reinstall matplotlib"):
        glyphs()


def test_it_works_where_nothing_can_be_written(empty, monkeypatch):
    monkeypatch.setattr(root, "_writable", lambda folder: False)
    letters = module._letters(set(range(0x10D0, 0x10D8)))  # eight Georgian letters, to be quick
    monkeypatch.setattr(module, "_letters", lambda codes: letters)
    with pytest.warns(UserWarning, match="kept in memory only") as warned:
        drawn = glyphs()
    assert len(warned) == 1 and 0 < len(drawn) <= 8 and not list(empty.iterdir())


def clean(letters):
    """Blurred letters on 32 x 32, by another route than the library's: box resampling, integer pixels."""
    font = ImageFont.truetype(str(module._font_files()["DejaVuSans"]), 96, layout_engine=ImageFont.Layout.BASIC)
    drawn = []
    for x in letters:
        page, paper = Image.new("L", (360, 300)), Image.new("L", (32, 32))
        ImageDraw.Draw(page).text((120, 80), x.character, fill=255, font=font)
        page = page.crop(page.getbbox())
        page = page.resize([max(1, round(20 * side / max(page.size))) for side in page.size], Image.Resampling.BOX)
        paper.paste(page, ((32 - page.width) // 2, (32 - page.height) // 2))
        drawn.append(np.asarray(paper.filter(ImageFilter.GaussianBlur(1)), dtype=float))
    return np.stack(drawn)


def closest(a, b):
    """(M, L) correlations, the best over shifts of one pixel."""

    def unit(x):
        x = x.reshape(len(x), -1) - x.reshape(len(x), -1).mean(1, keepdims=True)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return np.max([unit(np.roll(a, s, (1, 2))) @ unit(b).T for s in shifts], axis=0)


def test_no_letter_of_one_split_looks_like_a_letter_of_another(images):
    letters = module._letters(module._codes(module._font_files()["DejaVuSans"]))  # before look-alikes are dropped
    kept = set(images.names)
    for one, two in (("train", "val"), ("train", "test"), ("val", "test")):
        a, b = ([x for x in letters if x.split == s] for s in (one, two))
        before = closest(clean(a), clean(b))
        assert before.max() > 0.95  # the measure finds look-alikes where there are some
        rows, columns = ([i for i, x in enumerate(s) if x.name in kept] for s in (a, b))
        assert before[np.ix_(rows, columns)].max() < 0.93


def test_a_letter_shared_by_alphabets_is_one_class(images):
    capital_a = {"Latin/capital a", "Greek/capital alpha", "Cyrillic/capital a"}
    assert len(capital_a & set(images.names)) == 1


def test_raw_pixels_are_as_hard_as_on_omniglot(images):
    floor = meta_test(PixelFloor(), FewShot(images.split("test"), way=5, shot=1), episodes=1000)
    assert 46 < 100 * floor.mean < 50


def test_both_names_lead_to_the_same_thing():
    assert metalib.data.glyphs is metalib.glyphs is module.glyphs
