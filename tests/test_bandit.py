"""The opponents: each rule is what its formula says, and the Gittins index is what brute force finds."""

import itertools
import math

import pytest
import torch
from torch.func import vmap

from metalib import BanditRule, Bandits, Navigations, compare, load, meta_test, save, seeded
from metalib.episode import one_task
from metalib.learners.bandit import gittins
from metalib.tasks.environments import Bandit


def stopping_value(pay, m, w, l):  # noqa: E741
    """The best mean total over *stopping rules* that pull the arm first, brute force: a rule is a set of histories."""
    best = 0.0
    histories = [h for n in range(1, m) for h in itertools.product((0, 1), repeat=n)]  # where one may stop

    def value(stops, history):
        wins = sum(history)
        mu = (w + wins + 1) / (w + l + len(history) + 2)
        if len(history) == m:
            return 0.0
        if history and history in stops:
            return pay * (m - len(history))
        return mu * (1 + value(stops, (*history, 1))) + (1 - mu) * value(stops, (*history, 0))

    for chosen in itertools.product((False, True), repeat=len(histories)):
        best = max(best, value({h for h, c in zip(histories, chosen) if c}, ()))
    return best


@pytest.mark.parametrize("m, w, l", [(1, 0, 0), (2, 0, 0), (3, 0, 0), (3, 1, 0), (3, 0, 2), (2, 2, 1)])
def test_the_gittins_index_is_where_the_best_of_all_stopping_rules_breaks_even(m, w, l):  # noqa: E741
    low, high = 0.0, 1.0
    for _ in range(25):
        pay = (low + high) / 2
        low, high = (pay, high) if stopping_value(pay, m, w, l) > m * pay else (low, pay)
    assert float(gittins(6)[m, w, l]) == pytest.approx(low, abs=2e-6)


def test_the_gittins_index_is_the_mean_at_the_last_pull_and_grows_with_the_time_left():
    table = gittins(20)
    assert float(table[1, 3, 2]) == pytest.approx(4 / 7, abs=1e-9)
    column = table[1:21, 0, 0]
    assert bool((column[1:] > column[:-1]).all()) and float(column[1]) == pytest.approx(5 / 9, abs=1e-6)
    assert bool(table[20, 1, 0].isnan())
    torch.testing.assert_close(gittins(20, 4001)[10, 2, 1], table[10, 2, 1], atol=1e-6, rtol=0)


def counted(rule, losses, wins, t=20, **options):
    task = Bandit(torch.tensor([0.5] * len(wins)), torch.tensor(7), 50)
    return BanditRule(rule, **options).score(torch.tensor([losses, wins]).float().T, t, task)


def test_greedy_and_ucb_are_their_formulas():
    torch.testing.assert_close(counted("greedy", [0, 3], [0, 1]), torch.tensor([1 / 2, 2 / 6]))
    score = counted("ucb", [0, 3, 2], [0, 1, 4], t=9, c=0.7)
    assert score[0] == math.inf
    assert float(score[2]) == pytest.approx(4 / 6 + 0.7 * math.sqrt(2 * math.log(10) / 6), rel=1e-6)


def test_the_optimistic_rule_is_greedy_with_more_wins_and_bayes_ucb_adds_standard_deviations_of_the_posterior():
    torch.testing.assert_close(counted("optimistic", [0, 3], [0, 1], c=2.0), torch.tensor([2 / 3, 3 / 7]))
    assert torch.equal(counted("optimistic", [2, 3], [4, 1], c=1.0), counted("greedy", [2, 3], [4, 1]))
    posterior = torch.distributions.Beta(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    torch.testing.assert_close(counted("bayes-ucb", [0, 3], [0, 1], c=0.7), posterior.mean + 0.7 * posterior.stddev)


def test_every_rule_that_has_a_constant_has_one_of_its_own_by_default():
    assert [BanditRule(r).c for r in ("ucb", "optimistic", "bayes-ucb", "greedy")] == [0.2, 3.0, 1.25, 0.0]


def test_thompson_draws_from_the_posterior():
    counts, rule = torch.tensor([[3.0, 1.0], [0.0, 0.0]]), BanditRule("thompson")
    draws = vmap(lambda k: rule.score(counts, 9, Bandit(torch.zeros(2), k, 50)))(torch.arange(4000))
    for column, (a, b) in zip(draws.T, ((2, 4), (1, 1))):
        mean, variance = a / (a + b), a * b / (a + b) ** 2 / (a + b + 1)
        assert abs(float(column.mean()) - mean) < 4 * math.sqrt(variance / 4000)
        assert float(column.var()) == pytest.approx(variance, rel=0.1)


def test_regret_is_what_the_best_arm_would_have_had_more():
    task = one_task(Bandits(4, 9).sample(1, generator=seeded(0)), 0)
    rule = BanditRule("thompson")
    played = rule.predict(rule.adapt(task), task)
    arms = played["actions"].argmax(1)
    assert float(played["return"]) == pytest.approx(float(task.p[arms].sum()))
    assert float(played["regret"]) == pytest.approx(float((task.p.max() - task.p[arms]).sum()), abs=1e-5)


def test_the_rules_come_in_the_order_of_the_field_and_repeat_to_the_bit():
    scores = {r: meta_test(BanditRule(r), Bandits(), 300, metric="regret")
              for r in ("random", "thompson", "greedy", "gittins", "optimistic", "bayes-ucb")}
    for worse, better in (("random", "thompson"), ("thompson", "greedy"), ("thompson", "gittins"),
                          ("greedy", "optimistic"), ("greedy", "bayes-ucb")):
        difference = compare(scores[better], scores[worse])
        assert difference.mean + difference.ci95 < 0, (worse, better)
    again = meta_test(BanditRule("thompson"), Bandits(), 5, metric="regret", map="loop")
    assert torch.equal(again.values, scores["thompson"].values[:5])


def test_a_rule_is_saved_and_loaded(tmp_path):
    save(BanditRule("ucb", c=0.3), tmp_path / "rule.pt")
    again = load(tmp_path / "rule.pt")
    assert again.rule == "ucb" and again.c == 0.3


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="rule='ucb1': expected 'random', 'greedy'"):
        BanditRule("ucb1")
    for rule in ("ucb", "optimistic"):
        with pytest.raises(ValueError, match="c=-1"):
            BanditRule(rule, c=-1)
    with pytest.raises(TypeError, match="expected a Bandit"):
        meta_test(BanditRule(), Navigations(), 1)
