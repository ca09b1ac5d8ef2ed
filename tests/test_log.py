"""The TensorBoard log: every curve, every step once, also of a resumed run; and nothing unless asked for."""

import errno
import os
import signal
import sys

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metalib import ClassImages, FewShot, ProtoNet, Sinusoids, audit, conv4, meta_train, seeded
from metalib.functional import derived
from metalib.training import checkpoint
from two_processes import Acting, config, image_learner, image_tasks, sine_learner

SCALARS = {"train/meta_loss", "train/gradient_norm", "train/lr", "train/meta_iterations_per_second", "val/ci95"}


pytestmark = pytest.mark.usefixtures("one_thread")


def read(folder):
    """What TensorBoard shows of a folder."""
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def curve(log, tag):
    events = log.Scalars(tag)
    return [e.step for e in events], [e.value for e in events]


def test_the_curves_are_the_history(tmp_path):
    history = meta_train(sine_learner(), Sinusoids(5, 5), config(log_dir=tmp_path), Sinusoids(5, 5))
    log = read(tmp_path)
    assert set(log.Tags()["scalars"]) == SCALARS | {"val/MSE"}
    assert log.Tags()["images"] == log.Tags()["tensors"] == []  # no pictures and no audit of sinusoids
    steps, losses = curve(log, "train/meta_loss")
    assert steps == list(range(1, 13)) and losses == pytest.approx(history.losses, rel=1e-6)
    steps, means = curve(log, "val/MSE")
    assert (steps, means) == ([4, 8, 12], pytest.approx([m for _, m, _ in history.validations], rel=1e-6))
    assert curve(log, "val/ci95")[1] == pytest.approx([c for _, _, c in history.validations], rel=1e-6)
    rates = curve(log, "train/lr")[1]
    assert rates[0] == pytest.approx(1e-2) and all(a > b > 0 for a, b in zip(rates, rates[1:]))  # cosine
    norms = curve(log, "train/gradient_norm")[1]
    assert max(norms) > 1.0 and min(norms) > 0  # before clipping, which is at 1.0
    speeds = curve(log, "train/meta_iterations_per_second")[1]
    assert sum(1 / s for s in speeds) == pytest.approx(history.seconds, rel=0.05)


def test_a_resumed_run_continues_its_curves_without_a_step_twice(tmp_path):
    whole = meta_train(sine_learner(), Sinusoids(5, 5), config(), Sinusoids(5, 5))

    def killed():  # iterations 6 and 7 are in the log, the checkpoint is of iteration 5
        raise RuntimeError("killed")

    settings = config(log_dir=tmp_path / "log", checkpoint=tmp_path / "run.pt")
    with pytest.raises(RuntimeError, match="killed"):
        meta_train(sine_learner(), Acting(8, killed), settings, Sinusoids(5, 5))
    assert curve(read(tmp_path / "log"), "train/meta_loss")[0] == list(range(1, 8))
    with pytest.raises(KeyboardInterrupt):
        stop = Acting(4, lambda: signal.raise_signal(signal.SIGINT))  # after iteration 9
        meta_train(sine_learner(99), stop, settings, Sinusoids(5, 5))
    meta_train(sine_learner(99), Acting(), settings, Sinusoids(5, 5))
    log = read(tmp_path / "log")
    for tag in SCALARS - {"val/ci95"}:
        assert curve(log, tag)[0] == list(range(1, 13)), tag
    assert curve(log, "train/meta_loss")[1] == pytest.approx(whole.losses, rel=1e-6)
    assert curve(log, "val/MSE")[0] == [4, 8, 12]


def test_a_checkpoint_is_written_after_the_steps_it_holds_are_in_the_log(tmp_path, monkeypatch):
    write, seen = checkpoint.write, []

    def look(state, path, **options):  # what a process killed here would leave behind
        if done := len(state["history"]["losses"]):
            seen.append((done, curve(read(tmp_path / "log"), "train/meta_loss")[0]))
        write(state, path, **options)

    monkeypatch.setattr(checkpoint, "write", look)
    meta_train(sine_learner(), Sinusoids(5, 5), config(log_dir=tmp_path / "log", checkpoint=tmp_path / "run.pt"))
    assert seen == [(n, list(range(1, n + 1))) for n in (5, 10, 12)]


def test_a_new_run_in_the_same_folder_replaces_the_old_curves(tmp_path):
    meta_train(sine_learner(), Sinusoids(5, 5), config(log_dir=tmp_path))
    meta_train(sine_learner(), Sinusoids(5, 5), config(log_dir=tmp_path, iterations=5))
    assert curve(read(tmp_path), "train/meta_loss")[0] == [1, 2, 3, 4, 5]


def test_few_shot_tasks_show_their_first_episodes_and_their_audit_once(tmp_path):
    tasks, settings = image_tasks(), config(iterations=2, checkpoint=tmp_path / "run.pt", log_dir=tmp_path / "log")
    meta_train(image_learner(), tasks, settings, tasks)
    meta_train(image_learner(), tasks, settings, tasks)  # resumed, when there was nothing left to do
    log = read(tmp_path / "log")
    assert set(log.Tags()["scalars"]) == SCALARS | {"val/accuracy"}
    assert set(log.Tags()["images"]) == {"episodes/train", "episodes/val"}
    for tag in log.Tags()["images"]:
        (picture,) = log.Images(tag)
        rows, columns = tasks.way, tasks.shot + min(5, tasks.query)  # of 16 x 16 pixels, and a gap of 2
        beside = {"episodes/train": 3, "episodes/val": 1}[tag]  # tasks
        assert (picture.step, picture.height, picture.width) == (0, 16 * rows, beside * (16 * columns + 2))
    (event,) = log.Tensors("audit/train/text_summary")
    shown = event.tensor_proto.string_val[0].decode()
    assert event.step == 0 and shown.replace("    ", "") == str(audit(tasks, seed=derived(3, "train")))


def test_a_log_changes_nothing_in_training(tmp_path):
    logged, plain = image_learner(), image_learner()
    a = meta_train(logged, image_tasks(), config(iterations=2, log_dir=tmp_path))
    b = meta_train(plain, image_tasks(), config(iterations=2))
    assert a.losses == b.losses
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in logged.state_dict().items())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("after", [0, 1, 3, 20])  # writes that still go well: pictures, curves, validation
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_ends_the_log_and_nothing_else(tmp_path, monkeypatch, after, code):
    from tensorboard.summary.writer.record_writer import RecordWriter
    left, write = [after + 1], RecordWriter.write  # the first is the file's header

    def full(self, data):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(code, os.strerror(code))
        return write(self, data)

    monkeypatch.setattr(RecordWriter, "write", full)
    learner, plain, tasks = image_learner(), image_learner(), image_tasks()
    short = {"val_every": 2, "val_episodes": 2, "iterations": 4}
    settings = config(checkpoint=tmp_path / "run.pt", log_dir=tmp_path / "log", **short)
    with pytest.warns(UserWarning, match=f"log in .*{os.strerror(code)}.*training goes on without it") as seen:
        history = meta_train(learner, tasks, settings, tasks)
    assert len([w for w in seen if "without it" in str(w.message)]) == 1
    expected = meta_train(plain, tasks, config(**short), tasks)
    assert history.losses == expected.losses and history.validations == expected.validations
    assert len(checkpoint.read(tmp_path / "run.pt")["history"]["losses"]) == 4


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_images_of_any_number_of_channels_are_shown(tmp_path, channels):
    images = torch.rand(6 * 4, channels, 16, 16, generator=seeded(0))
    tasks = FewShot(ClassImages.from_arrays(images, torch.arange(6).repeat_interleave(4)), query=2)
    torch.manual_seed(0)
    learner = ProtoNet(conv4(channels=4, in_channels=channels, image_size=16))
    meta_train(learner, tasks, config(iterations=1, log_dir=tmp_path))
    (picture,) = read(tmp_path).Images("episodes/train")
    assert (picture.height, picture.width) == (16 * 5, 3 * (16 * 3 + 2))


def test_a_log_that_cannot_be_begun_says_so_before_the_work(tmp_path):
    (tmp_path / "file").write_text("a file where a folder should be", encoding="utf-8")
    tasks = Acting()
    with pytest.raises(OSError):
        meta_train(sine_learner(), tasks, config(log_dir=tmp_path / "file" / "log"))
    assert tasks.drawn == 0


def test_a_run_may_be_resumed_with_another_log_or_none(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        stop = Acting(4, lambda: signal.raise_signal(signal.SIGINT))
        meta_train(sine_learner(), stop, config(checkpoint=tmp_path / "run.pt"))
    settings = config(checkpoint=tmp_path / "run.pt", log_dir=tmp_path / "b")
    history = meta_train(sine_learner(99), Acting(), settings)
    assert len(history.losses) == 12 and curve(read(tmp_path / "b"), "train/meta_loss")[0] == list(range(5, 13))


def test_without_tensorboard_the_error_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r"log_dir='runs' needs tensorboard: pip install tensorboard"):
        meta_train(sine_learner(), Sinusoids(5, 5), config(log_dir="runs"))
    history = meta_train(sine_learner(), Sinusoids(5, 5), config())  # which nobody needs otherwise
    assert len(history.losses) == 12


def test_without_a_log_dir_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    meta_train(sine_learner(), Sinusoids(5, 5), config())
    assert list(tmp_path.iterdir()) == []
