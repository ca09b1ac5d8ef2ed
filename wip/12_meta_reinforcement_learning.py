"""Cells of chapter 12's record section, for when results/policies.json is there (recipes/policies.py): not executed.

They stand before "Second way: a gradient step, differentiated twice" (the first two) and after the navigation table.
"""
import matplotlib.pyplot as plt
import torch

import metalib
from metalib import table

# %% [markdown]
# ### The record: three kinds of memory, three seeds each
#
# Longer runs, each kind with the outer rate that was best on validation bandits.
# %%
found = metalib.record("policies")
print(found["command"], "|", found["device"], "|", found["date"][:10])
rows = []
for name, fields in found["bandits"].items():
    regret, seeds = fields["regret"], fields["regret"]["seeds"]
    against = fields.get("minus greedy")
    rows.append([name, f"{regret['mean']:.2f} +- {regret['ci95']:.2f}",
                 f"{min(seeds):.2f} to {max(seeds):.2f}" if len(seeds) > 1 else "",
                 f"{against['mean']:+.2f} +- {against['ci95']:.2f}" if against else ""])
table(rows, ["", "regret", "by seed", "minus greedy"], "1,000 bandits of 5 arms, 50 pulls")
# %%
for name in ("counts", "arms", "recurrent"):
    curves = torch.tensor(found["bandits"][name]["curves"])  # (seeds, 10)
    plt.plot(range(10, 101, 10), curves.mean(0), label=name)
plt.axhline(found["bandits"]["greedy"]["regret"]["mean"], color="black", lw=1)
plt.gca().set(xlabel="% of training", ylabel="regret on training tasks")
plt.legend()
plt.show()
# %%
table([[name, *(f"{fields[k]['mean']:.2f} +- {fields[k]['ci95']:.2f}"
                for k in ("before", "after", "gain"))]
       for name, fields in found["navigation"].items()],
      ["surrogate", "before", "after one step", "gain"], "300 goals never seen, three seeds")
