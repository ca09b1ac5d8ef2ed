"""The sham diagnosis: a coin per slide. Nothing can predict it, so whatever scores above 1/2 has seen the slide."""

import torch
from torch import Tensor

from metalib.arguments import check_whole
from metalib.data.classes import ClassData
from metalib.episode import Data, Episode
from metalib.tasks.few_shot import FewShot


class Sham:
    """Two-way tasks whose label is a coin tossed for each slide, afresh in each episode.

    An episode draws slides, gives half of them the label 0 and half the label 1, and takes examples of each:

        apart=False    2 S slides; K support and Q query examples of each: the split by image
        apart=True     4 S slides; K support examples of half of them, Q query examples of the others: by slide

    The accuracy of `apart=True` is 1/2 whatever the learner does, in expectation; what `apart=False` adds is leakage.

        support.x (T, 2*S*K, ...)    query.x (T, 2*S*Q, ...)

    Args:
        slides: a bank with one class a slide, `bank.by("slide", least=K + Q)`.
        sources: S, slides with each label, in the support and in the query.
        shot, query: K and Q, examples of each slide.
        apart: whether the query is of other slides.
        dtype: as of `FewShot`.

    Raises:
        ValueError: too few slides; a slide with fewer than K + Q examples.
    """

    way = 2

    def __init__(self, slides: ClassData, sources: int = 3, shot: int = 1, query: int = 5, *, apart: bool,
                 dtype: torch.dtype | None = None) -> None:
        check_whole(1, sources=sources)
        self.draw = FewShot(slides, way=(4 if apart else 2) * sources, shot=shot, query=query, dtype=dtype)
        self.images, self.sources, self.apart = slides, sources, apart

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        """n episodes on the device of the slides."""
        support, y, query, target = (part.to(self.images.device) for part in self.sample_rows(n, generator=generator))
        rows = self.images.rows
        return Episode(Data(rows(support, self.draw.dtype), y, 2), Data(rows(query, self.draw.dtype), target, 2))

    def sample_rows(self, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows of the bank, for an audit: support (T, M), labels, query (T, Q), labels, shuffled."""
        support, y, query, target = self.draw.sample_rows(n, generator=generator)  # labels are slides so far
        near, far = (2 * self.sources * part for part in (self.draw.shot, self.draw.query))
        turn = torch.rand(n, far, generator=generator, dtype=torch.float64).argsort(1)  # the order says nothing
        query, target = (part[:, -far:].gather(1, turn) for part in (query, target))  # the last slides
        return support[:, :near], y[:, :near] // self.sources, query, target // self.sources % 2
