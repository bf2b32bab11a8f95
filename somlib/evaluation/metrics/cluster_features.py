"""What distinguishes a cluster of units from all others."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from somlib import arrays, checks
from somlib.evaluation.arguments import Array, clusters_of_units, in_range


@checks.arguments
def cluster_means(
    weights: ArrayLike, labels: ArrayLike, clusters: ArrayLike
) -> tuple[Array, Array]:
    """Return the mean prototype of each cluster of units, and that of all other units.

    A unit counts as many times as it wins a sample.

    Parameters
    ----------
    weights : array of shape (K, d)
    labels : int array of shape (n,)
        Best-matching unit of each sample.
    clusters : array of shape (K,)
        Cluster of each unit, as `SOM.cluster` returns them; G are different.

    Returns
    -------
    inside, outside : ndarrays of shape (G, d)

    Raises
    ------
    ValueError
        When lengths disagree, or a cluster, or all others, win no sample.

    Examples
    --------
    >>> inside, outside = cluster_means([[0.0], [3.0], [9.0]], [0, 1, 1, 2], [0, 0, 1])
    >>> inside.tolist(), outside.tolist()
    ([[2.0], [9.0]], [[9.0], [2.0]])
    """
    W, _, share = _weighted(weights, labels, clusters)
    (W,), e = in_range(W)
    number = share.sum(1, keepdims=True)
    inside, outside = share @ W / number, (share.sum(0) - share) @ W / (share.sum() - number)
    return np.ldexp(inside, e), np.ldexp(outside, e)


@checks.arguments
def cluster_differences(
    weights: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike,
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return what distinguishes each cluster of units from all others, feature by feature.

    The difference of the two means of `cluster_means`, in standard deviations of the feature over
    all units, each counted as many times as it wins a sample. It is 0 for a constant feature.

    Parameters
    ----------
    weights, labels, clusters
        As in `cluster_means`.
    names : sequence of d str, optional
        Names of the features; "feature 0", ... by default.

    Returns
    -------
    DataFrame
        A row for each feature and a column for each cluster.

    Raises
    ------
    ValueError
        As `cluster_means`, and when names are not one for each feature.

    Examples
    --------
    >>> W = [[0.0, 1.0], [0.0, 3.0], [4.0, 1.0], [4.0, 3.0]]
    >>> cluster_differences(W, [0, 1, 2, 3], [0, 0, 1, 1], ["length", "width"])[1].tolist()
    [2.0, 0.0]
    """
    W, found, share = _weighted(weights, labels, clusters)
    (W,), _ = in_range(W)
    names = [f"feature {i}" for i in range(W.shape[1])] if names is None else list(names)
    if len(names) != W.shape[1]:
        raise ValueError(f"names has {len(names)} entries for {W.shape[1]} features; give one each")
    inside, outside = cluster_means(W, labels, clusters)
    hits = share.sum(0)
    mean = hits @ W / hits.sum()
    deviation = np.sqrt(hits @ (W - mean) ** 2 / hits.sum())
    # equal values differ by rounding
    constant = deviation <= 8 * np.finfo(W.dtype).eps * abs(W).max(0)
    apart = np.where(constant, 0, (inside - outside) / np.where(constant, 1, deviation))
    return pd.DataFrame(apart.T, pd.Index(names, name="feature"), pd.Index(found, name="cluster"))


def _weighted(
    weights: ArrayLike, labels: ArrayLike, clusters: ArrayLike
) -> tuple[Array, Array, Array]:
    """Return prototypes, clusters, and how many samples each unit wins in each, (G, K)."""
    W = arrays.samples(weights, "weights")
    names, cluster = clusters_of_units(clusters, len(W))
    share = np.zeros((len(names), len(W)))
    share[cluster, np.arange(len(W))] = np.bincount(arrays.units(labels, len(W)), minlength=len(W))
    number = share.sum(1)
    for g in np.flatnonzero((number == 0) | (number == number.sum())):
        won = "none" if number[g] == 0 else "all"
        raise ValueError(
            f"cluster {names[g]} wins {won} of the {number.sum():g} samples: there is nothing to "
            "compare; pass the labels that the map was clustered with, and at least two clusters"
        )
    return W, names, share
