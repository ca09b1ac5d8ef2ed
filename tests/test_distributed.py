"""Two processes compute what one computes, stop together, fail together, and go on after one of them was killed.

The processes are real: torchrun starts `two_processes.py`, Gloo joins them, and every claim about them is checked on
what each of the two wrote down.
"""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from metalib import Sinusoids, meta_gradient, meta_train, process_group, rank, seeded
from metalib.training.distributed import _unused, average, on_rank_zero, share, world_size
from patience import PATIENCE
from two_processes import Acting, config, image_learner, image_tasks, sine_learner

pytestmark = [pytest.mark.usefixtures("one_thread"),
              pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs Gloo")]


def torchrun(name, folder, restarts=0):
    """Run a function of two_processes.py in two processes; a hang is an error."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               "--max-restarts", str(restarts), str(Path(__file__).with_name("two_processes.py")), name, str(folder)]
    env = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    process = subprocess.Popen(command, env=env | {"OMP_NUM_THREADS": "1"}, encoding="utf-8",
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends its workers, and kills them 30 s later if they do not
        output, _ = process.communicate(timeout=PATIENCE)
        raise AssertionError(f"two processes hung:\n{output}") from None
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two ranks saw, and the folder they wrote to."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.raises(KeyboardInterrupt):  # one process begins a run that two will finish
        stopping = Acting(5, lambda: signal.raise_signal(signal.SIGINT))
        meta_train(sine_learner(), stopping, config(checkpoint=folder / "began.pt"), Sinusoids(5, 5))
    torchrun("everything", folder)
    return SimpleNamespace(folder=folder, ranks=[torch.load(folder / f"rank{r}-saw.pt") for r in (0, 1)])


@pytest.fixture(scope="module")
def alone():
    """The same two runs in one process."""
    runs = {}
    for name, learner, tasks, val in (("sine", sine_learner(), Sinusoids(5, 5), Sinusoids(5, 5)),
                                      ("image", image_learner(), image_tasks(), None)):
        history = meta_train(learner, tasks, config(), val)
        runs[name] = {"weights": learner.state_dict(), "history": vars(history)}
    return runs


def distance(a, b):
    """The largest difference between two dicts of tensors."""
    assert a.keys() == b.keys()
    return max(float((a[k] - b[k]).abs().max()) for k in a)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- the same numbers --------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "learner", "tasks"), [
    ("sine", sine_learner, lambda: Sinusoids(5, 5)), ("image", image_learner, image_tasks)])
def test_two_processes_have_the_gradient_of_one_on_the_same_tasks(two, name, learner, tasks):
    learner = learner()
    loss = float(meta_gradient(learner, tasks().sample(4, generator=seeded(7))))
    a, b = (seen[name] for seen in two.ranks)
    assert distance(a["grads"], {k: p.grad for k, p in learner.named_parameters()}) < 1e-12
    assert a["loss"] == pytest.approx(loss, abs=1e-12)
    assert same(a["grads"], b["grads"]) and a["loss"] == b["loss"]
    assert a["own loss"] != b["own loss"]  # each had tasks of its own
    assert a["stop"] is False and a["frozen"] is None


@pytest.mark.parametrize("name", ["sine", "image"])  # float64: in float32 one maximum that falls the other way is seen
def test_a_run_of_two_processes_is_the_run_of_one(two, alone, name):
    seen = two.ranks[0][name]
    assert distance(seen["weights"], alone[name]["weights"]) < 1e-9
    assert seen["history"]["losses"] == pytest.approx(alone[name]["history"]["losses"], abs=1e-9)
    ours, theirs = (torch.tensor(h["validations"]) for h in (seen["history"], alone[name]["history"]))
    assert ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("name", ["sine", "image"])
def test_all_ranks_end_with_the_weights_and_the_history_of_rank_zero(two, name):
    a, b = (seen[name] for seen in two.ranks)
    assert same(a["weights"], b["weights"])  # though rank 1 began with others
    assert a["history"] == b["history"] and len(a["history"]["losses"]) == 12
    assert a["history"]["chosen"] == ("best on validation tasks" if name == "sine" else "last")


def test_each_process_knows_its_place_also_after_the_group_has_ended(two):
    assert [seen["place"] for seen in two.ranks] == [(0, 2, "cpu"), (1, 2, "cpu")]
    assert [seen["after"] for seen in two.ranks] == [(0, False), (1, False)]


# --- stopping and failing together -------------------------------------------------------------------------

def test_a_meta_batch_that_cannot_be_shared_equally_is_refused_before_anything_is_written(two):
    for seen in two.ranks:
        assert seen["indivisible"].startswith("ValueError: meta_batch=3 tasks")
        assert "by 2 processes: use meta_batch=4" in seen["indivisible"]
    assert not (two.folder / "rank0" / "indivisible.pt").exists()


@pytest.mark.parametrize(("name", "message"), [("another seed", "seed=3 on rank 0, 4 on rank 1"),
                                               ("no validation", "val_tasks='given' on rank 0, 'none' on rank 1")])
def test_processes_with_other_settings_are_refused_by_all(two, name, message):
    a, b = (seen[name] for seen in two.ranks)
    assert a == b and a.startswith("ValueError: the processes of one run need the same settings: ") and message in a


def test_rank_zero_alone_needs_to_know_where_the_checkpoint_is(two):
    assert [seen["own checkpoint"] for seen in two.ranks] == [12, 12]
    assert len(torch.load(two.folder / "rank0" / "own.pt")["history"]["losses"]) == 12


def test_a_gradient_that_is_not_finite_on_one_rank_stops_all_with_the_same_message(two):
    a, b = (seen["not finite"] for seen in two.ranks)
    assert a == b and a.startswith("FloatingPointError: meta-loss nan") and "at meta-iteration 3" in a


def test_a_checkpoint_that_rank_zero_cannot_write_stops_all_with_the_same_message(two):
    a, b = (seen["folder"] for seen in two.ranks)
    assert a == b and a.startswith("FileNotFoundError: cannot write ") and "create it first" in a


@pytest.mark.parametrize("how", ["ctrl-c", "kill"])
def test_a_signal_to_one_rank_stops_all_after_the_same_iteration_and_one_process_can_go_on(two, alone, how):
    for seen in two.ranks:
        assert seen[how].startswith("KeyboardInterrupt: stopped after meta-iteration 7")
    resumed, tasks = sine_learner(99), Acting()
    history = meta_train(resumed, tasks, config(checkpoint=two.folder / "rank0" / f"{how}.pt"), Sinusoids(5, 5))
    assert tasks.drawn == 5 and len(history.losses) == 12
    assert distance(resumed.state_dict(), alone["sine"]["weights"]) < 1e-10


def test_two_processes_go_on_with_what_one_began_though_only_rank_zero_has_the_file(two, alone):
    a, b = (seen["taken over"] for seen in two.ranks)
    assert same(a["weights"], b["weights"]) and a["history"] == b["history"]
    assert distance(a["weights"], alone["sine"]["weights"]) < 1e-10
    assert a["history"]["losses"][:5] == alone["sine"]["history"]["losses"][:5]


def test_only_rank_zero_works_and_writes_for_all(two):
    assert ["ran here" in seen for seen in two.ranks] == [True, False]
    written = {p.name for p in (two.folder / "rank0").iterdir()}
    assert written == {"sine.pt", "image.pt", "own.pt", "ctrl-c.pt", "kill.pt", "sine", "image"}
    assert list((two.folder / "rank1").iterdir()) == []


# --- killed ------------------------------------------------------------------------------------------------

@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_rank_is_restarted_by_torchrun_and_the_run_ends_bit_for_bit_the_same(two, tmp_path):
    output = torchrun("killed", tmp_path, restarts=1)
    seen, whole = torch.load(tmp_path / "saw.pt"), two.ranks[0]["sine"]  # `whole`: two processes that nobody killed
    assert "exitcode: -9" in output and seen["restarts"] == 1
    assert seen["drawn"] == 7  # after the restart: iterations 6 to 12, from the checkpoint of iteration 5
    assert same(seen["weights"], whole["weights"])
    assert {**seen["history"], "seconds": 0} == {**whole["history"], "seconds": 0}


def test_processes_that_start_again_do_not_meet_the_dead():
    store, addresses = dist.HashStore(), []
    store.set_timeout(timedelta(seconds=PATIENCE))

    def join(rank, attempt):  # as init_process_group does: write one's own address, read the other's
        part = _unused(store, rank, 2, timedelta(seconds=PATIENCE))
        part.set(f"address/{rank}", f"{rank}, attempt {attempt}")
        return part.get(f"address/{1 - rank}").decode()

    with ThreadPoolExecutor(2) as pool:
        for attempt in (1, 2):
            first = pool.submit(join, attempt % 2, attempt)  # in attempt 2 rank 0 is early: rank 1's token is old
            time.sleep(0.2)
            second = pool.submit(join, 1 - attempt % 2, attempt)
            addresses += [first.result(PATIENCE), second.result(PATIENCE)]
    assert addresses == ["0, attempt 1", "1, attempt 1", "1, attempt 2", "0, attempt 2"]
    with pytest.raises(TimeoutError, match=r"processes \[1\] of 2 did not start"):
        _unused(dist.HashStore(), 0, 2, timedelta(seconds=0.1))


# --- one process -------------------------------------------------------------------------------------------

def test_without_torchrun_a_process_group_does_nothing(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    episodes = Sinusoids(5, 5).sample(3, generator=seeded(0))
    with process_group("cpu") as device:
        assert device == torch.device("cpu") and not dist.is_initialized() and (rank(), world_size()) == (0, 1)
        assert share(episodes) is episodes and average([], 0.5, True) == (0.5, True)
        assert on_rank_zero(max, 1, 2) == 2


def test_processes_that_did_not_join_are_told_how(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="2 processes were started.*inside `with process_group"):
        meta_train(sine_learner(), Sinusoids(5, 5), config())


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="process 1 of this machine has no GPU.*--nproc-per-node 1"):
        process_group("cuda").__enter__()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGHUP")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_polite_kill_and_a_closed_terminal_stop_a_run_as_ctrl_c_does(tmp_path, name):
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # under nohup, the tests ignore one of them too
    tasks = Acting(4, lambda: signal.raise_signal(number))
    with pytest.raises(KeyboardInterrupt, match="stopped after meta-iteration 4.*call meta_train again"):
        meta_train(sine_learner(), tasks, config(checkpoint=tmp_path / "run.pt"))
    assert signal.signal(number, before) == signal.SIG_DFL  # the handler was put back
    assert len(torch.load(tmp_path / "run.pt")["history"]["losses"]) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGHUP")
def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does
    try:
        history = meta_train(sine_learner(), Acting(4, lambda: signal.raise_signal(signal.SIGHUP)), config())
    finally:
        signal.signal(signal.SIGHUP, before)
    assert len(history.losses) == 12
