"""Clusters of a map's units: Ward's method along the map, and how many clusters there are."""

from math import isqrt
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra
from sklearn.cluster import ward_tree
from sklearn.metrics import davies_bouldin_score, silhouette_score

from somlib import arrays, checks
from somlib.spaces import Grid

AtLeastTwo = Annotated[int, checks.whole(2)]


@checks.arguments
def cluster_units(
    weights: ArrayLike, grid: Grid, hits: ArrayLike, k: AtLeastTwo | None = None
) -> tuple[NDArray[np.int64], dict[str, list[float]]]:
    """Return clusters of neighboring units, and scores of each number of clusters tried.

    Ward's method merges the two adjacent clusters whose union adds the least to the squared
    distances of prototypes to the mean of their cluster, until k are left. Units that win no sample
    have interpolated prototypes, which hide the gap between two clusters. Each is therefore
    replaced by the winning unit that is nearest along the map (by the lengths ‖m_i − m_j‖ of its
    edges): this decides which winning units are adjacent, and gives it its cluster at the end.

    Parameters
    ----------
    weights : array of shape (K, d)
    grid : Grid
        Neighbors are those at distance 1, 4 or 6 of them.
    hits : array of shape (K,)
        Samples that each unit wins.
    k : int, optional
        Number of clusters. By default that of the highest mean silhouette of the winning units'
        prototypes, of 2 to √(winning units), the range of Vesanto & Alhoniemi.

    Returns
    -------
    labels : ndarray of shape (K,)
        Each cluster is connected on the map.
    scores : dict of lists
        For each number of clusters "k" that was tried its "silhouette" (higher is better) and
        "davies_bouldin" (lower is better); empty lists where k is given.

    Raises
    ------
    ValueError
        When k is below 2 or above the number of winning units, or is not given and fewer than three
        units win a sample.

    References
    ----------
    J. Vesanto and E. Alhoniemi, "Clustering of the self-organizing map", IEEE Trans. Neural
    Networks 11, 2000. P. Rousseeuw, "Silhouettes", J. Comput. Appl. Math. 20, 1987. D. Davies and
    D. Bouldin, "A cluster separation measure", IEEE Trans. PAMI 1, 1979.

    Examples
    --------
    >>> W = [[0.0], [0.1], [2.0], [5.0], [5.1], [5.2]]
    >>> labels, scores = cluster_units(W, Grid(1, 6), hits=[9, 9, 0, 9, 9, 9])
    >>> labels.tolist(), scores["k"]
    ([0, 0, 0, 1, 1, 1], [2])
    """
    W = arrays.samples(weights, "weights", dtype=np.float64)
    hits = arrays.samples(hits, "hits", axes=1)
    for name, given in (("weights", W), ("hits", hits)):
        if len(given) != grid.n_units:
            raise ValueError(
                f"{name} has {len(given)} entries, but a {grid.rows} × {grid.cols} grid has "
                f"{grid.n_units} units: give one for each"
            )
    winning = np.flatnonzero(hits)
    _check_k(k, len(winning))
    W = W - W.mean(0)
    i, j = grid.edges().T
    lengths = coo_array((np.linalg.norm(W[i] - W[j], axis=1), (i, j)), shape=(len(W), len(W)))
    nearest = dijkstra(
        lengths.tocsr(), directed=False, indices=winning, min_only=True, return_predecessors=True
    )[2]
    place = np.searchsorted(winning, nearest)
    W, merges = W[winning], _merges(W[winning], place[i], place[j])
    scores: dict[str, list[float]] = {"k": [], "silhouette": [], "davies_bouldin": []}
    if k is None:
        for n in range(2, max(2, isqrt(len(W))) + 1):
            labels = _cut(merges, n)
            scores["k"].append(n)
            scores["silhouette"].append(float(silhouette_score(W, labels)))
            scores["davies_bouldin"].append(float(davies_bouldin_score(W, labels)))
        k = int(scores["k"][int(np.argmax(scores["silhouette"]))])
    return _cut(merges, k)[place], scores


def _check_k(k: int | None, n_winning: int) -> None:
    if k is None and n_winning < 3:
        raise ValueError(
            f"only {n_winning} of the units win a sample, but choosing k takes three; give k, or "
            "check whether the samples differ"
        )
    if k is not None and k > n_winning:
        raise ValueError(
            f"k={k} is more than the {n_winning} units that win a sample; choose fewer"
        )


def _merges(W: NDArray[np.float64], i: Any, j: Any) -> NDArray[np.intp]:
    """Return the pairs that Ward's method merges, in order; the result of pair m is n + m."""
    apart = i != j
    ends = np.concatenate([i[apart], j[apart]]), np.concatenate([j[apart], i[apart]])
    adjacency = coo_array((np.ones(len(ends[0])), ends), shape=(len(W), len(W)))
    return np.asarray(ward_tree(W, connectivity=adjacency.tocsr())[0], dtype=np.intp)


def _cut(merges: NDArray[np.intp], k: int) -> NDArray[np.int64]:
    """Return the clusters before the last k − 1 merges, numbered in the order of their units."""
    n = len(merges) + 1
    done = merges[: n - k]
    ends = done.ravel(), np.repeat(n + np.arange(n - k), 2)
    tree = coo_array((np.ones(done.size), ends), shape=(2 * n - k, 2 * n - k))
    cluster: NDArray[np.int64] = connected_components(tree, directed=False)[1].astype(np.int64)
    return cluster[:n]
