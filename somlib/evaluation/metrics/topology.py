"""Whether a map keeps distances and neighbors: four measures of Forest et al.'s survey.

F. Forest, M. Lebbah, H. Azzag and J. Lacaille, "A survey and implementation of performance metrics
for self-organized maps", arXiv:2011.05847, 2020. Where their package SOMperf computes something
else than is computed here, the docstring says so.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from somlib import arrays, checks
from somlib.evaluation.arguments import codebook, in_range
from somlib.evaluation.metrics.distances import row_blocks
from somlib.evaluation.metrics.embeddings import both_spaces, neighbor_numbers, neighbor_places
from somlib.search.best_units import mean_over_samples
from somlib.spaces import Grid, Measured
from somlib.spaces.grid import GridMetric
from somlib.spaces.space import DISTANCE_SLACK


@checks.arguments
def c_measure(X: ArrayLike, Z: ArrayLike, space: Measured | None = None) -> float:
    """Return how well large distances in the data go with large distances in the embedding.

    C = 2/(n(n−1)) Σ_i<j ‖x_i − x_j‖ δ(z_i, z_j): the C measure of Goodhill & Sejnowski, "A unifying
    objective function for topographic mappings", Neural Computation 9, 1997, with both
    similarities equal to the distances, as a mean over pairs.

    Parameters
    ----------
    X : array of shape (n, d)
        Samples.
    Z : array of shape (n, m)
        Where the embedding puts them; for a map `grid.coords[labels]`.
    space : Grid, Torus, Sphere or other object with a method distance(a, b), optional
        The space in which Z lies, when its distances are not Euclidean.

    Returns
    -------
    float
        Higher is better, among embeddings of the same data into the same places only: it has the
        units of both distances.

    Notes
    -----
    SOMperf returns the sum over pairs, not their mean, and Manhattan distances on the map.

    Examples
    --------
    >>> X = [[0.0], [1.0], [3.0]]
    >>> c_measure(X, X), c_measure(X, [[0.0], [3.0], [1.0]])
    (4.666666666666667, 3.3333333333333335)
    """
    (X,), e = in_range(arrays.samples(X))
    if space is None:
        (Z,), e_z = in_range(arrays.samples(Z, "Z"))
        e += e_z
    moments = _distance_moments(X, Z, space)
    return float(np.ldexp(moments.xz / moments.pairs, e))


@checks.arguments
def kruskal_shepard_error(X: ArrayLike, Z: ArrayLike, space: Measured | None = None) -> float:
    """Return the mean squared difference of distances in the data and in the embedding.

    2/(n(n−1)) Σ_i<j (‖x_i − x_j‖ / max ‖x − x'‖ − δ(z_i, z_j) / max δ)², the distances of both
    spaces divided by the largest: Elend & Kramer, "Self-organizing maps with convolutional
    layers", WSOM 2019, after Kruskal, "Multidimensional scaling by optimizing goodness of fit to a
    nonmetric hypothesis", Psychometrika 29, 1964.

    Parameters
    ----------
    X, Z, space
        As in `c_measure`.

    Returns
    -------
    float
        In [0, 1]; lower is better, and 0 where all distances are proportional.

    Raises
    ------
    ValueError
        Also when all samples, or all their places, are equal.

    Notes
    -----
    SOMperf is equal for the same distances on the map; its examples take Manhattan distances.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [4.0]])
    >>> kruskal_shepard_error(X, -2 * X)
    0.0
    >>> round(kruskal_shepard_error(X, [[0.0], [2.0], [4.0]]), 6)  # 1/24
    0.041667
    """
    moments = _distance_moments(X, Z, space)
    for name, largest in (("X", moments.x_max), ("Z", moments.z_max)):
        if largest == 0:
            raise ValueError(
                f"all rows of {name} are equal: there is no largest distance to divide by; measure "
                "samples, and units that win them, of which some differ"
            )
    x, z = moments.x_max, moments.z_max
    total = moments.xx / x**2 - 2 * moments.xz / (x * z) + moments.zz / z**2
    return max(0.0, total / moments.pairs)


@checks.arguments
def neighborhood_preservation(
    X: ArrayLike,
    Z: ArrayLike,
    n_neighbors: checks.Count | Sequence[checks.Count] = 5,
    space: Measured | None = None,
) -> Any:
    """Return the share of nearest neighbors in the data that are nearest in the embedding too.

    1/(nk) Σ_i |N_k(x_i) ∩ N_k(z_i)|, with N_k the k nearest neighbors: Q_NX(k) of Lee & Verleysen,
    "Quality assessment of dimensionality reduction: rank-based criteria", Neurocomputing 72, 2009.
    Unlike trustworthiness and continuity it does not ask by how much a neighbor is missed.

    Parameters
    ----------
    X, Z, n_neighbors, space
        As in `trustworthiness`, and as there ties count by their expectation.

    Returns
    -------
    float, or ndarray with one value per k
        In [0, 1]; higher is better. Places that have nothing to do with the data give k/(n−1).

    Notes
    -----
    Venna & Kaski (2001) and SOMperf call by this name what is `continuity` here. SOMperf, moreover,
    compares samples with their prototypes in the data space, so that the map's grid has no
    effect.

    Examples
    --------
    >>> X = np.random.default_rng(0).random((100, 3))
    >>> neighborhood_preservation(X, X[:, :2], n_neighbors=[5, 10]).round(2)
    array([0.39, 0.46])
    """
    data, image = both_spaces(X, Z, space)
    ks = neighbor_numbers(n_neighbors, len(data))
    kept = np.zeros(len(ks))
    for nearer, tied, rank, e in neighbor_places(data, image, int(ks.max())):
        for i, k in enumerate(ks):
            kept[i] += float(
                (((k - nearer) / tied).clamp(0, 1) * ((k - rank) / e).clamp(0, 1)).sum()
            )
    share = kept / (len(data) * ks)
    return share if np.ndim(n_neighbors) else float(share[0])


@checks.arguments
def topographic_function(
    X: ArrayLike, weights: ArrayLike, grid: Grid, k: checks.Count = 1
) -> float:
    """Return how many units, on average, adjoin a unit in the data but not on the map.

    Φ(k) = 1/K Σ_i |{j : i and j adjoin in the data and δ(i, j) > k}|, the topographic function of
    Villmann, Der, Herrmann & Martinetz, "Topology preservation in self-organizing feature maps:
    exact definition and measurement", IEEE Trans. Neural Networks 8, 1997, for positive k. Two
    units adjoin in the data when they are the best two of a sample (Martinetz & Schulten,
    "Topology representing networks", Neural Networks 7, 1994). δ is the maximum norm on squares,
    so that the eight around a unit are at distance 1, and the number of steps on hexagons.

    Parameters
    ----------
    X : array of shape (n, d)
    weights : array of shape (K, d)
    grid : Grid
    k : int, default=1
        Distance on the map. The values at large k tell how far the map is folded.

    Returns
    -------
    float
        Lower is better; 0 when all units that adjoin in the data are within k on the map. Maps
        may only be compared on as many samples: more samples find more units that adjoin.

    Notes
    -----
    SOMperf divides by K(K − 9) in place of K, and k by the largest distance on the map.

    Examples
    --------
    >>> weights = [[0.0], [2.0], [1.0]]  # units 0 and 2 are the best two of 0.4
    >>> topographic_function([[0.4], [1.6]], weights, Grid(1, 3))
    0.6666666666666666
    """
    (X, weights), _ = in_range(arrays.samples(X), codebook(weights, grid))
    found = []

    def note(units: Tensor, apart: Tensor) -> Tensor:
        found.append(np.unique(np.sort(units.numpy(), axis=1), axis=0))
        return apart[:, 0]

    mean_over_samples(X, weights, note)
    i, j = np.unique(np.concatenate(found), axis=0).T
    metric: GridMetric = "chebyshev" if grid.topology == "rect" else "hops"
    far = grid.distance(grid.coords[i], grid.coords[j], metric) > k + DISTANCE_SLACK
    return float(2 * far.sum() / grid.n_units)


class _Moments(NamedTuple):
    """Sums over all pairs of products of distances in both spaces, and the largest distances."""

    pairs: int
    xx: float
    xz: float
    zz: float
    x_max: float
    z_max: float


def _distance_moments(X: ArrayLike, Z: ArrayLike, space: Measured | None) -> _Moments:
    data, image = both_spaces(X, Z, space)
    n = len(data)
    if n < 2:
        raise ValueError(f"X has {n} row; distances between samples take at least two")
    sums, largest = torch.zeros(3, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for rows in row_blocks(n, n):
        x, z = data.squared(rows), image.squared(rows)
        for squared in (x, z):
            squared[:, rows].fill_diagonal_(0)
        sums += torch.stack([x.sum(), (x * z).sqrt().sum(), z.sum()])
        largest = torch.maximum(largest, torch.stack([x.max(), z.max()]))
    xx, xz, zz = (sums / 2).tolist()
    return _Moments(n * (n - 1) // 2, xx, xz, zz, *largest.sqrt().tolist())
