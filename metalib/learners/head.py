"""A head that is solved anew for every task, in closed form or nearly: the encoder is all that is learned slowly."""

import torch
from torch import Tensor, nn

from metalib.arguments import check_network, check_number, check_whole
from metalib.episode import Data
from metalib.functional import Loss, one_hot
from metalib.learner import Learner
from metalib.learners.metric import embeddings, logarithm, way_of


class RidgeHead(Learner):
    """R2-D2: the head is the ridge regression of one-hot labels on the support's embeddings, solved exactly.

        W = argmin_W |Z W - Y|^2 + lambda |W|^2,        Z = [f(x_i), 1],  Y one-hot        (NK, D+1) and (NK, N)
          = Z^T (Z Z^T + lambda I)^{-1} Y                a system of NK unknowns: taken if NK <= D+1
          = (Z^T Z + lambda I)^{-1} Z^T Y                a system of D+1 unknowns: taken else

        logits(x) = tau [f(x), 1] W + b                  meta-learned: f, log lambda, log tau and b

    One solve, and the meta-gradient goes through it: there is no inner loop and no inner rate. Adding one b to all
    logits moves no softmax, so b matters only to a loss of your own.

    Args:
        encoder: f, maps inputs (M, ...) to embeddings (M, D).
        regularisation: where lambda starts. It is compared with |f(x)|^2 times the shot: of a conv4 with 32 channels
            about 40 at first. Too little of it hurts where NK is near D+1, as many examples as can be interpolated.
        temperature: where tau, which multiplies the logits, starts. Ridge regression predicts between 0 and 1, so with
            tau = 1 no softmax would ever be sure.
        bias: where b starts.
        loss: see `Learner`.

    Raises:
        TypeError: the encoder is no network.
        ValueError: a regularisation or temperature that is not positive; embeddings or labels of a wrong shape.

    Bertinetto, Henriques, Torr and Vedaldi (2019), "Meta-learning with differentiable closed-form solvers", ICLR.
    """

    shares_weights = True

    def __init__(self, encoder: nn.Module, *, regularisation: float = 50.0, temperature: float = 10.0,
                 bias: float = 0.0, loss: Loss | None = None) -> None:
        super().__init__(loss)
        check_network(encoder)
        check_number(abs(bias) if isinstance(bias, (int, float)) else bias, "bias")
        self.encoder, self.regularisation, self.temperature, self.bias = encoder, regularisation, temperature, bias
        self.log_regularisation = logarithm(regularisation, "regularisation", encoder)
        self.log_temperature = logarithm(temperature, "temperature", encoder)
        self.shift = nn.Parameter(torch.full_like(self.log_temperature.detach(), bias))

    def adapt(self, support: Data) -> Tensor:
        """The head W, (D+1, N); its last row belongs to the constant feature."""
        way, z = way_of(support), features(self.encoder, support.x)
        with torch.autocast(z.device.type, enabled=False):
            return ridge(z, one_hot(support.y, way).to(z.dtype), self.log_regularisation.exp())

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        """Logits, (M, N)."""
        return self.log_temperature.exp() * (features(self.encoder, x) @ phi) + self.shift


class LogisticHead(Learner):
    """The head is logistic regression on the support's embeddings, J Newton steps from zero; all are differentiated.

        L(W) = -sum_i log softmax(z_i W)_{y_i} + (lambda / 2) |W|^2,        z_i = [f(x_i), 1],  W (D+1, N)
        W_0 = 0,    W_{j+1} = W_j - (Z^T Z / 2 + lambda I)^{-1} grad L(W_j)

        logits(x) = tau [f(x), 1] W_J,        meta-learned: f, log lambda and log tau

    The matrix is Böhning's bound on the Hessian, the same for every class and every step: one inverse a task, no rate
    to choose, and L falls with every step. L is strongly convex, so the steps arrive at its minimum from anywhere. For
    NK <= D+1 they run on W = Z^T A, which has NK numbers a class, and give the same W.

    Args:
        encoder: f, maps inputs (M, ...) to embeddings (M, D).
        regularisation: where lambda starts; without it separable support sets have no minimum.
        temperature: where tau, which multiplies the logits, starts.
        steps: J; `meta_test(..., steps=)` takes another number at test.
        loss: of the query, see `Learner`.

    Raises:
        TypeError: the encoder is no network.
        ValueError: a regularisation or temperature that is not positive; steps below 1; embeddings or labels of a wrong
            shape.

    Böhning (1992), "Multinomial logistic regression algorithm", Annals of the Institute of Statistical Mathematics 44;
    the head of Bertinetto et al. (2019), LR-D2, takes exact Newton steps for each class against the rest.
    """

    shares_weights = True

    def __init__(self, encoder: nn.Module, *, regularisation: float = 10.0, temperature: float = 5.0, steps: int = 10,
                 loss: Loss | None = None) -> None:
        super().__init__(loss)
        check_network(encoder)
        check_whole(1, steps=steps)
        self.encoder, self.regularisation, self.temperature, self.steps = encoder, regularisation, temperature, steps
        self.log_regularisation = logarithm(regularisation, "regularisation", encoder)
        self.log_temperature = logarithm(temperature, "temperature", encoder)

    def adapt(self, support: Data, steps: int | None = None) -> Tensor:
        """The head W_J, (D+1, N); its last row belongs to the constant feature."""
        way, z = way_of(support), features(self.encoder, support.x)
        with torch.autocast(z.device.type, enabled=False):
            y, strength = one_hot(support.y, way).to(z.dtype), self.log_regularisation.exp()
            return logistic(z, y, strength, self.steps if steps is None else steps)

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        """Logits, (M, N)."""
        return self.log_temperature.exp() * (features(self.encoder, x) @ phi)


def features(encoder: nn.Module, x: Tensor) -> Tensor:
    """[f(x), 1], (M, D+1)."""
    z = embeddings(encoder, x)
    return torch.cat([z, z.new_ones(len(z), 1)], 1)


def ridge(z: Tensor, y: Tensor, strength: Tensor | float) -> Tensor:
    """argmin_W |z W - y|^2 + strength |W|^2, (D, N), for z (M, D) and y (M, N), by the smaller of the two systems."""
    M, D = z.shape
    if M <= D:
        return z.T @ solved(z @ z.T, strength, y)
    return solved(z.T @ z, strength, z.T @ y)


def logistic(z: Tensor, y: Tensor, strength: Tensor | float, steps: int) -> Tensor:
    """The W (D, N) after so many steps on regularised logistic regression, for z (M, D) and one-hot y (M, N)."""
    M, D = z.shape
    K = z @ z.T if M <= D else z.T @ z
    inverse = solved(K / 2, strength, eye(K, len(K)))  # its rounding errors bend the path, not the end
    w = torch.zeros(len(K), y.shape[1], dtype=z.dtype, device=z.device)  # A (M, N), or W (D, N)
    for _ in range(steps):
        error = ((K if M <= D else z) @ w).softmax(-1) - y  # (M, N)
        w = w - inverse @ ((error if M <= D else z.T @ error) + strength * w)
    return z.T @ w if M <= D else w


def solved(K: Tensor, strength: Tensor | float, y: Tensor) -> Tensor:
    """(K + strength I)^{-1} y for a symmetric K without negative eigenvalues.

    Strength grows by 4 (machine epsilon) * (mean of K's diagonal), about what rounding took from K. `solve_ex` does not
    raise, because one singular system would end all that are solved with it: its own result is NaN or infinite, theirs
    are right.
    """
    jitter = 4 * torch.finfo(K.dtype).eps * K.diagonal().mean()
    return torch.linalg.solve_ex(K + (strength + jitter) * eye(K, len(K)), y)[0]


def eye(like: Tensor, size: int) -> Tensor:
    """The identity matrix (size, size), of the dtype and on the device of another tensor."""
    return torch.eye(size, dtype=like.dtype, device=like.device)
