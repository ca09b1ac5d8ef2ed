"""What holds for a learner because it is one: it is saved, loaded, resumed, and trained by two processes."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from families import CONFIG, EVERY, UNTRAINED, made
from metalib import learners, load, meta_gradient, meta_train, save, seeded
from test_distributed import distance, same, torchrun

pytestmark = pytest.mark.usefixtures("one_thread")
each = pytest.mark.parametrize("name", EVERY)


class Stopped(Exception):
    """The run ends here."""


class Interrupted:
    """Tasks that fail when the third meta-batch is drawn."""

    def __init__(self, tasks):
        self.tasks, self._drawn = tasks, 0

    def sample(self, n, *, generator):
        self._drawn += 1
        if self._drawn == 3:
            raise Stopped
        return self.tasks.sample(n, generator=generator)

    def __getattr__(self, name):
        return getattr(self.tasks, name)


def test_every_learner_is_here():
    assert {name.split(",")[0] for name in EVERY} | UNTRAINED == {*learners.__all__}


@each
def test_a_saved_learner_has_the_meta_loss_that_it_had(tmp_path, name):
    learner, episodes = made(name), EVERY[name][1].sample(3, generator=seeded(1))
    with torch.no_grad():  # away from zeros and ones, so that a lost parameter shows
        for p in learner.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=seeded(2), dtype=torch.float64))
    save(learner, tmp_path / "learner.pt")
    back = load(tmp_path / "learner.pt")
    assert str(back) == str(learner) and same(back.state_dict(), learner.state_dict())
    a, b = (float(meta_gradient(one, episodes)) for one in (learner, back))
    assert a == b and all(torch.equal(p.grad, q.grad) for p, q in zip(learner.parameters(), back.parameters())
                          if p.grad is not None)


@each
def test_an_interrupted_run_ends_as_the_whole_one_does(tmp_path, name):
    config = replace(CONFIG, checkpoint=tmp_path / "run.pt")
    with pytest.raises(Stopped):
        meta_train(made(name), Interrupted(EVERY[name][1]), config)
    parts, whole = made(name, 9), made(name)
    assert not same(parts.state_dict(), whole.state_dict()), "other weights than those of the checkpoint"
    going_on = Interrupted(EVERY[name][1])
    going_on._drawn = 5
    history = meta_train(parts, going_on, config)
    assert history.losses == meta_train(whole, EVERY[name][1], CONFIG).losses
    assert same(parts.state_dict(), whole.state_dict())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """name -> the weights and losses of a run of two processes."""
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("needs Gloo")
    folder = tmp_path_factory.mktemp("families")
    torchrun("families", folder)
    return torch.load(folder / "saw.pt")


@each
def test_two_processes_train_it_as_one_does(two, name):
    learner = made(name)
    history = meta_train(learner, EVERY[name][1], CONFIG)
    assert two[name]["losses"] == pytest.approx(history.losses, abs=1e-8)
    assert distance(two[name]["weights"], learner.state_dict()) < 1e-7
