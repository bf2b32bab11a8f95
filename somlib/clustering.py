"""The baselines of the DESOM slides, each one idea away from the next.

- `Kerasom`: the SOM loss alone, on the samples themselves.
- `DEC`: an encoder pulled towards its own confident assignments; `IDEC` keeps the decoder.
- `DCN`: the autoencoder with the k-means loss instead.
- `DeepNeuralMaps`: IDEC's loss, but the centres lie on a grid and move by Kohonen's rule.
- `VaDE`: the centres are a mixture of Gaussians, the prior of a variational autoencoder.
- `SOMVAE`: the code is replaced by the nearest embedding of a grid.
- `MiniSomMap`: the library MiniSom in the same clothes.

They differ in their losses, in where centres begin and in what moves them; networks, loop and
seeds are those of `training`. k-means and Gaussian mixtures on codes are scikit-learn's own, on
what `Autoencoder.transform` returns.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from somlib.autoencoders import Autoencoder, reconstruction_error
from somlib.desom import (
    GridDistance,
    Neighborhood,
    grid_distances,
    nearest_units,
    neighborhood_weights,
    som_loss,
)
from somlib.distances import Block, Codebook, squared_distances
from somlib.loop import resolve_seed
from somlib.networks import Dense
from somlib.products import Precision
from somlib.schedules import Decay, Schedule
from somlib.spaces import Grid
from somlib.storage import Check, Saveable, array, require_units
from somlib.training import ROWS_AT_ONCE, Array, DeepEstimator, Draws, fit_seeds, require_count

Generators = Sequence[torch.Generator]
Tensors = dict[str, Tensor]


# ---------------------------------------------------------------- the formulas


def squared(z: Tensor, m: Tensor) -> Tensor:
    """Return ‖z_i − m_k‖² of shapes (S, B, L) and (S, K, L): (S, B, K)."""
    return torch.cdist(z, m, compute_mode="donot_use_mm_for_euclid_dist").square()


def soft_assignment(z: Tensor, m: Tensor) -> Tensor:
    """Return q_ik = (1 + ‖z_i − m_k‖²)⁻¹ / Σ_k' (1 + ‖z_i − m_k'‖²)⁻¹ (Xie 2016, equation 1)."""
    t = 1 / (1 + squared(z, m))
    return t / t.sum(-1, keepdim=True)


def target_distribution(q: Tensor) -> Tensor:
    """Return p_ik = (q_ik² / Σ_i q_ik) / Σ_k' (q_ik'² / Σ_i q_ik') (Xie 2016, equation 3).

    Examples
    --------
    >>> target_distribution(torch.tensor([[0.5, 0.5], [0.9, 0.1]]))
    tensor([[0.3000, 0.7000],
            [0.9720, 0.0280]])
    """
    weight = q.square() / q.sum(-2, keepdim=True)
    return weight / weight.sum(-1, keepdim=True)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return D_KL(p‖q) = Σ_k p_ik log (p_ik / q_ik), mean over the batch, (S,).

    Equation 2 of Xie 2016 is the sum over all samples; its released codes take the mean.
    """
    return torch.xlogy(p, p / q).sum(-1).mean(-1)


def running_mean(m: Tensor, counts: Tensor, z: Tensor, chi: Tensor) -> tuple[Tensor, Tensor]:
    """Return centres (S, K, L) and counts (S, K) after a batch of codes z that χ assigns.

    Yang 2016: c_k ← c_k + 1, m_k ← m_k + (z_i − m_k) / c_k with k = χ(i), for i = 1 ... B in turn.
    As χ is fixed for the batch, m_k ends as the mean of all that it was ever given.
    """
    given = (chi[..., None] == torch.arange(m.shape[1], device=m.device)).to(z)
    total = counts + given.sum(1)
    return (counts[..., None] * m + given.mT @ z) / total[..., None], total


def kohonen_step(m: Tensor, z: Tensor, h: Tensor, alpha: Tensor) -> Tensor:
    """Return prototypes (S, K, L) to which a batch of codes z was presented one by one.

    Kohonen's stochastic rule m_k ← m_k + α h_ik (z_i − m_k), i = 1 ... B, its winners, hence
    h (S, B, K), found once for the batch: m_k keeps Π_i (1 − αh_ik) of itself, and of each pull
    there remains what the later samples leave.
    """
    left = (1 - alpha * h).flip(1).cumprod(1).flip(1)  # Π_{j ≥ i} (1 − αh_jk)
    later = torch.cat([left[:, 1:], torch.ones_like(left[:, :1])], 1)
    return left[:, 0, :, None] * m + (alpha * h * later).mT @ z


def expected_log_density(mean: Tensor, variance: Tensor, m: Tensor, log_v: Tensor) -> Tensor:
    """Return E log 𝒩(z; m_c, v_c) for z ~ 𝒩(mean, variance), but for L/2 log 2π, (S, B, K).

    −½ Σ_j (log v_cj + variance_j / v_cj + (mean_j − m_cj)² / v_cj), as in Jiang 2017.
    """
    apart = (mean[:, :, None] - m[:, None]).square() + variance[:, :, None]
    return -0.5 * (log_v[:, None] + apart / log_v[:, None].exp()).sum(-1)


def merge_prototypes(
    prototypes: ArrayLike, units: ArrayLike, k: int, random_state: Any = None
) -> NDArray[np.int64]:
    """Return samples' clusters once k-means has merged a map's prototypes: the slides' "+km".

    Parameters
    ----------
    prototypes : array of shape (K, L)
    units : array of shape (n,)
        Best-matching unit of each sample.
    k : int
        Clusters: one per class; the released DESOM code takes one fewer, 9 for MNIST.
    random_state : int, Generator, RandomState or None, default=None

    Examples
    --------
    >>> merge_prototypes([[0.0], [5.0], [0.1]], [0, 0, 1, 2], k=2, random_state=0).tolist()
    [1, 1, 0, 1]
    """
    require_count("k", k)
    if k > len(prototypes := np.asarray(prototypes)):
        raise ValueError(f"k={k} clusters cannot be made of {len(prototypes)} prototypes")
    merged = KMeans(k, n_init=20, random_state=resolve_seed(random_state) % 2**32).fit(prototypes)
    return np.asarray(merged.labels_[np.asarray(units)], dtype=np.int64)


# ---------------------------------------------------------------- what the baselines share


@dataclass(kw_only=True, eq=False, repr=False)
class Baseline(ClusterMixin, DeepEstimator):
    """What all share: the settings of the loop, centres, and the nearest centre as answer.

    Parameters
    ----------
    n_iter : int, default=10_000
        Iterations; a baseline whose paper has another number has that as default.
    batch_size : int, default=256
    learning_rate : float, default=1e-3
        Adam's, constant, for all of them, whatever optimiser and decay a paper had.
    shuffle : bool, default=False
        Off, as the released codes of DEC, IDEC, DCN and DESOM take samples in the file's order.
    precision, random_state, device, progress
        See `Autoencoder`.

    Attributes
    ----------
    centers_ : ndarray of shape (K, width)
        The centres, among the codes.
    labels_ : ndarray of shape (n,)
        Cluster, or unit of the map, of each training sample.
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`. The history has each term of the loss, before weighting.

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.
    """

    n_iter: int = 10_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    shuffle: bool = False
    precision: Precision = "float32"
    random_state: Any = None
    device: str = "auto"
    progress: bool = False

    _by_gradient: ClassVar[bool] = True  # or do the centres move by a rule of their own?
    _also_learned: ClassVar[dict[str, Check]] = {"labels_": array("i", "n")}

    def _n_centers(self) -> int:
        require_count("n_clusters", self.n_clusters)
        return int(self.n_clusters)

    def _with_centers(self, stack: nn.Module, S: int, width: int) -> nn.Module:
        zeros = torch.zeros(S, self._n_centers(), width)
        stack.centers = nn.Parameter(zeros, requires_grad=self._by_gradient)
        return stack

    def _after(self, X: Array) -> None:
        self.labels_ = self._nearest(X)

    def _nearest(self, X: Array) -> NDArray[np.int64]:
        return nearest_units(self._through("encoder", X), self.centers_)[:, 0]

    @property
    def centers_(self) -> Array:
        """The centres, shape (K, width)."""
        return self.parameters_["centers"]

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return the cluster or unit of each sample, shape (n,); the lowest index of equals."""
        return self._nearest(self._valid(X, reset=False))

    def _check(self, n: int, d: int) -> None:
        if n < (K := self._n_centers()):
            name = "grid" if isinstance(self, _Map) else "n_clusters"
            raise ValueError(f"{K} centres for a data set of {n} samples; choose a smaller {name}")
        for name in ("gamma", "alpha", "beta"):
            weight = getattr(self, name, 0)
            if not isinstance(weight, tuple | list) and not 0 <= weight < float("inf"):
                raise ValueError(f"{name}={weight!r} must be a finite number of at least 0")
        require_count("update_interval", getattr(self, "update_interval", 1))
        require_count("pretrain_epochs", getattr(self, "pretrain_epochs", 0), least=0)


@dataclass(kw_only=True, eq=False, repr=False)
class EmbeddedBaseline(Baseline):
    """A baseline whose centres lie among the codes of a dense autoencoder.

    Parameters
    ----------
    hidden : sequence of int, default=(500, 500, 2000)
    latent_dim : int, default=10
        See `Autoencoder`.
    pretrain_epochs : int, default=200
        Epochs of the plain autoencoder before, unless `fit` is given a trained one as `start`;
        the papers' own pre-training goes layer by layer.
    n_iter, batch_size, learning_rate, shuffle, precision, random_state, device, progress
        See `Baseline`, also for attributes and errors.
    """

    hidden: Sequence[int] = (500, 500, 2000)
    latent_dim: int = 10
    pretrain_epochs: int = 200

    def _build(self, d: int, generators: Generators) -> nn.Module:
        return self._with_centers(super()._build(d, generators), len(generators), self.latent_dim)

    def _pretrain(
        self, X: Array, seeds: Sequence[int], checkpoint: Path | None
    ) -> list[Autoencoder] | None:
        if not self.pretrain_epochs:
            return None
        shared = ("hidden", "latent_dim", "batch_size", "precision", "device", "progress")
        given = {name: getattr(self, name) for name in shared}
        autoencoder = Autoencoder(n_epochs=self.pretrain_epochs, **given)
        return fit_seeds(autoencoder, X, seeds, checkpoint=checkpoint)


class _Map:
    """What those have whose centres are the units of a grid."""

    grid: tuple[int, int] | Grid

    @property
    def grid_(self) -> Grid:
        """The map."""
        try:
            return self.grid if isinstance(self.grid, Grid) else Grid(*self.grid)
        except (TypeError, ValueError) as error:
            raise ValueError(f"grid={self.grid!r}: {error}; give (rows, cols) or a Grid") from None

    def _n_centers(self) -> int:
        return self.grid_.n_units


class _EmbeddedMap(_Map, EmbeddedBaseline):
    """... among codes."""

    @property
    def prototypes_(self) -> Array:
        """The map's prototypes among the codes, shape (K, latent_dim)."""
        return self.centers_

    @property
    def decoded_prototypes_(self) -> Array:
        """What the decoder makes of the prototypes, shape (K, d)."""
        return self.inverse_transform(self.prototypes_)


class _SampleMap(_Map):
    """... among the samples themselves."""

    weights_: Any
    _valid: Any

    def _nearest(self, X: Any) -> NDArray[np.int64]:
        return nearest_units(X, self.weights_)[:, 0]

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return the best-matching unit of each sample, shape (n,); the lowest index of equals."""
        return self._nearest(self._valid(X, reset=False))

    def transform(self, X: ArrayLike) -> Array:
        """Return the distance of each sample to each prototype, shape (n, K)."""
        center = self.weights_.mean(0)
        x = torch.from_numpy(self._valid(X, reset=False) - center)
        m = torch.from_numpy(self.weights_ - center)
        return squared_distances(Block.of(x), Codebook(m)).sqrt().numpy()


def _codes(stack: Any, X: Tensor) -> Tensor:
    """Return the codes of all samples, (S, n, L), a part of them at a time."""
    rows = max(1, ROWS_AT_ONCE // len(stack.centers))
    return torch.cat([stack.encoder(x) for x in torch.split(X, rows)], 1)


def _some(X: Tensor, K: int, generators: Generators) -> Tensor:
    """Return K different samples for each seed, (S, K, d)."""
    drawn = torch.stack([torch.randperm(len(X), generator=g)[:K] for g in generators])
    return X[drawn.to(X.device)]


def _begin_with_kmeans(stack: Any, X: Tensor, generators: Generators) -> Tensor:
    """Put the centres where k-means, the best of 20 runs, finds them; return its labels (S, n)."""
    found = [
        KMeans(stack.centers.shape[1], n_init=20, random_state=g.initial_seed() % 2**32).fit(z)
        for z, g in zip(_codes(stack, X).numpy(force=True), generators, strict=True)
    ]
    stack.centers.copy_(torch.from_numpy(np.stack([f.cluster_centers_ for f in found])))
    return torch.from_numpy(np.stack([f.labels_ for f in found])).to(X.device, torch.long)


def _values(name: str, pair: tuple[float, float], decay: Decay, n_iter: int) -> Array:
    """Return what a (start, end) parameter is at each iteration, or name it when it is bad."""
    try:
        return np.array(Schedule(*pair, decay).values(0, n_iter, n_iter))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}={pair!r}: {error}") from None


# ---------------------------------------------------------------- kerasom: no autoencoder


@dataclass(eq=False, repr=False)
class Kerasom(_SampleMap, Baseline):
    """The SOM loss by Adam, DESOM without its autoencoder; on codes, the slides' AE+kerasom.

    Parameters
    ----------
    grid : (int, int) or Grid, default=(8, 8)
    temperature, grid_distance, neighborhood, decay
        See `DESOM`.
    n_iter, batch_size, learning_rate, shuffle, precision, random_state, device, progress
        See `Baseline`, also for attributes and errors.

    Attributes
    ----------
    weights_ : ndarray of shape (K, d)
        The prototypes; they begin as K different samples.

    Examples
    --------
    >>> X = np.random.default_rng(0).random((200, 3))
    >>> som = Kerasom((3, 4), n_iter=100, batch_size=50, random_state=0).fit(X)
    >>> som.weights_.shape, som.transform(X).shape, bool((som.predict(X) == som.labels_).all())
    ((12, 3), (200, 12), True)
    """

    grid: tuple[int, int] | Grid = (8, 8)
    temperature: tuple[float, float] = (10.0, 0.1)
    grid_distance: GridDistance = "manhattan"
    neighborhood: Neighborhood = "gaussian"
    decay: Decay = "exponential"

    def _build(self, d: int, generators: Generators) -> nn.Module:
        return self._with_centers(nn.Module(), len(generators), d)

    def _tell(self, stack: Any, models: Sequence[Any]) -> None:
        delta = torch.from_numpy(grid_distances(self.grid_, self.grid_distance))
        stack.delta = delta.to(stack.centers)

    def _initialise(self, stack: Any, X: Tensor, generators: Generators) -> None:
        stack.centers.copy_(_some(X, self._n_centers(), generators))

    def _schedules(self, n_iter: int) -> dict[str, Array]:
        return {"temperature": _values("temperature", self.temperature, self.decay, n_iter)}

    def _losses(self, stack: Any, x: Tensor, rows: Tensor, values: Tensors) -> Tensors:
        x = x.expand(len(stack.centers), *x.shape[-2:])
        T = values["temperature"]
        return {"loss": som_loss(x, stack.centers, stack.delta, T, self.neighborhood)}

    def _check(self, n: int, d: int) -> None:
        super()._check(n, d)
        grid_distances(self.grid_, self.grid_distance)  # which may not exist
        if self.neighborhood not in (known := get_args(Neighborhood)):
            raise ValueError(
                f"neighborhood={self.neighborhood!r} is unknown; choose one of {list(known)}"
            )

    @property
    def weights_(self) -> Array:
        """The prototypes, shape (K, d)."""
        return self.centers_

    @property
    def _n_features_out(self) -> int:
        return self._n_centers()

    @property
    def inverse_transform(self) -> Any:
        """Not there: distances to the prototypes do not tell the sample."""
        raise AttributeError("Kerasom has no decoder; its prototypes are weights_")


# ---------------------------------------------------------------- DEC, IDEC, Deep Neural Maps


@dataclass(kw_only=True, eq=False, repr=False)
class _Hardening(EmbeddedBaseline):
    """Assignments q pulled towards a target p that is made of all of them now and then."""

    update_interval: int = 140

    def _build(self, d: int, generators: Generators) -> nn.Module:
        stack: Any = super()._build(d, generators)
        for name in self._working(0, 0):
            stack.register_buffer(name, None)
        return stack  # type: ignore[no-any-return]

    def _working(self, S: int, n: int) -> dict[str, tuple[int, ...]]:
        return {"target": (S, n, self._n_centers()), "labels": (S, n), "changed": (S,)}

    def _initialise(self, stack: Any, X: Tensor, generators: Generators) -> None:
        S, K, _ = stack.centers.shape
        stack.labels = self._first_labels(stack, X, generators)
        stack.target, stack.changed = X.new_zeros(S, len(X), K), X.new_zeros(S)

    def _first_labels(self, stack: Any, X: Tensor, generators: Generators) -> Tensor:
        return _begin_with_kmeans(stack, X, generators)

    def _before(self, stack: Any, X: Tensor, i: int) -> None:
        if i % self.update_interval == 0:
            q = soft_assignment(_codes(stack, X), stack.centers)
            labels = q.argmax(-1)
            stack.changed.copy_((labels != stack.labels).to(q).mean(-1))
            stack.labels.copy_(labels)
            stack.target.copy_(target_distribution(q))

    def _clustering(self, stack: Any, z: Tensor, rows: Tensor) -> Tensors:
        p = stack.target[torch.arange(len(z), device=z.device)[:, None], rows]
        L_c = kl_divergence(p, soft_assignment(z, stack.centers))
        return {"loss": L_c, "clustering": L_c, "changed": stack.changed.clone()}

    def _joint(self, stack: Any, x: Tensor, z: Tensor, rows: Tensor, gamma: float) -> Tensors:
        L_r = reconstruction_error(x, stack.decoder(z))
        losses = self._clustering(stack, z, rows)
        L = L_r + gamma * losses["clustering"]  # ℒ = ℒ_r + γ D_KL(p‖q), Guo 2017
        return losses | {"loss": L, "reconstruction": L_r}


@dataclass(eq=False, repr=False)
class DEC(_Hardening):
    """Deep embedded clustering: the encoder learns from its own confident assignments.

    The loss is D_KL(p‖q) alone, so the decoder stays as pre-training left it.

    Parameters
    ----------
    n_clusters : int, default=10
        Centres; they begin where k-means finds them among the codes.
    update_interval : int, default=140
        Iterations between two targets p, the paper's for MNIST.
    n_iter : int, default=20_000
        Always all of them, for seeds in a stack have no common end. The paper stops once an
        update changes less than 0.1 % of the labels, a share that `history_["changed"]` has.
    hidden, latent_dim, pretrain_epochs, ...
        See `EmbeddedBaseline`.

    References
    ----------
    J. Xie, R. Girshick and A. Farhadi, "Unsupervised Deep Embedding for Clustering Analysis",
    ICML 2016.

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> dec = DEC(hidden=(64,), latent_dim=5, pretrain_epochs=5, n_iter=100, random_state=0).fit(X)
    >>> dec.predict(X).shape, dec.centers_.shape
    ((1797,), (10, 5))
    """

    n_clusters: int = 10
    _: KW_ONLY
    n_iter: int = 20_000

    def _losses(self, stack: Any, x: Tensor, rows: Tensor, values: Tensors) -> Tensors:
        return self._clustering(stack, stack.encoder(x), rows)


@dataclass(eq=False, repr=False)
class IDEC(DEC):
    """Improved DEC: the reconstruction stays in the loss, ℒ = ℒ_r + γ D_KL(p‖q).

    Parameters
    ----------
    n_clusters, update_interval, n_iter
        See `DEC`.
    gamma : float, default=0.1
        Weight of the clustering loss; 0 leaves an autoencoder.
    hidden, latent_dim, pretrain_epochs, ...
        See `EmbeddedBaseline`.

    References
    ----------
    X. Guo, L. Gao, X. Liu and J. Yin, "Improved Deep Embedded Clustering with Local Structure
    Preservation", IJCAI 2017.
    """

    gamma: float = 0.1

    def _losses(self, stack: Any, x: Tensor, rows: Tensor, values: Tensors) -> Tensors:
        return self._joint(stack, x, stack.encoder(x), rows, self.gamma)


@dataclass(eq=False, repr=False)
class DeepNeuralMaps(_EmbeddedMap, _Hardening):
    """Deep Neural Maps: IDEC's loss for the network, Kohonen's rule for the centres, in turn.

    Each iteration encodes its batch, presents the codes to the map one by one (`kohonen_step`)
    and, the centres fixed, takes the autoencoder's step: what the slides say of the paper.

    Parameters
    ----------
    grid : (int, int) or Grid, default=(8, 8)
        Its prototypes begin as the codes of K different samples.
    gamma : float, default=0.01
        Weight of the clustering loss. IDEC's 0.1 draws the codes together before the map has
        unfolded: on the digits purity falls from .91 to .56 (one small network, three seeds).
    temperature : (float, float), default=(10.0, 0.1)
        Width T of the neighbourhood exp(−δ²/T²), DESOM's, with Manhattan δ.
    alpha : (float, float), default=(0.5, 0.01)
        The map's learning rate at the start and at the end.
    shuffle : bool, default=True
        Kohonen's rule follows the samples it saw last: they had better be mixed.
    update_interval
        See `DEC`.
    hidden, latent_dim, pretrain_epochs, ...
        See `EmbeddedBaseline`.

    References
    ----------
    M. Pesteie, P. Abolmaesumi and R. Rohling, "Deep Neural Maps", ICLR 2018 workshop.
    """

    grid: tuple[int, int] | Grid = (8, 8)
    gamma: float = 0.01
    temperature: tuple[float, float] = (10.0, 0.1)
    alpha: tuple[float, float] = (0.5, 0.01)
    _: KW_ONLY
    shuffle: bool = True

    _by_gradient: ClassVar[bool] = False

    def _tell(self, stack: Any, models: Sequence[Any]) -> None:
        stack.delta = torch.from_numpy(grid_distances(self.grid_)).to(stack.centers)

    def _first_labels(self, stack: Any, X: Tensor, generators: Generators) -> Tensor:
        stack.centers.copy_(stack.encoder(_some(X, self._n_centers(), generators)))
        return squared(_codes(stack, X), stack.centers).argmin(-1)

    def _schedules(self, n_iter: int) -> dict[str, Array]:
        T = _values("temperature", self.temperature, "exponential", n_iter)
        alpha = _values("alpha", self.alpha, "exponential", n_iter)
        if alpha[0] > 1:
            raise ValueError(f"alpha={self.alpha!r} steps past the sample; start at 1 or below")
        return {"temperature": T, "alpha": alpha}

    def _losses(self, stack: Any, x: Tensor, rows: Tensor, values: Tensors) -> Tensors:
        z = stack.encoder(x)
        with torch.no_grad():
            chi = squared(z, stack.centers).argmin(-1)
            h = neighborhood_weights(stack.delta, values["temperature"])[chi]
            stack.centers.copy_(kohonen_step(stack.centers, z, h, values["alpha"]))
        return self._joint(stack, x, z, rows, self.gamma)


# ---------------------------------------------------------------- DCN


@dataclass(eq=False, repr=False)
class DCN(EmbeddedBaseline):
    """Deep clustering network: autoencoder and k-means in turn, ℒ = ℒ_r + γ mean ‖z − m_χ‖².

    Each iteration assigns its batch, takes the network's step with the centres fixed, and moves
    the centres to the running mean of what they were given (`running_mean`); the released code
    encodes the batch again in between.

    Parameters
    ----------
    n_clusters : int, default=10
        Centres; they begin where k-means finds them among the codes, with a count of 100 each,
        the released code's.
    gamma : float, default=1e-3
        Weight of the k-means loss; the released code's 1 stands beside errors summed over pixels,
        which makes it about 1e-3 beside their mean.
    n_iter : int, default=13_700
        The released code's 50 epochs of MNIST.
    hidden, latent_dim, pretrain_epochs, ...
        See `EmbeddedBaseline`.

    References
    ----------
    B. Yang, X. Fu, N. D. Sidiropoulos and M. Hong, "Towards K-means-friendly Spaces: Simultaneous
    Deep Learning and Clustering", 2016; ICML 2017.
    """

    n_clusters: int = 10
    gamma: float = 1e-3
    _: KW_ONLY
    n_iter: int = 13_700

    _by_gradient: ClassVar[bool] = False

    def _build(self, d: int, generators: Generators) -> nn.Module:
        stack = super()._build(d, generators)
        stack.register_buffer("counts", torch.full((len(generators), self._n_centers()), 100.0))
        return stack

    def _initialise(self, stack: Any, X: Tensor, generators: Generators) -> None:
        _begin_with_kmeans(stack, X, generators)

    def _losses(self, stack: Any, x: Tensor, rows: Tensor, values: Tensors) -> Tensors:
        z, m = stack.encoder(x), stack.centers
        chi = squared(z, m).argmin(-1)  # χ(i) = argmin_k ‖z_i − m_k‖²
        m_chi = torch.take_along_dim(m, chi[..., None], 1)
        L_r = reconstruction_error(x, stack.decoder(z))
        L_km = (z - m_chi).square().sum(-1).mean(-1)
        with torch.no_grad():
            centers, counts = running_mean(m, stack.counts, z, chi)
            m.copy_(centers)
            stack.counts.copy_(counts)
        return {"loss": L_r + self.gamma * L_km, "reconstruction": L_r, "kmeans": L_km}


# ---------------------------------------------------------------- VaDE


@dataclass(eq=False, repr=False)
class VaDE(EmbeddedBaseline):
    """Variational deep embedding: a variational autoencoder whose prior is a Gaussian mixture.

    A cluster c has probability π_c and codes 𝒩(m_c, v_c), the decoder gives each pixel's Bernoulli
    probability, and the loss is minus the evidence lower bound in nats, in closed form but for one
    drawn z per sample. A sample's cluster is arg-max_c p(c|z) at the mean of its code.

    Parameters
    ----------
    n_clusters : int, default=10
        Components; they begin as scikit-learn's `GaussianMixture` (diagonal) on the codes.
    n_iter : int, default=350_000
        500 epochs of MNIST; the released code has had 500 and 3000.
    batch_size, learning_rate, shuffle : default=100, 2e-3, True
        The released code's, which lowers the rate by a tenth every 10 epochs.
    hidden, latent_dim, pretrain_epochs, ...
        See `EmbeddedBaseline`. The variances of codes come from a second head beside the code's.

    Raises
    ------
    ValueError
        From `fit`, when X is not within [0, 1].

    Notes
    -----
    The autoencoder to start from has a linear output y. The sigmoid that belongs to Bernoulli
    pixels is put on 4 y − 2, the tangent of its inverse at ½, so that first pictures look alike.

    References
    ----------
    Z. Jiang, Y. Zheng, H. Tan, B. Tang and H. Zhou, "Variational Deep Embedding: An Unsupervised
    and Generative Approach to Clustering", IJCAI 2017.
    """

    n_clusters: int = 10
    _: KW_ONLY
    n_iter: int = 350_000
    batch_size: int = 100
    learning_rate: float = 2e-3
    shuffle: bool = True

    _output: ClassVar[Any] = "sigmoid"
    _in_unit_range: ClassVar[bool] = True

    def _build(self, d: int, generators: Generators) -> nn.Module:
        stack: Any = super()._build(d, generators)
        S, K, L = stack.centers.shape
        stack.log_variance = Dense((d, *self.hidden)[-1], L, generators)
        stack.log_v = nn.Parameter(torch.zeros(S, K, L))
        stack.log_pi = nn.Parameter(torch.zeros(S, K))  # up to a constant
        stack.noise = Draws(generators, (self.batch_size, L))
        return stack  # type: ignore[no-any-return]

    def _initialise(self, stack: Any, X: Tensor, generators: Generators) -> None:
        K, codes = self.n_clusters, _codes(stack, X).numpy(force=True)
        found = [
            GaussianMixture(K, covariance_type="diag", random_state=seed % 2**32).fit(z)
            for z, seed in zip(codes, stack.noise.seeds, strict=True)
        ]
        stack.centers.copy_(torch.from_numpy(np.stack([f.means_ for f in found])))
        stack.log_v.copy_(torch.from_numpy(np.log([f.covariances_ for f in found])))
        stack.log_pi.copy_(torch.from_numpy(np.log([f.weights_ for f in found])))
        last = stack.decoder.layers[-1]
        last.weight.mul_(4)
        last.bias.mul_(4).sub_(2)

    def _before(self, stack: Any, X: Tensor, i: int) -> None:
        stack.noise.turn_to(i, X)

    def _losses(self, stack: Any, x: Tensor, rows: Tensor, values: Tensors) -> Tensors:
        mean, log_var = _mean_and_log_variance(stack, x)
        z = mean + (log_var / 2).exp() * stack.noise.now[:, : x.shape[-2]]
        x_mean = stack.decoder(z)
        L_x = nn.functional.binary_cross_entropy(x_mean, x.expand_as(x_mean), reduction="none")
        log_gamma = _log_responsibilities(stack, z)  # γ_c = q(c|x) = p(c|z), Jiang 2017
        log_pi = stack.log_pi.log_softmax(-1)[:, None]
        log_p = expected_log_density(mean, log_var.exp(), stack.centers, stack.log_v)
        D_c = (log_gamma.exp() * (log_gamma - log_pi - log_p)).sum(-1)  # all with γ_c
        D_z = -0.5 * (1 + log_var).sum(-1)  # and minus the entropy of q(z|x)
        L_r, D = L_x.sum(-1).mean(-1), (D_c + D_z).mean(-1)
        return {"loss": L_r + D, "reconstruction": L_r, "divergence": D}

    def _nearest(self, X: Array) -> NDArray[np.int64]:
        z = torch.from_numpy(self._through("encoder", X))[None]
        with torch.no_grad():
            log_gamma = _log_responsibilities(self._restored(torch.device("cpu")), z)
        return np.asarray(log_gamma[0].argmax(-1).numpy())

    def _valid(self, X: ArrayLike, *, reset: bool) -> Array:
        checked = super()._valid(X, reset=reset)
        if reset and (checked.min() < 0 or checked.max() > 1):
            raise ValueError(
                f"X lies within [{checked.min():.4g}, {checked.max():.4g}], but VaDE takes its "
                "values for probabilities; scale them to [0, 1]"
            )
        return checked


def _mean_and_log_variance(stack: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return μ̃ and log σ̃² of q(z|x): two heads on the encoder's last hidden layer."""
    *hidden, head = stack.encoder.layers
    for layer in hidden:
        x = layer(x).relu()
    return head(x), stack.log_variance(x)


def _log_responsibilities(stack: Any, z: Tensor) -> Tensor:
    """Return log γ_c = log (π_c 𝒩(z; m_c, v_c) / Σ_c' π_c' 𝒩(z; m_c', v_c')), (S, B, K)."""
    log_p = expected_log_density(z, torch.zeros_like(z), stack.centers, stack.log_v)
    return torch.log_softmax(stack.log_pi[:, None] + log_p, -1)


# ---------------------------------------------------------------- SOM-VAE


@dataclass(eq=False, repr=False)
class SOMVAE(_EmbeddedMap):
    """SOM-VAE, its static part: the code z_e is replaced by the nearest embedding z_q of a grid.

    ℒ = ‖x − x̂_q‖² + ‖x − x̂_e‖² + α ‖z_e − z_q‖² + β Σ_{e ∈ N(z_q)} ‖e − sg(z_e)‖², all as means:
    over pixels, over the code's width and over z_q and its neighbours, as in the released code to
    which α and β belong. A neighbour beyond the edge of the map counts as 0.

    Parameters
    ----------
    grid : (int, int) or Grid, default=(8, 8)
        Its embeddings begin at random, 𝒩(0, 0.05²).
    alpha, beta : float, default=1.0, 0.9
        Weights of commitment and neighbourhood.
    straight_through : bool, default=False
        Whether x̂_q sends its gradient past the grid to the encoder, as in VQ-VAE, and none to the
        embeddings. In the released SOM-VAE, x̂_q teaches the embeddings and x̂_e the encoder.
    latent_dim, n_iter, batch_size, learning_rate : default=64, 28_125, 32, 5e-4
        The released code's; 20 epochs of 45 000 images, the rate lowered by a tenth every 1000.
    pretrain_epochs, shuffle : default=0, True
    hidden, ...
        See `EmbeddedBaseline`; the released network is convolutional, with a sigmoid at its end.

    References
    ----------
    V. Fortuin, M. Hüser, F. Locatello, H. Strathmann and G. Rätsch, "SOM-VAE: Interpretable
    Discrete Representation Learning on Time Series", ICLR 2019.
    """

    grid: tuple[int, int] | Grid = (8, 8)
    alpha: float = 1.0
    beta: float = 0.9
    straight_through: bool = False
    _: KW_ONLY
    latent_dim: int = 64
    n_iter: int = 28_125
    batch_size: int = 32
    learning_rate: float = 5e-4
    pretrain_epochs: int = 0
    shuffle: bool = True

    def _tell(self, stack: Any, models: Sequence[Any]) -> None:
        near = self.grid_.adjacency() + np.eye(self._n_centers())
        stack.share = torch.from_numpy(near / (self.grid_.connectivity + 1)).to(stack.centers)

    def _initialise(self, stack: Any, X: Tensor, generators: Generators) -> None:
        shape = stack.centers.shape[1:]
        stack.centers.copy_(
            0.05 * torch.stack([torch.randn(shape, generator=g) for g in generators])
        )

    def _losses(self, stack: Any, x: Tensor, rows: Tensor, values: Tensors) -> Tensors:
        z_e, e = stack.encoder(x), stack.centers
        d2 = squared(z_e.detach(), e) / z_e.shape[-1]  # ‖e − sg(z_e)‖²
        chi = d2.argmin(-1)
        z_q = torch.take_along_dim(e, chi[..., None], 1)
        decoded = z_e + (z_q - z_e).detach() if self.straight_through else z_q
        L_q = reconstruction_error(x, stack.decoder(decoded))
        L_e = reconstruction_error(x, stack.decoder(z_e))
        L_commit = (z_e - z_q).square().mean((1, 2))
        L_som = (stack.share[chi] * d2).sum(-1).mean(-1)
        losses = {"reconstruction_q": L_q, "reconstruction_e": L_e}
        losses |= {"commitment": L_commit, "som": L_som}
        return losses | {"loss": L_q + L_e + self.alpha * L_commit + self.beta * L_som}


# ---------------------------------------------------------------- MiniSom


@dataclass(eq=False, repr=False)
class MiniSomMap(_SampleMap, Saveable, ClusterMixin, TransformerMixin, BaseEstimator):
    """The library MiniSom as an estimator: the slides' minisom, and on codes AE+minisom.

    The script behind the published numbers is not public; its settings are parameters here, by
    default the library's own.

    Parameters
    ----------
    grid : (int, int) or Grid, default=(8, 8)
        A plain rectangular map.
    n_iter : int, default=10_000
        Samples presented (MiniSom's `num_iteration`).
    sigma, learning_rate : float, default=1.0, 0.5
        Their starts.
    init : {"sample", "pca", "random"}, default="sample"
        Samples drawn at random, the plane of two principal components, or random directions.
    neighborhood, decay, sigma_decay : str
        MiniSom's `neighborhood_function`, `decay_function` and `sigma_decay_function`.
    random_order : bool, default=False
        Whether samples are drawn at random, or taken in the file's order.
    random_state : int, Generator, RandomState or None, default=None

    Attributes
    ----------
    weights_ : ndarray of shape (K, d)
    labels_ : ndarray of shape (n,)
        Best-matching unit of each training sample.

    Raises
    ------
    ImportError
        From `fit`, when MiniSom is not installed.
    ValueError
        From `fit`, when a parameter or the data is unusable.
    """

    grid: tuple[int, int] | Grid = (8, 8)
    n_iter: int = 10_000
    sigma: float = 1.0
    learning_rate: float = 0.5
    init: Literal["sample", "pca", "random"] = "sample"
    neighborhood: str = "gaussian"
    decay: str = "asymptotic_decay"
    sigma_decay: str = "asymptotic_decay"
    random_order: bool = False
    random_state: Any = None

    _learned: ClassVar[dict[str, Check]] = {
        "weights_": array("f", "K", "d"),
        "labels_": array("i", "n"),
    }

    def _require_whole(self) -> None:
        require_units(self.weights_, self.grid_)

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Train a new map on samples X of shape (n, d)."""
        try:
            from minisom import MiniSom
        except ImportError:
            raise ImportError(
                "MiniSomMap needs the library MiniSom, which is not installed: pip install minisom"
            ) from None
        samples: Any = validate_data(self, X, dtype=np.float64)
        require_count("n_iter", self.n_iter)
        if self.init not in ("sample", "pca", "random"):
            raise ValueError(f"init={self.init!r}; choose 'sample', 'pca' or 'random'")
        if self.grid_.topology != "rect" or any(self.grid_.periods):
            raise ValueError(f"grid={self.grid!r}: MiniSomMap has plain rectangular maps only")
        som = MiniSom(
            self.grid_.rows,
            self.grid_.cols,
            samples.shape[1],
            sigma=self.sigma,
            learning_rate=self.learning_rate,
            neighborhood_function=self.neighborhood,
            decay_function=self.decay,
            sigma_decay_function=self.sigma_decay,
            random_seed=resolve_seed(self.random_state) % 2**32,
        )
        if self.init == "sample":
            som.random_weights_init(samples)
        elif self.init == "pca":
            som.pca_weights_init(samples)
        som.train(samples, self.n_iter, random_order=self.random_order)
        self.weights_ = som.get_weights().reshape(self.grid_.n_units, -1)
        self.labels_ = self._nearest(samples)
        return self

    def _valid(self, X: ArrayLike, *, reset: bool) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, reset=reset, dtype=np.float64)
