"""Code shared by the baselines: centers, their initialization, nearest centers, checks.

A network holds its centers as an ordinary parameter `centers` of shape (K, L). The functions here
take centers and codes; each model uses those that it needs. There are two base classes:
`EmbeddedClustering` for centers in the latent space of an autoencoder, `EmbeddedMap` for those that
are also the units of a grid.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClusterMixin
from sklearn.cluster import KMeans
from torch import Tensor

from somlib import checks
from somlib.models.autoencoders import Autoencoder, pretrained
from somlib.models.desom import LatentMap, OnGrid, nearest_units
from somlib.models.layerwise import stacked_denoising
from somlib.search.best_units import Block, Codebook, squared_distances
from somlib.spaces import GridLike
from somlib.training import ROWS_AT_ONCE, Array, DeepEstimator, fit_seeds
from somlib.training.layers import AutoencoderNetwork

# ---------------------------------------------------------------- codes and centers


def squared_distance(z: Tensor, m: Tensor) -> Tensor:
    """Return ‖z_i − m_k‖² of codes (B, L) and centers (K, L), shape (B, K)."""
    return torch.cdist(z, m, compute_mode="donot_use_mm_for_euclid_dist").square()


def assigned_centers(m: Tensor, chi: Tensor) -> Tensor:
    """Return m_χ(i), the center (L,) of each sample: centers (K, L), χ (B,), result (B, L)."""
    return torch.take_along_dim(m, chi[..., None], -2)


def all_codes(network: AutoencoderNetwork, X: Tensor) -> Tensor:
    """Return the codes of all samples, (n, L), encoded in blocks."""
    stacked = network.get_parameter("centers").shape[:-2].numel()  # more seeds, smaller blocks
    parts = torch.split(X, max(1, ROWS_AT_ONCE // stacked))
    return torch.cat([network.encode(x) for x in parts], -2)


def random_samples(X: Tensor, K: int, generator: torch.Generator) -> Tensor:
    """Return K different samples, (K, d)."""
    return X[torch.randperm(len(X), generator=generator)[:K].to(X.device)]


def kmeans(Z: Tensor, K: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the centers (K, L) and labels (n,) of k-means on codes (n, L), the best of 20 runs.

    Its random numbers depend on the generator's seed alone.
    """
    seed = generator.initial_seed() % 2**32
    found = KMeans(K, n_init=20, random_state=seed).fit(Z.numpy(force=True))
    centers = torch.from_numpy(found.cluster_centers_).to(Z)
    return centers, torch.from_numpy(found.labels_).to(Z.device, torch.long)


# ---------------------------------------------------------------- base classes


class DataMap(OnGrid, ClusterMixin):
    """Base of the maps whose prototypes, `weights_`, lie among the samples."""

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return the best-matching unit of each sample, shape (n,); ties: the lowest index."""
        return nearest_units(self._valid(X, reset=False), self.weights_)[:, 0]

    def transform(self, X: ArrayLike) -> Array:
        """Return the distance of each sample to each prototype, shape (n, K)."""
        X, center = self._valid(X, reset=False), self.weights_.mean(0)
        x, m = torch.from_numpy(X - center), torch.from_numpy(self.weights_ - center)
        return squared_distances(Block.of(x), Codebook(m)).sqrt().numpy()


@dataclass(kw_only=True, eq=False, repr=False)
class EmbeddedClustering(ClusterMixin, DeepEstimator):
    """Base of the estimators with centers in the latent space of a dense autoencoder.

    Parameters
    ----------
    hidden : sequence of int, default=(500, 500, 2000)
    latent_dim : int, default=10
        See `Autoencoder`.
    pretrain_epochs : int, default=200
        Epochs of pre-training as a plain autoencoder, unless `fit` is given a trained one as
        `start`.
    layer_epochs : int, default=0
        Epochs for which each layer is trained as a denoising autoencoder before that pre-training,
        as in the papers of DEC, IDEC, DCN and VaDE (see `layerwise.stacked_denoising`); 0 omits it.
    n_iter : int, default=10_000
        Iterations; the default of each baseline is that of its paper, if there is one.
    batch_size : int, default=256
    learning_rate : float, default=1e-3
        Adam's for all baselines, whatever optimizer their papers use; constant, except for `SOMVAE`
        and `VaDE`.
    shuffle : bool, default=False
        False, as in the released codes of DEC, IDEC, DCN and DESOM.
    precision, random_state, device, progress
        See `Autoencoder`.

    Attributes
    ----------
    centers_ : ndarray of shape (K, latent_dim)
        The centers in latent space.
    labels_ : ndarray of shape (n,)
        Cluster, or unit of the map, of each training sample.
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`. The history holds each term of the loss, before weighting.

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.
    """

    hidden: Sequence[checks.Count] = (500, 500, 2000)
    latent_dim: checks.Count = 10
    pretrain_epochs: checks.CountOrZero = 200
    layer_epochs: checks.CountOrZero = 0
    n_iter: checks.Count = 10_000
    learning_rate: checks.Positive = 1e-3
    shuffle: bool = False

    @property
    def _n_centers(self) -> int:
        return int(self.n_clusters)

    def _check(self, n: int, d: int) -> None:
        if n < (K := self._n_centers):
            parameter = "n_clusters" if hasattr(self, "n_clusters") else "grid"
            raise ValueError(
                f"{K} centers for a data set of {n} samples; choose a smaller {parameter}"
            )
        if self.layer_epochs and not self.pretrain_epochs:
            raise ValueError(
                f"layer_epochs={self.layer_epochs!r} with pretrain_epochs=0: layers that are "
                "trained one by one need training together; choose pretrain_epochs of at least 1"
            )

    def _pretrain(
        self, X: Array, seeds: Sequence[int], checkpoint: Path | None
    ) -> list[Autoencoder] | None:
        shared = ("hidden", "latent_dim", "batch_size", "precision", "device", "progress")
        if not self.layer_epochs:
            return pretrained(self, shared, X, seeds, checkpoint)
        own = {name: getattr(self, name) for name in shared}
        autoencoder = Autoencoder(n_epochs=self.pretrain_epochs, **own)
        start = stacked_denoising(autoencoder, X, seeds, self.layer_epochs)
        return fit_seeds(autoencoder, X, seeds, start=start)

    def _finish(self, X: Array) -> None:
        self.labels_ = self._assign(X)

    def _assign(self, X: Array) -> NDArray[np.int64]:
        return nearest_units(self._apply("encode", X), self.centers_)[:, 0]

    @property
    def centers_(self) -> Array:
        """The centers, shape (K, latent_dim)."""
        return self.parameters_["centers"]

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return the cluster or unit of each sample, shape (n,); ties: the lowest index."""
        return self._assign(self._valid(X, reset=False))


@dataclass(eq=False, repr=False)
class EmbeddedMap(LatentMap, EmbeddedClustering):
    """Base of the estimators whose centers are the units of a grid.

    Parameters
    ----------
    grid : (int, int) or Grid, default=(8, 8)
        The map.
    hidden, latent_dim, pretrain_epochs, ...
        See `EmbeddedClustering`, also for attributes and errors.

    Attributes
    ----------
    grid_ : Grid
    prototypes_ : ndarray of shape (K, latent_dim)
        The map's prototypes in latent space: its centers.
    decoded_prototypes_ : ndarray of shape (K, d)
        The prototypes, decoded.
    """

    grid: GridLike = (8, 8)
    _: KW_ONLY

    @property
    def _n_centers(self) -> int:
        return self.grid_.n_units

    @property
    def prototypes_(self) -> Array:
        """The map's prototypes in latent space, shape (K, latent_dim)."""
        return self.centers_
