"""The digits of scikit-learn: where they stand, and that a shift moves them and changes nothing else."""

import sys

import pytest
import torch

pytest.importorskip("sklearn")
from metalib.data.digits import digits  # noqa: E402

module = sys.modules["metalib.data.digits"]


def test_ten_classes_in_the_middle_of_the_paper():
    bank = digits()
    assert len(bank) == 10 and len(bank.labels) == 1797 and bank.shape == (1, 28, 28) and bank.splits is None
    ink = bank.images[:, 0].double()
    assert ink[:, 4:24, 4:24].sum() == ink.sum() and ink.amax() == 255
    assert bank.digest() == "7bfa661d2021", "other digits, or another Pillow"


def test_a_shift_moves_the_ink_and_loses_none():
    still, moved = digits().images[:, 0], digits(shift=4).images[:, 0]
    assert torch.equal(still.flatten(1).sort(1).values, moved.flatten(1).sort(1).values)

    def corner(x):  # first row and column with ink
        return torch.stack([x.amax(2).ne(0).int().argmax(1), x.amax(1).ne(0).int().argmax(1)])

    move = corner(moved) - corner(still)
    assert move.amin() == -4 and move.amax() == 4 and len(torch.unique(move, dim=1).T) == 81
    back = torch.stack([x.roll((-a, -b), (0, 1)) for x, (a, b) in zip(moved, move.T.tolist())])
    assert torch.equal(back, still)


def test_the_seed_decides_the_shifts():
    assert digits(4, seed=0).digest() == digits(4, seed=0).digest() != digits(4, seed=1).digest()


def test_faults_name_the_fix(monkeypatch):
    with pytest.raises(ValueError, match="at most 4 pixels"):
        digits(shift=5)
    monkeypatch.setattr(module, "CONTENT", ("0" * 12,))
    with pytest.raises(ValueError, match="digits are other ones.*force-reinstall scikit-learn"):
        digits()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "metalib\[images\]"'):
        digits()
