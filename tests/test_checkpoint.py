"""Saved files: what goes in comes out, half a file never exists, and a bad file is refused with a reason."""

import os
import pickle
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

from metalib import (
    FOMAML,
    MAML,
    ClassImages,
    FewShot,
    PixelFloor,
    Pretrained,
    ProtoNet,
    conv4,
    load,
    meta_test,
    mlp,
    save,
    seeded,
)
from metalib.learner import Learner
from metalib.training import checkpoint as files
from patience import PATIENCE


class OwnNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(256, 5)

    def forward(self, x):
        return self.layer(x.flatten(1))


class OwnLearner(ProtoNet):
    pass


def tasks(dtype=torch.float32):
    images = torch.rand(6, 4, 16, 16, generator=seeded(0)).flatten(0, 1)
    return FewShot(ClassImages.from_arrays(images, torch.arange(6).repeat_interleave(4)), query=3, dtype=dtype)


def small(out_dim=None, **options):
    return conv4(out_dim, channels=8, image_size=16, **options)


LEARNERS = {
    "MAML conv4": lambda: MAML(small(5), inner_lr=0.4, steps=3),
    "FOMAML mlp": lambda: FOMAML(mlp(256, (8, 8), 5, activation="tanh"), inner_lr=0.2),
    "ProtoNet conv4": lambda: ProtoNet(small(norm="group")),
    "ProtoNet mlp": lambda: ProtoNet(mlp(256, (8,), 16)),
    "Pretrained centroid": lambda: Pretrained(small(), classes=6, temperature=7.0),
    "Pretrained linear": lambda: Pretrained(mlp(256, (8,), 16), "linear", classes=6, embedding_dim=16, steps=4, lr=0.3),
    "PixelFloor": PixelFloor,
}


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saved_learner_comes_back_the_same(tmp_path, name, dtype):
    torch.manual_seed(0)
    learner = LEARNERS[name]().to(dtype).eval()
    with torch.no_grad():  # away from ones and zeros, so that a lost parameter shows
        for p in learner.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=seeded(1)).to(dtype))
    save(learner, tmp_path / "learner.pt")
    back = load(tmp_path / "learner.pt")
    assert type(back) is type(learner) and not back.training and str(back) == str(learner)
    assert list(back.state_dict()) == list(learner.state_dict())
    for a, b in zip(back.parameters(), learner.parameters()):
        assert a.dtype == dtype and torch.equal(a, b) and a.requires_grad
    for option in ("inner_lr", "steps", "order", "temperature", "head", "lr", "weight_decay"):
        assert getattr(back, option, None) == getattr(learner, option, None)
    assert torch.equal(meta_test(back, tasks(dtype), 5).values, meta_test(learner, tasks(dtype), 5).values)


def test_a_network_of_ones_own_needs_into_and_then_comes_back(tmp_path):
    torch.manual_seed(0)
    learner = MAML(OwnNet(), inner_lr=0.3)
    save(learner, tmp_path / "own.pt")
    with pytest.raises(ValueError, match=r"(?s)OwnNet.*load\(path, into=learner\)"):
        load(tmp_path / "own.pt")
    torch.manual_seed(1)
    back = load(tmp_path / "own.pt", into=MAML(OwnNet(), inner_lr=0.3))
    assert torch.equal(back.net.layer.weight, learner.net.layer.weight)
    with pytest.raises(ValueError, match="do not fit MAML"):
        load(tmp_path / "own.pt", into=MAML(mlp(256, (4,), 5)))


def test_a_learner_or_a_loss_of_ones_own_needs_into(tmp_path):
    for learner in (OwnLearner(small()), MAML(small(5), loss=lambda p, y: p.mean())):
        save(learner, tmp_path / "own.pt")
        with pytest.raises(ValueError, match="cannot rebuild"):
            load(tmp_path / "own.pt")
        assert isinstance(load(tmp_path / "own.pt", into=learner), Learner)


def test_a_missing_file_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file: .*" + tmp_path.name + ".*nothing.pt"):
        load("nothing.pt")


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "flipped header"])
def test_a_damaged_or_foreign_file_is_refused(tmp_path, damage):
    path = tmp_path / "learner.pt"
    save(ProtoNet(small()), path)
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"not a checkpoint\n" * 50,
                      "flipped header": bytes(255 - b for b in whole[:64]) + whole[64:]}[damage])
    with pytest.raises(ValueError, match="learner.pt is damaged or was not written by metalib"):
        load(path)


def test_a_file_of_somebody_else_is_refused(tmp_path):
    path = tmp_path / "other.pt"
    torch.save(small().state_dict(), path)
    with pytest.raises(ValueError, match="is not a saved learner"):
        load(path)
    torch.save([1, 2, 3], path)
    with pytest.raises(ValueError, match="not written by metalib: it holds a list"):
        load(path)


def test_a_training_checkpoint_is_told_from_a_learner(tmp_path):
    files.write({"run": {}, "weights": {}, "optimizer": {}}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"is not a saved learner.*TrainConfig\(checkpoint=...\)"):
        load(tmp_path / "run.pt")


def test_a_newer_format_says_upgrade(tmp_path):
    path = tmp_path / "learner.pt"
    save(ProtoNet(small()), path)
    content = files.read(path)
    content["format"] += 1
    files.write(content, path)
    with pytest.raises(ValueError, match=f"has format {files.FORMAT + 1}.*upgrade metalib"):
        load(path)


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (self.target,))


@pytest.mark.parametrize("how", ["pickle", "torch.save"])
def test_a_file_cannot_run_code(tmp_path, how):
    path, target = tmp_path / "evil.pt", tmp_path / "code-ran"
    content = {"format": 1, "spec": Payload(str(target)), "weights": {}}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match="damaged or was not written by metalib"):
        load(path)
    assert not target.exists()
    if how == "torch.save":  # the file is dangerous indeed: an ordinary load runs it
        torch.load(path, weights_only=False)
        assert target.exists()


# --- writing -----------------------------------------------------------------------------------------------

def test_a_missing_folder_says_create_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="the folder .*missing does not exist; create it first"):
        save(ProtoNet(small()), tmp_path / "missing" / "learner.pt")
    (tmp_path / "file").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        save(ProtoNet(small()), tmp_path / "file" / "learner.pt")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder nobody can write to")
def test_a_folder_that_cannot_be_written_to_says_choose_another():
    with pytest.raises(OSError, match="cannot write in /proc/self .*choose a folder you may write to"):
        save(ProtoNet(small()), "/proc/self/learner.pt")  # read-only even for root


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_says_choose_another(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(OSError, match="choose a folder you may write to"):
            save(ProtoNet(small()), tmp_path / "learner.pt")
    finally:
        tmp_path.chmod(0o755)


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "learner.pt"
    save(ProtoNet(small()), path)
    old = path.read_bytes()

    def full_disk(content, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(ProtoNet(small()), path)
    assert path.read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["learner.pt"]


KILLED_MID_SAVE = """
import io, os, signal, sys, torch
from metalib.training import checkpoint
moment, path = sys.argv[1:]
save = torch.save
def half(content, file):
    buffer = io.BytesIO()
    save(content, buffer)
    file.write(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
if moment == "while writing":
    torch.save = half
else:
    os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
checkpoint.write({"weights": {"w": torch.full((100_000,), 2.0)}}, path)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("moment", ["while writing", "before the rename"])
def test_a_process_killed_mid_save_leaves_the_old_file_whole(tmp_path, moment):
    path = tmp_path / "run.pt"
    files.write({"weights": {"w": torch.ones(100_000)}}, path)
    done = subprocess.run([sys.executable, "-c", KILLED_MID_SAVE, moment, str(path)], capture_output=True,
                          timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(tmp_path.iterdir())) == 2  # it was killed in the middle: its unfinished file is still there
    assert torch.equal(files.read(path)["weights"]["w"], torch.ones(100_000))
    files.write({"weights": {"w": torch.zeros(3)}}, path)  # and the leftover is in nobody's way
    assert torch.equal(files.read(path)["weights"]["w"], torch.zeros(3))


def test_a_file_is_read_back_exactly(tmp_path):
    content = {"format": 1, "spec": {"name": None, "args": {"hidden": [4, 4], "loss": None, "lr": 0.1}},
               "weights": {"a": torch.randn(3, 2, dtype=torch.float64, generator=seeded(0)), "n": torch.arange(4)}}
    files.write(content, tmp_path / "x.pt")
    back = files.read(tmp_path / "x.pt")
    assert back["spec"] == content["spec"]
    assert all(torch.equal(back["weights"][k], v) and back["weights"][k].dtype == v.dtype
               for k, v in content["weights"].items())
