"""How long each notebook took, and the budget: 120 s for one, 45 s on average.

The budget is held against the CPU seconds of the notebook's kernel, which a busy machine does not inflate; with one
thread (as `make test` runs them) they are the seconds a reader waits on a quiet machine.
"""

import os
from pathlib import Path

import pytest

ONE, AVERAGE = 120, 45
_wall, _cpu = {}, {}


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


def _over_budget():
    late = [f"{name} took {s:.0f} CPU s; the budget is {ONE} s" for name, s in _cpu.items() if s > ONE]
    average = sum(_cpu.values()) / max(len(_cpu), 1)
    whole_book = len(_cpu) >= len(list(Path(__file__).parent.glob("book/*.ipynb")))
    if whole_book and average > AVERAGE:
        late.append(f"the notebooks took {average:.0f} CPU s on average; the budget is {AVERAGE} s")
    return late


def pytest_sessionfinish(session, exitstatus):
    if not hasattr(session.config, "workerinput") and exitstatus == 0 and _over_budget():
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    if not _wall:
        return
    terminalreporter.section("notebooks")
    for name in sorted(_wall):
        terminalreporter.write_line(f"{name:<45} {_wall[name]:6.1f} s   ({_cpu.get(name, 0.0):6.1f} CPU s)")
    for line in _over_budget():
        terminalreporter.write_line("OVER BUDGET: " + line, red=True)
