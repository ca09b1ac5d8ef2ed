"""The pure functions, each against a second way to compute the same thing."""

import pytest
import torch
from torch.func import grad, vmap

from metalib.functional import (
    class_means,
    default_loss,
    descend,
    dot,
    gradient,
    gradient_and_value,
    hvp,
    one_hot,
    relative_error,
    seeded,
    squared_distance,
)
from metalib.learners.implicit import conjugate_gradient


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


@pytest.mark.parametrize("M, N, D, offset, scale", [(1500, 100, 1600, 0.0, 1.0), (300, 60, 1600, 5.0, 0.1),
                                                    (1500, 90, 64, 100.0, 1.0)])
def test_large_squared_distances_take_little_memory_and_lose_no_digits(M, N, D, offset, scale):
    a, b = (torch.randn(n, D, generator=seeded(n)) * scale + offset for n in (M, N))
    exact = torch.cdist(a.double(), b.double()) ** 2
    error = (squared_distance(a, b).double() - exact).abs().max() / exact.max()
    in_rows = torch.cat([(r[:, None] - b[None]).pow(2).sum(-1) for r in a.split(50)])  # M N D numbers would not fit
    assert error < max(1e-6, 3 * float((in_rows.double() - exact).abs().max() / exact.max()))
    logits = [-d[:, :5] / scale**2 for d in (squared_distance(a, b).double(), exact)]
    torch.testing.assert_close(*(x.softmax(1) for x in logits), atol=2e-3, rtol=0)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        squared_distance(a, b)
    largest = max(e.self_cpu_memory_usage for e in profile.events())
    assert largest <= 4 * max(M * N, (M + N) * D)


def test_both_forms_of_the_squared_distance_have_the_same_derivatives_and_go_through_vmap():
    a, b = (torch.randn(n, 600, generator=seeded(n), dtype=torch.float64) for n in (90, 80))  # more than 2^22

    def explicit(a, b):
        return (a[:, None] - b[None]).pow(2).sum(-1)

    def curvature(distance):  # a gradient, differentiated again
        a_ = a.clone().requires_grad_()
        g, = torch.autograd.grad(distance(a_, b).sin().sum(), a_, create_graph=True)
        return g, *torch.autograd.grad(g.cos().sum(), a_)

    for mine, theirs in zip(curvature(squared_distance), curvature(explicit), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-8)
    stacked = torch.vmap(squared_distance, in_dims=(None, 0))(a, torch.stack([b, b + 1]))
    torch.testing.assert_close(stacked, torch.stack([explicit(a, b), explicit(a, b + 1)]))



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


def cubic(params, x):
    """x w^3 + x u, summed: d/dw = 3 x w^2, d/du = x, and d2/dw2 = 6 x w."""
    return (x * params["w"]**3 + x * params["u"]).sum()


def test_gradient_is_exact_inside_and_outside_every_transform():
    w, u, x = randn(4), randn(4, seed=1), randn(4, seed=2)
    inner = lambda w, x, u=u: gradient(cubic, {"w": w, "u": u}, x)["w"].sum()  # noqa: E731
    first, second = (3 * x * w**2).sum(), 6 * x * w
    torch.testing.assert_close(inner(w, x), first)
    torch.testing.assert_close(grad(inner)(w, x), second)  # u is not tracked
    torch.testing.assert_close(grad(lambda p: inner(p["w"], x, p["u"]))({"w": w, "u": u})["w"], second)  # both are
    torch.testing.assert_close(grad(lambda w: grad(inner)(w, x).sum())(w), 6 * x)
    torch.testing.assert_close(vmap(inner, (0, None))(torch.stack([w, 2 * w]), x), torch.stack([first, 4 * first]))
    torch.testing.assert_close(vmap(grad(inner), (None, 0))(w, torch.stack([x, -x])), torch.stack([second, -second]))
    torch.testing.assert_close(grad(lambda w: vmap(inner, (None, 0))(w, torch.stack([x, x])).sum())(w), 2 * second)
    parameter = w.clone().requires_grad_()  # of plain autograd, while x is what the transform tracks
    torch.testing.assert_close(grad(inner, argnums=1)(parameter, x), 3 * w**2)
    torch.testing.assert_close(torch.autograd.grad(inner(parameter, x), parameter)[0], second)


def test_gradient_is_a_constant_where_asked_or_where_gradients_are_disabled():
    w, x = randn(4), randn(4, seed=2)
    constant = lambda w: gradient(cubic, {"w": w, "u": w}, x, differentiable=False)["w"]  # noqa: E731
    torch.testing.assert_close(grad(lambda w: (w * constant(w)).sum())(w), 3 * x * w**2)
    torch.testing.assert_close(vmap(grad(lambda w: (w * constant(w)).sum()))(w[None])[0], 3 * x * w**2)
    assert not constant(w.clone().requires_grad_()).requires_grad
    leaf = w.clone().requires_grad_()
    with torch.no_grad():
        grads, value = gradient_and_value(cubic, {"w": leaf, "u": w}, x)
    assert not grads["w"].requires_grad and not value.requires_grad and leaf.grad is None
    torch.testing.assert_close((grads["w"], value), (3 * x * w**2, (x * w**3 + x * w).sum()))


def test_gradient_of_what_is_not_used_is_zero():
    for wrap in (lambda f: f, lambda f: lambda w: vmap(f)(w[None])[0]):
        unused = wrap(lambda w: gradient(lambda p: p["w"].sum(), {"w": w, "u": 2 * w})["u"])(randn(3))
        assert unused.eq(0).all()


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
