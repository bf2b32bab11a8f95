"""How well a map represents its samples and keeps neighbors together."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from somlib import arrays, checks
from somlib.evaluation.arguments import codebook, in_range
from somlib.evaluation.metrics.distances import Points, row_blocks
from somlib.search.best_units import mean_over_samples
from somlib.spaces import Grid


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
    (X, weights), e = in_range(arrays.samples(X), arrays.samples(weights, "weights"))
    return float(np.ldexp(mean_over_samples(X, weights, lambda _, apart: apart.norm(dim=1)), e))


@checks.arguments
def topographic_error(
    X: ArrayLike, weights: ArrayLike, grid: Grid, connectivity: int | None = None
) -> float:
    """Return the share of samples whose two best units are not neighbors on the map.

    Kiviluoto, "Topology preservation in self-organizing maps", ICNN 1996.

    Parameters
    ----------
    X : array of shape (n, d)
    weights : array of shape (K, d)
    grid : Grid
    connectivity : {4, 8} on "rect", {6} on "hex"; default=None
        Who counts as a neighbor: the 4 units that share a side, the 8 that share a side or a
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
    (X, weights), _ = in_range(arrays.samples(X), codebook(weights, grid))
    return mean_over_samples(X, weights, lambda units, _: _torn(units, grid, connectivity))


@checks.arguments
def distortion(X: ArrayLike, weights: ArrayLike, grid: Grid, sigma: checks.Positive) -> float:
    """Return the loss of the map under a Gaussian neighborhood of width sigma.

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
        quantization error.

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
    Σ_k h(c, k) ‖x − m_k‖² = H_c ‖x − m_c‖² + A_c + 2 (x − m_c)·B_c, where H_c = Σ_k h(c, k),
    A_c = Σ_k h(c, k) ‖m_c − m_k‖² and B_c = Σ_k h(c, k) (m_c − m_k) = H_c m_c − Σ_k h(c, k) m_k
    do not depend on the sample.

    Examples
    --------
    >>> round(distortion([[0.0]], [[0.0], [1.0]], Grid(1, 2), sigma=1.0), 4)  # exp(−1/2)
    0.6065
    """
    (X, weights), e = in_range(arrays.samples(X), codebook(weights, grid))
    M = torch.from_numpy(weights - weights.mean(0, dtype=np.float64))
    norms = M.square().sum(1, keepdim=True)
    sums = grid.gaussian_sum(torch.cat([M, norms, torch.ones_like(norms)], 1), sigma)
    m, norm, H = sums[:, :-2], sums[:, -2:-1], sums[:, -1:]  # Σ_k h(c, k) m_k, ‖m_k‖² and 1
    A = (H * norms + norm - 2 * (M * m).sum(1, keepdim=True)).clamp(min=0)[:, 0]
    shift = torch.zeros_like(M)  # Σ (x − m_c) of the samples of each unit

    def loss(units: Tensor, apart: Tensor) -> Tensor:
        c = units[:, 0]
        shift.index_add_(0, c, apart)
        value: Tensor = A[c] + H[c, 0] * apart.square().sum(1)
        return value

    mean = mean_over_samples(X, weights, loss)
    mean += 2 * float((shift * (H * M - m)).sum(1).sum()) / len(X)
    return float(np.ldexp(mean, 2 * e))


@checks.arguments
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
        Lower is better. The quantization error on a map of one unit.

    Examples
    --------
    >>> weights = [[0.0], [2.0], [1.0]]  # from 0 to its neighbor 1 the map leads over 2
    >>> combined_error([[0.1]], weights, Grid(1, 3))
    3.1
    """
    (X, weights), e = in_range(arrays.samples(X), codebook(weights, grid))
    W, K, far = torch.from_numpy(weights - weights.mean(0, dtype=np.float64)), len(weights), []

    def length(units: Tensor, apart: Tensor) -> Tensor:
        torn = _torn(units, grid, connectivity)
        far.append(units[torn])
        value: Tensor = apart.norm(dim=1)
        c, second = units[~torn].T  # between neighbors the edge is the shortest path
        value[~torn] += (W[c] - W[second]).norm(dim=1)
        return value

    mean = mean_over_samples(X, weights, length)
    start, end = torch.cat(far).numpy().T
    i, j = grid.edges(connectivity).T
    lengths = coo_array(((W[i] - W[j]).norm(dim=1).numpy(), (i, j)), shape=(K, K)).tocsr()
    sources, row = np.unique(start, return_inverse=True)
    apart = np.empty(len(row))
    for rows in row_blocks(len(sources), K):
        paths = dijkstra(lengths, directed=False, indices=sources[rows])
        here = (rows.start <= row) & (row < rows.stop)
        apart[here] = paths[row[here] - rows.start, end[here]]
    return float(np.ldexp(mean + apart.sum() / len(X), e))


@checks.arguments
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
    weights = codebook(weights, grid)
    K = len(weights)
    data, lattice = Points(weights), Points(grid.coords, grid)
    totals = torch.empty(K, dtype=torch.float64)  # added up at the end, whatever the blocks
    for rows in row_blocks(K, K):
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
        totals[rows] = log_p3.sum(1)
    return float(totals.sum()) / max(1, K * (K - 1))


def _mean_of_ties(ordered: Tensor, slack: Tensor, values: Tensor) -> Tensor:
    """Return each value's mean over the places of its row that are tied in `ordered`."""
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[:, 1:] = ordered.diff(dim=1) > slack[:, 1:]
    group = first.flatten().cumsum(0) - 1
    mean = torch.bincount(group, values.flatten()) / torch.bincount(group)
    return mean[group].reshape(values.shape)


def _torn(units: Tensor, grid: Grid, connectivity: int | None) -> Tensor:
    """Return which samples have best units that are not neighbors."""
    c, second = units.numpy().T
    return torch.from_numpy(grid.separate(c, second, connectivity))
