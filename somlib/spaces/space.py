"""What all spaces share: the protocol, the conversion of arrays, circles and nearest neighbors."""

from collections.abc import Callable
from typing import Annotated, Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from somlib import arrays, checks

Array = NDArray[np.floating]

DISTANCE_SLACK = 1e-6
"""What rounding may change of a distance, in lattice spacings or lengths of a unit vector."""


class Space(Protocol):
    """What a metric asks of a space; `Grid` and the continuous spaces implement it."""

    def distance(self, a: Any, b: Any) -> Any:
        """Return the distances between tensors of shape (..., m), which broadcast."""

    def nearest(self, Z: ArrayLike, queries: ArrayLike, k: int) -> NDArray[np.intp]:
        """Return the k nearest of Z to each query, nearest first, as indices of shape (n, k)."""


def _has(method: str) -> checks.Rule:
    return checks.Rule(
        f"a space, with a method {method}",
        lambda value: callable(getattr(value, method, None)) and not isinstance(value, type),
    )


Measured = Annotated[Space, _has("distance")]
Searched = Annotated[Space, _has("nearest")]
"""Declarations of a parameter `space` of which one method is used."""


def in_torch(compute: Callable[..., Tensor], *args: Any) -> Any:
    """Return what `compute` returns: a tensor for tensors, an array in float64 for arrays.

    All public methods of the spaces pass their arguments through here, so that each formula is
    written once, in torch. Numbers and words stay as they are.
    """
    like = next((a for a in args if isinstance(a, Tensor)), None)

    def tensor(a: Any) -> Any:
        if isinstance(a, Tensor) or not np.ndim(a):
            return a
        found = torch.from_numpy(arrays.samples(a, "points", axes=None, dtype=np.float64))
        return found if like is None else found.to(like)

    result = compute(*map(tensor, args))
    return result.numpy() if like is None else result


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
    if not checks.is_whole(k) or not 1 <= k <= n:
        raise ValueError(f"k={k!r} must be a whole number from 1 to the {n} points")
    return int(k)


def check_sigma(sigma: Any) -> None:
    """Refuse what is not the width of a kernel. Tensors are not read: a GPU would have to wait."""
    if not isinstance(sigma, Tensor):
        checks.require("sigma", sigma, checks.Positive)
