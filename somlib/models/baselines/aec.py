"""AEC: an autoencoder and k-means of all its codes, trained alternately, an epoch at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from somlib.models.baselines.centers import all_codes, squared_distance
from somlib.models.baselines.dcn import DCN, KMeansNetwork, running_mean
from somlib.training import Losses


def lloyd_step(m: Tensor, Z: Tensor) -> tuple[Tensor, Tensor]:
    """Return centers (K, L) and labels (n,) after one iteration of k-means on codes Z, (n, L).

    χ(i) = argmin_k ‖z_i − m_k‖², then m_k is the mean of the codes with χ(i) = k. A center without
    codes stays where it is.

    Examples
    --------
    >>> lloyd_step(torch.tensor([[0.0], [4.0], [9.0]]), torch.tensor([[1.0], [1.5], [5.0]]))
    (tensor([[1.2500],
            [5.0000],
            [9.0000]]), tensor([0, 0, 1]))
    """
    chi = squared_distance(Z, m).argmin(-1)
    means, counts = running_mean(m, Z.new_zeros(m.shape[:-1]), Z, chi)
    return torch.where(counts[..., None] > 0, means, m), chi


class AECNetwork(KMeansNetwork):
    """A network with the k-means loss and the labels of all samples.

    Parameters
    ----------
    config, n_features, generator
        See `KMeansNetwork`.
    """

    labels: Tensor
    changed: Tensor
    training_buffers: ClassVar = {"labels": ("n",), "changed": ()}

    def __init__(self, config: DCN, n_features: int, generator: torch.Generator) -> None:
        super().__init__(config, n_features, generator)
        for name in self.training_buffers:
            self.register_buffer(name, None)
        self.batch_size = config.batch_size

    def initialize(self, X: Tensor, generator: torch.Generator) -> None:
        """Set the centers and labels to those of k-means on the codes."""
        self.labels = self.initialize_centers(X, generator)
        self.changed = X.new_zeros(())

    def prepare(self, X: Tensor, i: int, **arguments: Tensor) -> None:
        """Update the labels and the centers of all samples before each epoch."""
        if i % -(-len(X) // self.batch_size) == 0:
            centers, labels = lloyd_step(self.centers, all_codes(self, X))
            self.centers.copy_(centers)
            self.changed.copy_((labels != self.labels).to(centers).mean(-1))
            self.labels.copy_(labels)

    def updates(
        self, x: Tensor, rows: Tensor, **arguments: Tensor
    ) -> Iterator[tuple[Losses, Iterable[Tensor]]]:
        """Update the autoencoder, with the labels and centers of the epoch."""
        rows = rows.expand(*self.labels.shape[:-1], rows.shape[-1])
        chi = torch.take_along_dim(self.labels, rows, -1)
        losses = self.losses(x, self.encode(x), chi)
        yield losses | {"changed": self.changed.clone()}, self.parameters()


@dataclass(eq=False, repr=False)
class AEC(DCN):
    """Autoencoder-based clustering: ℒ = ℒ_r + γ mean ‖z − m_χ‖², with the k-means of all codes.

    Before each epoch, all samples are assigned to their nearest centers, and the centers are set
    to the means of their codes (`lloyd_step`). The epoch updates the network with both fixed. `DCN`
    does the same batch by batch.

    Parameters
    ----------
    n_clusters : int, default=10
        Centers; initialized by k-means on the codes.
    gamma : float, default=1e-3
        Weight of the k-means loss; that of `DCN`, as the slides give none.
    n_iter : int, default=13_700
        50 epochs of MNIST, as `DCN`.
    hidden, latent_dim, pretrain_epochs, ...
        See `EmbeddedClustering`. The history also holds "changed", the fraction of the labels that
        the last update changed.

    References
    ----------
    C. Song, Y. Huang, F. Liu, Z. Wang and L. Wang, "Deep auto-encoder based clustering",
    Intelligent Data Analysis 18, 2014; built from its description in the DESOM slides ("Methods
    based on k-means").

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> aec = AEC(hidden=(64,), latent_dim=5, pretrain_epochs=5, n_iter=100, random_state=0).fit(X)
    >>> aec.predict(X).shape, aec.centers_.shape
    ((1797,), (10, 5))
    """

    def _build(self, d: int, generator: torch.Generator) -> AECNetwork:
        return AECNetwork(self, d, generator)
