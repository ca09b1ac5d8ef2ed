"""A test's verdict depends neither on what ran before it, nor on whose machine it is, nor on how fast that is."""

import os
import random
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from conftest import ROOT
from metalib import seeded
from test_book import nbval

PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
SHOWN = {"image/png": "", "text/plain": "<Figure size 640x480 with 1 Axes>"}  # pictures are not compared, their size is


@pytest.fixture(scope="module")
def drawn_for_all():
    return torch.rand(3)


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_every_test_starts_from_the_same_seeds_and_one_thread(turn, drawn_for_all):
    assert torch.get_num_threads() == 1 and torch.get_default_dtype() == torch.float32
    expected = torch.rand(6, generator=seeded(0))
    assert torch.equal(drawn_for_all, expected[:3])  # a fixture of the module starts there, too
    mine = torch.rand(3)  # after the fixture's, in whichever turn it was made
    assert torch.equal(mine, expected[:3]) or torch.equal(mine, expected[3:])
    assert random.random() == random.Random(0).random()
    assert np.random.rand() == np.random.RandomState(0).rand()  # noqa: NPY002
    torch.set_num_threads(2 + turn)  # what a careless test leaves behind
    torch.set_default_dtype(torch.float64)


def test_a_process_that_a_test_starts_imports_the_metalib_that_is_tested(tmp_path):
    run = subprocess.run([sys.executable, "-c", "import metalib; print(metalib.__file__)"], cwd=tmp_path,
                         capture_output=True, encoding="utf-8")
    assert Path(run.stdout.strip()) == ROOT / "metalib/__init__.py", run.stderr


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell starts it")
@pytest.mark.parametrize("workers", [[], ["-n", "1"]])
def test_ctrl_c_can_be_tested_where_a_script_in_the_background_ignores_it(tmp_path, workers):
    (tmp_path / "conftest.py").write_text((ROOT / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "test_here.py").write_text("""
import signal, subprocess, sys
HERE = "import signal; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
def test_in_this_process_and_in_those_that_it_starts():
    exec(HERE)
    subprocess.run([sys.executable, "-c", HERE], check=True)
""", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, "test_here.py"]
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}  # this may be a worker's
    run = subprocess.run(["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command], cwd=tmp_path, capture_output=True,
                         encoding="utf-8", env=alone)
    assert run.returncode == 0, run.stdout


@pytest.fixture
def surroundings(tmp_path):
    """A folder with the project's conftest.py, whose budget of seconds is zero, and a notebook that plots."""
    text = (ROOT / "conftest.py").read_text(encoding="utf-8")
    assert "ONE, AVERAGE = 120, 45" in text
    text = text.replace("ONE, AVERAGE = 120, 45", "ONE, AVERAGE = 0, 0")
    (tmp_path / "conftest.py").write_text(text, encoding="utf-8")
    output = nbformat.v4.new_output("display_data", data=SHOWN)
    cell = nbformat.v4.new_code_cell(PLOT, execution_count=1, outputs=[output])
    return tmp_path, nbformat.v4.new_notebook(cells=[cell])


@pytest.mark.parametrize("whose", ["figures of another size", "another format", "another backend, warnings as errors"])
def test_a_user_s_settings_and_a_slow_machine_do_not_turn_a_notebook_red(surroundings, whose):
    folder, nb = surroundings
    (folder / "matplotlibrc-of-a-user").write_text("figure.figsize: 3, 2\n", encoding="utf-8")
    (folder / "ipython/profile_default").mkdir(parents=True)
    (folder / "ipython/profile_default/ipython_config.py").write_text("c.InlineBackend.figure_formats = {'svg'}",
                                                                      encoding="utf-8")
    env = {"figures of another size": {"MATPLOTLIBRC": str(folder / "matplotlibrc-of-a-user")},
           "another format": {"IPYTHONDIR": str(folder / "ipython")},
           "another backend, warnings as errors": {"MPLBACKEND": "svg", "PYTHONWARNINGS": "error::UserWarning"}}[whose]
    run = nbval(nb, folder, {k: v for k, v in os.environ.items() if k != "PYTEST_XDIST_WORKER"} | env)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "more than 0 s" in run.stdout and "on average" in run.stdout  # the times are printed, and only printed
