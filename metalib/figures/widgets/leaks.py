"""Chapter 2's figure: one learner, one small world, and the leaks of an exam as switches."""

from collections.abc import Collection
from typing import Any

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from metalib.data import ClassImages
from metalib.episode import Data, Episode
from metalib.figures.plot import COLOURS
from metalib.figures.widgets.widget import Widget, base64_of, picture
from metalib.functional import seeded
from metalib.judging.evaluate import Score, meta_test
from metalib.learner import Learner
from metalib.tasks import FewShot

WAY, SHOT, QUERY = 5, 1, 5
CHARACTERS, DRAWINGS, SIZE, GREYS = 20, 10, 14, 4  # of the world; as many drawings are for practice
EXAMS, PRACTICE = 600, 400  # episodes
# What a hint counts beside the cosine of the pixels, and how sure the learner is (for `balance`): chosen, not tuned.
PLACE, RECALL, SURE = 0.1, 0.2, 5.0
LEAKS = {  # key -> (the chapter's number, its name there, what happens)
    "shared": (1, "image shared", "queries come from all drawings, the support's too"),
    "labels": (3, "labels fixed", "a character has the same label in each episode"),
    "order": (4, "queries in order", "first those of label 0, then of label 1, ..."),
    "rotations": (5, "rotations meet", "labels 0 to 3 are one character, turned"),
    "batch": (6, "query batch standardised", "the learner subtracts the mean of all queries"),
    "balance": (7, "class balance known", "the learner knows: five queries of each label"),
}


def bank(images: ClassImages, seed: int = 1) -> tuple[ClassImages, Tensor]:
    """(The exam's bank: 20 characters of `images` in four rotations, 14 x 14 pixels, four greys; the mean practice
    drawing of each of the 80 classes, (80, 196), in [0, 1]). Practice has drawings 0-9, the exam 10-19."""
    chosen = torch.randperm(len(images), generator=seeded(seed))[:CHARACTERS]
    rows = images.starts[chosen][:, None] + torch.arange(2 * DRAWINGS)
    x = F.adaptive_avg_pool2d(images.images[rows.flatten()].double(), SIZE)
    grey = (x / x.amax((1, 2, 3), keepdim=True) * (GREYS - 1)).round()  # 0 .. 3
    grey = grey.reshape(CHARACTERS, 2 * DRAWINGS, 1, SIZE, SIZE)
    drawings = (grey[:, DRAWINGS:].flatten(0, 1) * (255 // (GREYS - 1))).to(torch.uint8)
    exam = ClassImages.from_arrays(drawings, torch.arange(CHARACTERS).repeat_interleave(DRAWINGS))
    mean = grey[:, :DRAWINGS].sum((1, 2)) / (DRAWINGS * (GREYS - 1))  # (20, 14, 14)
    return exam.with_rotations(), torch.cat([torch.rot90(mean, r, (-2, -1)) for r in range(4)]).flatten(1)


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


class Leaks(Widget):
    """Switch each leak on and off in the page, and see what the same learner scores with it and without.

    Args:
        images: where the world's 20 characters come from: chapter 2's test split.
        record: `metalib.record("leaks")`, for the leak that needs training (2, split by image).
    """

    def __init__(self, images: ClassImages, record: dict[str, Any]) -> None:
        exam, practice = self.world = bank(images)
        greys = (exam.images[:CHARACTERS * DRAWINGS] // (255 // (GREYS - 1))).flatten().reshape(-1, 4)
        pixels = (greys * torch.tensor([1, 4, 16, 64], dtype=torch.uint8)).sum(1)  # four a byte
        sums = (practice[:CHARACTERS] * DRAWINGS * (GREYS - 1)).round()
        gain = record["unseen"]["pairs"]["the exam's own classes minus other scripts"]
        data = {"leaks": [{"key": k, "n": n, "name": name, "what": what} for k, (n, name, what) in LEAKS.items()],
                "split": f"{100 * gain['mean']:+.1f} ± {100 * gain['ci95']:.1f}", "seeds": record["config"]["seeds"],
                "exam": base64_of(pixels, "u1"), "practice": base64_of(sums, "u1"), "characters": CHARACTERS,
                "drawings": DRAWINGS, "size": SIZE, "greys": GREYS, "way": WAY, "query": QUERY, "exams": EXAMS,
                "practiceExams": PRACTICE, "place": PLACE, "recall": RECALL, "sure": SURE}
        super().__init__("leaks.js", data, png=self._paper(), parts=("leaks_world.js",), colours=16,
                         alt="Six leaks of an exam as switches, and the accuracy of one learner with and without them")

    def _paper(self) -> bytes:
        """The picture where scripts do not run: each leak alone."""
        figure, axis = plt.subplots(figsize=(3.6, 3.4), layout="constrained", facecolor="white")
        names = ["no leak", *(f"{n} {name}".replace("batch ", "batch\n") for n, name, _ in LEAKS.values())]
        scores = [examined(self.world), *(examined(self.world, [key]) for key in LEAKS)]
        axis.axvline(100 * scores[0].mean, color="0.5", linewidth=1, linestyle=":")
        for i, s in enumerate(scores):
            axis.errorbar(100 * s.mean, -i, xerr=100 * s.ci95, fmt="o" if i else "D", capsize=3,
                          color=COLOURS[3] if i else "0.3", mfc=None if i else "white")
        axis.set_yticks([-i for i in range(len(names))], names, fontsize=10)
        axis.set_xlabel("accuracy (%) and\n95 % interval", fontsize=10)
        return picture(figure, 150)
