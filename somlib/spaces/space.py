"""What all spaces share: the protocol, the conversion of arrays, circles and nearest neighbors."""

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from torch import Tensor

Array = NDArray[np.floating]

DISTANCE_SLACK = 1e-6
"""What rounding may change of a distance, in lattice spacings or lengths of a unit vector."""


class Space(Protocol):
    """What a metric asks of a space; `Grid` and the continuous spaces implement it."""

    def distance(self, a: Any, b: Any) -> Any:
        """Return the distances between tensors of shape (..., m), which broadcast."""

    def nearest(self, Z: ArrayLike, queries: ArrayLike, k: int) -> NDArray[np.intp]:
        """Return the k nearest of Z to each query, nearest first, as indices of shape (n, k)."""


def in_torch(compute: Callable[..., Tensor], *args: Any) -> Any:
    """Return what `compute` returns: a tensor for tensors, an array in float64 for arrays.

    All public methods of the spaces pass their arguments through here, so that each formula is
    written once, in torch. Numbers and words stay as they are.
    """
    if any(isinstance(a, Tensor) for a in args):
        return compute(*args)
    return compute(
        *(torch.as_tensor(np.asarray(a, float)) if np.ndim(a) else a for a in args)
    ).numpy()


def circular(difference: Tensor, period: float) -> Tensor:
    """Return the shorter way between two points of a circle, given either; a line if period 0."""
    if not period:
        return difference
    return period / 2 - (difference % period - period / 2).abs()


def nearest_by_tree(Z: Array, queries: Array, k: int, periods: Array) -> NDArray[np.intp]:
    """Return the k nearest of Z where each axis repeats after its period (0: never)."""
    divisor = np.where(periods > 0, periods, 1)
    # np.mod(−1e-17, period) is the period itself, which is outside the box
    inside = [np.where(periods > 0, np.mod(z, divisor) % divisor, z) for z in (Z, queries)]
    found = cKDTree(inside[0], boxsize=periods).query(inside[1], list(range(1, k + 1)))[1]
    return np.asarray(found, dtype=np.intp)


def check_k(k: int, n: int) -> int:
    """Return k, a whole number from 1 to n."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= n:
        raise ValueError(f"k={k!r} must be a whole number from 1 to the {n} points")
    return int(k)


def check_sigma(sigma: Any) -> None:
    """Refuse what is not the width of a kernel. Tensors are not read: a GPU would have to wait."""
    if not isinstance(sigma, Tensor) and not 0 < sigma < math.inf:
        raise ValueError(f"sigma={sigma!r} must be a positive number: a kernel has a width")
