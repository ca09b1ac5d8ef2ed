"""Metric learning: adapt by embedding, predict by distance. Also the baseline that every method must beat."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalib.arguments import check_choice, check_network, check_number, check_positive, check_whole
from metalib.episode import Data, Episode, check_support
from metalib.fast.private import call
from metalib.functional import Loss, Params, check_embeddings, class_means, descend, gradient, squared_distance
from metalib.learner import Learner


class ProtoNet(Learner):
    """Each class is the mean of its embedded support examples; a query belongs to the nearest mean.

        c_n = (1/K) sum_{i: y_i = n} f(x_i),        logits_n(x) = -tau |f(x) - c_n|^2

    Args:
        encoder: f, maps inputs (M, ...) to embeddings (M, D).
        loss: see `Learner`.
        temperature: where a learned tau starts; None leaves it out, as the paper does (tau = 1).

    Raises:
        TypeError: the encoder is no network.
        ValueError: a temperature that is not positive.

    Snell, Swersky and Zemel (2017), "Prototypical networks for few-shot learning", NeurIPS.
    """

    shares_weights = True

    def __init__(self, encoder: nn.Module, loss: Loss | None = None, *, temperature: float | None = None) -> None:
        super().__init__(loss)
        check_network(encoder)
        self.encoder, self.temperature = encoder, temperature
        self.log_temperature = None if temperature is None else logarithm(temperature, "temperature", encoder)

    def adapt(self, support: Data) -> Tensor:
        """The prototypes, (N, D)."""
        way = way_of(support)
        return class_means(call(self.encoder, {}, support.x), support.y, way)

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        """Negative squared distances to the prototypes, times tau where there is one, (M, N)."""
        logits = -squared_distance(call(self.encoder, {}, x), phi)
        return logits if self.log_temperature is None else self.log_temperature.exp() * logits


class Pretrained(Learner):
    """The strong baseline: train an ordinary classifier on all training classes, keep its embedding, fit a small head.

        pretraining (on `Classify` tasks):  logits = W f(x) + b over all training classes
        adaptation, head="centroid":        nearest class mean of z = (f(x) - m) / |f(x) - m|
        adaptation, head="linear":          logistic regression on z, J steps of gradient descent from the centroids

    m is the mean of the support embeddings. There is no meta-learning anywhere: nothing in training has seen a task.

    Args:
        encoder: f, maps inputs (M, ...) to embeddings (M, D); see `width_of` for D.
        head: "centroid" or "linear".
        classes: the number of training classes, needed to pretrain.
        embedding_dim: D, where the encoder does not say it.
        temperature: multiplies the head's logits, whose embeddings have unit length.
        steps, lr, weight_decay: of the linear head.

    Raises:
        ValueError: an unknown head, or an embedding dimension that cannot be found.

    Chen et al. (2019), "A closer look at few-shot classification"; Wang et al. (2019), "SimpleShot".
    """

    shares_weights = True

    def __init__(self, encoder: nn.Module, head: str = "centroid", *, classes: int | None = None,
                 embedding_dim: int | None = None, temperature: float = 10.0, steps: int = 50, lr: float = 0.1,
                 weight_decay: float = 1e-3) -> None:
        super().__init__()
        check_network(encoder)
        check_choice(head, "head", "centroid", "linear")
        for what, value in (("temperature", temperature), ("lr", lr), ("weight_decay", weight_decay)):
            check_number(value, what)
        check_whole(0, steps=steps)
        embedding_dim = embedding_dim or getattr(encoder, "embedding_dim", None)
        self.encoder, self.head, self.classes, self.embedding_dim = encoder, head, classes, embedding_dim
        self.temperature, self.steps, self.lr, self.weight_decay = temperature, steps, lr, weight_decay
        self.classifier = nn.Linear(width_of(encoder, embedding_dim), classes) if classes else None

    def forward(self, episode: Episode) -> Tensor:
        """The pretraining loss: plain classification of the query among all training classes. The support is unused."""
        if self.classifier is None:
            raise ValueError("pretraining needs the number of training classes: Pretrained(encoder, classes=...)")
        if len(episode.support.y) or episode.query.way != self.classes:
            raise ValueError(f"Pretrained(classes={self.classes}) trains on Classify(images), whose labels are class "
                             f"numbers, not on way={episode.query.way} and {len(episode.support.y)} support examples")
        return self.task_loss(self.classifier(call(self.encoder, {}, episode.query.x)), episode.query.y)

    def adapt(self, support: Data, steps: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(m, W, b): the support mean (D,), and the head's weights (N, D) and biases (N,)."""
        way, f = way_of(support), call(self.encoder, {}, support.x)  # (N*K, D)
        m = f.mean(0)
        z = F.normalize(f - m, dim=-1)
        c = class_means(z, support.y, way)  # (N, D)
        w = {"W": 2 * c, "b": -c.pow(2).sum(-1)}  # the nearest mean, written as a linear classifier
        if self.head == "linear":
            for _ in range(self.steps if steps is None else steps):
                w = descend(w, gradient(self.head_loss, w, z, support.y), self.lr)
        return m, w["W"], w["b"]

    def head_loss(self, w: Params, z: Tensor, y: Tensor) -> Tensor:
        """Regularised logistic regression on the support embeddings."""
        logits = self.temperature * (z @ w["W"].T + w["b"])
        return self.task_loss(logits, y) + 0.5 * self.weight_decay * w["W"].pow(2).sum()

    def predict(self, phi: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        """The head's logits, (M, N)."""
        m, W, b = phi
        z = F.normalize(call(self.encoder, {}, x) - m, dim=-1)  # (M, D)
        return self.temperature * (z @ W.T + b)


class PixelFloor(Learner):
    """The floor without learning: a query belongs to the class whose mean support image has the largest cosine with it.

        logits_n(x) = <x, c_n> / (|x| |c_n|),    c_n the mean raw image (vector, row of token ids) of class n
    """

    def adapt(self, support: Data) -> Tensor:
        """The unit-length class means, (N, D)."""
        return F.normalize(class_means(_raw(support.x), support.y, way_of(support)), dim=-1)

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        """Cosine similarities, (M, N)."""
        return F.normalize(_raw(x), dim=-1) @ phi.T


def way_of(support: Data) -> int:
    """N, which a learner that compares classes must be told; refuses a support that has none, or no example."""
    if support.way is None:
        raise ValueError("way is None, but this learner needs the number of classes: Data(x, y, way=N)")
    check_support(support)
    if support.y.ndim != 1 or len(support.x) != len(support.y):
        raise ValueError(f"support.x has shape {tuple(support.x.shape)} and support.y {tuple(support.y.shape)}: adapt "
                         "sees one task, (M, ...) and labels (M,); take one of a meta-batch with episodes.task(t)")
    return support.way


def embeddings(encoder: nn.Module, x: Tensor) -> Tensor:
    """f(x), (M, D), in float32 at least: nothing is solved or normalised in half precision.

    Raises:
        ValueError: they are something else than a tensor (M, D).
    """
    z = call(encoder, {}, x)
    check_embeddings(z)
    return z.to(torch.promote_types(z.dtype, torch.float32))


def logarithm(start: float, what: str, encoder: nn.Module) -> nn.Parameter:
    """A positive number that is learned as its logarithm, which changes by factors: log(start), as the encoder's dtype.

    Raises:
        ValueError: a start that is not positive.
    """
    check_positive(**{what: start})
    like = floats_of(encoder)
    return nn.Parameter(torch.tensor(float(start), dtype=torch.float64).log().to(like.device, like.dtype))


def width_of(encoder: nn.Module, given: int | None = None) -> int:
    """D, the width of an encoder's embeddings: what was given, or what its `out_dim` or `embedding_dim` says."""
    width = given or getattr(encoder, "out_dim", None) or getattr(encoder, "embedding_dim", None)
    if not width:
        raise ValueError("the encoder does not say how wide its embedding is: give embedding_dim=, or relation=")
    return width


def floats_of(encoder: nn.Module) -> Tensor:
    """A tensor on the encoder's device and of its dtype; of one without parameters, of PyTorch's defaults."""
    return next((p for p in encoder.parameters() if p.is_floating_point()), torch.zeros(()))


def _raw(x: Tensor) -> Tensor:  # (M, D)
    flat = x.flatten(1) if x.ndim > 1 else x[:, None]
    return flat if flat.is_floating_point() else flat.float()
