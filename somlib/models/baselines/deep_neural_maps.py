"""Deep Neural Maps: IDEC's loss for an autoencoder, Kohonen's rule for a map of its codes."""

from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from somlib import checks
from somlib.models.baselines.centers import (
    EmbeddedMap,
    all_codes,
    random_samples,
    squared_distance,
)
from somlib.models.baselines.dec import IDECNetwork
from somlib.models.desom import grid_distances, neighborhood_weights
from somlib.training import Array, Losses
from somlib.training.schedules import Range, schedule


def kohonen_step(m: Tensor, z: Tensor, h: Tensor, alpha: Tensor) -> Tensor:
    """Return the prototypes (K, L) after a batch of codes z, (B, L), presented one by one.

    Kohonen's rule m_k ← m_k + α h_ik (z_i − m_k), i = 1 ... B. The BMUs, hence h (B, K), are found
    once per batch. The updates in closed form: m_k is multiplied by Π_i (1 − αh_ik), and the term
    α h_ik z_i by the same product over the later samples.
    """
    factors = (1 - alpha * h).flip(-2).cumprod(-2).flip(-2)  # Π_{j ≥ i} (1 − αh_jk)
    later = torch.cat([factors[..., 1:, :], torch.ones_like(factors[..., :1, :])], -2)
    return factors[..., 0, :, None] * m + (alpha * h * later).mT @ z


class DeepNeuralMapsNetwork(IDECNetwork):
    """IDEC's network, with centers that are the units of a map, updated by Kohonen's rule.

    Parameters
    ----------
    config : DeepNeuralMaps
        Its parameters.
    n_features : int
        d.
    generator : torch.Generator
        Initializes the weights.
    """

    def __init__(
        self, config: "DeepNeuralMaps", n_features: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, n_features, generator)
        self.centers.requires_grad_(False)
        self.grid = config.grid_
        self.temperature = schedule("temperature", config.temperature)
        self.alpha = schedule("alpha", config.alpha)

    @cached_property
    def delta(self) -> Tensor:
        """Manhattan distances between all units, (K, K), computed on first use."""
        return torch.from_numpy(grid_distances(self.grid)).to(self.centers)

    def initialize_centers(self, X: Tensor, generator: torch.Generator) -> Tensor:
        """Set the centers to the codes of K random samples; return the BMU of each sample."""
        self.centers.copy_(self.encode(random_samples(X, len(self.centers), generator)))
        return squared_distance(all_codes(self, X), self.centers).argmin(-1)

    def schedules(self, n_iter: int) -> dict[str, Array]:
        """Return T and α at each iteration."""
        T, alpha = (s.values(0, n_iter, n_iter) for s in (self.temperature, self.alpha))
        return {"temperature": np.array(T), "alpha": np.array(alpha)}

    def updates(
        self, x: Tensor, rows: Tensor, **arguments: Tensor
    ) -> Iterator[tuple[Losses, Iterable[Tensor]]]:
        """Update the map with the codes of the batch, then the autoencoder."""
        z = self.encode(x)
        with torch.no_grad():
            chi = squared_distance(z, self.centers).argmin(-1)
            h = neighborhood_weights(self.delta, arguments["temperature"])[chi]
            self.centers.copy_(kohonen_step(self.centers, z, h, arguments["alpha"]))
        yield self.joint_losses(x, z, self.target_of(rows)), self.parameters()


@dataclass(eq=False, repr=False)
class DeepNeuralMaps(EmbeddedMap):
    """Deep Neural Maps: IDEC's loss for the network, Kohonen's rule for the centers.

    Each iteration encodes its batch, presents the codes to the map one by one (`kohonen_step`),
    then updates the autoencoder with the centers fixed, as the slides describe the paper.

    Parameters
    ----------
    grid : (int, int) or Grid, default=(8, 8)
        Its prototypes are initialized to the codes of K different samples.
    gamma : float, default=0.01
        Weight of the clustering loss. With IDEC's 0.1 the codes contract before the map has
        unfolded: on the digits purity decreases from .91 to .56 (one small network, three seeds).
    temperature : (float, float), default=(10.0, 0.1)
        Width T of the neighborhood exp(−δ²/T²), DESOM's, with Manhattan δ.
    alpha : (float, float), default=(0.5, 0.01)
        The map's learning rate at the start and at the end.
    shuffle : bool, default=True
        Kohonen's rule gives the last samples the largest weight, so their order should be random.
    update_interval : int, default=140
        See `DEC`.
    hidden, latent_dim, pretrain_epochs, ...
        See `EmbeddedClustering`.

    References
    ----------
    M. Pesteie, P. Abolmaesumi and R. Rohling, "Deep Neural Maps", ICLR 2018 workshop.
    """

    gamma: checks.NotNegative = 0.01
    temperature: Range = (10.0, 0.1)
    alpha: Range = (0.5, 0.01)
    _: KW_ONLY
    update_interval: checks.Count = 140
    shuffle: bool = True

    def _build(self, d: int, generator: torch.Generator) -> DeepNeuralMapsNetwork:
        return DeepNeuralMapsNetwork(self, d, generator)

    def _check(self, n: int, d: int) -> None:
        super()._check(n, d)
        if self.alpha[0] > 1:
            raise ValueError(f"alpha={self.alpha!r} must start at 1 or below")
