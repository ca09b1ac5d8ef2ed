"""Chapter 1's figure: five points of a sine wave, three networks that adapt to them, and one to meta-train."""

import base64
import json
import math
from typing import Any

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from metalib.figures.widgets.widget import Widget, base64_of, text, words
from metalib.learners.maml import MAML
from metalib.nets import mlp

HIDDEN = 40
POINTS = [(x, round(3.4 * math.sin(x + 0.8), 2)) for x in (-4.2, -2.4, -0.6, 1.4, 3.7)]  # the first task
RATES = (0.001, 0.003, 0.01, 0.03)
LABELS = {"scratch": "random start", "joint": "pretrained", "maml": "meta-trained (MAML)"}
DASHES = {"scratch": "2 3", "joint": "9 4", "maml": "none"}
PARTS = ("slide.js", "sine_network.js", "sine_training.js", "sine_trace.js")
# Meta-training in the page, from the random start: as in recipes/sine.py, but for one larger step, and short enough to
# be watched.
TRAINING = {"steps": 1, "alpha": 0.03, "shot": 5, "query": 10, "meta_batch": 10, "iterations": 600, "lr": 0.02,
            "clip": 10.0, "seed": 0}


def network() -> mlp:
    """The network of the figure: 1-40-40-1 with tanh, 1,761 weights, float64, freshly drawn."""
    return mlp(1, (HIDDEN, HIDDEN), 1, activation="tanh").double()


def weights() -> dict[str, Any]:
    """What recipes/sine.py wrote: how it was made, shot, steps, alpha, and the starts as text."""
    return json.loads(text("sine.json"))


def encode(net: mlp) -> str:
    """All weights as base64 of little-endian float32, in the order of `parameters()`."""
    return base64_of(parameters_to_vector(net.parameters()), "<f4")


def decode(text: str) -> mlp:
    """The network that `encode` wrote; its weights are float32 numbers, held in float64."""
    net = network()
    vector = torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64))
    vector_to_parameters(vector, net.parameters())
    return net


def learners(inner_lr: float | None = None) -> dict[str, MAML]:
    """The three starts, {"scratch", "joint", "maml"}, as learners that adapt by gradient descent.

    Args:
        inner_lr: the step size alpha; by default the one that "maml" was meta-trained with.
    """
    kept = weights()
    alpha = kept["alpha"] if inner_lr is None else inner_lr
    return {name: MAML(decode(text), alpha, kept["steps"]) for name, text in kept["starts"].items()}


def floor() -> float:
    """The error of the average task, which no single function beats: E[(A sin(x + b) - E[A] (2 / pi) cos x)^2]."""
    low, high = 0.1, 5.0  # Sinusoids: A ~ U(low, high), b ~ U(0, pi), x ~ U(-5, 5)
    square = (high**3 - low**3) / (3 * (high - low))  # E[A^2]
    cosine = 0.5 + math.sin(10) / 20  # E[cos^2 x]
    return square / 2 - ((low + high) / 2 * 2 / math.pi) ** 2 * cosine


def figure(steps: int = 0) -> Widget:
    """Drag five support points, choose the number of inner steps, watch three starts adapt; meta-train a fourth.

    Errors are hidden until they are asked for.

    Args:
        steps: J at the beginning, 0 to 10.
    """
    kept = weights()
    nets = [{"name": name, "label": LABELS[name], "dash": DASHES[name], "weights": text}
            for name, text in kept["starts"].items()]
    data = {"hidden": HIDDEN, "nets": nets, "points": POINTS, "steps": steps, "rates": RATES, "alpha": kept["alpha"],
            "training": TRAINING, "floor": round(floor(), 4)}
    return Widget("sine.js", data, **words("sine"), parts=PARTS)
