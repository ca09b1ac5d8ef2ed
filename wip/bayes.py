"""Cells for chapter 10's record section, to stand before "Your predictions, revisited" once results/bayes.json exists.

Not run yet. Each `# %%` is a cell; "fold" cells get the tag hide-input. Add "bayes.json" to pyproject's package-data.
The text's numbers must be written from the record; what stands in brackets is a question that the record answers.
"""

# ruff: noqa: F821
# %% [markdown]
# ## The record: three seeds, every learner
#
# `recipes/bayes.py` trains each learner with three seeds; the outer rate of each was chosen on validation waves in runs
# of a quarter of the length, with one seed, and the grid was widened where its edge won. Equal numbers of tasks are not
# equal compute: MAML differentiates through its inner steps.
#
# [linear against linear, evidence: does the meta-loss matter, for every seed?]  [kernel against kernel, both]
# [noise stays at 0.5: coverage]  [linear against linear, one std: NLL at 3 points]  [maml, laplace against maml: NLL]

# %% fold: Show the record
recorded = metalib.record("bayes")
print(recorded["command"])
print(f"    commit {recorded['commit']}, {recorded['date']}, {recorded['device']}, "
      f"{recorded['threads']} thread, {recorded['cpu_seconds']:.0f} CPU s")


def told(name, shot, metric, digits, scale=1, when=None):
    """The mean, and the range of the seeds."""
    s = recorded["waves"][name][str(shot)]
    s = (s[when] if when else s)[metric]
    low, high = min(s["seeds"]), max(s["seeds"])
    mean, low, high = (f"{scale * v:.{digits}f}" for v in (s["mean"], low, high))
    return mean if low == high else f"{mean} ({low} to {high})"


names = [n for n in recorded["waves"] if n != "exact"]
table([[n, told(n, 10, "MSE", 3), told(n, 10, "NLL", 2), told(n, 10, "coverage", 1, 100),
        told(n, 10, "coverage", 1, 100, "after")] for n in names]
      + [["exact", told("exact", 10, "MSE", 3), told("exact", 10, "NLL", 2),
          told("exact", 10, "coverage", 1, 100), ""]],
      ["learner", "MSE", "NLL", "in 90 % (%)", "times s"],
      "10 points: mean over three seeds (lowest to highest seed)")

# %% fold: Show the numbers of points
kinds = ("linear", "linear, one std", "kernel, both", "maml, laplace")
table([[shot, *(told(n, shot, "coverage", 0, 100) if str(shot) in recorded["waves"][n] else ""
                for n in (*kinds, "exact"))] for shot in (0, 1, 2, 3, 5, 10, 20)],
      ["points", *kinds, "exact"], "In 90 % intervals (%), before any factor")

# %% fold: Show the characters
letters = recorded["letters"]["learners"]
table([[n, f"{100 * r['accuracy']['mean']:.1f}", f"{r['NLL']['mean']:.3f}",
        ", ".join(f"{v:+.3f}" for v in r["NLL minus as it is"]["seeds"]),
        ", ".join(f"{100 * v:+.1f}" for v in r["mean confidence minus accuracy"])]
       for n, r in letters.items()],
      ["learner", "accuracy (%)", "NLL", "minus as it is, each seed", "confidence - accuracy, each seed"])
