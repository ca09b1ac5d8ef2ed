"""What a run says of itself where nobody watches: a line about once a minute, whatever the machine's speed."""

import sys

import pytest
import tqdm.std

from metalib import FewShot, FixedEpisodes, PixelFloor, glyphs, meta_test, seeded
from metalib.progress import LogLines, progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    time = [1000.0]
    monkeypatch.setattr(tqdm.std, "time", lambda: time[0])
    monkeypatch.delenv("METALIB_QUIET", raising=False)
    return time


def test_a_log_gets_a_plain_line_about_once_a_minute(clock, capsys):
    with progress(10, "meta-train") as bar:
        for i in range(10):
            clock[0] += 25
            bar.set_postfix_str(f"loss {i}.5", refresh=False)
            bar.update()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["meta-train: 3/10, loss 2.5, 75 s", "meta-train: 6/10, loss 5.5, 150 s",
                                         "meta-train: 9/10, loss 8.5, 225 s"]
    assert "\r" not in captured.err


def test_a_resumed_run_counts_from_where_it_was(clock, capsys):
    bar = progress(100, "meta-test", 40)
    clock[0] += 61
    bar.update(16)
    assert capsys.readouterr().err == "meta-test: 56/100, 61 s\n"


def test_a_run_of_less_than_a_minute_says_nothing(clock, capsys):
    with progress(3, "work") as bar:
        for _ in range(3):
            clock[0] += 19
            bar.update()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("quiet", ["METALIB_QUIET", "RANK"])
def test_stored_notebooks_and_other_ranks_stay_silent(clock, capsys, monkeypatch, quiet):
    monkeypatch.setenv(quiet, "1")
    with progress(3, "work") as bar:
        clock[0] += 1000
        bar.update()
    assert bar.disable and capsys.readouterr().err == ""


def test_without_a_stderr_there_is_nothing_to_say(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw
    with progress(3, "work") as bar:
        clock[0] += 1000
        bar.update()


def test_a_long_evaluation_speaks(clock, capsys, monkeypatch):
    def each_call_takes_a_minute():
        clock[0] += 60
        return clock[0]

    monkeypatch.setattr(tqdm.std, "time", each_call_takes_a_minute)
    tasks = FewShot(glyphs().split("test"), 3, 1, 2)
    meta_test(PixelFloor(), FixedEpisodes(tasks.sample(70, generator=seeded(0))), episodes=70)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == ["meta-test: 64/70",
                                                                                     "meta-test: 70/70"]
    assert isinstance(progress(1, "x"), LogLines)


def test_a_live_notebook_s_line_is_empty_in_the_end_and_nothing_is_on_stderr(monkeypatch, capsys):
    import IPython
    import IPython.display

    shown = []
    handle = type("Handle", (), {"update": lambda self, line: shown.append(line.data)})()
    monkeypatch.setattr(IPython, "get_ipython", lambda: type("Shell", (), {"kernel": True})())
    monkeypatch.setattr(IPython.display, "display", lambda line, display_id: shown.append(line.data) or handle)
    monkeypatch.delenv("METALIB_QUIET", raising=False)
    with progress(3, "a < b") as bar:
        bar.delay = 0  # tqdm waits two seconds before it shows anything
        for _ in range(3):
            bar.update()
            bar.refresh()
    assert "a &lt; b" in shown[0] and "3/3" in shown[-2], shown
    assert shown[-1] == "" and capsys.readouterr().err == ""
