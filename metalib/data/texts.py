"""ClassTexts: the bank whose examples are texts, and the bridge from texts to the numbers that a learner reads.

    bank.encoded(encode)        encode: any function from a list of texts to one row of numbers a text

A TF-IDF that was fitted on training texts, averaged word vectors, a pretrained encoder that somebody has downloaded,
or a `Vocabulary` of ours, which gives token ids: each makes a `ClassData` with the same classes, groups and splits.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from metalib.arguments import check_whole
from metalib.data.classes import ClassData
from metalib.data.inputs import as_examples


@dataclass(frozen=True, eq=False, repr=False)
class ClassTexts(ClassData):
    """M texts of n classes, sorted by class. Build one with `from_arrays`, draw tasks from its `encoded`.

    Its `x`, int64 (M, 1), numbers the distinct texts, so that an audit sees one text that stands in two places. Tasks
    can be drawn from the bank itself, to be read: `bank.read(episode.support.x[0])`.

    Attributes:
        texts: the distinct texts, in alphabetical order; example i is `texts[x[i, 0]]`.
        source: who made the data, and under which licence; printed with the bank.
    """

    texts: tuple[str, ...] = ()
    source: str = ""
    _what: ClassVar[str] = "texts"

    @classmethod
    def from_arrays(cls, x: Iterable[str], labels: Any, *, names: Sequence[str] | None = None,
                    groups: Sequence[str] | None = None, splits: Mapping[str, Iterable[int]] | None = None,
                    source: str = "") -> Self:
        """A bank from M texts and one label a text; see `ClassData.from_arrays` for the rest.

        Raises TypeError for an empty text and for what is none, naming the first one.
        """
        texts = list(x)
        if odd := [f"text {i} is {text!r:.40}" for i, text in enumerate(texts)
                   if not isinstance(text, str) or not text.strip()]:
            raise TypeError(f"{odd[0]}: expected strings, none empty; drop it with its label (ClassData takes numbers)")
        distinct = sorted(set(texts))
        number = {text: i for i, text in enumerate(distinct)}
        bank = cls._sorted(torch.tensor([[number[text]] for text in texts]), labels, names, groups, splits)
        return replace(bank, texts=tuple(distinct), source=source)

    def read(self, x: Tensor) -> list[str]:
        """The texts that these numbers stand for: of `bank.x`, or of one episode's support or query."""
        return [self.texts[i] for i in x.flatten().tolist()]

    def encoded(self, encode: Callable[[list[str]], Any]) -> ClassData:
        """The same classes, groups and splits with vectors (or token ids) for texts.

        `encode` is called once, with the distinct texts of this bank, and returns a row for each: an array, a tensor,
        lists, or a SciPy sparse matrix, which is made dense. What it has learned it must have learned elsewhere: an
        encoder that is fitted on the texts it is given here has read the test queries (unlabelled: transductive).

        Raises ValueError (another number of rows, NaN) or TypeError (no numbers).
        """
        used, x = self.x.unique(return_inverse=True)
        rows = encode(self.read(used))
        rows = as_examples(rows.toarray() if hasattr(rows, "toarray") else rows).to(self.device)
        if len(rows) != len(used):
            raise ValueError(f"encode was given {len(used)} texts and returned {len(rows)} rows, {tuple(rows.shape)}: "
                             "it must return one row a text, in the same order")
        kept = {field.name: getattr(self, field.name) for field in fields(ClassData)}
        return ClassData(**{**kept, "x": rows[x[:, 0]]})

    def digest(self) -> str:
        """12 hexadecimal digits of SHA-256 over texts, labels and names: the same on every machine."""
        return hashlib.sha256(repr((self.names, self.labels.tolist(), self.read(self.x))).encode()).hexdigest()[:12]

    def __repr__(self) -> str:
        return super().__repr__() + (f"\n{self.source}" if self.source else "")


def words(text: str) -> list[str]:
    """The words of a text, in lower case; a punctuation mark is one."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


class Vocabulary:
    """Token ids for encoders that are trained from scratch: an `encode` for `ClassTexts.encoded`.

        texts -> int64 (M, length)        0 is padding, 1 every unknown token; what is longer is cut

    Args:
        texts: of the *training* classes: a vocabulary that was read off the test texts has seen them.
        size: at most how many tokens have an id of their own: the commonest, ties in alphabetical order.
        length: tokens of a row.
        split: a text's tokens: its `words`, or `list` for its characters.

    Attributes:
        ids: {token: id}.
        size: how many ids there are with those two: the rows of an embedding table.

    Raises:
        ValueError: a size or length below 1.
    """

    def __init__(self, texts: Iterable[str], *, size: int = 5000, length: int = 16,
                 split: Callable[[str], list[str]] = words) -> None:
        check_whole(1, size=size, length=length)
        counts = Counter(token for text in texts for token in split(text))
        common = sorted(counts, key=lambda token: (-counts[token], token))[:size]
        self.ids = {token: i for i, token in enumerate(common, start=2)}
        self.size, self.length, self.split = len(common) + 2, length, split

    def __call__(self, texts: Iterable[str]) -> Tensor:
        rows = [[self.ids.get(token, 1) for token in self.split(text)[:self.length]] for text in texts]
        return torch.tensor([row + [0] * (self.length - len(row)) for row in rows])  # (M, length)
