"""Answers to chapter 13's code exercises beside the book's own: right ones in other styles, and wrong ones."""

import numpy as np
import torch


def right_predictive_odds(sensitivity, specificity, prevalence):
    """Bayes' rule in odds."""
    odds = prevalence / (1 - prevalence)
    plus, minus = odds * sensitivity / (1 - specificity), odds * (1 - sensitivity) / specificity
    return [plus / (1 + plus), 1 / (1 + minus)]


def right_predictive_counts(sensitivity, specificity, prevalence):
    """A table of shares; a tensor out."""
    t = torch.tensor([[sensitivity, 1 - sensitivity], [1 - specificity, specificity]]).double()
    t = t * torch.tensor([[prevalence], [1 - prevalence]]).double()
    t = t / t.sum(0)
    return t.diagonal()


def wrong_predictive_ignores_prevalence(sensitivity, specificity, prevalence):
    """As if half of all were ill."""
    return sensitivity / (sensitivity + 1 - specificity), specificity / (specificity + 1 - sensitivity)


def wrong_predictive_is_sensitivity(sensitivity, specificity, prevalence):
    """The shares among the ill and the well."""
    return sensitivity, specificity


def wrong_predictive_swapped(sensitivity, specificity, prevalence):
    """NPV first."""
    return right_predictive_odds(sensitivity, specificity, prevalence)[::-1]


def wrong_predictive_prevalence_of_the_well(sensitivity, specificity, prevalence):
    """The share of the well for that of the ill."""
    return right_predictive_odds(sensitivity, specificity, 1 - prevalence)


def wrong_predictive_complements(sensitivity, specificity, prevalence):
    """False discovery and false omission rates."""
    return [1 - v for v in right_predictive_odds(sensitivity, specificity, prevalence)]


def wrong_predictive_joint(sensitivity, specificity, prevalence):
    """Shares of all patients."""
    return sensitivity * prevalence, specificity * (1 - prevalence)


def wrong_predictive_specificity_for_its_complement(sensitivity, specificity, prevalence):
    """False alarms at the rate of the specificity."""
    a, b = sensitivity * prevalence, specificity * (1 - prevalence)
    return a / (a + b), b / (a + b)


def wrong_predictive_only_ppv(sensitivity, specificity, prevalence):
    """The NPV is the specificity."""
    return right_predictive_odds(sensitivity, specificity, prevalence)[0], specificity


def right_kappa_numpy(table):
    """The usual formula, in NumPy."""
    t = table.numpy() / table.sum().item()
    i = np.arange(len(t))
    w = (i[:, None] - i) ** 2
    return 1 - (w * t).sum() / (w * np.outer(t.sum(1), t.sum(0))).sum()


def right_kappa_weights_of_agreement(table):
    """(observed - expected) / (1 - expected), with weights of agreement."""
    p = table / table.sum()
    i = torch.linspace(0, 1, len(p)).double()
    w = 1 - (i[:, None] - i) ** 2
    expected = (w * p.sum(1)[:, None] * p.sum(0)).sum()
    return ((w * p).sum() - expected) / (1 - expected)


def _kappa(table, w, expected=None):
    p = table / table.sum()
    expected = torch.outer(p.sum(1), p.sum(0)) if expected is None else expected
    return 1 - (w * p).sum() / (w * expected).sum()


def _gap(n):
    i = torch.arange(n).double()
    return i[:, None] - i


def wrong_kappa_unweighted(table):
    """Every miss costs the same."""
    return _kappa(table, (_gap(len(table)) != 0).double())


def wrong_kappa_linear(table):
    """A miss by two costs twice a miss by one."""
    return _kappa(table, _gap(len(table)).abs())


def wrong_kappa_accuracy(table):
    """The share on the diagonal."""
    return table.diagonal().sum() / table.sum()


def wrong_kappa_uniform_chance(table):
    """Chance draws every cell equally often."""
    n = len(table)
    return _kappa(table, _gap(n) ** 2, torch.full((n, n), 1 / n**2).double())


def wrong_kappa_rows_twice(table):
    """Chance from one margin."""
    rows = table.sum(1) / table.sum()
    return _kappa(table, _gap(len(table)) ** 2, torch.outer(rows, rows))


def wrong_kappa_counts(table):
    """Counts against shares."""
    p = table / table.sum()
    w = _gap(len(table)) ** 2
    return 1 - (w * table).sum() / (w * torch.outer(p.sum(1), p.sum(0))).sum()


def wrong_kappa_ratio(table):
    """The ratio, not one minus it."""
    return 1 - _kappa(table, _gap(len(table)) ** 2)


def wrong_kappa_correlation(table):
    """The correlation of the grades, which forgives a shift."""
    n = len(table)
    p, i = table / table.sum(), torch.arange(n).double()
    x, y = (p.sum(1) * i).sum(), (p.sum(0) * i).sum()
    cov = (p * torch.outer(i - x, i - y)).sum()
    return cov / ((p.sum(1) * (i - x) ** 2).sum() * (p.sum(0) * (i - y) ** 2).sum()).sqrt()


def wrong_kappa_five_grades(table):
    """The cost of five grades, whatever the table."""
    i = torch.arange(5).double()[:len(table)]
    cost = (i[:, None] - i) ** 2
    n = len(cost)
    p = table / table.sum()
    blind = torch.outer(p.sum(1), p.sum(0))
    return 1 - (cost * p[:n, :n]).sum() / (cost * blind[:n, :n]).sum()
