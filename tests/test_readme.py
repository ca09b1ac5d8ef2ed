"""The README does what it says: its Python runs as printed, its recipes would start, its minutes are those measured."""

import dataclasses
import json
import re
import shlex

import matplotlib
import numpy as np
import pytest
from PIL import Image

import metalib
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
INTRO = (ROOT / "book" / "intro.md").read_text(encoding="utf-8")


def python(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


BLOCKS = python(README)
DOCUMENTS = {path.name: path.read_text(encoding="utf-8") for path in (
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "recipes").glob("*.py")))}


@pytest.fixture
def quickly(monkeypatch):
    """The library as it is, but `meta_train` stops after 2 meta-iterations and `meta_test` after 3 tasks."""
    train, test = metalib.meta_train, metalib.meta_test

    def short_train(learner, tasks, config):
        return train(learner, tasks, dataclasses.replace(config, iterations=2))

    monkeypatch.setattr(metalib, "meta_train", short_train)
    monkeypatch.setattr(metalib, "meta_test", lambda learner, tasks: test(learner, tasks, episodes=3))
    monkeypatch.setattr(matplotlib.pyplot, "show", lambda: None)
    yield
    matplotlib.pyplot.close("all")


def run(block):
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    return names


def test_the_ten_lines_are_ten_and_run_as_printed(quickly, capsys, one_thread):
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) == 10
    names = run(BLOCKS[0])
    score, answers = capsys.readouterr().out.split("\n", 1)
    assert re.match(r"\d+\.\d \+- \d+\.\d % \(3 tasks, transductive\)", score)
    assert len(re.findall(r"\d", answers)) == len(names["task"].query.y) == 75, "five support images, the other 75"
    assert len(names["task"].support.y) == 5


def test_the_lines_on_the_book_s_first_page_run_as_printed(quickly, capsys, one_thread):
    (block,) = python(INTRO)
    run(block)
    assert "(3 tasks, transductive)" in capsys.readouterr().out
    assert set(block.split("meta_train(")[1].split(")")[0].split()) == set(
        BLOCKS[0].split("meta_train(")[1].split(")")[0].split()), "as many meta-iterations as in the README"


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("side", [40, 28])
def test_ones_own_images_come_in_as_printed(quickly, tmp_path, monkeypatch, one_thread, mode, side):
    draw = np.random.default_rng(0)
    for c in range(10):
        (tmp_path / "my_images" / f"class {c}").mkdir(parents=True)
        for i in range(4):
            pixels = draw.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(tmp_path / "my_images" / f"class {c}" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    names = run(BLOCKS[1])
    images, learner = names["images"], names["learner"]
    assert images.shape == (learner.encoder.in_channels, 28, 28) == (3, 28, 28)
    train = metalib.FewShot(images.split("train"), way=3, shot=1, query=2)  # "and from there as above"
    metalib.meta_train(learner, train, metalib.TrainConfig(iterations=2, meta_batch=1))
    test = metalib.FewShot(images.split("test"), way=2, shot=1, query=2)
    assert 0 <= metalib.meta_test(learner, test).mean <= 1


def test_these_are_all_the_python_blocks():
    assert len(BLOCKS) == 3, "a new block in the README needs a test that runs it"  # the third: test_networks.py


def test_the_plots_are_there_after_import_metalib():
    assert metalib.plot is metalib.figures.plot and callable(metalib.plot.bank)
    named = re.findall(r"`((?:metalib\.)?plot\.\w+)", README) + re.findall(r"^(plot\.\w+)", "".join(BLOCKS), re.M)
    assert named and all(hasattr(metalib.plot, name.split(".")[-1]) for name in named)


def test_how_long_the_ten_lines_take_is_what_was_measured():
    minutes = float(re.search(r"takes about (\d+) minutes where the table below was measured", README).group(1))
    iterations = int(re.search(r"iterations=(\d+)", BLOCKS[0]).group(1))
    row = json.loads((ROOT / "results" / "bench-cpu.json").read_text(encoding="utf-8"))["rows"]["5-way 1-shot"]
    assert (row["way"], row["shot"], row["query"], row["tasks"], row["steps"]) == (5, 1, 15, 4, 1)  # the ten lines' own
    measured = iterations * row["results"]["metalib"]["ms"] / 60_000
    assert measured <= minutes <= 1.5 * measured + 1, f"{measured:.1f} minutes of meta-steps, and 600 test tasks"


def test_the_library_installs_from_a_checkout_with_no_invented_address():
    assert re.search(r"^    python -m pip install \.$", README, re.M)
    assert not re.search(r"pip install (metalib|git\+)|git clone", README)


def commands(text):
    """Every command line that starts a recipe, continued lines joined, comments cut."""
    text = re.sub(r"\\+\n\s*", " ", text)
    return [shlex.split(line.split("  #")[0].strip(" `")) for line in text.splitlines()
            if re.match(r"^    (OMP_NUM_THREADS=1 )?(python|torchrun) .*recipes/[a-z_]+\.py", line)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_documented_recipe_would_start(name, committed_records):
    """Its options exist, and what it writes is either new or replaced on purpose (--force)."""
    for words in commands(DOCUMENTS[name]):
        at = next(i for i, word in enumerate(words) if word.startswith("recipes/"))
        script, options = words[at], words[at + 1:]
        source = "".join((ROOT / name).read_text(encoding="utf-8") for name in (script, "recipes/record.py"))
        for option in options:
            known = f'"{option}"' in source or f'"{option[2:].replace("-", "_")}":' in source  # omniglot's DEFAULTS
            assert not option.startswith("--") or known, (script, option)
        assert {"--force", "--name", "--evaluate"} & set(options), f"{' '.join(words)}: refused as printed"
        if "--name" in options:
            record = options[options.index("--name") + 1]
            assert record not in committed_records, f"{' '.join(words)}: {record}.json is committed"
