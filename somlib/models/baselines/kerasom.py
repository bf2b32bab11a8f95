"""Kerasom: the SOM loss on the samples, DESOM without its autoencoder."""

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from somlib import checks
from somlib.models.baselines.centers import DataMap, random_samples
from somlib.models.desom import GridDistance, Neighborhood, grid_distances, nearest_units, som_loss
from somlib.spaces import GridLike
from somlib.training import Array, DeepEstimator, Losses, Network
from somlib.training.schedules import Decay, Range, schedule


class KerasomNetwork(Network):
    """The prototypes of a map in the space of the samples.

    Parameters
    ----------
    config : Kerasom
        Its parameters.
    n_features : int
        d.
    """

    def __init__(self, config: "Kerasom", n_features: int) -> None:
        super().__init__()
        c = config
        self.centers = nn.Parameter(torch.zeros(c.grid_.n_units, n_features))
        self.grid, self.grid_distance = c.grid_, c.grid_distance
        self.neighborhood = c.neighborhood
        self.temperature = schedule("temperature", c.temperature, c.decay)

    @cached_property
    def delta(self) -> Tensor:
        """δ between all units, (K, K), computed on first use."""
        return torch.from_numpy(grid_distances(self.grid, self.grid_distance)).to(self.centers)

    def initialize(self, X: Tensor, generator: torch.Generator) -> None:
        """Set the prototypes to K random samples."""
        self.centers.copy_(random_samples(X, len(self.centers), generator))

    def schedules(self, n_iter: int) -> dict[str, Array]:
        """Return T at each iteration."""
        return {"temperature": np.array(self.temperature.values(0, n_iter, n_iter))}

    def losses(self, x: Tensor, temperature: Tensor) -> Losses:
        """Return the SOM loss of a batch."""
        return {"loss": som_loss(x, self.centers, self.delta, temperature, self.neighborhood)}


@dataclass(eq=False, repr=False)
class Kerasom(DataMap, DeepEstimator):
    """The SOM loss minimized by Adam: DESOM without its autoencoder; on codes, AE+kerasom.

    `SOM(mode="sgd")` minimizes the same loss, with the initialization, neighborhoods and sample
    weights of `SOM`; this baseline has those of the DESOM paper and trains all seeds in one pass.

    Parameters
    ----------
    grid : (int, int) or Grid, default=(8, 8)
    temperature, grid_distance, neighborhood, decay
        See `DESOM`.
    n_iter : int, default=10_000
        Iterations.
    learning_rate : float, default=1e-3
        Adam's.
    shuffle : bool, default=False
        False, as for `DESOM`.
    batch_size, precision, random_state, device, progress
        See `Autoencoder`.

    Attributes
    ----------
    grid_ : Grid
    weights_ : ndarray of shape (K, d)
        The prototypes; initialized to K different samples.
    labels_ : ndarray of shape (n,)
        Best-matching unit of each training sample.
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`.

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.

    Examples
    --------
    >>> X = np.random.default_rng(0).random((200, 3))
    >>> som = Kerasom((3, 4), n_iter=100, batch_size=50, random_state=0).fit(X)
    >>> som.weights_.shape, som.transform(X).shape, bool((som.predict(X) == som.labels_).all())
    ((12, 3), (200, 12), True)
    """

    grid: GridLike = (8, 8)
    temperature: Range = (10.0, 0.1)
    grid_distance: GridDistance = "manhattan"
    neighborhood: Neighborhood = "gaussian"
    decay: Decay = "exponential"
    _: KW_ONLY
    n_iter: checks.Count = 10_000
    learning_rate: checks.Positive = 1e-3
    shuffle: bool = False

    def _build(self, d: int, generator: torch.Generator) -> KerasomNetwork:
        return KerasomNetwork(self, d)

    def _check(self, n: int, d: int) -> None:
        if n < (K := self.grid_.n_units):
            raise ValueError(f"{K} centers for a data set of {n} samples; choose a smaller grid")
        schedule("temperature", self.temperature, self.decay)
        grid_distances(self.grid_, self.grid_distance)

    def _finish(self, X: Array) -> None:
        self.labels_ = nearest_units(X, self.weights_)[:, 0]

    @property
    def weights_(self) -> Array:
        """The prototypes, shape (K, d)."""
        return self.parameters_["centers"]

    @property
    def _n_features_out(self) -> int:
        return self.grid_.n_units

    @property
    def inverse_transform(self) -> Any:
        """Not available: a sample cannot be reconstructed from distances to the prototypes."""
        raise AttributeError("Kerasom has no decoder; its prototypes are weights_")
