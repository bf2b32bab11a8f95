"""DESOM: an autoencoder and a self-organizing map of its latent codes, trained together.

ℒ = ℒ_r + γ ℒ_som. The gradient of the reconstruction loss ℒ_r reaches decoder and encoder, that of
the SOM loss ℒ_som prototypes and encoder. In this file: the formulas, the network (parameters,
forward pass, loss), the training procedure of the slides, and the estimator.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClusterMixin
from torch import Tensor, nn

from somlib import checks
from somlib.models.autoencoders import Autoencoder, pretrained, reconstruction_error
from somlib.models.kohonen import prototype_gradient
from somlib.search.best_units import Block, Codebook, best_units
from somlib.spaces import Grid, GridLike, GridMetric, as_grid
from somlib.training import ROWS_AT_ONCE, Array, DeepEstimator, Losses
from somlib.training.layers import Architecture, AutoencoderNetwork
from somlib.training.schedules import Decay, Range, schedule

GridDistance = Literal["manhattan", "euclidean", "chebyshev", "hops", "desom-code"]
Neighborhood = Literal["gaussian", "window"]


# ---------------------------------------------------------------- the formulas


def grid_distances(grid: Grid, kind: GridDistance = "manhattan") -> NDArray[np.float64]:
    """Return δ between all units, shape (K, K).

    Parameters
    ----------
    grid : Grid
    kind : {"manhattan", "euclidean", "chebyshev", "hops", "desom-code"}
        "manhattan" is that of the papers. "desom-code" is what their released code computes:
        |a − b| // cols instead of the difference of rows, which is wrong for 38 % of all pairs on
        a map of 8 × 8 (units on an anti-diagonal count as neighbors in one row).

    Raises
    ------
    ValueError
        For an unknown kind, or "desom-code" on a grid that is hexagonal or wraps.

    Examples
    --------
    >>> grid = Grid(8, 8)
    >>> float((grid_distances(grid) != grid_distances(grid, "desom-code")).mean().round(2))
    0.38
    """
    checks.require("grid_distance", kind, GridDistance)
    if kind != "desom-code":
        metric: GridMetric = kind
        return np.asarray(grid.distance(grid.coords[:, None], grid.coords[None], metric))
    if grid.topology != "rect" or any(grid.periods):
        raise ValueError(
            f"grid_distance='desom-code' exists on plain rectangular maps only, not on {grid}; "
            "choose 'manhattan' or 'hops'"
        )
    a, b = np.arange(grid.n_units)[:, None], np.arange(grid.n_units)
    down, right = np.abs(a - b) // grid.cols, np.abs(a % grid.cols - b % grid.cols)
    return np.asarray(down + right, dtype=float)


def neighborhood_weights(delta: Tensor, T: Tensor, kind: str = "gaussian") -> Tensor:
    """Return K^T(δ): exp(−δ²/T²), or 1 up to T and 0 beyond for "window"."""
    if kind == "window":
        return (delta <= T).to(delta)
    return torch.exp(-(delta**2) / T**2)


class _SOMLoss(torch.autograd.Function):
    """ℒ_som with an explicit gradient.

    Autograd would store all B × K differences of L numbers and read them several times; the sums
    over k and over i are two small matrix products. Tested against finite differences.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, m: Tensor, delta: Tensor, T: Tensor, kind: str) -> Tensor:
        d2 = torch.cdist(z, m, compute_mode="donot_use_mm_for_euclid_dist").square()
        chi = d2.argmin(-1)  # χ(i) = argmin_k ‖z_i − m_k‖²; neither it nor w has a gradient
        w = neighborhood_weights(delta.to(z), T, kind)[chi]  # w_ik = K^T(δ(χ(i), k))
        ctx.save_for_backward(z, m, w)
        return (w * d2).sum(-1).mean(-1)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        z, m, w = ctx.saved_tensors
        scale = (2 / z.shape[-2] * upstream)[..., None, None]
        grad_z = None
        if ctx.needs_input_grad[0]:
            grad_z = scale * (w.sum(-1, keepdim=True) * z - w @ m)  # 2/B Σ_k w_ik (z_i − m_k)
        grad_m = scale * prototype_gradient(m, z, w)  # 2/B Σ_i w_ik (m_k − z_i)
        return grad_z, grad_m, None, None, None


def som_loss(z: Tensor, m: Tensor, delta: Tensor, T: Tensor, kind: str = "gaussian") -> Tensor:
    """Return ℒ_som: the mean over the batch of Σ_k w_ik ‖z_i − m_k‖².

    Parameters
    ----------
    z : tensor of shape (B, L)
        Latent codes.
    m : tensor of shape (K, L)
        Prototypes.
    delta : tensor of shape (K, K)
        Distances between units on the map.
    T : tensor of shape ()
        Temperature: width of the neighborhood.
    kind : {"gaussian", "window"}
        Shape of the neighborhood; see `neighborhood_weights`.
    """
    return _SOMLoss.apply(z, m, delta, T, kind)  # type: ignore[no-untyped-call, no-any-return]


# ---------------------------------------------------------------- the network


class DESOMNetwork(AutoencoderNetwork):
    """The autoencoder and the prototypes among its latent codes.

    Parameters
    ----------
    config : DESOM
        Its parameters.
    n_features : int
        d.
    generator : torch.Generator
        Initializes the weights.
    """

    def __init__(self, config: "DESOM", n_features: int, generator: torch.Generator) -> None:
        c = config
        super().__init__(
            n_features, c.hidden, c.latent_dim, generator, c.architecture, c.image_shape
        )
        self.prototypes = nn.Parameter(torch.zeros(c.grid_.n_units, c.latent_dim))
        self.grid, self.grid_distance = c.grid_, c.grid_distance
        self.gamma, self.neighborhood = c.gamma, c.neighborhood
        self.temperature = schedule("temperature", c.temperature, c.decay)
        self.update_interval = c.update_interval

    @cached_property
    def delta(self) -> Tensor:
        """δ between all units, (K, K), computed on first use."""
        return torch.from_numpy(grid_distances(self.grid, self.grid_distance)).to(self.prototypes)

    def initialize(self, X: Tensor, generator: torch.Generator) -> None:
        """Set the prototypes to the codes of K random samples."""
        rows = torch.randperm(len(X), generator=generator)[: self.grid.n_units]
        self.prototypes.copy_(self.encode(X[rows.to(X.device)]))

    def schedules(self, n_iter: int) -> dict[str, Array]:
        """Return T at each iteration."""
        T = np.array(self.temperature.values(0, n_iter, n_iter))
        i = np.arange(n_iter)
        return {"temperature": T[i - i % self.update_interval]}

    def losses(self, x: Tensor, temperature: Tensor) -> Losses:
        """Return ℒ = ℒ_r + γ ℒ_som of a batch, and both terms before weighting."""
        z = self.encode(x)
        L_r = reconstruction_error(x, self.decode(z))
        L_som = som_loss(z, self.prototypes, self.delta, temperature, self.neighborhood)
        return {"loss": L_r + self.gamma * L_som, "reconstruction": L_r, "som": L_som}


def train_desom(network: DESOMNetwork, X: Tensor, n_iter: int, batch_size: int = 256) -> None:
    """Train literally by the procedure of the slides, one seed.

    `DESOM.fit` gives the same result faster: all seeds in one pass, an explicit gradient of ℒ_som,
    and on a GPU the whole step captured as a graph.
    """
    T_max, T_min = network.temperature.start, network.temperature.end
    adam = torch.optim.Adam(network.parameters(), lr=1e-3, eps=1e-7)
    first = 0
    for i in range(n_iter):
        T = T_max * (T_min / T_max) ** (i / (n_iter - 1))
        x = X[first : first + batch_size]
        z, m = network.encode(x), network.prototypes
        d2 = (z[:, None] - m).square().sum(-1)  # ‖z_i − m_k‖²
        w = torch.exp(-(network.delta[d2.argmin(1)] ** 2) / T**2)  # around the BMU χ(i)
        L_r = (network.decode(z) - x).square().mean()
        L_som = (w.detach().to(z) * d2).sum(1).mean()
        adam.zero_grad()
        (L_r + network.gamma * L_som).backward()  # type: ignore[no-untyped-call]
        adam.step()
        first = first + batch_size if first + batch_size < len(X) else 0


# ---------------------------------------------------------------- the estimator


class OnGrid:
    """Adds `grid_` to an estimator with the parameter `grid`."""

    if TYPE_CHECKING:  # what the estimator has

        def __getattr__(self, name: str) -> Any: ...

    @property
    def grid_(self) -> Grid:
        """The map."""
        return as_grid(self.grid)


class LatentMap(OnGrid):
    """Adds the decoded prototypes to an estimator whose prototypes are latent codes."""

    @property
    def decoded_prototypes_(self) -> Array:
        """The decoded prototypes, shape (K, d)."""
        decoded: Array = self.inverse_transform(self.prototypes_)
        return decoded


@dataclass(eq=False, repr=False)
class DESOM(LatentMap, ClusterMixin, DeepEstimator):
    """Deep embedded self-organizing map.

    Parameters
    ----------
    grid : (int, int) or Grid, default=(8, 8)
        The map.
    hidden, latent_dim, architecture, image_shape
        The autoencoder; see `Autoencoder`.
    gamma : float, default=1e-3
        Weight of the SOM loss. With 0 the prototypes stay at their initial values.
    temperature : (float, float), default=(10.0, 0.1)
        T at the first and the last iteration.
    n_iter : int, default=10_000
        Iterations, as in the DESOM papers; not epochs.
    batch_size : int, default=256
    grid_distance : {"manhattan", "euclidean", "chebyshev", "hops", "desom-code"}
        Distance on the map, default "manhattan"; see `grid_distances`.
    neighborhood : {"gaussian", "window"}, default="gaussian"
        K^T(δ) = exp(−δ²/T²), without the factor 2 of the `SOM`; or 1 where δ ≤ T.
    decay : {"exponential", "linear", "constant"}, default="exponential"
        How T decreases from start to end.
    update_interval : int, default=1
        Iterations between two updates of T.
    pretrain_epochs : int, default=0
        Epochs of pre-training as a plain autoencoder; the published results have none.
    learning_rate : float, default=1e-3
        Adam's, for encoder, decoder and prototypes.
    shuffle : bool, default=False
        False, because the released code takes the samples in the order of the file.
    precision, random_state, device, progress
        See `Autoencoder`.

    Attributes
    ----------
    grid_ : Grid
    prototypes_ : ndarray of shape (K, latent_dim)
        The map's prototypes in latent space.
    decoded_prototypes_ : ndarray of shape (K, d)
        The decoded prototypes.
    labels_ : ndarray of shape (n,)
        Best-matching unit of each training sample.
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`; the history holds "loss", "reconstruction", "som", both losses
        before weighting, and "temperature".

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.

    References
    ----------
    F. Forest, M. Lebbah, H. Azzag and J. Lacaille, "Deep Embedded SOM: Joint Representation
    Learning and Self-Organization", ESANN 2019; the slides of that talk.

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> desom = DESOM((4, 5), hidden=(64,), latent_dim=4, n_iter=200, random_state=0).fit(X)
    >>> desom.predict(X).shape, desom.prototypes_.shape, desom.decoded_prototypes_.shape
    ((1797,), (20, 4), (20, 64))
    """

    grid: GridLike = (8, 8)
    hidden: Sequence[checks.Count] = (500, 500, 2000)
    latent_dim: checks.Count = 10
    architecture: Architecture = "mlp"
    image_shape: checks.ImageShape | None = None
    gamma: checks.NotNegative = 1e-3
    temperature: Range = (10.0, 0.1)
    n_iter: checks.Count = 10_000
    grid_distance: GridDistance = "manhattan"
    neighborhood: Neighborhood = "gaussian"
    decay: Decay = "exponential"
    update_interval: checks.Count = 1
    pretrain_epochs: checks.CountOrZero = 0
    learning_rate: checks.Positive = 1e-3
    _: KW_ONLY
    shuffle: bool = False

    _divisible: ClassVar[bool] = True

    # ------------------------------------------------------------ training

    def _build(self, d: int, generator: torch.Generator) -> DESOMNetwork:
        return DESOMNetwork(self, d, generator)

    def _pretrain(
        self, X: Array, seeds: Sequence[int], checkpoint: Path | None
    ) -> list[Autoencoder] | None:
        return pretrained(self, _AUTOENCODER_PARAMETERS, X, seeds, checkpoint)

    def _finish(self, X: Array) -> None:
        self.labels_ = nearest_units(self._apply("encode", X), self.prototypes_)[:, 0]

    # ------------------------------------------------------------ using

    @property
    def prototypes_(self) -> Array:
        """The map's prototypes in latent space, shape (K, latent_dim)."""
        return self.parameters_["prototypes"]

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return the best-matching unit of each sample, shape (n,); ties: the lowest index."""
        return nearest_units(self.transform(X), self.prototypes_)[:, 0]

    # ------------------------------------------------------------ parameters

    def _check(self, n: int, d: int) -> None:
        if n < (K := self.grid_.n_units):
            raise ValueError(
                f"a map of {K} units is larger than the data set of {n} samples, whose codes are "
                "the initial prototypes; choose a smaller grid"
            )
        T = schedule("temperature", self.temperature, self.decay)
        if T.end == T.start and self.decay != "constant":
            raise ValueError(
                f"temperature={self.temperature!r} never decreases; let it end below its start, or "
                "choose decay='constant'"
            )
        grid_distances(self.grid_, self.grid_distance)


_AUTOENCODER_PARAMETERS = (
    *("hidden", "latent_dim", "architecture", "image_shape", "batch_size", "learning_rate"),
    *("precision", "device", "progress"),
)


def nearest_units(Z: Array, prototypes: Array) -> NDArray[np.int64]:
    """Return the two nearest prototypes of each code, shape (n, 2)."""
    center = prototypes.mean(0)
    codebook = Codebook(torch.from_numpy(prototypes - center))
    found = [
        best_units(Block.of(torch.from_numpy(rows - center)), codebook)[0].numpy()
        for rows in np.split(Z, range(ROWS_AT_ONCE, len(Z), ROWS_AT_ONCE))
    ]
    return np.concatenate(found)
