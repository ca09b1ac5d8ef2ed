"""Random numbers that a key decides: independent, and the same whoever asks, however often, in whatever order."""

import math

import pytest
import torch
from torch.func import vmap

from metalib import Episode, FewShot, Sinusoids, glyphs, seeded
from metalib.episode import task_axis
from metalib.keys import fold, key, key_of, normal, shuffle, uniform

N = 20_000


@pytest.mark.parametrize("seed", [0, 1, 7, 2**31])
def test_uniform_and_normal_have_their_distributions(seed):
    """Kolmogorov and Smirnov: sqrt(n) D above 2.2 happens in less than one of ten thousand samples."""
    u = uniform(key(seed), N).double().sort().values
    z = normal(fold(key(seed), 1), N).double().sort().values
    for p in (u, 0.5 * (1 + torch.erf(z / math.sqrt(2)))):
        distance = (p - (torch.arange(N) + 0.5) / N).abs().max() + 0.5 / N
        assert math.sqrt(N) * float(distance) < 2.2
    assert 0 < float(u.min()) and float(u.max()) < 1 and bool(z.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_rounding_leads_to_no_end_of_the_interval(dtype):
    u = uniform(key(4), 50_000, dtype=dtype)
    assert 0 < float(u.min()) and float(u.max()) < 1


@pytest.mark.parametrize("share", [0.75, torch.tensor(0.25), torch.tensor([1.0, 2.0])])
def test_a_fraction_is_refused_where_it_would_be_cut_off(share):
    with pytest.raises(TypeError, match=r"\.long\(\)"):
        fold(key(0), share)


@pytest.mark.parametrize("pairs", ["neighbours", "seeds", "children"])
def test_what_stands_side_by_side_is_not_correlated(pairs):
    """|correlation| of independent samples exceeds 4.9 / sqrt(n) once in a million."""
    if pairs == "neighbours":
        x = normal(key(3), N + 1)
        a, b = x[1:], x[:-1]
    elif pairs == "seeds":
        a, b = normal(key(0), N), normal(key(1), N)
    else:
        a, b = torch.stack([normal(fold(key(5), i), 2) for i in range(2000)]).T
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 4.9 / math.sqrt(len(a))


def test_keys_do_not_meet():
    keys = torch.cat([fold(key(s), torch.arange(1000)) for s in range(20)])
    assert len(keys.unique()) == len(keys)


def test_a_draw_is_the_same_inside_vmap_and_outside():
    keys = fold(key(0), torch.arange(4))
    assert torch.equal(vmap(lambda k: normal(k, 3, 2))(keys), torch.stack([normal(k, 3, 2) for k in keys]))


def test_the_key_of_a_task_is_that_of_its_data_in_any_order():
    for episodes in (Sinusoids().sample(4, generator=seeded(0)),
                     FewShot(glyphs().split("val"), 5, 2).sample(4, generator=seeded(0))):
        keys = vmap(key_of, (task_axis(episodes),))(episodes)
        assert len(keys.unique()) == 4
        for t in range(4):
            support, query = episodes.task(t)
            order = torch.randperm(len(support.y), generator=seeded(t))
            again = Episode(support._replace(x=support.x[order], y=support.y[order]), query)
            assert key_of(again) == keys[t]
            assert key_of(Episode(query, support)) != keys[t]
            assert key_of(Episode(support._replace(y=support.y + 1), query)) != keys[t]


def test_a_shuffle_is_decided_by_the_examples_and_breaks_the_sampler_s_order():
    episodes = FewShot(glyphs().split("val"), 5, 5).sample(40, generator=seeded(0)).support
    orders = vmap(lambda s: shuffle(s.x, s.y), (task_axis(episodes),))(episodes)
    places = torch.zeros(25)
    for t in range(40):
        x, y = episodes.x[t], episodes.y[t]
        assert orders[t].sort().values.tolist() == list(range(25)), "a permutation"
        given = torch.randperm(25, generator=seeded(t))
        again = shuffle(x[given], y[given])
        assert torch.equal(x[given][again], x[orders[t]]) and torch.equal(y[given][again], y[orders[t]])
        assert torch.equal(shuffle(x.double(), y), orders[t]), "float64 of the same numbers"
        places[orders[t].argsort()] += (y == 0).float()
    assert places[:5].sum() < 0.6 * 5 * 40, "class 0 no longer stands first"
