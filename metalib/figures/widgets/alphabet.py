"""Your own alphabet: draw five signs, draw one again, and a ProtoNet that runs in the page says which."""

import copy
import json
from collections.abc import Sequence

import torch
from torch import Tensor

from metalib.figures.widgets.widget import Widget, base64_of, text
from metalib.learners.metric import ProtoNet
from metalib.nets import conv4

# A drawing as glyphs are drawn: centred in SIZE x SIZE pixels, its longer side SIDE pixels, FINE x FINE points a pixel.
# The pen is PEN pixels wide whatever the reader drew with; what is smaller than SMALL of the pad stays a dot.
SIZE, SIDE, PEN, FINE, SMALL = 28, 17.0, 2.0, 4, 0.05


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
    is softmax(-|f(x) - c_n|^2), as `ProtoNet.predict` gives its logits. The picture for where scripts do not run is of
    the book's own network.

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
            raise ValueError(f"expected an encoder for one-channel {SIZE} x {SIZE} images, conv4(norm='group')")
        self.learner = rounded(learner)
        data = {"blocks": packed(encoder), "groups": encoder.blocks[0].groups, "channels": encoder.channels,
                "size": SIZE, "side": SIDE, "pen": PEN, "fine": FINE, "small": SMALL, "samples": samples(),
                "scores": list(scores), "title": title, "intro": intro}
        super().__init__("alphabet.js", data,
                         alt="Draw five signs of your own, draw one again, and a network in the page says which")


def samples() -> list[list[list[list[int]]]]:
    """Ten signs for those who cannot or would not draw: strokes of points (x, y) between 0 and 100."""
    return list(json.loads(text("alphabet.json")).values())
