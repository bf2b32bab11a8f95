"""DEC and IDEC: an encoder trained on its own confident assignments to centers."""

from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

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
from somlib.training import Losses
from somlib.training.layers import AutoencoderNetwork

# ---------------------------------------------------------------- the formulas


def soft_assignment(z: Tensor, m: Tensor) -> Tensor:
    """Return q_ik = (1 + ‖z_i − m_k‖²)⁻¹ / Σ_k' (1 + ‖z_i − m_k'‖²)⁻¹ (Xie 2016, equation 1)."""
    t = 1 / (1 + squared_distance(z, m))
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
    """Return D_KL(p‖q) = Σ_k p_ik log (p_ik / q_ik), the mean over the batch.

    Equation 2 of Xie 2016 is the sum over all samples; the released code takes the mean.
    """
    return torch.xlogy(p, p / q).sum(-1).mean(-1)


# ---------------------------------------------------------------- the networks


class DECNetwork(AutoencoderNetwork):
    """An autoencoder, centers in its latent space, and a target distribution of assignments.

    Parameters
    ----------
    config : DEC, IDEC or DeepNeuralMaps
        Its parameters.
    n_features : int
        d.
    generator : torch.Generator
        Initializes the weights.
    """

    target: Tensor
    labels: Tensor
    changed: Tensor
    training_buffers: ClassVar = {"target": ("n", "K"), "labels": ("n",), "changed": ()}

    def __init__(self, config: Any, n_features: int, generator: torch.Generator) -> None:
        super().__init__(n_features, config.hidden, config.latent_dim, generator)
        self.centers = nn.Parameter(torch.zeros(config._n_centers, config.latent_dim))
        for name in self.training_buffers:
            self.register_buffer(name, None)
        self.config = config

    def initialize(self, X: Tensor, generator: torch.Generator) -> None:
        """Set the centers and the initial labels; `prepare` sets the target at iteration 0."""
        self.labels = self.initialize_centers(X, generator)
        self.target = X.new_zeros(len(X), len(self.centers))
        self.changed = X.new_zeros(())

    def initialize_centers(self, X: Tensor, generator: torch.Generator) -> Tensor:
        """Set the centers to those of k-means on the codes; return the labels, (n,)."""
        centers, labels = kmeans(all_codes(self, X), len(self.centers), generator)
        self.centers.copy_(centers)
        return labels

    def prepare(self, X: Tensor, i: int, **arguments: Tensor) -> None:
        """Recompute the target from the assignments of all samples, every `update_interval`."""
        if i % self.config.update_interval == 0:
            q = soft_assignment(all_codes(self, X), self.centers)
            labels = q.argmax(-1)
            self.changed.copy_((labels != self.labels).to(q).mean(-1))
            self.labels.copy_(labels)
            self.target.copy_(target_distribution(q))

    def target_of(self, rows: Tensor) -> Tensor:
        """Return the rows of the target of a batch, (B, K)."""
        rows = rows.expand(*self.target.shape[:-2], rows.shape[-1])
        return torch.take_along_dim(self.target, rows[..., None], -2)

    def updates(
        self, x: Tensor, rows: Tensor, **arguments: Tensor
    ) -> Iterator[tuple[Losses, Iterable[Tensor]]]:
        """Take one step for all parameters on the batch's rows of the target."""
        yield self.losses(x, self.target_of(rows)), self.parameters()

    def losses(self, x: Tensor, target: Tensor) -> Losses:
        """Return ℒ = D_KL(p‖q) of a batch, and the fraction of labels that changed."""
        return self.clustering_losses(self.encode(x), target)

    def clustering_losses(self, z: Tensor, target: Tensor) -> Losses:
        """Return the losses of a batch's codes."""
        L_c = kl_divergence(target, soft_assignment(z, self.centers))
        return {"loss": L_c, "clustering": L_c, "changed": self.changed.clone()}


class IDECNetwork(DECNetwork):
    """DEC's network with the reconstruction loss.

    Parameters
    ----------
    config, n_features, generator
        See `DECNetwork`.
    """

    def losses(self, x: Tensor, target: Tensor) -> Losses:
        """Return ℒ = ℒ_r + γ D_KL(p‖q) of a batch (Guo 2017), and both terms before weighting."""
        return self.joint_losses(x, self.encode(x), target)

    def joint_losses(self, x: Tensor, z: Tensor, target: Tensor) -> Losses:
        """Return the losses of a batch, given its codes."""
        L_r = reconstruction_error(x, self.decode(z))
        losses = self.clustering_losses(z, target)
        L = L_r + self.config.gamma * losses["clustering"]
        return losses | {"loss": L, "reconstruction": L_r}


# ---------------------------------------------------------------- the estimators


@dataclass(eq=False, repr=False)
class DEC(EmbeddedClustering):
    """Deep embedded clustering: the encoder is trained on its own confident assignments.

    The loss is D_KL(p‖q) alone, so the decoder does not change after pre-training.

    Parameters
    ----------
    n_clusters : int, default=10
        Centers; initialized by k-means on the codes.
    update_interval : int, default=140
        Iterations between two updates of the target p; the paper's for MNIST.
    n_iter : int, default=20_000
        There is no early stopping, so that all seeds of an ensemble have the same number. The paper
        stops when an update changes less than 0.1 % of the labels; `history_["changed"]` holds that
        fraction.
    hidden, latent_dim, pretrain_epochs, ...
        See `EmbeddedClustering`.

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

    n_clusters: checks.Count = 10
    _: KW_ONLY
    update_interval: checks.Count = 140
    n_iter: checks.Count = 20_000

    def _build(self, d: int, generator: torch.Generator) -> DECNetwork:
        return DECNetwork(self, d, generator)


@dataclass(eq=False, repr=False)
class IDEC(DEC):
    """Improved DEC: DEC with the reconstruction loss, ℒ = ℒ_r + γ D_KL(p‖q).

    Parameters
    ----------
    n_clusters, update_interval, n_iter
        See `DEC`.
    gamma : float, default=0.1
        Weight of the clustering loss; with 0 the model is an autoencoder.
    hidden, latent_dim, pretrain_epochs, ...
        See `EmbeddedClustering`.

    References
    ----------
    X. Guo, L. Gao, X. Liu and J. Yin, "Improved Deep Embedded Clustering with Local Structure
    Preservation", IJCAI 2017.
    """

    gamma: checks.NotNegative = 0.1

    def _build(self, d: int, generator: torch.Generator) -> IDECNetwork:
        return IDECNetwork(self, d, generator)
