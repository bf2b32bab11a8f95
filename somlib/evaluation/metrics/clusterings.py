"""Whether clusters agree with classes."""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from somlib import arrays, checks
from somlib.spaces import Grid

Average = Literal["geometric", "arithmetic"]


def purity(y: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of samples that belong to the most frequent class of their cluster.

    1/n Σ_k max_c n_ck, with n_ck samples of class c in cluster k: Manning, Raghavan & Schütze,
    *Introduction to Information Retrieval*, 2008, section 16.3.

    Parameters
    ----------
    y : array of shape (n,)
        Classes: numbers or text.
    labels : array of shape (n,)
        Clusters, such as best-matching units.

    Returns
    -------
    float
        In (0, 1]; higher is better. More clusters mean more purity: compare equal numbers only.

    Examples
    --------
    >>> purity(["a", "a", "b", "b"], [0, 0, 0, 1])
    0.75
    """
    counts = _counts(y, labels)
    return float(counts.max(axis=0).sum() / counts.sum())


@checks.arguments
def nmi(y: ArrayLike, labels: ArrayLike, average: Average) -> float:
    """Return the normalized mutual information of classes and clusters.

    I(y; labels) / mean(H(y), H(labels)), where the mean is √(H H') or (H + H')/2: Strehl & Ghosh,
    "Cluster ensembles", JMLR 3, 2002, for the geometric one. Computed by scikit-learn.

    Parameters
    ----------
    y, labels : arrays of shape (n,)
        Classes and clusters; the value is symmetric in them.
    average : {"geometric", "arithmetic"}
        There is no default, because papers differ: the geometric value is the higher one, by some
        hundredths when there are many more clusters than classes.

    Returns
    -------
    float
        In [0, 1]; higher is better. 1 when both are constant, 0 when one is.

    Raises
    ------
    ValueError
        Also when the average is unknown.

    Examples
    --------
    >>> round(nmi([0, 0, 1, 1], [0, 1, 2, 3], average="geometric"), 4)  # √½
    0.7071
    >>> round(nmi([0, 0, 1, 1], [0, 1, 2, 3], average="arithmetic"), 4)
    0.6667
    """
    y, labels = _labels(y, labels)
    return float(normalized_mutual_info_score(y, labels, average_method=average))


def clustering_accuracy(y: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of samples that are right under the best one-to-one naming of clusters.

    max over one-to-one maps π of clusters to classes of 1/n Σ_k n_{π(k) k}, found by the
    Hungarian method: Yang et al., "Image clustering using local discriminant models and global
    integration", IEEE Trans. Image Processing 19, 2010. With more clusters than classes the
    clusters left over count as wrong, and the other way round.

    Parameters
    ----------
    y, labels : arrays of shape (n,)
        Classes and clusters.

    Returns
    -------
    float
        In (0, 1]; higher is better; never above the purity.

    Examples
    --------
    >>> clustering_accuracy(["a", "a", "b", "b"], [1, 1, 0, 2])
    0.75
    """
    counts = _counts(y, labels).toarray()
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / counts.sum())


@checks.arguments
def class_scatter(
    y: ArrayLike, labels: ArrayLike, grid: Grid, connectivity: int | None = None
) -> float:
    """Return into how many separate regions of the map a class falls, on average.

    1/C Σ_c g_c, with g_c the number of connected groups of units that won at least one sample of
    class c: the class scatter index of Elend & Kramer, "Self-organizing maps with convolutional
    layers", WSOM 2019, as Forest et al., "A survey and implementation of performance metrics for
    self-organized maps", 2020, compute it (a single sample is enough to make a unit the class's).

    Parameters
    ----------
    y : array of shape (n,)
        Classes.
    labels : array of shape (n,)
        Best-matching unit of each sample.
    grid : Grid
    connectivity : {4, 8} on "rect", {6} on "hex"; default=None
        Which units touch; see `topographic_error`.

    Returns
    -------
    float
        At least 1; lower is better.

    Raises
    ------
    ValueError
        Also when a label is no unit of the grid.

    Examples
    --------
    >>> class_scatter(["a", "a", "b"], [0, 2, 1], Grid(1, 3))  # a lies on either side of b
    1.5
    """
    classes, _ = _labels(y, labels)
    n_classes, K = classes.max() + 1, grid.n_units
    home = np.zeros((n_classes, K), dtype=bool)
    home[classes, arrays.units(labels, K)] = True
    # one graph of C copies of the map: an edge within a copy where both its ends are home
    i, j = grid.edges(connectivity).T
    c, edge = np.nonzero(home[:, i] & home[:, j])
    ends = (c * K + i[edge], c * K + j[edge])
    graph = coo_array((np.ones(len(c)), ends), shape=(home.size, home.size))
    groups = connected_components(graph, directed=False, return_labels=False) - (~home).sum()
    return float(groups / n_classes)


@checks.arguments
def dead_units(labels: ArrayLike, n_units: checks.Count) -> int:
    """Return the number of units that are the best-matching unit of no sample.

    Parameters
    ----------
    labels : array of shape (n,)
        Best-matching unit of each sample.
    n_units : int
        Units of the map, K; divide by it for the share.

    Returns
    -------
    int

    Examples
    --------
    >>> dead_units([0, 3, 3], n_units=4)
    2
    """
    return n_units - len(np.unique(arrays.units(labels, n_units)))


def _labels(y: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return both as whole numbers 0, 1, ... in sorted order of their values."""
    clusters = arrays.labels(labels, "labels")[1]
    return arrays.labels(y, "y", len(clusters))[1], clusters


def _counts(y: ArrayLike, labels: ArrayLike) -> Any:
    """Return how many samples of each class are in each cluster, a sparse (C, K) matrix."""
    return contingency_matrix(*_labels(y, labels), sparse=True)
