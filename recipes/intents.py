"""Fifteen new intents, one or five examples each: do ninety old intents help? CLINC150 by whole domains.

    OMP_NUM_THREADS=1 python recipes/intents.py --force    # replaces what is there; --resume runs/intents continues
    OMP_NUM_THREADS=1 python recipes/intents.py --smoke    # seconds: a fragment, for looking whether it runs

Needs scikit-learn and CLINC150 (in METALIB_DATA, or downloaded: 2.5 MB). Writes results/intents.json.

Every method is a kernel between queries and support with a ridge head (two rows have other heads); strength of the
ridge, weight of a fusion and the detector are chosen on tasks of the fold's validation domain, for each seed and number
of shots, from grids of one size. Each network's rate is chosen first, on the same domain, fold by fold, after a quarter
of the training and with another seed. Every training sees 150 texts a step; 1-shot tests use the encoders of the 5-shot
episodes as well.

domains     The tasks of a domain are all of its 15 intents, with other examples each time: so domains, not tasks, are
            what was repeated. Nine of the ten test in the three folds (meta never does). A row's interval is Student's
            over the nine means of a domain.
siblings    One class set tests 5 intents of each of a fold's three domains, 15 in all; nine sets test each intent once.
            The same tasks are taken after two trainings on 90 intents, 60 of them the same: the other 30 are the other
            ten of those three domains, or 30 more of the six domains that both train on. Whatever is learned is learned
            anew: document frequencies, vocabulary, encoder; all is chosen on the same validation domain.
detection   10 of a domain's intents; near: queries of its other five; far: half of CLINC150's out-of-scope texts

    TF-IDF       words and pairs of words, and characters (2- to 5-grams within words), half and half; frequencies from
                 the training texts
    ProtoNet     15-way 5-shot episodes of the training intents, each of one domain or of all, as validation has it (of
                 the embeddings, and the transformers follow); an average of embeddings, or a small transformer
    pooled       one classifier of all 90 training intents, on the embeddings alone: transformers cost twice as much,
                 and are trained with one seed in each fold
    + TF-IDF     the two kernels added, with a weight: also that of embeddings that were not trained, and of LSA, the
                 first singular vectors of the training texts; "word share" weighs TF-IDF's own two halves
    transductive LSA of all texts of the domain, without labels
    longer       the validation accuracy of each network after three times the training, fold 0, seed 0
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
from record import Work, options, settings
from scipy.sparse import csr_matrix, hstack
from scipy.stats import t as student
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer
from torch import Tensor, nn

from metalib import Classify, FewShot, Pretrained, ProtoNet, TrainConfig, audit, meta_train, seeded
from metalib.data.clinc import clinc150, out_of_scope
from metalib.data.texts import ClassTexts, Vocabulary

WAY, SHOTS, QUERY, LENGTH = 15, (1, 5), 15, 24
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # of the ridge; every kernel has ones on its diagonal
WEIGHTS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # of what is added to TF-IDF; 0 adds nothing
WORDS = (0.0, 0.1, 1 / 3, 1.0, 3.0, 10.0, 30.0)  # of words beside characters; 1 is TF-IDF as it stands in the table
ITERATIONS = 600  # of 150 texts each, for every training
LEARNERS = {  # encoder, objective, rates of Adam: of a wider grid on fold 0's validation domain, those around the best
    "ProtoNet, word embeddings": ("bag", "episodes", (1e-3, 3e-3, 1e-2)),
    "pooled, word embeddings": ("bag", "classes", (3e-2, 1e-1, 3e-1)),
    "ProtoNet, transformer": ("transformer", "episodes", (1e-3, 3e-3, 1e-2)),
}
FIRST = "ProtoNet, word embeddings"
Kernel = Callable[[Tensor, Tensor], Tensor]  # texts (T, A) and (T, B), as numbers -> (T, A, B)
Drawn = tuple[Tensor, Tensor]  # support (T, N, K) and query (T, N, Q), numbers of texts


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

class Corpus:
    """All intents and all counts. Texts are numbered through, out-of-scope last."""

    def __init__(self, each: int | None) -> None:
        self.bank = few(clinc150(), each)
        self.texts = [*self.bank.texts, *out_of_scope()]
        self.far = len(self.bank.texts) + torch.arange(len(out_of_scope()))
        self.counts = counted(self.texts)

    def intents(self, domain: str) -> list[int]:
        return [c for c, d in enumerate(self.bank.groups) if d == domain]

    def draw(self, units: dict[str, list[int]], way: int, shot: int, each: int) -> tuple[Drawn, Tensor]:
        """As many tasks of every unit, which is a list of intents, and their intents (T, N); the same for everybody."""
        drawn = []
        for classes in units.values():
            own = self.bank.subset(classes)
            picked, examples = FewShot(own, way, shot, QUERY).sample_indices(each, generator=seeded(0))
            ids = own.x[own.starts[picked][..., None] + examples, 0]
            drawn.append((ids[..., :shot], ids[..., shot:], torch.tensor(classes)[picked]))
        support, query, classes = (torch.cat(parts) for parts in zip(*drawn))
        return (support, query), classes


class Source:
    """A set of training intents, and what counting and encoders learn from it."""

    def __init__(self, corpus: Corpus, classes: list[int]) -> None:
        self.corpus, self.train = corpus, corpus.bank.subset(sorted(classes))
        self.own = self.train.x[:, 0].unique()  # the numbers of its texts
        others = corpus.bank.subset(c for c in range(len(corpus.bank)) if c not in set(classes))
        self.new = torch.cat([others.x[:, 0].unique(), corpus.far])
        own = self.own.numpy()
        self.words, self.chars = (TfidfTransformer(sublinear_tf=True).fit(c[own]).transform(c).tocsr()
                                  .astype(np.float32) for c in corpus.counts)
        self.tf_idf = (hstack([self.words, self.chars]) / 2 ** 0.5).tocsr().astype(np.float32)
        self.vocabulary = Vocabulary(self.train.read(self.own), length=LENGTH)
        self.kept: dict[tuple[Any, ...], Tensor] = {}
        self._lsa: Kernel | None = None

    def network(self, encoder: str, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return (Bag if encoder == "bag" else Transformer)(self.vocabulary.size)

    def rows(self, net: nn.Module) -> Tensor:
        """Unit vectors of the texts of all other intents, and of none; zeros for the rest, which no task holds."""
        found = torch.zeros(len(self.corpus.texts), net.embedding_dim)
        with torch.no_grad():
            found[self.new] = torch.cat([F.normalize(net(ids), dim=1) for ids in self.vocabulary(
                self.corpus.texts[i] for i in self.new.tolist()).split(1000)])
        return found

    def trained(self, name: str, seed: int, chosen: tuple[str, float], iterations: int) -> Tensor:
        """Unit vectors of the texts, from an encoder trained on these intents."""
        key = (name, seed, *chosen, iterations)
        if key not in self.kept:
            (encoder, objective, _), (episodes, lr) = LEARNERS[name], chosen
            net, train = self.network(encoder, seed), self.train.encoded(self.vocabulary)
            within = "group" if episodes == "one domain" else None
            learner, tasks = ((ProtoNet(net), FewShot(train, WAY, 5, 5, within=within)) if objective == "episodes" else
                              (Pretrained(net, classes=len(train)), Classify(train, 10 * WAY)))
            meta_train(learner, tasks, TrainConfig(iterations=iterations, meta_batch=1, lr=lr, schedule="cosine",
                                                   seed=seed))
            self.kept[key] = self.rows(net)
        return self.kept[key]

    def lsa(self, of: Tensor, dim: int = 100) -> Kernel:
        """The kernel of the first singular vectors of some texts, without labels: these intents', or a new domain's."""
        svd = TruncatedSVD(min(dim, len(of) - 1), random_state=0, n_iter=3).fit(self.tf_idf[of.numpy()])
        return dense(F.normalize(torch.from_numpy(svd.transform(self.tf_idf)).float(), dim=1))

    def lsa_of_training(self) -> Kernel:
        if self._lsa is None:
            self._lsa = self.lsa(self.own)
        return self._lsa

    def forget(self) -> None:
        self.kept.clear()


class Fold:
    """Three domains that test and one that validates; its exams, and the class sets that have siblings or none."""

    def __init__(self, corpus: Corpus, number: int, args: argparse.Namespace) -> None:
        self.corpus, self.number, g = corpus, number, seeded(number)
        groups = {part: sorted({corpus.bank.groups[c] for c in classes})
                  for part, classes in clinc150(fold=number).splits.items()}
        self.units = {part: {d: corpus.intents(d) for d in groups[part]} for part in ("val", "test")}
        train = {d: corpus.intents(d) for d in groups["train"]}
        self.source = Source(corpus, sum(train.values(), []))
        mixed = {d: [classes[i] for i in torch.randperm(len(classes), generator=g)]
                 for d, classes in {**self.units["test"], **train}.items()}
        self.sets, self.with_siblings = {}, []
        for third in range(3):
            out = {d: classes[5 * third:5 * third + 5] for d, classes in mixed.items()}
            self.sets[f"fold {number}, set {third}"] = sum((out[d] for d in groups["test"]), [])
            self.with_siblings.append([c for d, classes in mixed.items() for c in classes if c not in out[d]])
        self.val = {shot: corpus.draw(self.units["val"], WAY, shot, args.val_episodes)[0] for shot in SHOTS}
        self.exams = self.exam(self.source, self.units["test"], args)
        self.without = self.exam(self.source, self.sets, args)
        for exam in self.exams.values():
            exam.transductive(self.units)

    def exam(self, source: Source, units: dict[str, list[int]], args: argparse.Namespace) -> dict[int, Exam]:
        """Tasks of these units after this training, by shots; the validation tasks are the fold's."""
        return {shot: Exam(source, units, self.val[shot], shot, args) for shot in SHOTS}


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


def sparse(rows: csr_matrix) -> Kernel:
    """The same of sparse vectors."""
    return lambda a, b: torch.stack([torch.from_numpy((rows[i.numpy()] @ rows[j.numpy()].T).toarray())
                                     for i, j in zip(a, b)])


class Tasks:
    """A kernel's values on one set of tasks: among the support, and between other texts and the support."""

    def __init__(self, kernel: Kernel, support: Tensor, query: Tensor) -> None:
        self.way, self.shot = support.shape[1:]
        support = support.flatten(1)  # (T, NK)
        self.inner, self.outer = kernel(support, support), kernel(query.flatten(1), support)  # (T, NK, NK), (T, M, NK)

    def plus(self, other: Tasks, weight: float) -> Tasks:
        """The sum of two kernels, divided by 1 + weight: ones on its diagonal again."""
        both = object.__new__(Tasks)
        both.way, both.shot = self.way, self.shot
        both.inner = (self.inner + weight * other.inner) / (1 + weight)
        both.outer = (self.outer + weight * other.outer) / (1 + weight)
        return both

    def ridge(self, strength: float) -> Tensor:
        """Scores (T, M, N) of ridge regression on one-hot labels less their mean, without a constant feature."""
        y = torch.eye(self.way).repeat_interleave(self.shot, 0) - 1 / self.way  # (NK, N)
        eye = torch.eye(len(y))
        return self.outer @ torch.linalg.solve(self.inner + strength * eye, y.expand(len(self.inner), -1, -1))

    def logistic(self, strength: float, steps: int = 30) -> Tensor:
        """Scores (T, M, N) of logistic regression: Newton steps with Böhning's bound, as `metalib.LogisticHead`'s."""
        y = torch.eye(self.way).repeat_interleave(self.shot, 0)  # (NK, N)
        inverse = torch.linalg.inv(self.inner / 2 + strength * torch.eye(len(y)))
        a = torch.zeros(len(self.inner), *y.shape)  # W = Z^T A
        for _ in range(steps):
            a = a - inverse @ ((self.inner @ a).softmax(-1) - y + strength * a)
        return self.outer @ a

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


# ---------------------------------------------------------------- one exam

class Exam:
    """The tasks of some units of intents, the validation tasks, and what counting makes of both."""

    def __init__(self, source: Source, units: dict[str, list[int]], val: Drawn, shot: int, args: argparse.Namespace
                 ) -> None:
        self.source, self.units = source, list(units)
        self.drawn = {"val": val, "test": source.corpus.draw(units, WAY, shot, args.episodes)[0]}
        self.words, self.chars = self.of(sparse(source.words)), self.of(sparse(source.chars))
        self.floor = {part: self.words[part].plus(self.chars[part], 1.0) for part in self.drawn}
        train = self.of(source.lsa_of_training())
        self.fixed = {  # what is the same for every seed
            "TF-IDF, ridge": self.ridge(self.floor), "TF-IDF, centroid": self.centroid(self.floor),
            "TF-IDF, logistic": self.ridge(self.floor, "logistic"), "words alone, ridge": self.ridge(self.words),
            "TF-IDF, word share tuned": self.fused(self.words, self.chars, WORDS),
            "LSA of the training texts + TF-IDF": self.fused(train)}

    def transductive(self, units: dict[str, dict[str, list[int]]]) -> None:
        """One more row, which has read each domain's texts, queries among them, without labels."""
        bank, parts = self.source.corpus.bank, {}
        for part, domains in units.items():
            (support, query), n = self.drawn[part], len(domains)
            made = [Tasks(self.source.lsa(bank.subset(classes).x[:, 0].unique()), near, far)
                    for classes, near, far in zip(domains.values(), support.chunk(n), query.chunk(n))]
            parts[part] = made[0].plus(made[0], 0.0)
            parts[part].inner, parts[part].outer = (torch.cat([getattr(m, side) for m in made])
                                                    for side in ("inner", "outer"))
        self.fixed["LSA of the domain, transductive, + TF-IDF"] = self.fused(parts)

    def of(self, kernel: Kernel) -> dict[str, Tasks]:
        return {part: Tasks(kernel, *drawn) for part, drawn in self.drawn.items()}

    def told(self, scores: Tensor) -> dict[str, float]:
        """The mean accuracy of each unit's tasks."""
        return {unit: round(float(v.mean()), 5) for unit, v in zip(self.units, right(scores).chunk(len(self.units)))}

    def centroid(self, tasks: dict[str, Tasks]) -> tuple[dict[str, float], list[float]]:
        return self.told(tasks["test"].centroid()), []

    def ridge(self, tasks: dict[str, Tasks], head: str = "ridge") -> tuple[dict[str, float], list[float]]:
        """Accuracies of the test tasks, and the strength that the validation tasks chose."""
        scale = 0.1 if head == "logistic" else 1.0  # of the strengths
        strength = scale * best((s, float(right(getattr(tasks["val"], head)(scale * s)).mean())) for s in STRENGTHS)
        return self.told(getattr(tasks["test"], head)(strength)), [strength]

    def fused(self, tasks: dict[str, Tasks], floor: dict[str, Tasks] | None = None,
              weights: tuple[float, ...] = WEIGHTS) -> tuple[dict[str, float], list[float]]:
        """The same of two kernels' sum, with its weight."""
        floor = floor or self.floor
        sums = [(w, floor["val"].plus(tasks["val"], w)) for w in weights]
        w, s = best(((w, s), float(right(both.ridge(s)).mean())) for (w, both), s in itertools.product(sums, STRENGTHS))
        return self.told(floor["test"].plus(tasks["test"], w).ridge(s)), [w, s]

    def all(self, rows: dict[str, Tensor], untrained: Tensor) -> dict[str, Any]:
        """{"accuracy": {method: {unit: mean}}, "chosen": {method: ...}} of networks' rows, and what is fixed."""
        found = dict(self.fixed)
        for name, made in rows.items():
            tasks = self.of(dense(made))
            found[name], found[f"{name} + TF-IDF"] = self.ridge(tasks), self.fused(tasks)
            if LEARNERS[name][1] == "episodes":
                found[f"{name}, own head"] = self.centroid(tasks)
        found["untrained embeddings + TF-IDF"] = self.fused(self.of(dense(untrained)))
        return {"accuracy": {name: values for name, (values, _) in found.items()},
                "chosen": {name: chosen for name, (_, chosen) in found.items()}}


# ---------------------------------------------------------------- what is done for each fold

def validation(fold: Fold, rows: Tensor, shot: int = 5) -> float:
    tasks = Tasks(dense(rows), *fold.val[shot])
    return round(max(float(right(tasks.ridge(s)).mean()) for s in STRENGTHS), 4)


def rates(fold: Fold, args: argparse.Namespace) -> dict[str, list[tuple[str, float, float]]]:
    """(episodes, rate, validation accuracy, 5-shot) of every learner, after a quarter of the training; seed 100."""
    tried: dict[str, list[tuple[str, float, float]]] = {}
    for name, (_, objective, grid) in LEARNERS.items():
        kinds = ([""] if objective == "classes" else ["mixed", "one domain"] if name == FIRST else
                 [chosen(tried, FIRST)[0]])
        tried[name] = [(e, lr, validation(fold, fold.source.trained(name, 100, (e, lr), max(1, args.iterations // 4))))
                       for e, lr in itertools.product(kinds, grid)]
        fold.source.forget()
    return tried


def chosen(tried: dict[str, list[Any]], name: str, episodes: str | None = None) -> tuple[str, float]:
    return best(((e, lr), v) for e, lr, v in tried[name] if episodes in (None, e))


def one_seed(fold: Fold, seed: int, tried: dict[str, list[Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Whole domains, detection, and the class sets after a training without siblings."""
    source = fold.source
    names = [name for name, (encoder, *_) in LEARNERS.items() if seed == 0 or encoder != "transformer"]
    rows = {name: source.trained(name, seed, chosen(tried, name), args.iterations) for name in names}
    untrained = source.rows(source.network("bag", seed))
    result: dict[str, Any] = {f"{shot}-shot": exam.all(rows, untrained) for shot, exam in fold.exams.items()}
    result["detection"] = detection(fold, rows[FIRST], args)
    result["without"] = sets(fold.without, source, seed, tried, args)
    return result


def sets(exams: dict[int, Exam], source: Source, seed: int, tried: dict[str, list[Any]], args: argparse.Namespace
         ) -> dict[str, Any]:
    """Class sets after this training; episodes of all domains, as these tests are, at the rate chosen for them."""
    rows = {FIRST: source.trained(FIRST, seed, chosen(tried, FIRST, "mixed"), args.iterations)}
    untrained = source.rows(source.network("bag", seed))
    return {f"{shot}-shot": exam.all(rows, untrained) for shot, exam in exams.items()}


def longer(fold: Fold, tried: dict[str, list[Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Validation accuracy of each network, [after the training, after three times as long], and of the counts."""
    found: dict[str, Any] = {f"{shot}-shot": {} for shot in SHOTS}
    for shot, exam in fold.exams.items():
        found[f"{shot}-shot"]["TF-IDF, ridge"] = max(float(right(exam.floor["val"].ridge(s)).mean()) for s in STRENGTHS)
    for name in LEARNERS:
        for times in (1, 3):
            rows = fold.source.trained(name, 0, chosen(tried, name), times * args.iterations)
            for shot in SHOTS:
                found[f"{shot}-shot"].setdefault(name, []).append(validation(fold, rows, shot))
    return found


def detection(fold: Fold, trained: Tensor, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """{"near, 5-shot: method, measure": {domain: mean}}, by the score that does best on the validation domain.

    Measures: AUROC; false accepts where 95 % of this task's own queries are kept (FPR at 95 % TPR); and, with one
    threshold that keeps 95 % of the queries of the validation tasks, the share of queries that are kept and right, and
    of outside texts that are turned away.
    """
    heads = [("nearest", 0.0), ("centroid", 0.0), *(("ridge", s) for s in STRENGTHS)]
    result: dict[str, dict[str, float]] = {}
    for shot in SHOTS:
        drawn = {}
        for part, n in (("val", args.val_episodes), ("test", args.episodes)):
            (support, query), classes = fold.corpus.draw(fold.units[part], 10, shot, max(1, n // 2))
            drawn[part] = support, torch.cat([query.flatten(1), *outside(fold, part, classes)], 1)

        def split(scores: Tensor) -> tuple[Tensor, ...]:
            return scores.split([10 * QUERY, (WAY - 10) * QUERY, 10 * QUERY], 1)

        def value(tasks: Tasks, head: tuple[Any, ...]) -> float:
            inside, near, far = split(tasks.scores(head))  # noqa: B023
            return float((auroc(inside, near) + auroc(inside, far)).mean())

        counts, learned = ({part: Tasks(kernel, *drawn[part]) for part in drawn}
                           for kernel in (sparse(fold.source.tf_idf), dense(trained)))
        sums = [{part: counts[part].plus(learned[part], w) for part in drawn} for w in WEIGHTS]
        for name, made in (("TF-IDF", [counts]), (FIRST, [learned]), (f"{FIRST} + TF-IDF", sums)):
            tasks, head = best(((t, h), value(t["val"], h)) for t, h in itertools.product(made, heads))
            threshold = float(split(tasks["val"].scores(head))[0].flatten().quantile(0.05))
            inside, near, far = split(tasks["test"].scores(head))
            kind, strength = head
            by_class = tasks["test"].ridge(strength) if kind == "ridge" else tasks["test"].centroid()
            labels = torch.arange(10).repeat_interleave(QUERY)
            found = {"kept and right": ((by_class[:, :10 * QUERY].argmax(2) == labels) & (inside >= threshold))
                     .double().mean(1)}
            for what, other in (("near", near), ("far", far)):
                found |= {f"{what}, AUROC": auroc(inside, other), f"{what}, false accepts": accepted(inside, other),
                          f"{what}, turned away": (other < threshold).double().mean(1)}
            for measure, values in found.items():
                parts = values.chunk(len(fold.units["test"]))
                result[f"{shot}-shot: {name}, {measure}"] = {d: round(float(v.mean()), 5)
                                                             for d, v in zip(fold.units["test"], parts)}
    return result


def outside(fold: Fold, part: str, classes: Tensor) -> Drawn:
    """(near (T, 75), far (T, 150)) queries: of the domain's intents that are not in the task, and of no intent."""
    bank, g = fold.corpus.bank, seeded(1)
    near, far = [], []
    for own in classes.tolist():
        others = [c for c in fold.corpus.intents(bank.groups[own[0]]) if c not in own]
        near.append(torch.cat([bank.x[bank.labels == c, 0][torch.randperm(int(bank.counts[c]), generator=g)[:QUERY]]
                               for c in others]))
        half = fold.corpus.far[0 if part == "val" else 1::2]  # one half validates
        far.append(half[torch.randperm(len(half), generator=g)[:10 * QUERY]])
    return torch.stack(near), torch.stack(far)


# ---------------------------------------------------------------- all of them

def row(units: dict[str, list[float]]) -> dict[str, Any]:
    """Of {unit: [mean of each seed]}: the mean over units, its 95 % interval (Student's) and the units themselves."""
    means = np.array([np.mean(seeds) for seeds in units.values()])
    error = float(np.std(means, ddof=1)) / len(means) ** 0.5
    return {"mean": round(float(means.mean()), 5), "ci95": round(float(student.ppf(0.975, len(means) - 1)) * error, 5),
            "n": len(means), "units": units}


def rows(runs: list[list[dict[str, dict[str, float]]]]) -> dict[str, Any]:
    """Rows by key, of runs[fold or set][seed] = {key: {unit: mean}}; of transformers the first seed alone."""
    return {key: row({unit: [run[key][unit] for run in (seeds[:1] if "transformer" in key else seeds)]
                      for seeds in runs for unit in seeds[0][key]}) for key in runs[0][0]}


def flat(runs: list[list[dict[str, Any]]], what: str) -> list[list[dict[str, Any]]]:
    """The same runs with "5-shot: method" for their keys."""
    return [[{f"{shot}: {name}": v for shot, found in run.items() if shot.endswith("-shot")
              for name, v in found[what].items()} for run in seeds] for seeds in runs]


def edges(runs: list[list[dict[str, Any]]]) -> dict[str, str]:
    """How often a choice stood at the end of its grid: of strengths either end, of weights the upper end."""
    found = {}
    for key in (chosen := flat(runs, "chosen"))[0][0]:
        picks = [run[key] for seeds in chosen for run in seeds if run.get(key)]
        scale = 0.1 if "logistic" in key else 1.0
        ends = [scale * STRENGTHS[0], scale * STRENGTHS[-1]]
        strong = sum(p[-1] in ends for p in picks)
        heavy = sum(len(p) == 2 and p[0] == (WORDS if "word share" in key else WEIGHTS)[-1] for p in picks)
        if strong or heavy:
            found[key] = f"strength {strong}, weight {heavy} of {len(picks)}"
    return found


def leaks(each: int | None) -> dict[str, Any]:
    """What the audit says of the two splits of CLINC150: by whole domains, and of intents at random."""
    hashed = HashingVectorizer(n_features=256, alternate_sign=False, dtype=np.float32)
    found = {}
    for split in ("domains", "intents"):
        bank = few(clinc150(split), each)
        test, train = (bank.split(part) for part in ("test", "train"))
        report = audit(FewShot(test.encoded(hashed.transform), 5, 5, 10), episodes=50, trained_on=train)
        found[split] = {"shared": report.both_sides, "passed": report.passed, "text": str(report),
                        "siblings": [train.groups.count(d) for d in test.groups]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=60, help="test tasks of a domain or a class set")
    parser.add_argument("--val-episodes", type=int, default=60)
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="of every training, of 150 texts each")
    parser.add_argument("--smoke", action="store_true", help="one seed, one fold, few tasks, texts and iterations; "
                        "writes results/intents-smoke.json")
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.smoke:
        args.seeds, args.folds, args.episodes, args.val_episodes, args.iterations = 1, 1, 2, 2, 3
    work, each = Work("intents-smoke" if args.smoke else "intents", args), 24 if args.smoke else None
    corpus = Corpus(each)
    tried, domains, siblings, first = [], [], {"with": [], "without": []}, None
    for number in range(args.folds):
        fold = Fold(corpus, number, args)
        tried.append(work.part(f"rates {number}", lambda: rates(fold, args)))  # noqa: B023
        domains.append([work.part(f"domains {number} {seed}", lambda: one_seed(fold, seed, tried[-1], args))  # noqa: B023
                        for seed in range(args.seeds)])
        siblings["without"].append([run["without"] for run in domains[-1]])
        for (name, classes), train in zip(fold.sets.items(), fold.with_siblings):
            source = Source(corpus, train)
            exams = fold.exam(source, {name: classes}, args)
            siblings["with"].append([work.part(f"siblings {name} {seed}", lambda: sets(
                exams, source, seed, tried[-1], args)) for seed in range(args.seeds)])  # noqa: B023
        first = fold if number == 0 else first
    long = work.part("longer", lambda: longer(first, tried[0], args))
    found = {"domains": {**rows(flat(domains, "accuracy")), **rows([[run["detection"] for run in seeds]
                                                                      for seeds in domains])}}
    found |= {f"siblings, {arm}": rows(flat(runs, "accuracy")) for arm, runs in siblings.items()}
    picked = [[{shot: run[shot]["chosen"] for shot in ("1-shot", "5-shot")} for run in seeds] for seeds in domains]
    work.write({**work.spent(), "config": settings(args), "bank": corpus.bank.digest(), "source": clinc150().source,
                "tried": tried, "longer": long, "audit": leaks(each), **found, "chosen": picked,
                "at an edge": {"domains": edges(domains), **{arm: edges(runs) for arm, runs in siblings.items()}}})


if __name__ == "__main__":
    main()
