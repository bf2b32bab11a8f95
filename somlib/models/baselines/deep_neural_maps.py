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
from somlib.spaces import Grid
from somlib.training import Array, Losses
from somlib.training.schedules import schedule


def kohonen_step(m: Tensor, z: Tensor, h: Tensor, alpha: Tensor) -> Tensor:
    """Return prototypes (K, L) to which a batch of codes z, (B, L), was presented one by one.

    Kohonen's stochastic rule m_k ← m_k + α h_ik (z_i − m_k), i = 1 ... B, its winners, hence
    h (B, K), found once for the batch: m_k keeps Π_i (1 − αh_ik) of itself, and of each pull
    there remains what the later samples leave.
    """
    left = (1 - alpha * h).flip(-2).cumprod(-2).flip(-2)  # Π_{j ≥ i} (1 − αh_jk)
    later = torch.cat([left[..., 1:, :], torch.ones_like(left[..., :1, :])], -2)
    return left[..., 0, :, None] * m + (alpha * h * later).mT @ z


class DeepNeuralMapsNetwork(IDECNetwork):
    """IDEC's network, whose centers are the units of a map and move by Kohonen's rule.

    Parameters
    ----------
    config : DeepNeuralMaps
        Its parameters.
    n_features : int
        d.
    generator : torch.Generator
        Draws the weights.
    """

    def __init__(
        self, config: "DeepNeuralMaps", n_features: int, generator: torch.Generator
    ) -> None:
        c, grid = config, config.grid_
        super().__init__(c, n_features, generator, grid.n_units, c.update_interval, c.gamma)
        self.centers.requires_grad_(False)
        self.grid = grid
        self.temperature = schedule("temperature", c.temperature)
        self.alpha = schedule("alpha", c.alpha)

    @cached_property
    def delta(self) -> Tensor:
        """Manhattan distances between all units, (K, K): made when training asks for them."""
        return torch.from_numpy(grid_distances(self.grid)).to(self.centers)

    def initialize_centers(self, X: Tensor, generator: torch.Generator) -> Tensor:
        """Set the centers to the codes of K random samples; return the nearest of each sample."""
        self.centers.copy_(self.encode(random_samples(X, len(self.centers), generator)))
        return squared_distance(all_codes(self, X), self.centers).argmin(-1)

    def schedules(self, n_iter: int) -> dict[str, Array]:
        """Return T and α at each iteration."""
        T, alpha = (s.values(0, n_iter, n_iter) for s in (self.temperature, self.alpha))
        return {"temperature": np.array(T), "alpha": np.array(alpha)}

    def updates(
        self, x: Tensor, rows: Tensor, **arguments: Tensor
    ) -> Iterator[tuple[Losses, Iterable[Tensor]]]:
        """Move the map by the codes of the batch, then take the autoencoder's step."""
        z = self.encode(x)
        with torch.no_grad():
            chi = squared_distance(z, self.centers).argmin(-1)
            h = neighborhood_weights(self.delta, arguments["temperature"])[chi]
            self.centers.copy_(kohonen_step(self.centers, z, h, arguments["alpha"]))
        yield self.joint_losses(x, z, self.target_of(rows)), self.parameters()


@dataclass(eq=False, repr=False)
class DeepNeuralMaps(EmbeddedMap):
    """Deep Neural Maps: IDEC's loss for the network, Kohonen's rule for the centers, in turn.

    Each iteration encodes its batch, presents the codes to the map one by one (`kohonen_step`)
    and, the centers fixed, takes the autoencoder's step, as the slides describe the paper.

    Parameters
    ----------
    grid : (int, int) or Grid, default=(8, 8)
        Its prototypes start as the codes of K different samples.
    gamma : float, default=0.01
        Weight of the clustering loss. IDEC's 0.1 draws the codes together before the map has
        unfolded: on the digits purity falls from .91 to .56 (one small network, three seeds).
    temperature : (float, float), default=(10.0, 0.1)
        Width T of the neighborhood exp(−δ²/T²), DESOM's, with Manhattan δ.
    alpha : (float, float), default=(0.5, 0.01)
        The map's learning rate at the start and at the end.
    shuffle : bool, default=True
        Kohonen's rule weighs the last samples most, so their order should be random.
    update_interval : int, default=140
        See `DEC`.
    hidden, latent_dim, pretrain_epochs, ...
        See `EmbeddedClustering`.

    References
    ----------
    M. Pesteie, P. Abolmaesumi and R. Rohling, "Deep Neural Maps", ICLR 2018 workshop.
    """

    grid: tuple[int, int] | Grid = (8, 8)
    gamma: float = 0.01
    temperature: tuple[float, float] = (10.0, 0.1)
    alpha: tuple[float, float] = (0.5, 0.01)
    _: KW_ONLY
    update_interval: int = 140
    shuffle: bool = True

    def _build(self, d: int, generator: torch.Generator) -> DeepNeuralMapsNetwork:
        return DeepNeuralMapsNetwork(self, d, generator)

    def _check(self, n: int, d: int) -> None:
        super()._check(n, d)
        checks.not_negative("gamma", self.gamma)
        checks.count("update_interval", self.update_interval)
        schedule("temperature", self.temperature)
        if schedule("alpha", self.alpha).start > 1:
            raise ValueError(f"alpha={self.alpha!r} steps past the sample; start at 1 or below")
