"""SNE, symmetric SNE and t-SNE: three objectives of a family, for a few thousand points.

Each point has a probability distribution over the other points as its neighbors. The points of the
map are moved to minimize the divergence between these distributions in the data and in the map. The
three objectives differ in the probabilities (conditional, or joint) and in the kernel of the map
(Gaussian, or Student's t). Everything is computed for all pairs; for more points use scikit-learn's
`TSNE` or openTSNE, which approximate the forces between distant points.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist, squareform
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from torch import Tensor

from somlib import arrays, checks
from somlib.training import Array, saving
from somlib.training.loop import random_source

Kind = Literal["sne", "symmetric", "t"]

# ---------------------------------------------------------------- probabilities of the data


@checks.arguments
def conditional_probabilities(
    X: ArrayLike,
    perplexity: float = 30.0,
    tol: checks.Positive = 1e-5,
    max_steps: checks.Count = 100,
) -> NDArray[np.float64]:
    """Return p_{j|i}, the probability that point i has point j as neighbor, shape (n, n).

    p_{j|i} ∝ exp(−β_i ‖x_i − x_j‖²), p_{i|i} = 0, where β_i is found by bisection, for all points
    together, such that exp(H(p_i)) equals the perplexity: β is large where points are dense.

    Parameters
    ----------
    X : array of shape (n, d)
    perplexity : float, default=30.0
        Effective number of neighbors; more than 1 and less than n − 1.
    tol : float, default=1e-5
        Tolerance of log perplexity.
    max_steps : int, default=100
        Bisections. A point with more than `perplexity` nearest points at the same distance (such
        as duplicates) keeps those as its neighbors.

    Returns
    -------
    ndarray of shape (n, n)
        Row i is p_i and sums to 1.

    Raises
    ------
    ValueError
        When X is not a finite matrix of at least 4 points, or the perplexity is out of range.

    Examples
    --------
    >>> P = conditional_probabilities(np.random.default_rng(0).normal(size=(50, 3)), perplexity=5)
    >>> H = -(P * np.log(P, where=P > 0, out=np.zeros_like(P))).sum(1)
    >>> np.exp(H[:3]).round(3)
    array([5., 5., 5.])
    """
    X = arrays.samples(X, least=4, dtype=np.float64)
    n = len(X)
    if not 1 < perplexity < n - 1:
        raise ValueError(
            f"perplexity={perplexity!r} must lie between 1 and {n - 1}, the number of other points"
        )
    D = torch.from_numpy(squareform(pdist(X, "sqeuclidean")))
    others = ~torch.eye(n, dtype=torch.bool)
    D = D[others].reshape(n, n - 1)
    D = D - D.min(1, keepdim=True).values  # does not change the softmax, and avoids underflow
    beta = 1 / D.mean(1, keepdim=True).clamp(min=torch.finfo(D.dtype).tiny)
    low, high = torch.zeros_like(beta), torch.full_like(beta, math.inf)
    target, largest = math.log(perplexity), torch.finfo(D.dtype).max
    for _ in range(max_steps):
        p = torch.softmax(-beta * D, 1)
        H = torch.logsumexp(-beta * D, 1, keepdim=True) + beta * (p * D).sum(1, keepdim=True)
        wide = target < H  # too many neighbors: a narrower kernel
        if ((H - target).abs() <= tol).all():
            break
        low, high = torch.where(wide, beta, low), torch.where(wide, high, beta)
        beta = torch.where(high.isinf(), 2 * beta, (low + high) / 2).clamp(max=largest)
    P = torch.zeros(n, n, dtype=D.dtype)
    P[others] = p.flatten()
    return np.asarray(P)


def joint_probabilities(conditional: ArrayLike) -> NDArray[np.float64]:
    """Return the joint probabilities p_ij = (p_{j|i} + p_{i|j}) / 2n, shape (n, n), of sum 1.

    Every point has Σ_j p_ij > 1/2n, so outliers have an effect too. (The lecture prints < for >.)
    """
    P = arrays.samples(conditional, "conditional", dtype=np.float64)
    if P.shape[0] != P.shape[1]:
        raise ValueError(f"conditional has shape {P.shape}; expected (n, n)")
    joint: NDArray[np.float64] = (P + P.T) / (2 * len(P))
    return joint


# ---------------------------------------------------------------- the three objectives


def map_probabilities(Y: Tensor, kind: Kind) -> Tensor:
    """Return the probabilities of the map, shape (n, n): q_{j|i} for "sne", else q_ij.

    Gaussian exp(−‖y_i − y_j‖²), so σ² is 1/2, or, for "t", 1 / (1 + ‖…‖²); divided by the sum of
    each row for "sne", of all pairs otherwise.
    """
    return _probabilities(_log_kernel(Y, kind), kind)


def divergence(Y: Tensor, P: Tensor, kind: Kind = "t") -> Tensor:
    """Return the objective, C = Σ_ij p log p/q, shape ().

    Parameters
    ----------
    Y : tensor of shape (n, m)
    P : tensor of shape (n, n)
        Conditional probabilities for "sne", else joint ones.
    kind : {"sne", "symmetric", "t"}
    """
    log_q = _log_probabilities(_log_kernel(Y, kind), kind).fill_diagonal_(0)
    loss: Tensor = torch.special.xlogy(P, P) - P * log_q
    return loss.sum()


def gradient(Y: Tensor, P: Tensor, kind: Kind = "t") -> Tensor:
    """Return the gradient of `divergence` with respect to Y, shape (n, m).

    With f = p − q: 2 Σ_j (f_{j|i} + f_{i|j}) (y_i − y_j) for "sne"; 4 Σ_j f_ij (y_i − y_j) for
    "symmetric"; for "t" the same, each term divided by 1 + ‖y_i − y_j‖².

    References
    ----------
    G. Hinton and S. Roweis, "Stochastic Neighbor Embedding", NIPS 2002; L. van der Maaten and G.
    Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008.
    """
    log_kernel = _log_kernel(Y, kind)
    f = P - _probabilities(log_kernel, kind)
    force = f + f.mT if kind == "sne" else 2 * f
    if kind == "t":
        force = force * log_kernel.exp()
    Y = Y - Y.mean(0)  # only differences count; a common offset would increase rounding errors
    return 2 * (force.sum(1, keepdim=True) * Y - force @ Y)


def _log_kernel(Y: Tensor, kind: Kind) -> Tensor:
    checks.require("kind", kind, Kind)
    D = _squared_distances(Y)
    log_kernel = -torch.log1p(D) if kind == "t" else -D
    return log_kernel.fill_diagonal_(-math.inf)  # no point is a neighbor of itself


def _log_probabilities(log_kernel: Tensor, kind: Kind) -> Tensor:
    over = 1 if kind == "sne" else (0, 1)
    return log_kernel - log_kernel.logsumexp(over, keepdim=True)


def _probabilities(log_kernel: Tensor, kind: Kind) -> Tensor:
    least = math.log(torch.finfo(log_kernel.dtype).tiny)  # float32's exp is slow for subnormals
    log_q = _log_probabilities(log_kernel, kind).clamp(min=least)
    return log_q.exp().fill_diagonal_(0)


def _squared_distances(Y: Tensor) -> Tensor:
    D: Tensor = sum((y[:, None] - y).square() for y in Y.mT)  # maps have few dimensions
    return D


# ---------------------------------------------------------------- the estimator


@dataclass(eq=False, repr=False)
class SNE(saving.Saveable, BaseEstimator):
    """SNE, symmetric SNE or t-SNE, exact: computed for all pairs, as in the papers.

    Gradient descent with momentum (.5, from iteration 250 on .8) and a gain per coordinate, as in
    van der Maaten's and scikit-learn's implementations.

    Parameters
    ----------
    kind : {"t", "symmetric", "sne"}, default="t"
    n_components : int, default=2
        Dimensions of the map.
    perplexity : float, default=30.0
        See `conditional_probabilities`.
    n_iter : int, default=1000
    learning_rate : float or "auto", default="auto"
        "auto" is n / (4 · early_exaggeration), at least 50, for "t"; for the Gaussian kernels,
        whose forces do not decrease with distance, a tenth of it (divided by n for "sne", whose
        divergences are summed over points).
    early_exaggeration : float or "auto", default="auto"
        Factor of P during the first 250 iterations, at most a quarter of all, which helps clusters
        to separate: 12 for "t", 1 for the others.
    init : {"pca", "random"} or array of shape (n, n_components), default="pca"
        Initial map: principal components, or standard normal numbers, scaled to a standard
        deviation of 1e-4 along the first axis.
    random_state : int, RandomState or None, default=None
        For "random".

    Attributes
    ----------
    embedding_ : ndarray of shape (n, n_components)
    kl_divergence_ : float
        The divergence at the end.
    history_ : dict of str to ndarray
        "loss": the divergence every 10 iterations, without exaggeration.

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X[:200]
    >>> SNE(n_iter=100).fit_transform(X).shape
    (200, 2)
    """

    kind: Kind = "t"
    n_components: checks.Count = 2
    perplexity: checks.Positive = 30.0
    n_iter: checks.Count = 1000
    learning_rate: checks.Positive | Literal["auto"] = "auto"
    early_exaggeration: checks.Positive | Literal["auto"] = "auto"
    init: Literal["pca", "random"] | checks.Values = "pca"
    random_state: checks.Seed = None

    _learned: ClassVar[dict[str, saving.Check]] = {
        "embedding_": saving.array("f", "n", "m"),
        "kl_divergence_": saving.typed(float),
        "history_": saving.each(saving.array("f", "tens of iterations")),
        "n_iter_": saving.count(),
    }

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Compute the map of X, shape (n, d)."""
        checks.parameters(self)
        data = arrays.features(self, X, reset=True, least=4)
        n = len(data)
        conditional = conditional_probabilities(data, self.perplexity)
        joint = conditional if self.kind == "sne" else joint_probabilities(conditional)
        P = torch.from_numpy(joint.astype(data.dtype))
        Y = torch.from_numpy(self._first_map(data))
        exaggeration = 12.0 if self.kind == "t" else 1.0
        if self.early_exaggeration != "auto":
            exaggeration = float(self.early_exaggeration)
        rate, early = self._rate(n, exaggeration), min(250, self.n_iter // 4)
        step, gain, losses = torch.zeros_like(Y), torch.ones_like(Y), []
        for i in range(self.n_iter):
            factor, momentum = (exaggeration, 0.5) if i < early else (1.0, 0.8)
            if i == early:
                step.zero_()
                gain.fill_(1.0)
            grad = gradient(Y, factor * P, self.kind)
            gain = torch.where(step * grad < 0, gain + 0.2, gain * 0.8).clamp(min=0.01)
            step = momentum * step - rate * gain * grad
            Y = Y + step
            if i % 10 == 0 or i == self.n_iter - 1:
                loss = float(divergence(Y, P, self.kind))
                losses += [loss] if i % 10 == 0 else []
                if not math.isfinite(loss):
                    raise FloatingPointError(
                        f"the divergence is not finite at iteration {i} of {self.n_iter}; "
                        f"lower learning_rate={rate:g}"
                    )
        self.kl_divergence_ = loss
        self.embedding_ = Y.numpy()
        self.history_ = {"loss": np.array(losses)}
        self.n_iter_ = self.n_iter
        return self

    def fit_transform(self, X: ArrayLike, y: Any = None) -> Array:
        """Compute and return the map of X, shape (n, n_components)."""
        return self.fit(X).embedding_

    def _require_whole(self) -> None:
        saving.require_names("history_", self.history_, ["loss"])
        if len(self.history_["loss"]) != -(-self.n_iter_ // 10):
            raise ValueError(f"history_ does not fit {self.n_iter_} iterations")

    def _rate(self, n: int, exaggeration: float) -> float:
        if self.learning_rate != "auto":
            return float(self.learning_rate)
        rate = max(n / exaggeration / 4, 50.0)
        return {"t": rate, "symmetric": rate / 10, "sne": rate / 10 / n}[self.kind]

    def _first_map(self, X: Array) -> Array:
        shape = (len(X), self.n_components)
        if not isinstance(self.init, str):
            Y = arrays.samples(self.init, "init", dtype=X.dtype)
            if Y.shape != shape:
                raise ValueError(f"init has shape {Y.shape}; expected {shape}")
            return Y.copy()
        if self.init == "random":
            Y = random_source(self.random_state).standard_normal(shape)
        else:
            if self.n_components > min(X.shape):
                raise ValueError(
                    f"n_components={self.n_components} is more than {X.shape} data have principal "
                    "components; choose fewer, or init='random'"
                )
            Y = PCA(self.n_components, svd_solver="full").fit_transform(X)
            Y = Y / max(Y[:, 0].std(), np.finfo(Y.dtype).tiny)
        return np.asarray(1e-4 * Y, dtype=X.dtype)
