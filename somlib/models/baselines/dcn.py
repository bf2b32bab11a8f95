"""DCN: an autoencoder and k-means of its codes, trained alternately."""

from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor, nn

from somlib import checks
from somlib.models.autoencoders import reconstruction_error
from somlib.models.baselines.centers import (
    EmbeddedClustering,
    all_codes,
    assigned_centers,
    kmeans,
    squared_distance,
)
from somlib.training import Losses
from somlib.training.layers import AutoencoderNetwork


def running_mean(m: Tensor, counts: Tensor, z: Tensor, chi: Tensor) -> tuple[Tensor, Tensor]:
    """Return centers (K, L) and counts (K,) after a batch of codes z, (B, L), that χ assigns.

    Yang 2016: c_k ← c_k + 1, m_k ← m_k + (z_i − m_k) / c_k with k = χ(i), for i = 1 ... B in turn.
    As χ is fixed for the batch, m_k is the mean of all codes assigned to it so far.
    """
    assigned = (chi[..., None] == torch.arange(m.shape[-2], device=m.device)).to(z)
    total = counts + assigned.sum(-2)
    return (counts[..., None] * m + assigned.mT @ z) / total[..., None], total


class KMeansNetwork(AutoencoderNetwork):
    """An autoencoder with the k-means loss; the centers are updated without gradients.

    Parameters
    ----------
    config : DCN
        Its parameters.
    n_features : int
        d.
    generator : torch.Generator
        Initializes the weights.
    """

    def __init__(self, config: "DCN", n_features: int, generator: torch.Generator) -> None:
        super().__init__(n_features, config.hidden, config.latent_dim, generator)
        empty = torch.zeros(config.n_clusters, config.latent_dim)
        self.centers = nn.Parameter(empty, requires_grad=False)
        self.gamma = config.gamma

    def initialize(self, X: Tensor, generator: torch.Generator) -> None:
        """Set the centers to those of k-means on the codes."""
        self.initialize_centers(X, generator)

    def initialize_centers(self, X: Tensor, generator: torch.Generator) -> Tensor:
        """Set the centers to those of k-means on the codes; return the labels, (n,)."""
        centers, labels = kmeans(all_codes(self, X), len(self.centers), generator)
        self.centers.copy_(centers)
        return labels

    def losses(self, x: Tensor, z: Tensor, chi: Tensor) -> Losses:
        """Return ℒ = ℒ_r + γ mean ‖z − m_χ‖² of a batch, given its codes and their centers χ."""
        L_r = reconstruction_error(x, self.decode(z))
        L_km = (z - assigned_centers(self.centers, chi)).square().sum(-1).mean(-1)
        return {"loss": L_r + self.gamma * L_km, "reconstruction": L_r, "kmeans": L_km}


class DCNNetwork(KMeansNetwork):
    """A network with the k-means loss that counts the codes assigned to each center.

    Parameters
    ----------
    config, n_features, generator
        See `KMeansNetwork`.
    """

    counts: Tensor

    def __init__(self, config: "DCN", n_features: int, generator: torch.Generator) -> None:
        super().__init__(config, n_features, generator)
        self.register_buffer("counts", torch.full((config.n_clusters,), 100.0))

    def updates(
        self, x: Tensor, rows: Tensor, **arguments: Tensor
    ) -> Iterator[tuple[Losses, Iterable[Tensor]]]:
        """Assign the batch, update the autoencoder, then the centers."""
        z = self.encode(x)
        chi = squared_distance(z, self.centers).argmin(-1)  # χ(i) = argmin_k ‖z_i − m_k‖²
        yield self.losses(x, z, chi), self.parameters()
        with torch.no_grad():
            centers, counts = running_mean(self.centers, self.counts, z, chi)
            self.centers.copy_(centers)
            self.counts.copy_(counts)


@dataclass(eq=False, repr=False)
class DCN(EmbeddedClustering):
    """Deep clustering network: ℒ = ℒ_r + γ mean ‖z − m_χ‖², and k-means updates of the centers.

    Each iteration assigns its batch, updates the network with the centers fixed, then sets the
    centers to the running mean of the codes assigned to them (`running_mean`). The released code
    encodes the batch again before the update of the centers.

    Parameters
    ----------
    n_clusters : int, default=10
        Centers; initialized by k-means on the codes, with a count of 100 each, as in the released
        code.
    gamma : float, default=1e-3
        Weight of the k-means loss. The released code has 1 with errors summed over pixels, which
        is about 1e-3 with their mean.
    n_iter : int, default=13_700
        The released code's 50 epochs of MNIST.
    hidden, latent_dim, pretrain_epochs, ...
        See `EmbeddedClustering`.

    References
    ----------
    B. Yang, X. Fu, N. D. Sidiropoulos and M. Hong, "Towards K-means-friendly Spaces: Simultaneous
    Deep Learning and Clustering", 2016; ICML 2017.
    """

    n_clusters: checks.Count = 10
    gamma: checks.NotNegative = 1e-3
    _: KW_ONLY
    n_iter: checks.Count = 13_700

    def _build(self, d: int, generator: torch.Generator) -> KMeansNetwork:
        return DCNNetwork(self, d, generator)
