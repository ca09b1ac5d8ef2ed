"""What is the same for every test and every notebook under test, whoever runs them; and how long each notebook took.

A user's own settings have no say: matplotlib's, IPython's and Jupyter's files and variables would change what a cell
displays. The times are printed and nothing depends on them: a busy machine inflates even CPU seconds.
"""

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

ONE, AVERAGE = 120, 45  # seconds for a notebook on two quiet cores: what an author aims at
_wall, _cpu = {}, {}


def neutral_surroundings():
    """Leave out a user's settings, for this process and those that it starts."""
    os.environ.setdefault("METALIB_QUIET", "1")  # progress bars stay out of what is compared
    for name in ("MPLBACKEND", "PYTHONWARNINGS", "PYTHONOPTIMIZE", "JUPYTER_PATH", "JUPYTER_CONFIG_PATH"):
        os.environ.pop(name, None)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started by a script in the background, which inherits it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    own = Path(tempfile.mkdtemp(prefix="metalib-test-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        (own / name.lower()).mkdir()
        os.environ[name] = str(own / name.lower())
    if not os.access(Path.home(), os.W_OK):  # a container with a user of its own: caches last as long as the tests
        os.environ["XDG_CACHE_HOME"] = os.environ["XDG_CONFIG_HOME"] = str(own)
    os.environ["MATPLOTLIBRC"] = os.devnull
    # A kernel, or a process that a test starts, imports the metalib that stands here, whichever one is installed.
    here, theirs = str(Path(__file__).parent), os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([here, theirs]) if theirs else here
    # Listing the fonts, and saying so, happens here: in a notebook the message would be an output nobody stored.
    import matplotlib.font_manager  # noqa: F401


if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker inherits them
    neutral_surroundings()


def _children_cpu():
    times = os.times()
    return times.children_user + times.children_system


def _notebook(nodeid):
    path = nodeid.split("::")[0]
    return path if path.endswith(".ipynb") else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    before = _children_cpu()
    result = yield  # the kernel is shut down, and its CPU time counted, after a notebook's last cell
    if _notebook(item.nodeid):
        item.user_properties.append(("kernel_cpu", _children_cpu() - before))
    return result


def pytest_runtest_logreport(report):
    name = _notebook(report.nodeid)
    if name:
        _wall[name] = _wall.get(name, 0.0) + report.duration
        if report.when == "teardown":
            _cpu[name] = _cpu.get(name, 0.0) + dict(report.user_properties).get("kernel_cpu", 0.0)


def pytest_terminal_summary(terminalreporter):
    if not _wall:
        return
    terminalreporter.section("notebooks")
    for name in sorted(_wall):
        long = f"   more than {ONE} s" if _cpu.get(name, 0.0) > ONE else ""
        terminalreporter.write_line(f"{name:<45} {_wall[name]:6.1f} s   ({_cpu.get(name, 0.0):6.1f} CPU s){long}")
    wall, cpu = (sum(times.values()) / len(_wall) for times in (_wall, _cpu))
    terminalreporter.write_line(f"{'on average':<45} {wall:6.1f} s   ({cpu:6.1f} CPU s)   the aim: {AVERAGE} s, quiet")
