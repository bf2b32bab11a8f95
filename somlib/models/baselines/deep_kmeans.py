"""Deep k-means: k-means of codes with soft assignments, trained by one gradient."""

from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from somlib import checks
from somlib.models.autoencoders import reconstruction_error
from somlib.models.baselines.centers import (
    EmbeddedClustering,
    all_codes,
    kmeans,
    squared_distance,
)
from somlib.training import Array, Losses
from somlib.training.layers import AutoencoderNetwork


def relaxed_kmeans(z: Tensor, m: Tensor, alpha: Tensor | float) -> Tensor:
    """Return Σ_k G_ik ‖z_i − m_k‖² with G_i = softmax_k(−α ‖z_i − m_k‖²), the mean over the batch.

    For α → ∞ this is the k-means loss; for α = 0 the mean over all centers (Fard 2018).
    """
    d2 = squared_distance(z, m)
    return (torch.softmax(-alpha * d2, -1) * d2).sum(-1).mean(-1)


def annealed(alpha: float, n_values: int) -> Array:
    """Return the n values α_1 = `alpha`, α_n+1 = 2^(1 / log² (n + 1)) α_n (Fard 2018).

    Examples
    --------
    >>> annealed(0.1, 4).round(2).tolist()
    [0.1, 0.42, 0.75, 1.08]
    """
    n = np.arange(2, n_values + 1)
    return alpha * np.cumprod(np.append(1.0, 2 ** (1 / np.log(n) ** 2)))


class DeepKMeansNetwork(AutoencoderNetwork):
    """An autoencoder, and centers in its latent space.

    Parameters
    ----------
    config : DeepKMeans
        Its parameters.
    n_features : int
        d.
    generator : torch.Generator
        Initializes the weights.
    """

    def __init__(self, config: "DeepKMeans", n_features: int, generator: torch.Generator) -> None:
        K, L = config.n_clusters, config.latent_dim
        super().__init__(n_features, config.hidden, L, generator)
        self.centers = nn.Parameter(torch.zeros(K, L))
        self.alpha, self.n_alphas, self.gamma = config.alpha, config.n_alphas, config.gamma

    def initialize(self, X: Tensor, generator: torch.Generator) -> None:
        """Set the centers to those of k-means on the codes."""
        self.centers.copy_(kmeans(all_codes(self, X), len(self.centers), generator)[0])

    def schedules(self, n_iter: int) -> dict[str, Array]:
        """Return α at each iteration: each of its values for an equal share of them."""
        value = np.arange(n_iter) * self.n_alphas // n_iter
        return {"alpha": annealed(self.alpha, self.n_alphas)[value]}

    def losses(self, x: Tensor, alpha: Tensor) -> Losses:
        """Return ℒ = ℒ_r + γ Σ_k G_k ‖z − m_k‖² of a batch, and both terms before weighting."""
        z = self.encode(x)
        L_r = reconstruction_error(x, self.decode(z))
        L_km = relaxed_kmeans(z, self.centers, alpha)
        return {"loss": L_r + self.gamma * L_km, "reconstruction": L_r, "kmeans": L_km}


@dataclass(eq=False, repr=False)
class DeepKMeans(EmbeddedClustering):
    """Deep k-means: ℒ = ℒ_r + γ mean Σ_k G_k ‖z − m_k‖², G the softmax of −α ‖z − m_k‖².

    The soft assignments G make the k-means loss differentiable: one gradient reaches encoder and
    centers, and nothing alternates. The paper has two forms. The defaults are those of the one that
    follows pre-training, with assignments that are nearly hard. The other one starts from scratch,
    and α increases in steps, so that the assignments harden:
    `DeepKMeans(alpha=0.1, n_alphas=40, pretrain_epochs=0, n_iter=54_800)`. It depends on γ: the
    k-means loss draws codes together, and the closer they are, the softer are the assignments.

    Parameters
    ----------
    n_clusters : int, default=10
        Centers; initialized by k-means on the codes. The released code does so after pre-training,
        and without it samples them uniformly from [−1, 1].
    gamma : float, default=1e-3
        Weight of the relaxed k-means loss. The released code has 1 with errors summed over pixels,
        which is about 1e-3 with their mean.
    alpha : float, default=1000.0
        Inverse temperature of the softmax, its first value.
    n_alphas : int, default=1
        Values of α, see `annealed`; 1 keeps it constant.
    n_iter : int, default=27_400
        A hundred epochs of MNIST, as in the released code.
    pretrain_epochs : int, default=50
        As in the released code.
    hidden, latent_dim, ...
        See `EmbeddedClustering`. The released code draws its batches at random. The history also
        holds "alpha".

    References
    ----------
    M. Moradi Fard, T. Thonet and E. Gaussier, "Deep k-Means: Jointly Clustering with k-Means and
    Learning Representations", arXiv:1806.10069, 2018.

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> short = {"n_iter": 100, "pretrain_epochs": 5, "random_state": 0}
    >>> model = DeepKMeans(hidden=(64,), latent_dim=5, **short).fit(X)
    >>> model.predict(X).shape, model.centers_.shape
    ((1797,), (10, 5))
    """

    n_clusters: checks.Count = 10
    gamma: checks.NotNegative = 1e-3
    alpha: checks.Positive = 1000.0
    n_alphas: checks.Count = 1
    _: KW_ONLY
    n_iter: checks.Count = 27_400
    pretrain_epochs: checks.CountOrZero = 50

    def _build(self, d: int, generator: torch.Generator) -> DeepKMeansNetwork:
        return DeepKMeansNetwork(self, d, generator)
