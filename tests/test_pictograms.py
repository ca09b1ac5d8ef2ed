"""Icons: what is drawn, that splits share no look-alike, the same bytes everywhere, and what other fonts lead to."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from metalib import FewShot
from metalib.data import root
from metalib.data.lettering import ALIKE_ACROSS, resemblance
from metalib.data.pictograms import NOTICE, pictograms

module = sys.modules["metalib.data.pictograms"]
pytestmark = pytest.mark.skipif(module.find_spec("qtawesome") is None, reason="qtawesome is not installed")
DIGEST = {28: "06d3aee38890", 64: "1d070aa0cd4b"}  # of pictograms(size) with qtawesome 1.4.2 and Pillow 11 to 13


@pytest.fixture(scope="module")
def icons():
    return pictograms()


@pytest.fixture
def fonts(tmp_path, monkeypatch):
    """A copy of qtawesome's fonts, to be spoilt, and an empty data root."""
    folder = tmp_path / "fonts"
    shutil.copytree(module._folder(), folder)
    monkeypatch.setattr(module, "_folder", lambda: folder)
    monkeypatch.setenv("METALIB_DATA", str(tmp_path))
    monkeypatch.setattr(root, "user_folder", lambda: tmp_path / "user")
    return folder


def test_it_has_two_hundred_names_with_sixteen_drawings_each(icons):
    assert len(icons) > 200 and set(icons.counts.tolist()) == {16} and icons.shape == (1, 28, 28)
    assert icons.images.dtype == torch.uint8 and len(set(icons.names)) == len(icons) and "horse" in icons.names
    assert len(icons.split("train")) >= 140 and len(icons.split("val")) >= 20 and len(icons.split("test")) >= 40


def test_no_first_word_is_in_two_splits_and_no_name_in_none(icons):
    words = {s: set(icons.split(s).groups) for s in ("train", "val", "test")}
    assert sum(map(len, words.values())) == len(set.union(*words.values())) == len(set(icons.groups))
    assert sorted(c for cs in icons.splits.values() for c in cs) == list(range(len(icons)))
    assert all(name.split("-")[0] == group for name, group in zip(icons.names, icons.groups))


def test_the_families_are_a_fact_by_which_support_and_query_can_be_parted(icons):
    whose = icons.fact("family").reshape(len(icons), 16)
    assert set(whose.flatten()) == {family for family, _, _ in module.STYLES}
    assert min(len(set(row)) for row in whose.tolist()) == 3
    tasks = FewShot(icons.split("test"), way=5, shot=1, query=5, apart="family")
    classes, examples = tasks.sample_indices(20, generator=torch.Generator().manual_seed(0))
    drawn = tasks.images.fact("family")[(tasks.images.starts[classes][..., None] + examples).numpy()]
    assert all(not set(task[:, 0]) & set(task[:, 1:].flatten()) for task in drawn)


def test_logos_are_left_out(icons):
    maps = {stem: module._verified(module._folder(), stem) for stem in module.TABLE["logos"]}
    assert all("github" in names for names in maps.values())
    assert not set(icons.names) & set().union(*maps.values())


def test_the_ink_is_bright_on_dark_paper_and_stays_inside(icons):
    x = icons.images[:, 0].float() / 255
    assert x.amax((1, 2)).min() > 0.5 and 0.05 < x.mean((1, 2)).median() < 0.4
    border = torch.cat([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], dim=1)
    assert border.mean() < 0.03


def test_no_two_drawings_of_a_name_are_the_same(icons):
    drawings = icons.images.reshape(len(icons), 16, -1)
    assert all(len(torch.unique(drawings[c], dim=0)) == 16 for c in range(len(icons)))


def test_the_bytes_are_those_of_every_machine_and_the_sizes_show_the_same_drawings(icons):
    assert icons.digest() == DIGEST[28], "the drawings changed: other fonts, or another renderer"
    large = pictograms(64)
    assert large.digest() == DIGEST[64] and large.names == icons.names and large.splits == icons.splits
    small = torch.nn.functional.interpolate(large.images[::40].float(), size=28, mode="area").flatten(1)
    assert torch.cosine_similarity(small, icons.images[::40].float().flatten(1)).min() > 0.95


def test_the_seed_changes_the_drawings():
    font = {"codicon-0.0.36": module.typeface(module._folder() / "codicon-0.0.36.ttf", 128)}
    icon = module.Icon("bell", "train", {("Codicons", 0): ("codicon-0.0.36", "\ueaa2")})
    one, two = (module._drawings(icon, font, 28, seed) for seed in (0, 1))
    assert not np.array_equal(one, two) and np.array_equal(one, module._drawings(icon, font, 28, 0))


def test_no_outline_of_one_split_looks_like_one_of_another_and_doubles_are_gone(icons):
    maps = {stem: module._verified(module._folder(), stem) for stem in module.TABLE["digests"]}
    every = {icon.name: icon for icon in module._icons(maps)}
    assert len(every) > 300 and every.keys() >= set(icons.names)
    assert len({"x", "close"} & set(icons.names)) == 1 and len({"gear", "cog"} & set(icons.names)) <= 1
    font = module.typeface(module._folder() / "phosphor-1.3.0.ttf", 96)  # another size than the bank's
    a, b = ([module.ink(font, every[name].looks["Phosphor", 0][1]) for name in icons.split(s).names
             if ("Phosphor", 0) in every[name].looks] for s in ("test", "val"))
    assert len(a) > 20 and resemblance(a, b).max() < ALIKE_ACROSS + 0.01


def test_it_is_drawn_once(icons, monkeypatch):
    monkeypatch.setattr(module, "_draw_all", lambda *_: pytest.fail("drawn again although it is in the cache"))
    assert pictograms().digest() == icons.digest()


def test_a_damaged_cache_is_drawn_again_with_a_warning(fonts, monkeypatch):
    few = {"images": np.zeros((3, 16, 28, 28), dtype=np.uint8), "names": np.array(["a", "b-x", "c"]),
           "splits": np.array(["train", "val", "test"]), "families": np.full((3, 16), "one")}
    monkeypatch.setattr(module, "_draw_all", lambda *_: few)
    assert pictograms().groups == ("a", "b", "c")
    (file,) = (fonts.parent / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.warns(UserWarning, match="making it again"):
        assert pictograms().names == ("a", "b-x", "c")


# faults -------------------------------------------------------------------------------------------------------------


def test_without_qtawesome_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "metalib\[images\]".*Qt is not needed'):
        pictograms()


def test_qt_is_neither_needed_nor_imported(icons):
    assert "qtawesome" not in sys.modules and "qtpy" not in sys.modules


def test_another_version_of_a_font_names_the_wheel_that_is_right(fonts):
    (fonts / "phosphor-1.3.0.ttf").rename(fonts / "phosphor-2.0.0.ttf")
    wanted = r"phosphor-1\.3\.0\.ttf cannot be read \(No such file.*install qtawesome==1\.4\.2"
    with pytest.raises(FileNotFoundError, match=wanted):
        pictograms()


@pytest.mark.parametrize("file", ["codicon-0.0.36.ttf", "remixicon-charmap-2.5.0.json"])
@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:99] + b"?" + b[100:]])
def test_a_truncated_empty_or_changed_file_is_refused_by_its_digest(fonts, file, spoil):
    (fonts / file).write_bytes(spoil((fonts / file).read_bytes()))
    with pytest.raises(ValueError, match=r"damaged, or of another version.*qtawesome==1\.4\.2 --force-reinstall"):
        pictograms()


def test_an_unreadable_file_is_named(fonts, monkeypatch):
    read = Path.read_bytes

    def refuse(path):
        if path.suffix == ".ttf":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(FileNotFoundError, match=r"\.ttf cannot be read \(Permission denied\)"):
        pictograms()


def test_several_digests_may_be_accepted(fonts, monkeypatch):
    stem = "codicon-0.0.36"
    monkeypatch.setitem(module.TABLE["digests"], stem, ["0" * 12, *module.TABLE["digests"][stem]])
    assert module._verified(fonts, stem)["bell"] == 0xEAA2


@pytest.mark.parametrize("size", [32, 28.5, "28"])
def test_another_size_is_refused(size):
    with pytest.raises(ValueError, match="size="):
        pictograms(size)


def test_the_notice_names_every_family():
    assert all(family in NOTICE for family, _, _ in module.STYLES) and "OFL" in NOTICE and "CC BY" in NOTICE
