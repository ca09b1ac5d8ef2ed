"""Draw the pictures of figures that begin the same everywhere: they stand in where scripts do not run.

    python tools/pictures.py [NAME ...]       # writes sine.png, surface.png, ... in metalib/figures/widgets

Each carries a digest of what its figure sends to the page; tests/test_widget_picture.py says when one has to be drawn
again. Here is also, in Python, what two of the pages compute, for the pictures and for the tests that compare them.
"""

import base64
import hashlib
import io
import json
import math
import re
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from PIL import Image, PngImagePlugin
from torch import Tensor
from torch.func import vmap

from metalib import (
    MAML,
    ClassImages,
    Data,
    Episode,
    FewShot,
    Learner,
    ProtoNet,
    Score,
    checkpoint,
    glyphs,
    load,
    meta_test,
    plot,
    record,
    seeded,
)
from metalib.episode import task_axis
from metalib.figures.plot import COLOURS
from metalib.figures.widgets import alpha, intervals, sine, surface, treasure
from metalib.figures.widgets.alphabet import FINE, PEN, SIDE, SIZE, SMALL, Alphabet, rounded, samples
from metalib.figures.widgets.leaks import (
    CHARACTERS,
    DRAWINGS,
    EXAMS,
    LEAKS,
    PLACE,
    PRACTICE,
    QUERY,
    RECALL,
    SHOT,
    SURE,
    WAY,
    Leaks,
    bank,
)
from metalib.figures.widgets.widget import Widget, picture
from metalib.judging.score import T_QUANTILES

ROOT = Path(__file__).resolve().parents[1]


# ---------------------------------------------------------------- the first page


def raster(strokes: Sequence[Sequence[tuple[float, float]]]) -> Tensor:
    """Strokes as the network sees them, (28, 28) in [0, 1]: centred, scaled and drawn with one pen.

    A point of a pixel is ink if it is within PEN / 2 of a stroke; a pixel is the share of its 16 points that are. The
    page does the same in the same order of operations, hence with the same result.

    Args:
        strokes: each a list of points (x, y) in units of the pad, y downwards.
    """
    xs, ys = ([point[k] for stroke in strokes for point in stroke] for k in (0, 1))
    longer = max(max(xs) - min(xs), max(ys) - min(ys), SMALL)
    scale, middle = (SIDE - PEN) / longer, ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
    n, reach = SIZE * FINE, PEN * FINE / 2
    at = torch.arange(n, dtype=torch.float64) + 0.5
    ink = torch.zeros(n, n, dtype=torch.bool)
    for stroke in strokes:
        points = [tuple(((p[k] - middle[k]) * scale + SIZE / 2) * FINE for k in (0, 1)) for p in stroke]
        for (ax, ay), (bx, by) in zip(points, points[1:] or points):  # a lone point is a segment of length 0
            dx, dy = bx - ax, by - ay
            squared = dx * dx + dy * dy
            t = ((at[None] - ax) * dx + (at[:, None] - ay) * dy) / (squared or 1.0)
            t = t.clamp(0, 1)  # where on the segment the nearest point lies
            ink |= (at[None] - ax - t * dx) ** 2 + (at[:, None] - ay - t * dy) ** 2 <= reach * reach
    return ink.double().reshape(SIZE, FINE, SIZE, FINE).mean((1, 3)).float()


def confidence(learner: ProtoNet, support: Sequence[Tensor], query: Tensor) -> Tensor:
    """What the page shows for one drawing of each sign (N images) and a new one: N probabilities."""
    x, y = torch.stack(list(support))[:, None], torch.arange(len(support))  # (N, 1, H, W)
    with torch.no_grad():
        phi = learner.adapt(Data(x, y, len(support)))
        return learner.predict(phi, query[None, None])[0].softmax(0)


def alphabet_picture() -> bytes:
    """Five sample signs, one of them again, and what the network says."""
    signs, learner = samples(), rounded(load(checkpoint("alphabet")))
    support = [raster(strokes) for strokes in signs[:5]]
    again = raster([[(x + 9 * math.sin(y / 20), y + 0.15 * x) for x, y in stroke] for stroke in signs[2]])
    figure, axes = plt.subplots(2, 5, figsize=(3.4, 2.3), layout="constrained", facecolor="white")
    for axis in axes.flat:
        axis.axis("off")
    axes[0, 2].imshow(again, cmap="gray_r", vmin=0, vmax=1)
    axes[0, 2].set_title("drawn again", fontsize=10)
    for n, (axis, image, p) in enumerate(zip(axes[1], support, confidence(learner, support, again).tolist())):
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(f"sign {n + 1}", fontsize=10)
        said = "< 1 %" if p < 0.005 else "> 99 %" if p > 0.995 else f"{100 * p:.0f} %"
        axis.text(0.5, -0.05, said, transform=axis.transAxes, ha="center", va="top", fontsize=10)
    return picture(figure, 150)


# ---------------------------------------------------------------- chapter 1


def sine_picture(steps: int = 0) -> bytes:
    """Three starts, adapted."""
    xy = torch.tensor(sine.POINTS, dtype=torch.float64)
    support, grid = Data(xy[:, :1], xy[:, 1:]), torch.linspace(-5, 5, 201, dtype=torch.float64)[:, None]
    figure, axis = plt.subplots(figsize=(6.4, 3.6), facecolor="white", layout="constrained")
    looks = {"scratch": ("0.4", ":"), "joint": (COLOURS[3], "--"), "maml": (COLOURS[0], "-")}
    for name, learner in sine.learners().items():
        colour, line = looks[name]
        with torch.no_grad():
            curve = learner.predict(learner.adapt(support, steps), grid)
        axis.plot(grid, curve, color=colour, linestyle=line, label=f"{sine.LABELS[name]}, {steps} steps")
    axis.plot(*xy.T, "ko", label="support points")
    axis.set(xlabel="input x (radians)", ylabel="y", ylim=(-6, 6))
    axis.legend(fontsize=8)
    return picture(figure, 110)


# ---------------------------------------------------------------- chapter 4


def paths(a: float, b: float) -> Tensor:
    """Where each task's inner loop goes from theta = (a, b): (T, surface.MOST_STEPS + 1, 2)."""
    learner = MAML(surface.SineWave(a, b), surface.ALPHA)

    def path(episode: Episode) -> Tensor:
        iterates = learner.path(episode.support, surface.MOST_STEPS)
        return torch.stack([torch.stack([phi["a"], phi["b"]]) for phi in iterates])

    with torch.no_grad():
        return vmap(path, (task_axis(surface.waves()),))(surface.waves())


def surface_picture(steps: int = 3, start: tuple[float, float] = (1.2, 0.8)) -> bytes:
    """The figure as it first appears, and both races; as wide as a phone, so that its text stays legible."""
    a, b = (torch.linspace(*ends, 65, dtype=torch.float64) for ends in surface.SIDE)
    loss = surface.meta_loss(torch.stack(torch.meshgrid(a, b, indexing="ij"), -1).reshape(-1, 2), steps).reshape(65, 65)
    figure, axis = plt.subplots(figsize=(3.6, 4.9), facecolor="white", layout="constrained")
    shades = plt.get_cmap("Greys")(torch.linspace(0.5, 0.0, len(surface.LEVELS) + 1).numpy())
    axis.contourf(b, a, loss, levels=(0, *surface.LEVELS, 1e9), colors=shades)
    axis.clabel(axis.contour(b, a, loss, levels=surface.LEVELS, colors="0.4", linewidths=0.6), fontsize=9)
    start_a, start_b = start
    here = torch.tensor([start], dtype=torch.float64)
    arrows = {"exact": (-surface.gradients(here, steps, 2)[0], COLOURS[0], 6.0, "-"),
              "first-order": (-surface.gradients(here, steps, 1)[0], COLOURS[3], 3.0, "-"),
              "finite surface.differences": (-surface.differences(here, steps)[0], "black", 1.2, "--")}
    longest = max(float(g.norm()) for g, *_ in arrows.values())
    for name, (g, colour, width, line) in arrows.items():
        tip = (start_b + float(g[1]) / longest, start_a + float(g[0]) / longest)
        axis.plot((start_b, tip[0]), (start_a, tip[1]), color=colour, linewidth=width, linestyle=line, label=name,
                  solid_capstyle="butt")
    for order, name, colour, mark in ((2, "exact", COLOURS[0], "o"), (1, "first-order", COLOURS[3], "s")):
        thetas, losses = surface.race(start, steps, order)
        axis.plot(thetas[:, 1], thetas[:, 0], mark + "-", color=colour, markersize=2.5, linewidth=0.8, markevery=5,
                  label=f"{name}, {surface.RACE} steps: loss {losses[-1]:.2f}")
    for t, (wave, way) in enumerate(zip(surface.WAVES, paths(*start), strict=True), start=1):
        axis.plot(way[:steps + 1, 1], way[:steps + 1, 0], ".-", color="0.2", linewidth=0.8)
        axis.plot(wave[1], wave[0], "kx")
        axis.annotate(f"task {t}", (wave[1], wave[0]), (5, 4), textcoords="offset points", fontsize=9)
    axis.plot(start_b, start_a, "ko", markersize=7)
    axis.set(xlabel="phase b (radians)", ylabel="amplitude a", aspect="equal",
             xlim=surface.SIDE[1], ylim=surface.SIDE[0])
    axis.set_title(f"downhill in the meta-loss, J = {steps}", fontsize=10)
    figure.legend(fontsize=9, loc="outside lower center", frameon=False)
    return picture(figure, 150)


# ---------------------------------------------------------------- chapter 3


def population(mean: float = intervals.TRUTH, queries: int = intervals.QUERIES) -> Tensor:
    """How often a task of chapter 3's toy world has k = 0, ..., `queries` right answers: (queries + 1,).

    A task has its own probability of a right answer, p = u^((1 - mean) / mean) with u uniform. So p has the density
    a p^(a - 1) with a = mean / (1 - mean), and k is beta-binomial: P(k) is proportional to Gamma(k + a) / k!.
    """
    a = mean / (1 - mean)
    k = torch.arange(queries + 1, dtype=torch.float64)
    return (torch.lgamma(k + a) - torch.lgamma(k + 1)).softmax(0)


def draw(tests: int, n: int, generator: torch.Generator) -> Tensor:
    """Accuracies of `tests` tests of n tasks each, (tests, n)."""
    counts = torch.multinomial(population(), tests * n, replacement=True, generator=generator)
    return counts.reshape(tests, n).double() / intervals.QUERIES


def half(tests: Tensor, kind: str = "normal") -> Tensor:
    """Half the width of each test's 95 % interval, tests (tests, n) -> (tests,).

    "normal" is 1.96 s / sqrt(n); "student" is what `metalib.Score` has, with Student's quantile below 30 tasks;
    "queries" is 1.96 sqrt(m (1 - m) / (75 n)) with m the mean, as if every query had been drawn by itself.
    """
    n, mean = tests.shape[1], tests.mean(1)
    if kind == "queries":
        return 1.96 * (mean * (1 - mean) / (intervals.QUERIES * n)).sqrt()
    q = T_QUANTILES[n - 2] if kind == "student" and n < 30 else 1.96
    return q * tests.std(1) / n**0.5


def intervals_picture(tasks: int = 5) -> bytes:
    """One press, with the interval that the figure begins with; as wide as a phone, so that its text stays legible."""
    tests = 100 * draw(intervals.TESTS, tasks, seeded(0))
    mean, width, truth = tests.mean(1), 100 * half(tests / 100), 100 * intervals.TRUTH
    miss = (mean - truth).abs() > width
    figure, axis = plt.subplots(figsize=(3.6, 4.6), facecolor="white", layout="constrained")
    rows = torch.arange(intervals.TESTS)
    for these, name, colour, mark, line in ((~miss, "contain the truth", COLOURS[0], "o", 1.2),
                                            (miss, "miss it", COLOURS[3], "x", 2.2)):
        axis.errorbar(mean[these], rows[these], xerr=width[these], fmt=mark, color=colour, elinewidth=line,
                      markersize=3 if mark == "o" else 5, markeredgewidth=2 if mark == "x" else 1,
                      label=f"{int(these.sum())} of {intervals.TESTS} {name}")
    axis.axvline(truth, color="black", linewidth=1)
    axis.set(xlabel=f"accuracy (%), {tasks} tasks a test", yticks=[],
             ylabel=f"{intervals.TESTS} tests of the same model",
             xlim=(truth - intervals.AXES[tasks][0], truth + intervals.AXES[tasks][0]), ylim=(intervals.TESTS, -1))
    axis.set_title("95 % intervals, mean ± 1.96 s / √n", fontsize=10)
    figure.legend(fontsize=9, loc="outside lower center", frameon=False)
    return picture(figure, 110)


# ---------------------------------------------------------------- chapter 2


class Exams(FewShot):
    """5-way 1-shot episodes with five queries a class, drawn as `FewShot` draws them but for the leaks that are on."""

    def __init__(self, images: ClassImages, leaks: Collection[str] = ()) -> None:
        if unknown := set(leaks) - set(LEAKS):
            raise ValueError(f"leaks={sorted(unknown)}: expected some of {list(LEAKS)}")
        super().__init__(images, WAY, SHOT, QUERY, dtype=torch.float64)
        self.leaks = frozenset(leaks)

    def sample_indices(self, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As chapter 2's SharesImages, FixedLabels, RotationsMeet; with the last two a rotation has its own label."""
        classes, examples = super().sample_indices(n, generator=generator)
        if "labels" in self.leaks:  # class c has label c mod N
            group = torch.randint(len(self.images) // WAY, (n, WAY), generator=generator)
            classes = WAY * group + torch.arange(WAY)
        if "rotations" in self.leaks:
            first = classes[:, :1] % CHARACTERS if "labels" in self.leaks else classes[:, :1]
            classes[:, :4] = (first + CHARACTERS * torch.arange(4)) % len(self.images)
        if "shared" in self.leaks:
            again = torch.randint(DRAWINGS, examples.shape, generator=generator)
            examples = torch.cat([examples[..., :SHOT], again[..., SHOT:]], -1)
        return classes, examples

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        support, (x, y, way) = super().sample(n, generator=generator)
        if "order" in self.leaks:
            order = y.argsort(dim=1, stable=True)
            x, y = torch.stack([x_t[o] for x_t, o in zip(x, order)]), y.gather(1, order)
        return Episode(support, Data(x, y, way))


class Opportunist(Learner):
    """Compares pixels, and takes whatever else it is given: a query's place in the list, and what it remembers.

        logits_n(x_j) = cos(x_j - m, s_n - m) + PLACE [j is in the n-th fifth of the queries] + RECALL p(n | c(x_j))

    s_n is the support drawing of label n, c(x) the class whose mean practice drawing is most like x, and p(n | c) how
    often c had label n in practice. Nothing is trained.

    Args:
        practice, share: the mean practice drawings (C, D), and p (C, N).
        batch: m is the mean of all queries; otherwise that of the practice drawings.
        balance: rescales its probabilities until each label is as frequent (Sinkhorn's iteration).
    """

    def __init__(self, practice: Tensor, share: Tensor, *, batch: bool = False, balance: bool = False) -> None:
        super().__init__()
        self.practice, self.share, self.batch, self.balance = practice, share, batch, balance

    def adapt(self, support: Data) -> Tensor:
        return support.x.flatten(1)  # one a label, in their order

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        x, usual = x.flatten(1), self.practice.mean(0)
        mean = x.mean(0) if self.batch else usual
        place = torch.arange(len(x)) * len(phi) // len(x)
        like = _cosine(x - usual, self.practice - usual).argmax(1)
        logits = _cosine(x - mean, phi - mean) + RECALL * self.share[like]
        logits = logits + PLACE * (place[:, None] == torch.arange(len(phi))).to(x.dtype)
        for _ in range(20 * self.balance):
            logits = logits - (SURE * logits).logsumexp(0, keepdim=True) / SURE
            logits = logits - (SURE * logits).logsumexp(1, keepdim=True) / SURE
        return logits


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


def practised(tasks: Exams, seed: int) -> Tensor:
    """p(n | c), (80, 5): the labels of each class in 400 practice episodes, of seed + 2^31; 1/5 if it never came."""
    generator, count = seeded(2**31 + seed), torch.zeros(len(tasks.images), WAY, dtype=torch.float64)
    for _ in range(PRACTICE):
        count[tasks.sample_indices(1, generator=generator)[0][0], torch.arange(WAY)] += 1
    total = count.sum(1, keepdim=True)
    return torch.where(total > 0, count / total.clamp(min=1), 1 / WAY)


def examined(world: tuple[ClassImages, Tensor], leaks: Collection[str] = (), seed: int = 0,
             episodes: int = EXAMS) -> Score:
    """What the page shows when these leaks are on."""
    tasks = Exams(world[0], leaks)
    learner = Opportunist(world[1], practised(tasks, seed), batch="batch" in leaks, balance="balance" in leaks)
    return meta_test(learner, tasks, episodes, seed)


def leaks_picture() -> bytes:
    """Each leak alone."""
    world = bank(glyphs().split("test"))
    figure, axis = plt.subplots(figsize=(3.6, 3.4), layout="constrained", facecolor="white")
    names = ["no leak", *(f"{n} {name}".replace("batch ", "batch\n") for n, name, _ in LEAKS.values())]
    scores = [examined(world), *(examined(world, [key]) for key in LEAKS)]
    axis.axvline(100 * scores[0].mean, color="0.5", linewidth=1, linestyle=":")
    for i, s in enumerate(scores):
        axis.errorbar(100 * s.mean, -i, xerr=100 * s.ci95, fmt="o" if i else "D", capsize=3,
                      color=COLOURS[3] if i else "0.3", mfc=None if i else "white")
    axis.set_yticks([-i for i in range(len(names))], names, fontsize=10)
    axis.set_xlabel("accuracy (%) and\n95 % interval", fontsize=10)
    return picture(figure, 150)


# ---------------------------------------------------------------- chapter 5


def lines() -> Data:
    """The support of chapter 5's task: y = w . x with w ~ N((2, -1), 0.5^2); x has deviations 2 and 0.6."""
    g = seeded(3)
    w = torch.tensor([2.0, -1.0]) + 0.5 * torch.randn(1, 2, generator=g, dtype=torch.float64)
    x = torch.tensor([2.0, 0.6], dtype=torch.float64) * torch.randn(28, 2, generator=g, dtype=torch.float64)
    return Data(x[:8], (w * x).sum(-1, keepdim=True)[:8])


def alpha_picture(steps: int = 8, start: tuple[float, float] = (0.0, 0.0)) -> bytes:
    """A path that arrives and one that does not; as wide as a phone, so that its text stays legible."""
    support = lines()
    H, w = alpha.quadratic(support)
    rates = 0.05, 1.05 * 2 / float(torch.linalg.eigvalsh(H)[-1])
    a, b = torch.meshgrid(*(torch.linspace(*side, 80, dtype=torch.float64) for side in alpha.SIDES), indexing="xy")
    e = torch.stack([a, b], -1) - w
    figure, axis = plt.subplots(figsize=(3.6, 4.0), facecolor="white", layout="constrained")
    loss = 0.5 * torch.einsum("...i,ij,...j->...", e, H, e)
    axis.contour(a, b, loss, levels=alpha.LEVELS, colors="0.75", linewidths=0.8, antialiased=False)
    for rate, colour, line, mark, name in zip(rates, (COLOURS[0], COLOURS[3]), ("-", "--"), "os",
                                              ("every step is shorter", "every jump is longer"), strict=True):
        way = alpha.path(support, rate, steps, start).T
        axis.plot(*way, line, marker=mark, markersize=4, linewidth=1.4, color=colour,
                  label=f"α = {rate:.2f}: {name}")
    axis.plot(*start, "ko", markersize=7)
    axis.plot(*w, "k*", markersize=12)
    axis.annotate("w", w.tolist(), (8, -4), textcoords="offset points", fontsize=10)
    axis.annotate("θ", start, (-4, 8), textcoords="offset points", fontsize=10, ha="right")
    axis.set(xlim=alpha.SIDES[0], ylim=alpha.SIDES[1], xlabel=r"$\phi_1$", ylabel=r"$\phi_2$", aspect="equal")
    axis.set_title(rf"{steps} inner steps, $2/\lambda_{{\max}}$ = {rates[1] / 1.05:.3f}", fontsize=10)
    figure.legend(fontsize=9, loc="outside lower center", frameon=False)
    return picture(figure, 110)


# ---------------------------------------------------------------- chapter 12


def walks() -> tuple[list[treasure.Place], Tensor]:
    """(the places, the walks of chapter 12's agent): what the page that is stored in the chapter shows."""
    page = (ROOT / "book" / "12_meta_reinforcement_learning.ipynb").read_text(encoding="utf-8")
    outputs = (output for cell in json.loads(page)["cells"] for output in cell.get("outputs", ()))
    pages = ("".join(output.get("data", {}).get("text/html", "")) for output in outputs)
    shown = next(match for html in pages if (match := re.search(r"treasure\(root, (\{.*\})\);", html)))
    data = json.loads(shown.group(1))
    numbers = list(base64.b64decode(data["packed"].partition(",")[2]))
    return [tuple(place) for place in data["places"]], torch.tensor(numbers).reshape(-1, 2 * data["length"])


def treasure_picture(length: int = 10) -> bytes:
    """Both episodes with the treasure in place 1, as the page begins; as wide as a phone."""
    places, every = walks()
    goal, walk = 1, every[0].tolist()
    figure, axes = plt.subplots(2, 1, figsize=(3.6, 6.6), facecolor="white", layout="constrained")
    for episode, axis in enumerate(axes):
        path = [0, *walk[length * episode:length * (episode + 1)]]
        _board(axis, places, path, goal)
        reward = treasure.rewards(walk, goal, length)[episode]
        axis.set_title(f"episode {episode + 1}: reward {reward} of {length}", fontsize=10)
    return picture(figure, 110)


def _board(axis: Axes, places: Sequence[treasure.Place], path: list[int], goal: int) -> None:
    """The path with the number of each arrival; the treasure is a star."""
    rows, columns = (max(p[i] for p in places) + 1 for i in (0, 1))
    axis.plot(places[goal][1], places[goal][0], "*", markersize=34, color=COLOURS[1])
    axis.plot([places[s][1] for s in path], [places[s][0] for s in path], color=COLOURS[0], linewidth=1)
    for state, (row, column) in enumerate(places):
        visits = [str(t) for t, s in enumerate(path) if s == state]
        label = ", ".join(visits[:3]) + (" ..." if len(visits) > 3 else "")
        axis.text(column, row + 0.34, label, ha="center", va="center", fontsize=10)
        axis.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False))
    axis.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), aspect="equal", xticks=[], yticks=[])


# ---------------------------------------------------------------- all of them


FIXED: dict[str, tuple[Callable[[], Widget], Callable[[], bytes]]] = {  # name -> (its figure, its picture)
    "sine": (sine.figure, sine_picture), "surface": (surface.figure, surface_picture),
    "intervals": (intervals.figure, intervals_picture),
    "alphabet": (lambda: Alphabet(load(checkpoint("alphabet"))), alphabet_picture),
    "leaks": (lambda: Leaks(glyphs().split("test"), record("leaks")), leaks_picture),
    "alpha": (lambda: alpha.figure(lines()), alpha_picture),
    "treasure": (lambda: treasure.figure(*walks()), treasure_picture),
}
# The digests of those whose picture carries none: the chapters hold these pictures as they were drawn at first.
DRAWN = {"alpha": "df2f1538f56f", "treasure": "c9dde89f2056"}


def told(widget: Widget) -> str:
    """A digest of what a figure sends to the page, but for drawings, which depend on the fonts of a machine."""
    data = {k: v for k, v in widget.data.items() if k not in ("exam", "practice")}
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]


def main() -> None:
    torch.set_num_threads(1)
    plot.style()
    for name in sys.argv[1:] or FIXED:
        figure, draw_it = FIXED[name]
        path = ROOT / "metalib" / "figures" / "widgets" / f"{name}.png"
        image = Image.open(io.BytesIO(draw_it()))
        if not path.exists():  # the figure reads its picture
            image.save(path)
        says = PngImagePlugin.PngInfo()
        says.add_text("Description", told(figure()))
        image.save(path, pnginfo=says, optimize=True)
        print(path.relative_to(ROOT), path.stat().st_size)


if __name__ == "__main__":
    main()
