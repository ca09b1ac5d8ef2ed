"""Fifteen new intents, one or five examples each: do ninety old intents help? CLINC150 by domain and at random.

    OMP_NUM_THREADS=1 python recipes/intents.py --force    # replaces what is there; --resume runs/intents continues
    OMP_NUM_THREADS=1 python recipes/intents.py --smoke    # seconds: a fragment, for looking whether it runs

Needs scikit-learn and CLINC150 (in METALIB_DATA, or downloaded: 2.5 MB). Writes results/intents.json.

Tasks have 15 intents of one domain that no training has seen (three domains in each of three folds), or 15 of the 45
test intents; 15 queries an intent; the same tasks for every method and seed. Every method is a kernel between queries
and support, and ridge regression of the labels on it; the strength of the ridge, the weight of a fusion and the score
that detects out-of-scope queries are chosen on the validation intents of the same split, for each seed and number of
shots, from grids that are the same for all. Each network's rate is chosen first, for each split on the validation
intents of the three folds, after a quarter of the training. Every training sees as many texts.

    TF-IDF       words, pairs of words and characters (2- to 5-grams within words); frequencies from the training texts
    ProtoNet     15-way 5-shot episodes of the training intents; an average of word embeddings, or a small transformer
                 (three times as long: on fold 0's validation intents, 1- and 5-shot, one seed, +0.6 and -0.8 points for
                 the embeddings by domain, +2.1 and +0.9 at random)
    pooled       the same encoders, one classifier of all 90 training intents, as many texts per step
                 (transformers on the split by domains alone: they cost most)
    + TF-IDF     the two kernels added, with a weight
    LSA          TF-IDF plus its first singular vectors on all texts of the domain, without labels: transductive
    detection    10 of a domain's intents; near: queries of its other five; far: half of CLINC150's out-of-scope texts
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from record import Work, options, over_seeds, settings
from scipy.sparse import csr_matrix, hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from torch import Tensor, nn

from metalib import Classify, FewShot, Pretrained, ProtoNet, TrainConfig, meta_train, seeded
from metalib.data.clinc import clinc150, out_of_scope
from metalib.data.texts import ClassTexts, Vocabulary

WAY, SHOTS, QUERY, LENGTH = 15, (1, 5), 15, 24
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # of the ridge; every kernel has ones on its diagonal
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # of what is added to TF-IDF; 0 adds nothing
ITERATIONS = 600  # of 150 texts each, for every training
LEARNERS = {  # encoder, objective, the rates of Adam that are tried
    "ProtoNet, word embeddings": ("bag", "episodes", (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)),
    "pooled, word embeddings": ("bag", "classes", (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)),
    "ProtoNet, transformer": ("transformer", "episodes", (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)),
    "pooled, transformer": ("transformer", "classes", (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)),
}
Kernel = Callable[[Tensor, Tensor], Tensor]  # texts (T, A) and (T, B), as numbers -> (T, A, B)


class Bag(nn.Module):
    """The mean embedding of a text's tokens, through one linear layer."""

    def __init__(self, size: int, dim: int = 128) -> None:
        super().__init__()
        self.table, self.out, self.embedding_dim = nn.Embedding(size, dim, padding_idx=0), nn.Linear(dim, dim), dim

    def forward(self, ids: Tensor) -> Tensor:  # (M, L) -> (M, D)
        known = (ids != 0).unsqueeze(-1).to(self.table.weight.dtype)
        return self.out((self.table(ids) * known).sum(1) / known.sum(1).clamp(min=1))


class Transformer(nn.Module):
    """Two layers of self-attention over the tokens, then their mean; padding is neither read nor averaged."""

    def __init__(self, size: int, dim: int = 64, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.table, self.heads, self.embedding_dim = nn.Embedding(size, dim, padding_idx=0), heads, dim
        self.place = nn.Parameter(0.02 * torch.randn(LENGTH, dim))
        self.layers = nn.ModuleList(nn.ModuleDict({
            "norm": nn.LayerNorm(dim), "qkv": nn.Linear(dim, 3 * dim), "mix": nn.Linear(dim, dim),
            "mlp": nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))})
            for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, ids: Tensor) -> Tensor:  # (M, L) -> (M, D)
        ids = ids[:, :max(1, int((ids != 0).sum(1).max()))]  # no longer than the longest text here
        known = ids != 0  # (M, L)
        h = self.table(ids) + self.place[:ids.shape[1]]  # (M, L, D)
        for layer in self.layers:
            q, k, v = layer["qkv"](layer["norm"](h)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=known[:, None, None])  # (M, heads, L, D/heads)
            h = h + layer["mix"](mixed.transpose(1, 2).flatten(2))
            h = h + layer["mlp"](h)
        known = known.unsqueeze(-1).to(h.dtype)
        return (self.norm(h) * known).sum(1) / known.sum(1)


# ---------------------------------------------------------------- the data

class Fold:
    """One split of the intents: its banks, its kernels and its tasks. Texts are numbered through, out-of-scope last."""

    def __init__(self, split: str, fold: int, counts: list[csr_matrix], each: int | None) -> None:
        bank = few(clinc150(split, fold=fold), each)
        self.parts = {part: bank.split(part) for part in ("train", "val", "test")}
        self.texts, self.far = [*bank.texts, *out_of_scope()], len(bank.texts) + torch.arange(len(out_of_scope()))
        train = self.parts["train"].x[:, 0].unique().numpy()
        weighted = [TfidfTransformer(sublinear_tf=True).fit(c[train]).transform(c) for c in counts]
        self.tf_idf: csr_matrix = (hstack(weighted) / len(weighted) ** 0.5).tocsr().astype(np.float32)
        self.vocabulary = Vocabulary(self.parts["train"].read(torch.from_numpy(train)), length=LENGTH)
        self.split = split
        self.learners = [n for n, s in LEARNERS.items() if split == "domains" or s[0] == "bag"]  # the others cost most
        self.exams: dict[tuple[bool, int], Exam] = {}  # TF-IDF's part of them is the same for every seed

    def sparse(self, a: Tensor, b: Tensor) -> Tensor:
        """The kernel of TF-IDF."""
        return torch.stack([torch.from_numpy((self.tf_idf[i.numpy()] @ self.tf_idf[j.numpy()].T).toarray())
                            for i, j in zip(a, b)])

    def lsa(self, part: str, dim: int = 100) -> Kernel:
        """The kernel of the singular vectors of each domain of a part, from its texts without their labels."""
        bank, rows = self.parts[part], torch.zeros(len(self.texts), dim)
        for domain in sorted(set(bank.groups)):
            own = bank.subset(c for c, d in enumerate(bank.groups) if d == domain).x[:, 0].unique()
            vectors = TruncatedSVD(min(dim, len(own) - 1), random_state=0).fit_transform(self.tf_idf[own.numpy()])
            rows[own, :vectors.shape[1]] = F.normalize(torch.from_numpy(vectors), dim=1)
        return dense(rows)

    def trained(self, name: str, seed: int, lr: float, iterations: int) -> Tensor:
        """Unit vectors of all texts, from one encoder trained on the training intents."""
        encoder, objective, _ = LEARNERS[name]
        torch.manual_seed(seed)
        net = (Bag if encoder == "bag" else Transformer)(self.vocabulary.size)
        train = self.parts["train"].encoded(self.vocabulary)
        learner, tasks = ((ProtoNet(net), FewShot(train, WAY, 5, 5)) if objective == "episodes" else
                          (Pretrained(net, classes=len(train)), Classify(train, 10 * WAY)))
        config = TrainConfig(iterations=iterations, meta_batch=1, lr=lr, schedule="cosine", seed=seed)
        meta_train(learner, tasks, config)
        with torch.no_grad():
            return torch.cat([F.normalize(net(ids), dim=1) for ids in self.vocabulary(self.texts).split(1000)])

    def tasks(self, part: str, shot: int, n: int, *, way: int = WAY, within: bool = True) -> tuple[Tensor, Tensor]:
        """(support (T, N, K), query (T, N, Q)), numbers of texts; the same for every method."""
        bank = self.parts[part]
        domains = within and self.split == "domains"
        few_shot = FewShot(bank, way, shot, QUERY, within="group" if domains else None)
        classes, examples = few_shot.sample_indices(n, generator=seeded(0))
        ids = bank.x[bank.starts[classes][..., None] + examples, 0]
        return ids[..., :shot], ids[..., shot:]

    def outside(self, part: str, support: Tensor) -> tuple[Tensor, Tensor]:
        """(near (T, 75), far (T, 150)) queries: of the domain's intents that are not in the task, and of no intent."""
        bank, g = self.parts[part], seeded(1)
        which = {int(x): c for x, c in zip(bank.x[:, 0], bank.labels)}
        domain = np.array(bank.groups)
        near, far = [], []
        for task in support:
            own = {int(which[int(x)]) for x in task.flatten()}
            others = [c for c in np.flatnonzero(domain == domain[min(own)]).tolist() if c not in own]
            near.append(torch.cat([bank.x[bank.labels == c, 0][torch.randperm(int(bank.counts[c]), generator=g)[:QUERY]]
                                   for c in others[:WAY - 10]]))
            half = self.far[0 if part == "val" else 1::2]  # one half validates
            far.append(half[torch.randperm(len(half), generator=g)[:10 * QUERY]])
        return torch.stack(near), torch.stack(far)


def few(bank: ClassTexts, each: int | None) -> ClassTexts:
    """The first texts of every intent, for --smoke."""
    if each is None:
        return bank
    first = torch.arange(len(bank.x)) - bank.starts[bank.labels] < each
    return ClassTexts.from_arrays(bank.read(bank.x[first]), [bank.names[c] for c in bank.labels[first]],
                                  groups=bank.groups, splits=bank.splits)


def counted(texts: list[str]) -> list[csr_matrix]:
    """How often each n-gram stands in each text. The vocabulary only numbers them: what a method knows are weights."""
    grams = [CountVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", dtype=np.float32),
             CountVectorizer(analyzer="char_wb", ngram_range=(2, 5), dtype=np.float32)]
    return [vectorizer.fit_transform(texts) for vectorizer in grams]


# ---------------------------------------------------------------- kernels and heads

def dense(rows: Tensor) -> Kernel:
    """The kernel of vectors, one a text."""
    return lambda a, b: rows[a] @ rows[b].transpose(1, 2)


class Tasks:
    """A kernel's values on one set of tasks: among the support, and between other texts and the support."""

    def __init__(self, kernel: Kernel, support: Tensor, query: Tensor) -> None:
        self.way, self.shot = support.shape[1:]
        support = support.flatten(1)  # (T, NK)
        self.inner, self.outer = kernel(support, support), kernel(query.flatten(1), support)  # (T, NK, NK), (T, M, NK)

    def plus(self, other: Tasks, weight: float) -> Tasks:
        """The sum of two kernels, with ones on its diagonal again."""
        both = object.__new__(Tasks)
        both.way, both.shot = self.way, self.shot
        both.inner = (self.inner + weight * other.inner) / (1 + weight)
        both.outer = (self.outer + weight * other.outer) / (1 + weight)
        return both

    def ridge(self, strength: float) -> Tensor:
        """Scores (T, M, N) of ridge regression on one-hot labels, less their mean."""
        y = torch.eye(self.way).repeat_interleave(self.shot, 0) - 1 / self.way  # (NK, N)
        eye = torch.eye(len(y))
        return self.outer @ torch.linalg.solve(self.inner + strength * eye, y.expand(len(self.inner), -1, -1))

    def centroid(self) -> Tensor:
        """Scores (T, M, N): the cosine to the mean of each class."""
        mean = self.outer.unflatten(2, (self.way, self.shot)).mean(3)  # (T, M, N)
        blocks = self.inner.unflatten(2, (self.way, self.shot)).mean(3).unflatten(1, (self.way, self.shot)).mean(2)
        return mean / blocks.diagonal(dim1=1, dim2=2).clamp(min=1e-12).sqrt()[:, None]

    def scores(self, head: tuple[Any, ...]) -> Tensor:
        """What detection looks at, (T, M): the largest score of a head, or of any single support text."""
        kind, strength = head
        return (self.outer if kind == "nearest" else self.centroid() if kind == "centroid" else
                self.ridge(strength)).amax(2)


def right(scores: Tensor) -> Tensor:
    """Accuracy of each task, (T,): queries stand in the order of their classes."""
    N = scores.shape[2]
    return (scores.argmax(2) == torch.arange(N).repeat_interleave(scores.shape[1] // N)).double().mean(1)


def auroc(inside: Tensor, outside: Tensor) -> Tensor:
    """The share of (inside, outside) pairs that scores order rightly, (T,)."""
    pairs = inside[:, :, None] - outside[:, None]
    return ((pairs > 0).double() + 0.5 * (pairs == 0).double()).mean((1, 2))


def accepted(inside: Tensor, outside: Tensor) -> Tensor:
    """The share of outside that is taken for inside, (T,): the threshold is the largest that keeps 95 % of inside."""
    kept = math.ceil(0.95 * inside.shape[1])
    return (outside >= inside.sort(1, descending=True).values[:, kept - 1:kept]).double().mean(1)


def best(candidates: Iterable[tuple[Any, float]]) -> Any:
    return max(candidates, key=lambda pair: pair[1])[0]


# ---------------------------------------------------------------- what is chosen first

def rate(name: str, folds: list[Fold], args: argparse.Namespace) -> dict[str, list[float]]:
    """Validation accuracies, 5-shot, by rate: one of each fold, after a quarter of the training with another seed."""
    tried = {}
    for lr in LEARNERS[name][2]:
        tried[str(lr)] = []
        for fold in folds:
            rows = fold.trained(name, 100, lr, max(1, args.iterations // 4))
            tasks = Tasks(dense(rows), *fold.tasks("val", 5, args.val_episodes))
            tried[str(lr)].append(round(max(float(right(tasks.ridge(s)).mean()) for s in STRENGTHS), 4))
    return tried


# ---------------------------------------------------------------- one seed of one fold

class Exam:
    """One way to draw tasks from a fold, and what is chosen on its validation tasks."""

    def __init__(self, fold: Fold, shot: int, args: argparse.Namespace, *, within: bool) -> None:
        self.drawn = {part: fold.tasks(part, shot, n, within=within)
                      for part, n in (("val", args.val_episodes), ("test", args.episodes))}
        self.floor = self.of({part: fold.sparse for part in self.drawn})

    def of(self, kernels: dict[str, Kernel]) -> dict[str, Tasks]:
        return {part: Tasks(kernels[part], *self.drawn[part]) for part in self.drawn}

    def ridge(self, tasks: dict[str, Tasks]) -> tuple[Tensor, list[float]]:
        """Accuracies of the test tasks, and the strength that the validation tasks chose."""
        strength = best((s, float(right(tasks["val"].ridge(s)).mean())) for s in STRENGTHS)
        return right(tasks["test"].ridge(strength)), [strength]

    def fused(self, tasks: dict[str, Tasks]) -> tuple[Tensor, list[float]]:
        sums = [(w, self.floor["val"].plus(tasks["val"], w)) for w in WEIGHTS]
        w, s = best(((w, s), float(right(both.ridge(s)).mean())) for (w, both), s in itertools.product(sums, STRENGTHS))
        return right(self.floor["test"].plus(tasks["test"], w).ridge(s)), [w, s]


def exams(fold: Fold, seed: int, rates: dict[str, float], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """{"one domain, 5-shot: method": accuracies}; of the split "intents" the tasks from all test intents alone."""
    kernels: dict[str, dict[str, Kernel]] = {}
    for name in fold.learners:
        rows = fold.trained(name, seed, rates[name], args.iterations)
        kernels[name] = {"val": dense(rows), "test": dense(rows)}
    lsa = {part: fold.lsa(part) for part in ("val", "test")} if fold.split == "domains" else None
    result: dict[str, dict[str, Any]] = {"accuracy": {}, "chosen": {}}
    for within, shot in itertools.product((True, False) if fold.split == "domains" else (False,), SHOTS):
        if (within, shot) not in fold.exams:
            fold.exams[within, shot] = Exam(fold, shot, args, within=within)
        exam = fold.exams[within, shot]
        methods = {"TF-IDF, ridge": exam.ridge(exam.floor),
                   "TF-IDF, centroid": (right(exam.floor["test"].centroid()), [])}
        for name, kernel in kernels.items():
            tasks = exam.of(kernel)
            methods[name], methods[f"{name} + TF-IDF"] = exam.ridge(tasks), exam.fused(tasks)
        if lsa and within:
            methods["TF-IDF + LSA, transductive"] = exam.fused(exam.of(lsa))
        for name, (values, chosen) in methods.items():
            key = f"{'one domain' if within else 'all test intents'}, {shot}-shot: {name}"
            result["accuracy"][key], result["chosen"][key] = [round(v, 5) for v in values.tolist()], chosen
    if fold.split == "domains":
        result["detection"] = detection(fold, kernels, args)
    return result


def detection(fold: Fold, kernels: dict[str, dict[str, Kernel]], args: argparse.Namespace) -> dict[str, list[float]]:
    """AUROC and false accepts of each task, near and far, by the score that does best on the validation domain."""
    heads = [("nearest", 0.0), ("centroid", 0.0), *(("ridge", s) for s in STRENGTHS)]
    floor: dict[str, Kernel] = {"val": fold.sparse, "test": fold.sparse}
    result = {}
    for shot in SHOTS:
        drawn = {}
        for part in ("val", "test"):
            support, query = fold.tasks(part, shot, args.episodes // 2, way=10)
            drawn[part] = support, torch.cat([query.flatten(1), *fold.outside(part, support)], 1)

        def split(scores: Tensor) -> tuple[Tensor, ...]:
            return scores.split([10 * QUERY, (WAY - 10) * QUERY, 10 * QUERY], 1)

        def value(tasks: Tasks, head: tuple[Any, ...]) -> float:
            inside, near, far = split(tasks.scores(head))  # noqa: B023
            return float((auroc(inside, near) + auroc(inside, far)).mean())

        made = {name: {part: Tasks(kernel[part], *drawn[part]) for part in drawn}
                for name, kernel in {"TF-IDF": floor, **kernels}.items()}
        options_of = {name: [(tasks, head) for head in heads] for name, tasks in made.items()}
        for name in kernels:
            sums = [{part: made["TF-IDF"][part].plus(made[name][part], w) for part in drawn} for w in WEIGHTS]
            options_of[f"{name} + TF-IDF"] = [(tasks, head) for tasks in sums for head in heads]
        for name, pairs in options_of.items():
            tasks, head = best((pair, value(pair[0]["val"], pair[1])) for pair in pairs)
            inside, near, far = split(tasks["test"].scores(head))
            for what, outside in (("near", near), ("far", far)):
                result[f"{what}, {shot}-shot: {name}, AUROC"] = auroc(inside, outside).tolist()
                result[f"{what}, {shot}-shot: {name}, false accepts"] = accepted(inside, outside).tolist()
    return {key: [round(v, 5) for v in values] for key, values in result.items()}


# ---------------------------------------------------------------- all of them

def summary(runs: dict[str, list[list[dict[str, Any]]]]) -> dict[str, Any]:
    """For each split and kind of result: means over seeds and tasks, of all folds and of each, and paired gaps."""
    def columns(split: str, kind: str, key: str) -> list[list[list[float]]]:  # [fold][seed][task]
        return [[run[kind][key] for run in seeds] for seeds in runs[split]]

    def told(folds: list[list[list[float]]]) -> dict[str, Any]:
        joined = [sum(parts, []) for parts in zip(*folds)]  # of each seed, the tasks of all folds
        return {**over_seeds(joined), "folds": [over_seeds(seeds) for seeds in folds]}

    result: dict[str, Any] = {}
    for split in runs:
        result[split] = {}
        for kind in ("accuracy", "detection"):
            keys = runs[split][0][0].get(kind, {})
            result[split].update({key: told(columns(split, kind, key)) for key in keys})
        gaps = {}
        for key in runs[split][0][0]["accuracy"]:
            task, name = key.split(": ")
            if name != "TF-IDF, ridge":
                a, b = (np.array(columns(split, "accuracy", k)) for k in (key, f"{task}: TF-IDF, ridge"))
                gaps[key] = told((a - b).tolist())
        result[split]["minus TF-IDF, ridge"] = gaps
        result[split]["chosen"] = {key: [[run["chosen"][key] for run in seeds] for seeds in runs[split]]
                                   for key in runs[split][0][0]["chosen"]}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=200, help="test tasks of a fold")
    parser.add_argument("--val-episodes", type=int, default=100)
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="of every training, of 150 texts each")
    parser.add_argument("--smoke", action="store_true", help="one seed, one fold, few tasks, texts and iterations; "
                        "writes results/intents-smoke.json")
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.smoke:
        args.seeds, args.folds, args.episodes, args.val_episodes, args.iterations = 1, 1, 4, 2, 3
    work, each = Work("intents-smoke" if args.smoke else "intents", args), 24 if args.smoke else None
    bank = few(clinc150(), each)
    counts = counted([*bank.texts, *out_of_scope()])
    folds = {split: [Fold(split, number, counts, each) for number in range(args.folds)]
             for split in ("domains", "intents")}
    tried: dict[str, dict[str, Any]] = {split: {} for split in folds}
    runs: dict[str, list[list[dict[str, Any]]]] = {split: [] for split in folds}
    for split in folds:
        for name in folds[split][0].learners:
            tried[split][name] = work.part(f"{split}, rate of {name}",
                                           lambda: rate(name, folds[split], args))  # noqa: B023
        rates = {name: best((float(lr), sum(values)) for lr, values in found.items())
                 for name, found in tried[split].items()}
        for number, fold in enumerate(folds[split]):
            runs[split].append([work.part(f"{split} {number} {seed}",
                                          lambda: exams(fold, seed, rates, args))  # noqa: B023
                                for seed in range(args.seeds)])
    work.write({**work.spent(), "config": settings(args), "bank": bank.digest(), "source": clinc150().source,
                "tried": tried, **summary(runs)})


if __name__ == "__main__":
    main()
