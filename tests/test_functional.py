"""The pure functions, each against a second way to compute the same thing."""

import pytest
import torch

from metalib.functional import (
    class_means,
    conjugate_gradient,
    default_loss,
    descend,
    dot,
    hvp,
    one_hot,
    relative_error,
    squared_distance,
)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_class_means_equal_a_loop_over_classes():
    z, y = randn(12, 3), torch.tensor([0, 1, 2, 2, 1, 0, 0, 0, 1, 2, 2, 2])
    expected = torch.stack([z[y == n].mean(0) for n in range(3)])
    torch.testing.assert_close(class_means(z, y, 3), expected)


def test_a_class_without_examples_has_the_zero_vector():
    assert class_means(randn(2, 3), torch.tensor([0, 2]), 3)[1].eq(0).all()


def test_one_hot_equals_pytorch_s_and_works_under_vmap():
    y = torch.tensor([[0, 2, 1], [1, 1, 0]])
    mapped = torch.func.vmap(lambda y: one_hot(y, 3))(y)
    assert torch.equal(mapped, torch.nn.functional.one_hot(y, 3).bool())


def test_squared_distance_equals_cdist_squared_and_is_exact_for_close_points():
    a, b = randn(5, 4), randn(3, 4, seed=1)
    torch.testing.assert_close(squared_distance(a, b), torch.cdist(a, b) ** 2)
    far = torch.full((1, 2), 1e8, dtype=torch.float64)
    assert squared_distance(far, far + 1).item() == 2.0  # |a|^2 - 2ab + |b|^2 loses this entirely in float32


def test_descend_takes_one_rate_or_one_per_name():
    p, g = {"a": randn(2), "b": randn(3)}, {"a": randn(2, seed=1), "b": randn(3, seed=2)}
    assert torch.equal(descend(p, g, 0.5)["b"], p["b"] - 0.5 * g["b"])
    rates = {"a": torch.tensor(0.0), "b": randn(3, seed=3)}
    stepped = descend(p, g, rates)
    assert torch.equal(stepped["a"], p["a"]) and torch.equal(stepped["b"], p["b"] - rates["b"] * g["b"])


def test_hvp_equals_the_full_hessian_times_the_vector():
    def f(p):
        return (p["w"].sin() * p["w"].roll(1)).sum() + p["b"].exp().sum() * p["w"].sum()

    p, v = {"w": randn(4), "b": randn(2)}, {"w": randn(4, seed=1), "b": randn(2, seed=2)}
    H = torch.func.hessian(f)(p)
    expected = {i: sum(H[i][j] @ v[j] for j in p) for i in p}
    assert relative_error(hvp(f, p, v), expected) < 1e-12


def test_conjugate_gradient_solves_and_survives_extra_steps_and_vmap():
    M = randn(5, 5)
    A, b = M @ M.T + torch.eye(5, dtype=torch.float64), {"x": randn(5, seed=1)}
    solve = lambda b: conjugate_gradient(lambda v: {"x": A @ v["x"]}, b, steps=25)["x"]  # noqa: E731
    torch.testing.assert_close(solve(b), torch.linalg.solve(A, b["x"]))
    assert solve({"x": torch.zeros(5, dtype=torch.float64)}).eq(0).all()
    torch.testing.assert_close(torch.func.vmap(lambda x: solve({"x": x}))(randn(3, 5)),
                               torch.linalg.solve(A, randn(3, 5).T).T)


def test_dot_and_relative_error_go_over_every_entry():
    a = {"u": torch.tensor([3.0, 0.0]), "v": torch.tensor([[4.0]])}
    assert dot(a, a) == 25
    assert relative_error(a, {"u": torch.zeros(2), "v": torch.tensor([[5.0]])}) == pytest.approx(10**0.5 / 5)


def test_default_loss_follows_the_type_of_the_target_and_refuses_to_broadcast():
    logits, y = randn(4, 3), torch.tensor([0, 1, 2, 0])
    assert default_loss(logits, y) == pytest.approx(float(-logits.log_softmax(1)[range(4), y].mean()))
    assert default_loss(logits, logits + 2) == pytest.approx(4.0)
    with pytest.raises(ValueError, match="make them equal"):
        default_loss(randn(4, 1), randn(4))
