"""Inserts "What it does to accuracy" into chapter 8, behind cell c8mem010, once results/cheaper.json is there.

    python wip/enable_ch8_record.py [book/08_cheaper_meta_gradients.ipynb]

Then: write the sentences at @@ from the tables, list cheaper.json in pyproject.toml (package-data), run the notebook,
set the header's minutes, and remove this file.
"""

import sys

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

INTRO = r"""## What it does to accuracy

Does the direction matter? `recipes/cheaper.py` trained every method on glyphs, 5-way 1-shot, with a small Conv4, at
equal {term}`passes <equal compute>` by {eq}`eq-08-cost`. With seed 0, validation scripts chose one of two inner
settings, the outer rate (factors of four, until the best was no edge or six were tried) and the number of steps at test. A {term}`prototypical network`, trained on 20-way tasks, is the strongest simple baseline."""

CHOSEN = '''from metalib import record

cheaper = record("cheaper")
print(cheaper["command"])
print(f"commit {cheaper['commit']}, {cheaper['date']}, {cheaper['device']}, "
      f"{cheaper['threads']} thread, {cheaper['cpu_seconds']:.0f} CPU s")
rows = []
for name, row in cheaper["methods"].items():
    tried = [t["lr"] for t in row["trials"] if t["setting"] == row["setting"]]
    edge = "yes" if row["lr"] in (min(tried), max(tried)) else "no"
    cost = row["passes_per_task"]
    rows.append([name, row["setting"], f"{row['lr']:g}", edge, len(tried), cost,
                 cheaper["image_passes"] // cost])
head = ["method", "chosen", "rate", "at an edge", "tried", "passes a task", "tasks"]
table(rows, head,
      f"What validation chose; {cheaper['image_passes']:,} passes a run, "
      f"{cheaper['channels']} channels")'''

SCORES = r'''def pm(score, sign=""):
    return f"{100 * score['mean']:{sign}.1f} +- {100 * score['ci95']:.1f}"


rows = []
for name, row in cheaper["methods"].items():
    steps = ", ".join(str(run["steps"]) for run in row["runs"] if len(run["curve"]) > 1)
    stopped = sum(run["stopped"] for run in row["runs"])
    rows.append([name, *(pm(run["test"]) for run in row["runs"]), steps, stopped])
seeds = [f"seed {run['seed']}" for run in row["runs"]]
print("pixel floor:", cheaper["floor"]["text"])
n = row["runs"][0]["test"]["n"]
table(rows, ["method", *seeds, "steps", "stopped"],
      f"Accuracy (%) on {n} test tasks, at the number of steps that validation\n"
      "chose; runs stopped because a number was not finite")'''

LESS = '''rows = [[name, *(pm(d, "+") for d in less)]
        for name, less in cheaper["minus_maml"].items()]
errors = [run["gradient_error"] for run in cheaper["methods"]["implicit"]["runs"]]
print("gradient_error of implicit MAML as trained, one task a seed:",
      *(f"{100 * e:.0f} %" for e in errors))
table(rows, ["method", *seeds],
      "Minus MAML with the same seed, points, paired over the test tasks")'''

SAID = r"""@@ COORDINATOR: two or three sentences on what the tables show, for every seed, and where seeds disagree;
no cause without an intervention. @@"""


# What needs a run anyway: both springs in one colour, the weak one with an open mark; names apart from numbers.
MENDED = (
    ("c8mem008", "for (name, line), mark, colour in zip(memory.items(), MARKS, plot.COLOURS):",
     "COLOURS = [*plot.COLOURS[:6], plot.COLOURS[5]]  # both springs: one colour\n"
     "for (name, line), mark, colour in zip(memory.items(), MARKS, COLOURS):\n"
     '    face = "white" if name == "implicit, λ = 1" else colour'),
    ("c8mem008", "axis.errorbar(MANY, *zip(*both), fmt=mark, color=colour, capsize=2, label=name)",
     "axis.errorbar(MANY, *zip(*both), fmt=mark, color=colour, mfc=face, capsize=2,\n"
     "                      label=name)"),
    ("c8revis2", 'f"{name} {line[-1] / line[0]:.1f}"', 'f"{name}: {line[-1] / line[0]:.1f}"'),
    ("c8revis2", '", ".join(grown[:3])', '"; ".join(grown[:3])'),
    ("c8revis2", '", ".join(grown[3:6])', '"; ".join(grown[3:6])'),
    ("c8revis2", '", ".join(f"{name} {mean(when, name, 8)[0]:.2f}" for name in best)',
     '"; ".join(f"{name}: {mean(when, name, 8)[0]:.2f}" for name in best)'),
)


def folded(label: str) -> dict[str, object]:
    return {"tags": ["hide-input"], "mystnb": {"code_prompt_show": label, "code_prompt_hide": "Fold it"},
            "jupyter": {"source_hidden": True}}


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else "book/08_cheaper_meta_gradients.ipynb"
    nb = nbformat.read(path, 4)
    assert not any(c.id == "c8res001" for c in nb.cells), "the cells are there already"
    new = [new_markdown_cell(INTRO), new_code_cell(CHOSEN, metadata=folded("Show the record")),
           new_code_cell(SCORES, metadata=folded("The scores")),
           new_code_cell(LESS, metadata=folded("The differences")), new_markdown_cell(SAID)]
    for i, cell in enumerate(new, 1):
        cell.id = f"c8res{i:03d}"
    at = next(i for i, c in enumerate(nb.cells) if c.id == "c8mem010")
    nb.cells[at + 1:at + 1] = new
    choose = next(c for c in nb.cells if c.id == "c8choose")
    a, b = choose.source.index("The table is about gradients."), choose.source.index("Before you train for long")
    choose.source = (choose.source[:a] + "The table is about gradients; the scores above are one answer to what they "
                     "are worth, on one set of images. " + choose.source[b:])
    by_id = {c.id: c for c in nb.cells}
    for name, old, fresh in ():
        assert by_id[name].source.count(old) == 1, (name, old)
        by_id[name].source = by_id[name].source.replace(old, fresh)
    nbformat.write(nb, path)


if __name__ == "__main__":
    main()
