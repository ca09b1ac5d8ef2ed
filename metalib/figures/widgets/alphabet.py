"""Your own alphabet: draw five signs, draw one again, and a ProtoNet that runs in the page says which."""

import copy
import json
import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from metalib.episode import Data
from metalib.figures.widgets.widget import Widget, base64_of, picture, text
from metalib.learners.metric import ProtoNet
from metalib.nets import conv4

# A drawing as glyphs are drawn: centred in SIZE x SIZE pixels, its longer side SIDE pixels, FINE x FINE points a pixel.
# The pen is PEN pixels wide whatever the reader drew with; what is smaller than SMALL of the pad stays a dot.
SIZE, SIDE, PEN, FINE, SMALL = 28, 17.0, 2.0, 4, 0.05
Strokes = Sequence[Sequence[tuple[float, float]]]


def raster(strokes: Strokes) -> Tensor:
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


def rounded(learner: ProtoNet) -> ProtoNet:
    """The learner as the page has it: each filter's weights are whole multiples, -127 to 127, of one step."""
    mine = copy.deepcopy(learner)
    with torch.no_grad():
        for block in mine.encoder.blocks:
            whole, step = _whole(block.weight)
            block.weight.copy_(whole * step[:, None, None, None])
    return mine


def _whole(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(the multiples (C, C_in, 3, 3), the step of each filter (C,))."""
    step = weight.detach().abs().amax((1, 2, 3)) / 127
    return (weight.detach() / step[:, None, None, None]).round(), step


def packed(encoder: conv4) -> list[dict[str, str]]:
    """The four blocks as base64: "w" the multiples as int8, "s" the steps, scales and shifts as float32.

    Raises:
        ValueError: a network whose normalisation is not per image, or that has a head.
    """
    if encoder.norm not in ("group", "instance", "layer") or encoder.head is not None:
        raise ValueError(f"norm={encoder.norm!r}, out_dim={encoder.out_dim}: the page shows the network one image at a "
                         "time, use conv4(norm='group'), 'instance' or 'layer', without out_dim=")
    blocks = []
    for block in encoder.blocks:
        whole, step = _whole(block.weight)
        numbers = torch.cat([step, block.scale, block.bias])
        blocks.append({"w": base64_of(whole, "i1"), "s": base64_of(numbers, "<f4")})
    return blocks


class Alphabet(Widget):
    """Draw an alphabet of your own, five or ten signs, in the page, and have a ProtoNet recognise them.

    The network is sent along, its weights rounded to a byte each (`rounded`); it runs in plain JavaScript. Confidence
    is softmax(-|f(x) - c_n|^2), as `ProtoNet.predict` gives its logits.

    Args:
        learner: a ProtoNet whose encoder is a `conv4` for one-channel 28 x 28 images that normalises each image alone.
        scores: sentences that say how good it is, shown under the signs.
        title, intro: what stands above the pad.

    Raises:
        ValueError: another encoder.
    """

    def __init__(self, learner: ProtoNet, *, scores: Sequence[str] = (), title: str = "Your own alphabet",
                 intro: str = "") -> None:
        encoder = learner.encoder
        if not isinstance(encoder, conv4) or (encoder.in_channels, encoder.image_size) != (1, SIZE):
            raise ValueError(f"the encoder is a {type(encoder).__name__}: expected conv4(norm='group') for one-channel "
                             f"{SIZE} x {SIZE} images")
        self.learner = rounded(learner)
        data = {"blocks": packed(encoder), "groups": encoder.blocks[0].groups, "channels": encoder.channels,
                "size": SIZE, "side": SIDE, "pen": PEN, "fine": FINE, "small": SMALL, "samples": samples(),
                "scores": list(scores), "title": title, "intro": intro}
        super().__init__("alphabet.js", data, png=self._paper(),
                         alt="Draw five signs of your own, draw one again, and a network in the page says which")

    def confidence(self, support: Sequence[Tensor], query: Tensor) -> Tensor:
        """What the page shows for one drawing of each sign (N images) and a new one: N probabilities."""
        x, y = torch.stack(list(support))[:, None], torch.arange(len(support))  # (N, 1, H, W)
        with torch.no_grad():
            phi = self.learner.adapt(Data(x, y, len(support)))
            return self.learner.predict(phi, query[None, None])[0].softmax(0)

    def _paper(self) -> bytes:
        """The picture where scripts do not run: five sample signs, one of them again, and what the network says."""
        signs = samples()
        support = [raster(strokes) for strokes in signs[:5]]
        again = raster([[(x + 9 * math.sin(y / 20), y + 0.15 * x) for x, y in stroke] for stroke in signs[2]])
        figure, axes = plt.subplots(2, 5, figsize=(3.4, 2.3), layout="constrained", facecolor="white")
        for axis in axes.flat:
            axis.axis("off")
        axes[0, 2].imshow(again, cmap="gray_r", vmin=0, vmax=1)
        axes[0, 2].set_title("drawn again", fontsize=10)
        for n, (axis, image, p) in enumerate(zip(axes[1], support, self.confidence(support, again).tolist())):
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
            axis.set_title(f"sign {n + 1}", fontsize=10)
            said = "< 1 %" if p < 0.005 else "> 99 %" if p > 0.995 else f"{100 * p:.0f} %"
            axis.text(0.5, -0.05, said, transform=axis.transAxes, ha="center", va="top", fontsize=10)
        return picture(figure, 150)


def samples() -> list[list[list[list[int]]]]:
    """Ten signs for those who cannot or would not draw: strokes of points (x, y) between 0 and 100."""
    return list(json.loads(text("alphabet.json")).values())
