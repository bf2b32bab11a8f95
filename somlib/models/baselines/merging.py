"""Clusters of a map: k-means on its prototypes."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans

from somlib import arrays, checks
from somlib.training.loop import resolve_seed


@checks.arguments
def merge_prototypes(
    prototypes: ArrayLike, units: ArrayLike, k: checks.Count, random_state: checks.Seed = None
) -> NDArray[np.int64]:
    """Return the clusters of samples by k-means on a map's prototypes: the slides' "+km".

    Parameters
    ----------
    prototypes : array of shape (K, L)
    units : array of shape (n,)
        Best-matching unit of each sample.
    k : int
        Clusters: one per class; the released DESOM code takes one fewer, 9 for MNIST.
    random_state : int, Generator, RandomState or None, default=None

    Examples
    --------
    >>> merge_prototypes([[0.0], [5.0], [0.1]], [0, 0, 1, 2], k=2, random_state=0).tolist()
    [1, 1, 0, 1]
    """
    prototypes = arrays.samples(prototypes, "prototypes")
    units = arrays.units(units, len(prototypes), "units")
    if k > len(prototypes):
        raise ValueError(f"k={k} is more than the {len(prototypes)} prototypes; choose fewer")
    merged = KMeans(k, n_init=20, random_state=resolve_seed(random_state) % 2**32).fit(prototypes)
    return np.asarray(merged.labels_[units], dtype=np.int64)
