"""Saved files: what goes in comes out, half a file never exists, and a bad file is refused with a reason."""

import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from conftest import ROOT
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
from metalib.training import files as writing
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


# --- what a learner was built from --------------------------------------------------------------------------

class Unkept(MAML):
    """Keeps neither argument under its own name."""

    def __init__(self, net, width, scale=1.0):
        super().__init__(net, inner_lr=0.1)
        self._width, self.scale = width, 2 * scale


def net():
    return mlp(256, (4,), 5)


@pytest.mark.parametrize(("options", "kept"), [
    ({"inner_lr": np.float64(0.1)}, 0.1), ({"steps": np.int64(3)}, 3), ({"steps": np.uint8(3)}, 3),
    ({"inner_lr": np.float32(0.1)}, float(np.float32(0.1))), ({"steps": torch.tensor(3)}, 3),
    ({"inner_lr": torch.tensor(0.25)}, 0.25), ({"inner_lr": np.array(0.5)[()]}, 0.5)], ids=str)
def test_numbers_of_numpy_and_torch_are_written_as_plain_ones(tmp_path, options, kept):
    save(MAML(net(), **options), tmp_path / "x.pt")
    (name, _), = options.items()
    back = getattr(load(tmp_path / "x.pt"), name)
    assert back == kept and type(back) is type(kept)


@pytest.mark.parametrize("width", [object(), {1, 2}, np.zeros(3), nn.Parameter(torch.ones(2)), [1, {"a": object()}],
                                   torch.ones(2, requires_grad=True)], ids=lambda x: type(x).__name__)
def test_an_argument_that_cannot_be_stored_is_refused_on_write_and_named(tmp_path, width):
    learner = Unkept(net(), width)
    with pytest.raises(TypeError, match=r"Unkept\(width=\).* which a file cannot keep.*Nothing was written.*"
                       r"To keep the weights alone: torch.save\(learner.state_dict\(\), path\)"):
        save(learner, tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_learned_rate_in_place_of_a_number_is_refused_on_write(tmp_path):
    with pytest.raises(TypeError, match=r"MAML\(inner_lr=\) is a parameter"):
        save(MAML(net(), inner_lr=nn.Parameter(torch.tensor(0.1))), tmp_path / "x.pt")


@pytest.mark.parametrize("width", [3, "three", [1, (2, None)], {"a": 1.5}, torch.arange(3), np.float64(0.3)], ids=str)
def test_an_argument_that_is_not_kept_as_an_attribute_is_saved_as_it_was_given(tmp_path, width):
    save(Unkept(net(), width), tmp_path / "x.pt")
    assert isinstance(load(tmp_path / "x.pt", into=Unkept(net(), width)), Unkept)
    with pytest.raises(ValueError, match="width: .* in the file, 4 here"):
        load(tmp_path / "x.pt", into=Unkept(net(), 4))


def test_a_setting_that_was_changed_is_saved_as_it_is_and_one_that_nobody_could_rebuild_is_refused(tmp_path):
    learner = MAML(net(), steps=1)
    learner.steps, learner.net = 5, mlp(256, (6, 6), 5)
    save(learner, tmp_path / "x.pt")
    back = load(tmp_path / "x.pt")
    assert back.steps == 5 and back.net.hidden == [6, 6]
    own = Unkept(net(), 1, scale=3.0)
    own.scale = 7.0
    with pytest.raises(ValueError, match="Unkept.scale was changed after construction"):
        save(own, tmp_path / "y.pt")


@pytest.mark.parametrize(("saved", "here", "message"), [
    ({"inner_lr": 0.3}, {}, "inner_lr: 0.3 in the file, 0.1 here"), ({}, {"steps": 4}, "steps: 1 in the file, 4 here"),
    ({"order": 1}, {}, "order: 1 in the file, 2 here"), ({}, {"loss": nn.functional.mse_loss}, "loss")])
@pytest.mark.parametrize("network", [net, OwnNet])
def test_into_with_other_settings_is_refused_and_left_alone(tmp_path, network, saved, here, message):
    save(MAML(network(), **saved), tmp_path / "x.pt")
    into = MAML(network(), **here)
    before = {k: v.clone() for k, v in into.state_dict().items()}
    with pytest.raises(ValueError, match=f"built with other settings.*{message}"):
        load(tmp_path / "x.pt", into=into)
    assert all(torch.equal(v, before[k]) for k, v in into.state_dict().items())
    assert load(tmp_path / "x.pt", into=MAML(network(), **saved)).inner_lr == saved.get("inner_lr", 0.1)


def test_into_of_another_class_or_network_is_refused(tmp_path):
    def drops(p):
        return nn.Sequential(nn.Flatten(), nn.Linear(256, 5), nn.Dropout(p))

    save(MAML(drops(0.1)), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="repr"):
        load(tmp_path / "x.pt", into=MAML(drops(0.2)))
    save(MAML(mlp(256, (4,), 5)), tmp_path / "y.pt")
    with pytest.raises(ValueError, match="activation: 'relu' in the file, 'tanh' here"):
        load(tmp_path / "y.pt", into=MAML(mlp(256, (4,), 5, activation="tanh")))
    save(ProtoNet(small()), tmp_path / "z.pt")
    with pytest.raises(ValueError, match="class: 'ProtoNet' in the file, 'OwnLearner' here"):
        load(tmp_path / "z.pt", into=OwnLearner(small()))


@pytest.mark.parametrize("network", [lambda: small(5), OwnNet])
def test_what_was_frozen_stays_frozen_and_every_module_keeps_its_mode(tmp_path, network):
    learner, into = MAML(network()), None if network is not OwnNet else MAML(network())
    *_, last = learner.net.modules()
    last.weight.requires_grad_(False)
    last.eval()
    save(learner, tmp_path / "x.pt")
    back = load(tmp_path / "x.pt", into=into)
    assert [p.requires_grad for p in back.parameters()] == [p.requires_grad for p in learner.parameters()]
    assert [m.training for m in back.modules()] == [m.training for m in learner.modules()]
    assert back.training and not all(m.training for m in back.modules())


def test_each_weight_keeps_its_dtype_and_tied_weights_stay_tied(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.norm = nn.Linear(4, 4), nn.Linear(4, 4).double(), nn.BatchNorm1d(4)
            self.b.weight = self.a.weight

    learner = ProtoNet(Tied())
    save(learner, tmp_path / "x.pt")
    back = load(tmp_path / "x.pt", into=ProtoNet(Tied().double()))
    assert {k: v.dtype for k, v in back.state_dict().items()} == {k: v.dtype for k, v in learner.state_dict().items()}
    assert back.encoder.a.weight is back.encoder.b.weight


@pytest.mark.parametrize("path", sorted((ROOT / "results" / "checkpoints").glob("*.pt")), ids=lambda p: p.stem)
def test_the_committed_files_load_and_a_frozen_head_of_zeros_stays_frozen(path, tmp_path):
    learner = load(path)
    frozen = [k for k, p in learner.named_parameters() if not p.requires_grad]
    assert frozen == (["net.head.weight", "net.head.bias"] if "-zero" in path.stem else [])
    save(learner, tmp_path / "again.pt")
    again = load(tmp_path / "again.pt", into=load(path))
    assert str(again) == str(learner)


# --- reading -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), MemoryError(), OSError(5, "I/O error"),
                                   torch.OutOfMemoryError("CUDA out of memory"),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory")], ids=repr)
def test_what_is_not_the_files_fault_is_passed_on_as_it_is(tmp_path, monkeypatch, error):
    save(MAML(net()), tmp_path / "x.pt")

    def fails(*args, **options):
        raise error

    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(type(error)) as caught:
        load(tmp_path / "x.pt")
    assert caught.value is error


def test_a_folder_or_a_forbidden_file_is_called_so(tmp_path, monkeypatch):
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    with pytest.raises(IsADirectoryError):
        save(MAML(net()), tmp_path)
    assert list(tmp_path.parent.glob(".*partial")) == []

    def forbidden(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(writing, "open", forbidden, raising=False)
    with pytest.raises(PermissionError, match="Permission denied"):
        load(tmp_path / "x.pt")
    with pytest.raises(PermissionError, match="choose a folder you may write to"):
        save(MAML(net()), tmp_path / "x.pt")


@pytest.mark.parametrize("where", [0.3, 0.5, 0.7])
def test_a_single_byte_that_changed_is_noticed(tmp_path, where):
    path = tmp_path / "x.pt"
    save(ProtoNet(conv4(channels=16)), path)
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged .*delete it, or restore a copy"):
        load(path)


@pytest.mark.parametrize("content", [b"name,score\na,1\n" * 9, pickle.dumps({"a": [1, 2]}),
                                     pickle.dumps(Exception("x"))], ids=["text", "dict", "class"])
def test_nobody_is_advised_to_delete_a_file_of_somebody_else(tmp_path, content):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not") as caught:
        load(path)
    assert "delete" not in str(caught.value)


@pytest.mark.parametrize("content", [{"a": {"b": np.float64(1)}}, {"a": [1, object()]}, {"lr": np.arange(3)},
                                     {"f": len}])
def test_nothing_is_written_that_could_not_be_read(tmp_path, content):
    with pytest.raises(TypeError, match="^(a.b|a.1.|lr|f) is .*a file cannot keep"):
        files.write(content, tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threads", [4, 9])
def test_threads_that_save_to_one_path_leave_one_whole_file_at_every_moment(tmp_path, threads):
    path = tmp_path / "x.pt"
    learners = [MAML(net(), inner_lr=0.1 * (i + 1)) for i in range(threads)]
    save(learners[0], path)

    def work(learner):
        for _ in range(8):
            save(learner, path)
            back = load(path)
            whose = learners[round(back.inner_lr / 0.1) - 1]
            assert all(torch.equal(v, whose.state_dict()[k]) for k, v in back.state_dict().items())

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, learners))
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "flipped header", "flipped end", "flipped name"])
def test_a_damaged_or_foreign_file_is_refused(tmp_path, damage):
    path = tmp_path / "learner.pt"
    save(ProtoNet(small()), path)
    whole = path.read_bytes()
    disk = whole.rfind(b"PK\6\7") + 4  # on which disk the archive begins; there is one, 0
    path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"not a checkpoint\n" * 50,
                      "flipped header": bytes(255 - b for b in whole[:64]) + whole[64:],
                      "flipped end": whole[:disk] + b"\1" + whole[disk + 1:],
                      "flipped name": whole.replace(b"data.pkl", b"data.p\xebl")}[damage])
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
    with pytest.raises(OSError, match="cannot write /proc/self.*choose a folder you may write to"):
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


FULL_DISK = """
import resource, signal, sys, torch
from metalib.training import files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))  # what a quota does
try:
    files.write({"weights": {"w": torch.ones(100_000)}}, sys.argv[1])
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_called_so_with_the_name_of_the_file(tmp_path):
    path = tmp_path / "run.pt"
    files.write({"weights": {"w": torch.ones(3)}}, path)
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, encoding="utf-8",
                          timeout=PATIENCE)
    assert f"cannot write {path} (" in done.stdout and "make room" in done.stdout, done.stderr
    assert torch.equal(files.read(path)["weights"]["w"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_a_link_stays_a_link_and_the_file_that_it_points_to_is_written(tmp_path):
    (tmp_path / "scratch").mkdir()
    link, target = tmp_path / "run.pt", tmp_path / "scratch" / "big.pt"
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("links need a permission here")
    for value in (1.0, 2.0):
        files.write({"weights": {"w": torch.tensor([value])}}, link)
        assert link.is_symlink() and float(files.read(target)["weights"]["w"]) == value
    assert list((tmp_path / "scratch").iterdir()) == [target]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs devices and pipes")
def test_a_device_or_a_pipe_is_neither_read_nor_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (os.devnull, "/dev/zero", tmp_path / "pipe"):  # root could replace the first, and never ends the second
        for use in (load, lambda path: save(ProtoNet(small()), path)):
            with pytest.raises(ValueError, match="is a device or a pipe: name an ordinary file"):
                use(path)


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_must_be_new_replaces_nothing(tmp_path, monkeypatch, links):
    def no_links(*args):
        raise OSError(1, "Operation not permitted")

    if not links:  # exFAT
        monkeypatch.setattr(os, "link", no_links)
    files.write({"weights": {"w": torch.ones(3)}}, tmp_path / "run.pt", replace=False)
    assert torch.equal(files.read(tmp_path / "run.pt")["weights"]["w"], torch.ones(3))
    with pytest.raises(FileExistsError):
        files.write({"weights": {"w": torch.zeros(3)}}, tmp_path / "run.pt", replace=False)
    assert torch.equal(files.read(tmp_path / "run.pt")["weights"]["w"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


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


def test_what_killed_writers_left_goes_after_an_hour_and_nothing_else(tmp_path):
    old, new = (tmp_path / f".a.pt.{c * 32}.partial" for c in "ab")
    other, own = tmp_path / f".b.pt.{'c' * 32}.partial", tmp_path / ".a.pt.notes.partial"
    for file in (old, new, other, own):
        file.write_bytes(b"half")
    for file in (old, other, own):
        os.utime(file, (1e9, 1e9))
    writing.write({"x": torch.ones(2)}, tmp_path / "a.pt")
    assert not old.exists() and new.exists() and other.exists() and own.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([new.name, other.name, own.name, "a.pt"])
