"""Arguments that several metrics and plots have: prototypes, pairs of samples, numbers in range."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from somlib import arrays
from somlib.spaces import Grid

Array = NDArray[np.floating]


def codebook(weights: ArrayLike, grid: Grid, name: str = "weights", **options: Any) -> Array:
    """Return the prototypes of a grid, (K, d); see `arrays.samples` for options."""
    W = arrays.samples(weights, name, **options)
    if len(W) != grid.n_units:
        raise ValueError(
            f"{name} has {len(W)} rows, but a {grid.rows} × {grid.cols} grid has {grid.n_units} "
            "units; pass the grid that the prototypes were trained on"
        )
    return W


def clusters_of_units(clusters: ArrayLike, n_units: int) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the clusters in sorted order, and the number of each unit's cluster, (K,)."""
    names, cluster = arrays.labels(clusters, "clusters")
    if len(cluster) != n_units:
        raise ValueError(
            f"clusters has {len(cluster)} entries for {n_units} units; pass som.cluster_labels_"
        )
    return names, cluster


def in_range(*numbers: Array) -> tuple[list[Array], int]:
    """Return arrays of which no square, nor a sum of some, overflows or vanishes, and an exponent.

    They are the arrays given, or copies divided by 2 to that exponent where those would.
    """
    largest = max(float(part) for a in numbers for part in (a.max(), -a.min()))
    e = int(np.frexp(largest)[1])
    if largest == 0 or abs(e) < min(np.finfo(a.dtype).maxexp for a in numbers) // 3:
        return list(numbers), 0
    return [np.ldexp(a, -e) for a in numbers], e


def same_width(**named: ArrayLike) -> tuple[Array, Array]:
    """Return two arrays of as many columns, in float64."""
    (a, A), (b, B) = (
        (name, arrays.samples(X, name, dtype=np.float64)) for name, X in named.items()
    )
    if A.shape[1] != B.shape[1]:
        raise ValueError(
            f"{a} has {A.shape[1]} columns and {b} has {B.shape[1]}; they must have as many"
        )
    return A, B
