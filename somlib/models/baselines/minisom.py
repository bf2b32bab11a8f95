"""The library MiniSom behind the interface of the other maps."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from somlib import arrays, checks
from somlib.models.baselines.centers import DataMap
from somlib.models.desom import nearest_units
from somlib.spaces import GridLike
from somlib.training import Array, saving
from somlib.training.loop import resolve_seed


@dataclass(eq=False, repr=False)
class MiniSomMap(DataMap, saving.Saveable, TransformerMixin, BaseEstimator):
    """The library MiniSom as an estimator: the slides' minisom, and on codes AE+minisom.

    The script that produced the published numbers is not public; its settings are parameters here,
    with the library's defaults.

    Parameters
    ----------
    grid : (int, int) or Grid, default=(8, 8)
        A plain rectangular map.
    n_iter : int, default=10_000
        Samples presented (MiniSom's `num_iteration`).
    sigma, learning_rate : float, default=1.0, 0.5
        Their initial values.
    init : {"sample", "pca", "random"}, default="sample"
        Random samples, a grid in the plane of two principal components, or random directions.
    neighborhood, decay, sigma_decay : str
        MiniSom's `neighborhood_function`, `decay_function` and `sigma_decay_function`.
    random_order : bool, default=False
        Whether samples are chosen at random, or in order.
    random_state : int, Generator, RandomState or None, default=None

    Attributes
    ----------
    grid_ : Grid
    weights_ : ndarray of shape (K, d)
        The prototypes.
    labels_ : ndarray of shape (n,)
        Best-matching unit of each training sample.

    Raises
    ------
    ImportError
        From `fit`, when MiniSom is not installed.
    ValueError
        From `fit`, when a parameter or the data is unusable.
    """

    grid: GridLike = (8, 8)
    n_iter: checks.Count = 10_000
    sigma: checks.Positive = 1.0
    learning_rate: checks.Positive = 0.5
    init: Literal["sample", "pca", "random"] = "sample"
    neighborhood: Literal["gaussian", "mexican_hat", "bubble", "triangle"] = "gaussian"
    decay: Literal["inverse_decay_to_zero", "linear_decay_to_zero", "asymptotic_decay"] = (
        "asymptotic_decay"
    )
    sigma_decay: Literal["inverse_decay_to_one", "linear_decay_to_one", "asymptotic_decay"] = (
        "asymptotic_decay"
    )
    random_order: bool = False
    random_state: checks.Seed = None

    _learned: ClassVar[dict[str, saving.Check]] = {
        "weights_": saving.array("f", "K", "d"),
        "labels_": saving.array("i", "n"),
    }

    def _require_whole(self) -> None:
        saving.require_units(self.weights_, self.grid_)

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Train a new map on samples X of shape (n, d)."""
        checks.parameters(self)
        try:
            from minisom import MiniSom
        except ImportError:
            raise ImportError(
                "MiniSomMap needs the library MiniSom, which is not installed: pip install minisom"
            ) from None
        samples = self._valid(X, reset=True)
        if self.grid_.topology != "rect" or any(self.grid_.periods):
            raise ValueError(
                f"grid={self.grid!r}: MiniSomMap needs a rectangular map without wrapping"
            )
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
        self.weights_: Array = som.get_weights().reshape(self.grid_.n_units, -1)
        self.labels_ = nearest_units(samples, self.weights_)[:, 0]
        return self

    def _valid(self, X: ArrayLike, *, reset: bool) -> Array:
        if not reset:
            check_is_fitted(self)
        return arrays.features(self, X, reset=reset, dtype=np.float64)
