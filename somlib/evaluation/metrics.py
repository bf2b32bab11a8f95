"""How good a map, an embedding or a clustering is: pure functions of arrays.

Four questions, four sections. Do the prototypes represent the samples, and does the map keep
neighbours together (`quantization_error`, `topographic_error`, `distortion`, `combined_error`,
`topographic_product`)? Does any embedding keep neighbours together, and classes (`trustworthiness`,
`continuity`, `knn_accuracy`)? Do clusters agree with classes (`purity`, `nmi`,
`clustering_accuracy`, `class_scatter`, `dead_units`)? Are images sharp (`sharpness`)?

Arrays may be NumPy or torch; X is (n, d), weights (K, d) in the order of the grid's units. Bad
input (wrong shapes, lengths that differ, NaN, a grid of another size) is a ValueError that says
what to do. Nothing here makes an array of size n × n, n × K or n × K × d, nor does the scale of
the data matter: where their squares would overflow or vanish, they are first divided by a power of
two (and copied), which is exact.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import convolve, correlate1d
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from somlib.models.kohonen import gaussian
from somlib.search.best_units import (
    BLOCK_ELEMENTS,
    Block,
    Blocks,
    Codebook,
    best_units,
    squared_distances,
)
from somlib.search.products import one_torch_thread
from somlib.spaces import Euclidean, Grid, Space

Array = NDArray[np.floating]
Average = Literal["geometric", "arithmetic"]

TIED = 1e-12
"""Squared distances in float64 count as equal when they differ by less than this share of their
own size plus the squared norm of the centred point: the most that rounding can part them by."""


# ---------------------------------------------------------------- map and data


@one_torch_thread
def quantization_error(X: ArrayLike, weights: ArrayLike) -> float:
    """Return the mean distance of the samples to their best-matching unit.

    1/n Σ_x ‖x − m_c(x)‖, the distance and not its square (Kohonen, *Self-Organizing Maps*, 3rd
    ed., 2001). It is measured coordinate by coordinate, so a sample that equals its prototype
    contributes exactly 0.

    Parameters
    ----------
    X : array of shape (n, d)
    weights : array of shape (K, d)

    Returns
    -------
    float
        In the units of the data; lower is better, and larger maps are lower for being larger.

    Examples
    --------
    >>> quantization_error([[0.0, 3.0], [4.0, 0.0]], [[0.0, 0.0], [4.0, 0.0]])
    1.5
    """
    (X, weights), e = _in_range(_checked("X", X, 2), _checked("weights", weights, 2))
    mean = _mean((difference.norm(dim=1) for _, difference in _search(X, weights)), len(X))
    return float(np.ldexp(mean, e))


@one_torch_thread
def topographic_error(
    X: ArrayLike, weights: ArrayLike, grid: Grid, connectivity: int | None = None
) -> float:
    """Return the share of samples whose two best units are not neighbours on the map.

    Kiviluoto, "Topology preservation in self-organizing maps", ICNN 1996.

    Parameters
    ----------
    X : array of shape (n, d)
    weights : array of shape (K, d)
    grid : Grid
    connectivity : {4, 8} on "rect", {6} on "hex"; default=None
        Who counts as a neighbour: the 4 units that share a side, the 8 that share a side or a
        corner, the 6 of a hexagon. None takes the grid's own: 4, or 6. Errors under different
        connectivities cannot be compared: name it wherever the number is shown.

    Returns
    -------
    float
        In [0, 1]; lower is better. 0 on a map of one unit.

    Raises
    ------
    ValueError
        Also when the lattice does not have that connectivity.

    Examples
    --------
    >>> weights = [[0.0], [2.0], [1.0]]  # a chain out of order
    >>> topographic_error([[0.1], [1.9]], weights, Grid(1, 3))
    0.5
    """
    (X, weights), _ = _in_range(_checked("X", X, 2), _prototypes(weights, grid))
    return _mean((_torn(units, grid, connectivity) for units, _ in _search(X, weights)), len(X))


@one_torch_thread
def distortion(X: ArrayLike, weights: ArrayLike, grid: Grid, sigma: float) -> float:
    """Return the loss of the map under a Gaussian neighbourhood of width sigma.

    1/n Σ_x Σ_k h(c(x), k) ‖x − m_k‖² with h = exp(−δ²/2σ²) and δ the Euclidean distance on the
    grid: Heskes, "Energy functions for self-organizing maps", 1999, with Kohonen's winner
    c(x) = arg min ‖x − m_k‖ for his.

    Parameters
    ----------
    X : array of shape (n, d)
    weights : array of shape (K, d)
    grid : Grid
    sigma : float
        In lattice spacings. As it goes to 0 the distortion goes to the mean *squared*
        quantisation error.

    Returns
    -------
    float
        In squared units of the data; lower is better, and comparable under equal sigma only.

    Raises
    ------
    ValueError
        Also when sigma is not a positive number.

    Notes
    -----
    With μ_c the mean of the n_c samples that unit c wins and D_c the sum of their squared
    distances to m_c, Σ_{x of c} ‖x − m_k‖² = D_c + n_c (‖μ_c − m_k‖² − ‖μ_c − m_c‖²): one pass
    over the samples, then units against units.

    Examples
    --------
    >>> round(distortion([[0.0]], [[0.0], [1.0]], Grid(1, 2), sigma=1.0), 4)  # exp(−1/2)
    0.6065
    """
    if not (isinstance(sigma, int | float | np.number) and 0 < sigma < np.inf):
        raise ValueError(f"sigma={sigma!r} must be a positive number, in lattice spacings")
    (X, weights), e = _in_range(_checked("X", X, 2), _prototypes(weights, grid))
    M = torch.from_numpy(weights - weights.mean(0, dtype=np.float64))
    counts, D, shift = M.new_zeros(len(M)), M.new_zeros(len(M)), torch.zeros_like(M)
    for units, difference in _search(X, weights):
        c = units[:, 0]
        counts += torch.bincount(c, minlength=len(M))
        D.index_add_(0, c, difference.square().sum(1))
        shift.index_add_(0, c, difference)
    shift /= counts.clamp(min=1)[:, None]  # μ − m
    at, codebook, total = torch.from_numpy(grid.coords), Codebook(M), 0.0
    for c in torch.split(counts.nonzero()[:, 0], max(1, BLOCK_ELEMENTS // len(M))):
        h = gaussian(grid.distance(at[c, None], at[None]) ** 2, sigma)
        # ‖μ − m_k‖² − ‖μ − m_c‖² = ‖m_c − m_k‖² + 2 (μ − m_c)·(m_c − m_k)
        apart = squared_distances(Block.of(M[c]), codebook)
        lean = (shift[c] * M[c]).sum(1, keepdim=True) - shift[c] @ M.T
        total += float((h * (D[c, None] + counts[c, None] * (apart + 2 * lean))).sum())
    return float(np.ldexp(total / len(X), 2 * e))


@one_torch_thread
def combined_error(
    X: ArrayLike, weights: ArrayLike, grid: Grid, connectivity: int | None = None
) -> float:
    """Return the mean length of the way from a sample over its best unit to the second best.

    1/n Σ_x (‖x − m_c‖ + min over paths on the map from c to c' of Σ ‖m_i − m_j‖), the sum over
    the edges of the path: Kaski & Lagus, "Comparing self-organizing maps", ICANN 1996. It joins
    resolution (the first term) and continuity (the second) in the units of the data.

    Parameters
    ----------
    X : array of shape (n, d)
    weights : array of shape (K, d)
    grid : Grid
    connectivity : {4, 8} on "rect", {6} on "hex"; default=None
        Which steps a path may take; see `topographic_error`.

    Returns
    -------
    float
        Lower is better. The quantisation error on a map of one unit.

    Examples
    --------
    >>> weights = [[0.0], [2.0], [1.0]]  # from 0 to its neighbour 1 the map leads over 2
    >>> combined_error([[0.1]], weights, Grid(1, 3))
    3.1
    """
    (X, weights), e = _in_range(_checked("X", X, 2), _prototypes(weights, grid))
    W, K = torch.from_numpy(weights - weights.mean(0, dtype=np.float64)), len(weights)
    total, far = 0.0, []
    for units, difference in _search(X, weights):
        torn = _torn(units, grid, connectivity)
        c, second = units[~torn].T
        # between neighbours the straight edge is the shortest way
        total += float(difference.norm(dim=1).sum() + (W[c] - W[second]).norm(dim=1).sum())
        far.append(units[torn])
    start, end = torch.cat(far).numpy().T
    i, j = grid.edges(connectivity).T
    lengths = coo_array(((W[i] - W[j]).norm(dim=1).numpy(), (i, j)), shape=(K, K)).tocsr()
    sources, row = np.unique(start, return_inverse=True)
    step = max(1, BLOCK_ELEMENTS // K)
    for first in range(0, len(sources), step):
        ways = dijkstra(lengths, directed=False, indices=sources[first : first + step])
        here = (first <= row) & (row < first + step)
        total += float(ways[row[here] - first, end[here]].sum())
    return float(np.ldexp(total / len(X), e))


def topographic_product(weights: ArrayLike, grid: Grid) -> float:
    """Return how well the map's dimension fits the data's, from the prototypes alone.

    P = 1/(K(K−1)) Σ_j Σ_k log P₃(j, k), with P₃(j, k) = (Π_{l≤k} Q₁(j, l) Q₂(j, l))^(1/2k),

        Q₁(j, l) = ‖m_j − m_a‖ / ‖m_j − m_v‖  and  Q₂(j, l) = δ(j, a) / δ(j, v),

    where a and v are the l-th nearest unit of j on the map (Euclidean δ) and in data space:
    Bauer & Pawelzik, "Quantifying the neighborhood preservation of self-organizing feature maps",
    IEEE Trans. Neural Networks 3, 1992.

    Parameters
    ----------
    weights : array of shape (K, d)
    grid : Grid

    Returns
    -------
    float
        Near 0 when the map fits, below when its dimension is too small for the data (it folds),
        above when too large. 0 for fewer than three units.

    Raises
    ------
    ValueError
        Also when two prototypes are equal to within rounding: the logarithm is then undefined.

    Notes
    -----
    On a lattice several units are equally near, and the definition does not say which is the
    l-th. log P₃ is linear in the logarithms of the distances, so each takes its mean over the
    units that are tied: the expected P over all ways of breaking ties, which does not depend on
    how the units are numbered.

    Examples
    --------
    >>> grid = Grid(4, 5)
    >>> abs(topographic_product(10 * grid.coords, grid)) < 1e-12  # a perfect map
    True
    """
    weights = _prototypes(weights, grid)
    K = len(weights)
    data, lattice = _Points(weights), _Points(grid.coords, grid)
    total = 0.0
    for rows in _row_blocks(K):
        V, A = data.squared(rows), lattice.squared(rows)
        # the unit itself comes last
        v, by_v, a, by_a = (ordered[:, :-1] for ordered in (*V.sort(1), *A.sort(1)))
        twins = (v <= data.slack(rows, v)).nonzero()
        if len(twins):
            j, place = twins[0]
            raise ValueError(
                f"units {rows.start + int(j)} and {int(by_v[j, place])} have equal weights, which "
                "leaves the topographic product undefined (log 0); train on, or from another start"
            )
        log_q1 = _mean_of_ties(a, lattice.slack(rows, a), V.gather(1, by_a).log()) - v.log()
        log_q2 = a.log() - _mean_of_ties(v, data.slack(rows, v), A.gather(1, by_v).log())
        # half of each, for V and A are squares
        log_p3 = ((log_q1 + log_q2) / 2).cumsum(1) / (2 * torch.arange(1, K))
        total += float(log_p3.sum())
    return total / max(1, K * (K - 1))


def _mean_of_ties(ordered: torch.Tensor, slack: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return each value's mean over the places of its row that are tied in `ordered`."""
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[:, 1:] = ordered.diff(dim=1) > slack[:, 1:]
    group = first.flatten().cumsum(0) - 1
    mean = torch.bincount(group, values.flatten()) / torch.bincount(group)
    return mean[group].reshape(values.shape)


# ---------------------------------------------------------------- embeddings


def trustworthiness(
    X: ArrayLike,
    Z: ArrayLike,
    n_neighbors: int | Sequence[int] = 5,
    space: Space | None = None,
) -> Any:
    """Return to what extent neighbours in the embedding are neighbours in the data.

    T(k) = 1 − 2/(nk(2n−3k−1)) Σ_i Σ_{j ∈ N_k(i)} max(0, r(i, j) − k), where N_k(i) holds the k
    nearest of z_i and x_j is the r(i, j)-th nearest of x_i: Venna & Kaski, "Neighborhood
    preservation in nonlinear projection methods", ICANN 2001.

    Parameters
    ----------
    X : array of shape (n, d)
        Samples.
    Z : array of shape (n, m)
        Where the embedding puts them; for a map `grid.coords[labels]`.
    n_neighbors : int or sequence of ints, default=5
        k, below n/2. Several cost hardly more than the largest alone.
    space : Grid, Torus, Sphere or other object with a method distance(a, b), optional
        The space in which Z lies, when its distances are not Euclidean. The method gets float64
        tensors that broadcast.

    Returns
    -------
    float, or ndarray with one value per k
        In [0, 1]; higher is better. Places that have nothing to do with the data give about 1/2.

    Raises
    ------
    ValueError
        Also when a k is below 1 or not below n/2, beyond which the formula leaves [0, 1].

    Notes
    -----
    **Ties.** All samples of a unit share its coordinates, and a lattice has many equal distances
    besides. The value returned is the expected one when ties are broken at random, in each space
    for itself, and it is computed, not drawn: a sample with b nearer ones and e equally near ones
    (itself included) is among the k nearest with probability min(1, max(0, (k − b)/e)), and its
    rank is each of b+1, ..., b+e with probability 1/e. So the order of the samples does not
    matter. Without ties it is the definition above. "Equal" means to within rounding (`TIED`).

    It is not the mean over jittered samples, which may differ by some thousandths where many
    distances tie: a move of x_i changes all distances from x_i together, so not all orders of those
    that tied are as likely. A sort that keeps the order of the samples breaks the ties of both
    spaces alike, and so gives a higher value.

    Distances are computed in float64 and in blocks of rows, and sorted within a row only.
    Scikit-learn's `manifold.trustworthiness` agrees where there are no ties, and breaks them by
    the order of its sort.

    Examples
    --------
    >>> X = np.random.default_rng(0).random((100, 3))
    >>> trustworthiness(X, X[:, :2], n_neighbors=[5, 10]).round(3)
    array([0.799, 0.817])
    """
    data, image = _spaces(X, Z, space)
    return _rank_score(image, data, n_neighbors)


def continuity(
    X: ArrayLike,
    Z: ArrayLike,
    n_neighbors: int | Sequence[int] = 5,
    space: Space | None = None,
) -> Any:
    """Return to what extent neighbours in the data stay neighbours in the embedding.

    `trustworthiness` with the roles of X and Z swapped (Venna & Kaski 2001); see there for the
    arguments, the value and the treatment of ties. A map with more than k samples on a unit does
    not say which of them are nearest, and so stays a little below 1 at that k however good it is.

    Examples
    --------
    >>> X = np.random.default_rng(0).random((100, 3))
    >>> continuity(X, X[:, :2], n_neighbors=5) > trustworthiness(X, X[:, :2], n_neighbors=5)
    True
    """
    data, image = _spaces(X, Z, space)
    return _rank_score(data, image, n_neighbors)


def knn_accuracy(
    Z: ArrayLike,
    y: ArrayLike,
    Z_new: ArrayLike,
    y_new: ArrayLike,
    n_neighbors: int = 10,
    space: Space | None = None,
) -> float:
    """Return the share of new samples whose class the vote of their nearest neighbours tells.

    How much an embedding knows of classes it never saw (Cover & Hart, "Nearest neighbor pattern
    classification", IEEE Trans. Information Theory 13, 1967).

    Parameters
    ----------
    Z : array of shape (n, m)
        Where the embedding puts the samples that vote.
    y : array of shape (n,)
        Their classes.
    Z_new : array of shape (n_new, m)
        Where it puts those whose class is asked for.
    y_new : array of shape (n_new,)
        Their classes.
    n_neighbors : int, default=10
        Number of votes; of classes with as many votes the lowest wins.
    space : Grid, Torus, Sphere or other object with a method nearest(Z, queries, k), optional
        The space in which Z lies, when its distances are not Euclidean.

    Returns
    -------
    float
        In [0, 1]; higher is better. The share of the most frequent class can be had for nothing.

    Examples
    --------
    >>> knn_accuracy([[0.0], [1.0], [5.0], [6.0]], [0, 0, 1, 1], [[0.4], [5.4]], [0, 0], 2)
    0.5
    """
    Z, Z_new = _checked("Z", Z, 2), _checked("Z_new", Z_new, 2)
    y, y_new = _checked("y", y, 1), _checked("y_new", y_new, 1)
    for name, points, classes in (("Z", Z, y), ("Z_new", Z_new, y_new)):
        if len(points) != len(classes):
            raise ValueError(
                f"{name} has {len(points)} rows, but there are {len(classes)} classes for them; "
                "give every sample its class"
            )
    whole = isinstance(n_neighbors, int | np.integer) and not isinstance(n_neighbors, bool)
    if not whole or not 1 <= n_neighbors <= len(Z):
        raise ValueError(
            f"n_neighbors={n_neighbors!r} must be a whole number from 1 to the {len(Z)} samples "
            "that vote"
        )
    if space is None:
        (Z, Z_new), _ = _in_range(Z, Z_new)
    names, votes = np.unique(y, return_inverse=True)
    near = (space or Euclidean(Z.shape[1])).nearest(Z, Z_new, n_neighbors)
    counts = np.zeros((len(Z_new), len(names)), np.intp)
    np.add.at(counts, (np.arange(len(Z_new))[:, None], votes[near]), 1)
    return float((names[counts.argmax(1)] == y_new).mean())


def _spaces(X: ArrayLike, Z: ArrayLike, space: Space | None) -> tuple["_Points", "_Points"]:
    X, Z = _checked("X", X, 2), _checked("Z", Z, 2)
    if len(X) != len(Z):
        raise ValueError(
            f"X has {len(X)} rows, but Z {len(Z)}; give every sample its place in the embedding"
        )
    return _Points(X), _Points(Z, space)


def _rank_score(near: "_Points", far: "_Points", n_neighbors: int | Sequence[int]) -> Any:
    """Return 1 minus the scaled sum of how far down in `far` the neighbours in `near` come."""
    n = len(near)
    ks = np.atleast_1d(n_neighbors)
    if ks.ndim > 1 or not ks.size or ks.dtype.kind not in "iu" or ks.min() < 1 or 2 * ks.max() >= n:
        raise ValueError(
            f"n_neighbors={n_neighbors!r} must be whole numbers of at least 1 and below half the "
            f"number of samples, {n}/2; take fewer neighbours or more samples"
        )
    penalty = np.zeros(len(ks))
    for rows in _row_blocks(n):
        squared = near.squared(rows)
        kth = squared.topk(int(ks.max()), largest=False).values[:, -1:]
        # more than k samples share the first k places when the k-th is tied
        widest = int((squared <= kth + near.slack(rows, kth)).sum(1).max())
        nearest, j = squared.topk(widest, largest=False)
        nearer, tied = _places(nearest, nearest, near.slack(rows, nearest))
        squared = far.squared(rows)
        distance = squared.gather(1, j)
        squared.numpy().sort(axis=1)  # bare values, by vector instructions: 8 × torch's sort
        rank, e = _places(squared, distance, far.slack(rows, distance))
        for i, k in enumerate(ks):
            chosen = ((k - nearer) / tied).clamp(0, 1)
            # Σ max(0, r − k) / e over r = rank + 1 ... rank + e
            excess = (_triangle(rank + e - k) - _triangle(rank - k)) / e
            penalty[i] += float((chosen * excess).sum())
    score = 1 - 2 * penalty / (n * ks * (2.0 * n - 3 * ks - 1))
    return score if np.ndim(n_neighbors) else float(score[0])


def _places(
    ordered: torch.Tensor, value: torch.Tensor, slack: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how many of a row's `ordered` entries lie below each value, and how many tie it."""
    below = torch.searchsorted(ordered, value - slack).double()
    return below, torch.searchsorted(ordered, value + slack, right=True) - below


def _triangle(m: torch.Tensor) -> torch.Tensor:
    """Return 1 + 2 + ... + m, and 0 for negative m."""
    m = m.clamp(min=0)
    return m * (m + 1) / 2


class _Points:
    """Points that tell the squared distances from some of them to all, with what rounding does."""

    def __init__(self, points: Array, space: Space | None = None) -> None:
        self.space = space
        if space:
            # samples on a map share a few positions: measure between those
            sites, site = np.unique(points, axis=0, return_inverse=True)
            self.sites, self.site = torch.from_numpy(sites).double(), torch.from_numpy(site)
        else:
            (points,), _ = _in_range(points)
        self.at = torch.from_numpy(points - points.mean(0, dtype=np.float64))
        self.norm = self.at.square().sum(1, keepdim=True)

    def __len__(self) -> int:
        return len(self.at)

    def squared(self, rows: slice) -> torch.Tensor:
        """Return squared distances, shape (rows, n): infinite from a point to itself."""
        if self.space:
            apart = self.space.distance(self.sites[self.site[rows], None], self.sites[None])
            squared = (torch.as_tensor(apart).double() ** 2).index_select(1, self.site)
        else:
            squared = torch.addmm(self.norm.T, self.at[rows], self.at.T, alpha=-2)
            squared.add_(self.norm[rows]).clamp_(min=0)
        squared[:, rows].fill_diagonal_(torch.inf)
        return squared

    def slack(self, rows: slice, squared: torch.Tensor) -> torch.Tensor:
        """Return how far a squared distance may differ from another and still be equal to it."""
        return TIED * (squared if self.space else squared + self.norm[rows])


def _row_blocks(n: int) -> Iterator[slice]:
    """Yield slices of n rows, so long that a block of n columns has `BLOCK_ELEMENTS` numbers."""
    size = max(1, BLOCK_ELEMENTS // n)
    return (slice(first, min(first + size, n)) for first in range(0, n, size))


# ---------------------------------------------------------------- clusters and classes


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


def nmi(y: ArrayLike, labels: ArrayLike, average: Average) -> float:
    """Return the normalised mutual information of classes and clusters.

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
    if average not in get_args(Average):
        raise ValueError(
            f"average={average!r} is unknown; choose one of {list(get_args(Average))}, "
            "the one that the numbers to compare with were made by"
        )
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
    home[classes, _units(labels, K)] = True
    # one graph of C copies of the map: an edge within a copy where both its ends are home
    i, j = grid.edges(connectivity).T
    c, edge = np.nonzero(home[:, i] & home[:, j])
    ends = (c * K + i[edge], c * K + j[edge])
    graph = coo_array((np.ones(len(c)), ends), shape=(home.size, home.size))
    groups = connected_components(graph, directed=False, return_labels=False) - (~home).sum()
    return float(groups / n_classes)


def dead_units(labels: ArrayLike, n_units: int) -> int:
    """Return the number of units that are nobody's best match.

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
    return n_units - len(np.unique(_units(labels, n_units)))


# ---------------------------------------------------------------- images


def sharpness(X: ArrayLike, reference: ArrayLike, image_shape: tuple[int, int]) -> dict[str, float]:
    """Return how sharp images are, as shares of how sharp others are.

    "laplacian" is the variance of the response to the Laplacian [[0, 1, 0], [1, −4, 1], [0, 1, 0]],
    which grows with the square of contrast and falls quickly with blur: Pech-Pacheco et al.,
    "Diatom autofocusing in brightfield microscopy", ICPR 2000. "gradient" is the mean length of the
    central-difference gradient. Both are taken per image and averaged, and outside an image it is
    dark.

    Parameters
    ----------
    X : array of shape (n, d)
        Images, such as reconstructions.
    reference : array of shape (n', d)
        Images to compare with, such as the data.
    image_shape : (int, int)
        Rows and columns; rows · cols = d.

    Returns
    -------
    dict with "laplacian" and "gradient"
        1 is as sharp as the reference. Noise is sharp too: show it beside the data and a blurred
        control, never alone.

    Raises
    ------
    ValueError
        Also when images do not fold into that shape, or the reference has no contrast.

    Examples
    --------
    >>> X = np.random.default_rng(0).random((5, 64))
    >>> {name: round(value, 3) for name, value in sharpness(X / 2, X, (8, 8)).items()}
    {'laplacian': 0.25, 'gradient': 0.5}
    """
    (X, reference), _ = _in_range(_checked("X", X, 2), _checked("reference", reference, 2))
    of, than = _edges("X", X, image_shape), _edges("reference", reference, image_shape)
    if min(than.values()) == 0:
        raise ValueError("the reference images have no contrast at all, so nothing is as sharp")
    return {name: of[name] / than[name] for name in of}


def _edges(name: str, X: Array, image_shape: tuple[int, int]) -> dict[str, float]:
    rows, cols = image_shape
    if rows * cols != X.shape[1]:
        raise ValueError(
            f"images of {rows} × {cols} have {rows * cols} pixels, but {name} has {X.shape[1]}; "
            "give image_shape=(rows, cols) with rows · cols = pixels"
        )
    images = X.reshape(-1, rows, cols).astype(float)
    laplacian = convolve(images, [_LAPLACIAN], mode="constant")
    down, right = (correlate1d(images, [-0.5, 0, 0.5], axis, mode="constant") for axis in (1, 2))
    return {
        "laplacian": float(laplacian.var(axis=(1, 2)).mean()),
        "gradient": float(np.hypot(down, right).mean()),
    }


_LAPLACIAN = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]


def variance_lost(X: ArrayLike, drawn: ArrayLike) -> float:
    """Return the share of the data's variance that pictures of it have not, over all features.

    1 − Σ var(drawn) / Σ var(X): 0 when they vary as much as the data, 1 when all of them are the
    same. A mean over neighbours loses variance, and noise adds some: below 0 they vary more.

    Parameters
    ----------
    X : array of shape (n, d)
    drawn : array of shape (n', d)
        Such as reconstructions or samples.

    Raises
    ------
    ValueError
        Also when the data do not vary, or the widths differ.

    Examples
    --------
    >>> X = np.random.default_rng(0).random((50, 4))
    >>> round(variance_lost(X, X.mean(0) + (X - X.mean(0)) / 2), 3)
    0.75
    """
    (X, drawn), _ = _in_range(*_same_width(X=X, drawn=drawn))
    total = X.var(0).sum()
    if total == 0:
        raise ValueError("the samples of X are all the same: there is no variance to lose")
    return float(1 - drawn.var(0).sum() / total)


def frechet_distance(A: ArrayLike, B: ArrayLike) -> float:
    """Return the Fréchet distance of two sets of features, each taken for a Gaussian.

    ‖μ_A − μ_B‖² + tr(C_A + C_B − 2 (C_A C_B)^½), 0 for equal means and covariances. Its value
    depends on the features: say where they come from.

    Parameters
    ----------
    A : array of shape (n, f)
    B : array of shape (n', f)
        Features, at least two rows each.

    References
    ----------
    D. Dowson and B. Landau, "The Fréchet distance between multivariate normal distributions",
    1982; M. Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS 2017.

    Examples
    --------
    >>> A = np.random.default_rng(0).normal(size=(1000, 3))
    >>> round(frechet_distance(A, A + [2, 0, 0]), 6), round(frechet_distance(A, A), 6)
    (4.0, 0.0)
    """
    (A, B), e = _in_range(*_same_width(A=A, B=B))
    if min(len(A), len(B)) < 2:
        raise ValueError(f"A has {len(A)} and B {len(B)} rows; a covariance takes at least two")
    apart = A.mean(0) - B.mean(0)
    # C = RᵀR. The roots of the eigenvalues of C_A C_B are the singular values of R_A R_Bᵀ, which no
    # squaring has cost half of their digits, nor does it matter whether C is singular
    R_A, R_B = (np.linalg.qr(p - p.mean(0), "r") / (len(p) - 1) ** 0.5 for p in (A, B))
    shared = np.linalg.svd(R_A @ R_B.T, compute_uv=False).sum()
    distance = apart @ apart + np.square(R_A).sum() + np.square(R_B).sum() - 2 * shared
    return float(np.ldexp(max(0.0, distance), 2 * e))


def path_length(paths: ArrayLike) -> float:
    """Return how much longer paths are than the straight way between their ends, in the mean.

    Parameters
    ----------
    paths : array of shape (paths, places, f)
        Such as decoded interpolations, or a classifier's features of them; paths whose two ends
        coincide do not count.

    Returns
    -------
    float
        1 for straight lines, more for detours.

    Raises
    ------
    ValueError
        Also for fewer than two places, or when no path leads anywhere.

    Examples
    --------
    >>> corner = np.array([[[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]]])
    >>> path_length(corner)
    1.4
    """
    (paths,), _ = _in_range(_checked("paths", paths, 3).astype(float))
    if paths.shape[1] < 2:
        raise ValueError(f"paths of {paths.shape[1]} place lead nowhere; give at least two places")
    walked = np.linalg.norm(np.diff(paths, axis=1), axis=2).sum(1)
    straight = np.linalg.norm(paths[:, -1] - paths[:, 0], axis=1)
    if not straight.any():
        raise ValueError("all paths end where they begin; there is no straight way to compare with")
    away = straight > 0
    return float((walked[away] / straight[away]).mean())


# ---------------------------------------------------------------- search and checks


def _search(X: Array, weights: Array) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the two best units, shape (b, 2), and x − m_c in float64, (b, d), block by block."""
    if X.shape[1] != weights.shape[1]:
        raise ValueError(
            f"X has {X.shape[1]} features, but weights have {weights.shape[1]}; "
            "pass the data, or the codes, that the map was trained on"
        )
    center = weights.mean(0, dtype=np.float64).astype(np.result_type(X, weights))
    W = torch.from_numpy(weights - center)
    codebook = Codebook(W)
    for block in Blocks(X, center, W.device).split(len(W)):
        x, (units, _) = block.x, best_units(block, codebook)
        yield units, x.double() - W[units[:, 0]]


def _torn(units: torch.Tensor, grid: Grid, connectivity: int | None) -> torch.Tensor:
    """Return which samples have best units that are not neighbours."""
    c, second = units.numpy().T
    return torch.from_numpy(grid.separate(c, second, connectivity))


def _mean(parts: Iterator[torch.Tensor], n: int) -> float:
    values, first = torch.empty(n, dtype=torch.float64), 0
    for part in parts:  # into one place: kept by themselves, they would lie in the way of blocks
        values[first : first + len(part)] = part
        first += len(part)
    return float(values.mean())


def _checked(name: str, values: ArrayLike, n_axes: int) -> NDArray[Any]:
    """Return an array that is not empty and all known: floats if it has two axes, else labels."""
    array = values.numpy(force=True) if isinstance(values, torch.Tensor) else np.asanyarray(values)
    if array.ndim != n_axes or not array.size:
        wanted = "(rows, features), with a row for each sample or unit" if n_axes == 2 else "(n,)"
        raise ValueError(f"{name} has shape {array.shape}, but {wanted} is needed, not empty")
    if n_axes == 2:
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{name} holds {array.dtype} values; convert them to numbers")
        array = array if array.dtype == np.float32 else array.astype(np.float64, copy=False)
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            # the sum is finite, and needs no memory, unless something is wrong
            known = np.isfinite(array.sum(dtype=np.float64)) or np.isfinite(array).all()
    else:
        known = array.dtype.kind != "O" or not any(v is None or v != v for v in array)
    if not known:
        raise ValueError(f"{name} contains NaN or infinity; drop those rows or fill them first")
    return array


def _in_range(*arrays: Array) -> tuple[list[Array], int]:
    """Return arrays of which no square, nor a sum of some, overflows or vanishes, and an exponent.

    They are the arrays given, or copies divided by 2 to that exponent where those would.
    """
    largest = max(float(part) for a in arrays for part in (a.max(), -a.min()))
    e = int(np.frexp(largest)[1])
    if largest == 0 or abs(e) < min(np.finfo(a.dtype).maxexp for a in arrays) // 3:
        return list(arrays), 0
    return [np.ldexp(a, -e) for a in arrays], e


def _same_width(**arrays: ArrayLike) -> tuple[Array, Array]:
    """Return two finite arrays of as many columns, in float64."""
    (a, A), (b, B) = ((name, _checked(name, array, 2)) for name, array in arrays.items())
    if A.shape[1] != B.shape[1]:
        raise ValueError(
            f"{a} has {A.shape[1]} columns and {b} has {B.shape[1]}; they must have as many"
        )
    return A.astype(float), B.astype(float)


def _prototypes(weights: ArrayLike, grid: Grid) -> Array:
    array = _checked("weights", weights, 2)
    if len(array) != grid.n_units:
        raise ValueError(
            f"weights have {len(array)} rows, but a grid of {grid.rows} × {grid.cols} has "
            f"{grid.n_units} units; pass the grid that the map was trained with"
        )
    return array


def _labels(y: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return both as whole numbers 0, 1, ... in sorted order of their values."""
    y, labels = _checked("y", y, 1), _checked("labels", labels, 1)
    if len(y) != len(labels):
        raise ValueError(
            f"y has {len(y)} entries, but labels {len(labels)}; give one of each for every sample"
        )
    return np.unique(y, return_inverse=True)[1], np.unique(labels, return_inverse=True)[1]


def _counts(y: ArrayLike, labels: ArrayLike) -> Any:
    """Return how many samples of each class are in each cluster, a sparse (C, K) matrix."""
    return contingency_matrix(*_labels(y, labels), sparse=True)


def _units(labels: ArrayLike, n_units: int) -> NDArray[np.integer]:
    """Return labels that are units of a map of `n_units`."""
    units = _checked("labels", labels, 1)
    if units.dtype.kind not in "iu" or units.min() < 0 or units.max() >= n_units:
        whole = units.dtype.kind in "iu"
        bad = units[(units < 0) | (units >= n_units)] if whole else units
        raise ValueError(
            f"labels contain {bad.tolist()[0]!r}, but the {n_units} units are 0 to {n_units - 1}; "
            "pass what predict returns"
        )
    return units
