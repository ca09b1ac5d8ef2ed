"""Chapter 2's figure: one learner, one small world, and the leaks of an exam as switches."""

import json
from typing import Any

import torch
from torch import Tensor

from metalib.data import ClassImages
from metalib.figures.widgets.widget import Widget, base64_of, text
from metalib.functional import seeded

WAY, SHOT, QUERY = 5, 1, 5
CHARACTERS, DRAWINGS, SIZE, GREYS = 20, 10, 14, 4  # of the world; as many drawings are for practice
EXAMS, PRACTICE = 600, 400  # episodes
# What a hint counts beside the cosine of the pixels, and how sure the learner is (for `balance`): chosen, not tuned.
PLACE, RECALL, SURE = 0.1, 0.2, 5.0
LEAKS = json.loads(text("leaks.json"))  # key -> [the chapter's number, its name there, what happens]


def bank(images: ClassImages, seed: int = 1) -> tuple[ClassImages, Tensor]:
    """(The exam's bank: 20 characters of `images` in four rotations, 14 x 14 pixels, four greys; the mean practice
    drawing of each of the 80 classes, (80, 196), in [0, 1]). Practice has drawings 0-9, the exam 10-19."""
    chosen = torch.randperm(len(images), generator=seeded(seed))[:CHARACTERS]
    rows = images.starts[chosen][:, None] + torch.arange(2 * DRAWINGS)
    x = torch.nn.functional.adaptive_avg_pool2d(images.images[rows.flatten()].double(), SIZE)
    grey = (x / x.amax((1, 2, 3), keepdim=True) * (GREYS - 1)).round()  # 0 .. 3
    grey = grey.reshape(CHARACTERS, 2 * DRAWINGS, 1, SIZE, SIZE)
    drawings = (grey[:, DRAWINGS:].flatten(0, 1) * (255 // (GREYS - 1))).to(torch.uint8)
    exam = ClassImages.from_arrays(drawings, torch.arange(CHARACTERS).repeat_interleave(DRAWINGS))
    mean = grey[:, :DRAWINGS].sum((1, 2)) / (DRAWINGS * (GREYS - 1))  # (20, 14, 14)
    return exam.with_rotations(), torch.cat([torch.rot90(mean, r, (-2, -1)) for r in range(4)]).flatten(1)


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
        super().__init__("leaks.js", data, parts=("leaks_world.js",), colours=16,
                         alt="Six leaks of an exam as switches, and the accuracy of one learner with and without them")
