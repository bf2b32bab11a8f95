"""What distinguishes a cluster of units from all others."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from somlib.evaluation.metrics.arguments import Array, checked, in_range
from somlib.evaluation.metrics.clusterings import units_of


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
    clusters : int array of shape (K,)
        Cluster of each unit, 0 to G − 1, as `SOM.cluster` returns them.

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
    W, share = _weighted(weights, labels, clusters)
    (W,), e = in_range(W)
    number = share.sum(1, keepdims=True)
    inside, outside = share @ W / number, (share.sum(0) - share) @ W / (share.sum() - number)
    return np.ldexp(inside, e), np.ldexp(outside, e)


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
    W, share = _weighted(weights, labels, clusters)
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
    table = pd.DataFrame(apart.T, index=pd.Index(names, name="feature"))
    return table.rename_axis(columns="cluster")


def _weighted(weights: ArrayLike, labels: ArrayLike, clusters: ArrayLike) -> tuple[Array, Array]:
    """Return the prototypes, and how many samples each unit wins in each cluster, (G, K)."""
    W, clusters = checked("weights", weights, 2), checked("clusters", clusters, 1)
    if len(clusters) != len(W) or clusters.dtype.kind not in "iu" or clusters.min() < 0:
        raise ValueError(
            f"clusters has {len(clusters)} entries of type {clusters.dtype} for {len(W)} units; "
            "pass som.cluster_labels_, one whole number from 0 for each unit"
        )
    hits = np.bincount(units_of(labels, len(W)), minlength=len(W))
    share = np.zeros((clusters.max() + 1, len(W)))
    share[clusters, np.arange(len(W))] = hits
    number = share.sum(1)
    for g in np.flatnonzero((number == 0) | (number == number.sum())):
        won = "none" if number[g] == 0 else "all"
        raise ValueError(
            f"cluster {g} wins {won} of the {len(labels)} samples, so there is nothing to compare; "
            "pass the labels that the map was clustered with, and at least two clusters"
        )
    return W, share
