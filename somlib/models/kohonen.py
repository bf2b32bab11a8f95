"""Algorithms of the self-organizing map: neighborhoods, initialization, three ways of training.

`kohonen_algorithm` is Algorithm 1 of the SOAE paper as printed. The others are functions of
centered prototypes W and samples that return the new W and the best-matching units; `SOM` calls
them once per epoch. `online_pass` computes Algorithm 1 at a fraction of its cost.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.extmath import randomized_svd

from somlib import arrays, checks
from somlib.search.best_units import (
    BLOCK_ELEMENTS,
    Block,
    Blocks,
    Codebook,
    best_units,
    squared_distances,
)
from somlib.search.products import all_threads, by_numpy, one_torch_thread, product
from somlib.spaces import Grid
from somlib.spaces.grid import Topology
from somlib.training import processes
from somlib.training.adam import Adam

Array = NDArray[np.floating]


# ---------------------------------------------------------------- neighborhoods h(δ², σ)


def gaussian(squared: Any, sigma: float) -> Any:
    """Return h = exp(−δ²/2σ²) (equation 3 of the SOAE paper) of squared grid distances."""
    exponent = squared / (-2 * sigma**2)
    return exponent.exp() if isinstance(exponent, torch.Tensor) else np.exp(exponent)


def bubble(squared: Any, sigma: float) -> Any:
    """Return h = 1 within σ and 0 beyond."""
    return (squared <= sigma**2) * 1.0


def epanechnikov(squared: Any, sigma: float) -> Any:
    """Return h = max(0, 1 − δ²/σ²), SOM Toolbox's "ep"."""
    return (1 - squared / sigma**2).clip(min=0)


Neighborhood = Callable[[Any, float], Any]
NEIGHBORHOODS: dict[str, Neighborhood] = {
    "gaussian": gaussian,
    "bubble": bubble,
    "epanechnikov": epanechnikov,
}

# ---------------------------------------------------------------- Algorithm 1


def kohonen_algorithm(
    W: Array,
    X: Array,
    grid: Grid,
    sigma: Sequence[float],
    alpha: Sequence[float],
    h: Neighborhood = gaussian,
) -> Array:
    """Return the prototypes after Algorithm 1 of the SOAE paper, literally: one pass over X.

    Parameters
    ----------
    W : array of shape (K, d)
        Initial prototypes.
    X : array of shape (n, d)
        Samples in order of presentation; NaN marks a missing value, which is ignored.
    grid : Grid
    sigma, alpha : sequences of n float
        Width of the neighborhood and learning rate at each step.
    h : callable
        Neighborhood h(δ², σ).

    Examples
    --------
    >>> W = np.zeros((4, 2))
    >>> kohonen_algorithm(W, np.ones((1, 2)), Grid(2, 2), [1.0], [0.5])[0].tolist()
    [0.5, 0.5]
    """
    m = np.array(W)
    for t, x in enumerate(X):
        known = ~np.isnan(x)
        c = ((x[known] - m[:, known]) ** 2).sum(1).argmin()  # equation 1: the BMU
        alpha_h = alpha[t] * h(grid.distances[c] ** 2, sigma[t])  # equation 3
        m[:, known] += alpha_h[:, None] * (x[known] - m[:, known])  # equation 2
    return m


# ---------------------------------------------------------------- best-matching units of a pass


@dataclass
class Seen:
    """Best-matching units of a pass over samples: two per sample, and the distance to the first."""

    units: NDArray[np.int64]
    distance: Array

    @classmethod
    def of(cls, n: int, blocks: Blocks) -> Self:
        """Return an empty record of n samples, in the dtype of the blocks."""
        return cls(np.zeros((n, 2), np.int64), np.zeros(n, blocks.center.dtype))

    def note(self, where: slice, units: torch.Tensor, squared: torch.Tensor) -> None:
        """Store a block's two best units and squared distances, shapes (n, 2) and (n, ≥ 1)."""
        self.units[where] = units.numpy(force=True)
        np.sqrt(squared.numpy(force=True)[:, 0], out=self.distance[where])


# ---------------------------------------------------------------- the three ways of training

ONLINE_BLOCK = 32
"""Number of samples per block of online training; see `online_pass`."""

MAX_ADDED_BY_BLOCK = 2**20
"""Numbers in samples, up to which adding them block by block is faster than sorting them first."""


@one_torch_thread
def batch_pass(
    W: torch.Tensor, blocks: Blocks, grid: Grid, h: Neighborhood, sigma: float
) -> tuple[torch.Tensor, Seen]:
    """Set every prototype to the h-weighted mean of the samples (Kohonen 2013, equation 8).

    m_i = Σ_j h(i, j) s_j / Σ_j h(i, j) n_j, where s_j is the sum of the samples that unit j wins
    and n_j their number. The neighborhood is applied to K sums instead of n samples, so no array of
    size n × K × d or n × n is needed. Units with zero total weight keep their prototypes.

    Parameters
    ----------
    W : tensor of shape (K, d)
    blocks : Blocks
        Samples, centered as W is, and their weights.
    grid : Grid
    h : callable
        Neighborhood h(δ², σ), one of `NEIGHBORHOODS`.
    sigma : float

    Returns
    -------
    tensor of shape (K, d), and the best-matching units under the old W
    """
    n_units, d = W.shape
    seen, codebook = Seen.of(len(blocks), blocks), Codebook(W, blocks.screen)
    at_once = _to_be_sorted(blocks)
    sums, counts = W.new_zeros(n_units, d), W.new_zeros(n_units, d if blocks.missing else 1)
    for block in blocks.split(n_units):
        units, squared = best_units(block, codebook)
        seen.note(block.where, units, squared)
        if at_once is None:
            x, times = block.counted
            sums.index_add_(0, units[:, 0], x)
            counts.index_add_(0, units[:, 0], times)
    if at_once is not None:
        sums, counts = voronoi_sums(at_once, seen.units[:, 0], n_units, blocks.weight)
    (both,) = processes.total(torch.cat([sums, counts], dim=1))
    spread = _spread(both, grid, h, sigma).numpy(force=True)
    above, below = spread[:, :d], spread[:, d:]
    with np.errstate(all="ignore"):
        means = above / below
    np.copyto(means, W.numpy(force=True), where=~(below > torch.finfo(W.dtype).tiny))
    return torch.from_numpy(means), seen


def _to_be_sorted(blocks: Blocks) -> torch.Tensor | None:
    """Return all samples, where `voronoi_sums` is the way to add them, or None."""
    x = blocks.resident
    if x is None or blocks.missing:
        return None
    # on a GPU only sorted samples are added in order
    return x if not x.is_cpu or x.numel() > MAX_ADDED_BY_BLOCK else None


def voronoi_sums(
    x: torch.Tensor, units: NDArray[np.int64], n_units: int, weight: Array | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of the samples that each unit wins, (K, d), and their number, (K, 1).

    The samples are sorted by unit and added in order, on every device, so the result is
    reproducible.
    """
    # by radix where the numbers have 16 bits, several times faster
    order = np.argsort(units.astype(np.min_scalar_type(n_units)), kind="stable")
    number = np.bincount(units, minlength=n_units)
    begin = number.cumsum() - number
    counts = number if weight is None else np.bincount(units, weight, n_units)
    # few are over before another thread has begun
    with all_threads() if x.numel() > BLOCK_ELEMENTS else nullcontext():
        sums = torch.nn.functional.embedding_bag(
            torch.from_numpy(order).to(x.device),
            x,
            torch.from_numpy(begin).to(x.device),
            mode="sum",
            per_sample_weights=None if weight is None else torch.from_numpy(weight[order]).to(x),
        )
    return sums, torch.from_numpy(counts).to(x)[:, None]


def _spread(values: torch.Tensor, grid: Grid, h: Neighborhood, sigma: float) -> torch.Tensor:
    """Return Σ_j h(i, j) v_j for every unit i."""
    if h is gaussian:
        return grid.gaussian_sum(values, sigma)
    at = torch.from_numpy(grid.coords)
    rows_per_block = max(1, BLOCK_ELEMENTS // len(at))
    return torch.cat(
        [
            product(h(grid.distance(rows[:, None], at[None]) ** 2, sigma).to(values), values)
            for rows in torch.split(at, rows_per_block)
        ]
    )


@by_numpy()
@one_torch_thread
def online_pass(
    W: torch.Tensor,
    blocks: Blocks,
    visited: NDArray[np.int64],
    weight: Array | None,
    grid: Grid,
    h: Neighborhood,
    sigma: Sequence[float],
    alpha: Sequence[float],
) -> tuple[torch.Tensor, Seen]:
    """Present the samples one by one: find the BMU, update its neighborhood (Algorithm 1).

    The rule m ← m + αh (x − m), equation 2 of the SOAE paper, moves m along the straight line
    to x, and distances to a point on a line follow from the distances to its ends (Stewart's
    theorem): for any other sample y

        ‖y − m'‖² = (1 − αh) ‖y − m‖² + αh ‖y − x‖² − αh (1 − αh) ‖x − m‖².

    So for a block of B samples, two matrix products give all distances to prototypes and among
    samples; within the block, each step updates B distances per unit instead of d coordinates; and
    the prototypes are updated once, at the end of the block. The result is that of Algorithm 1, up
    to rounding.

    Parameters
    ----------
    W : tensor of shape (K, d), on the CPU
    blocks : Blocks
        Samples, centered as W is; on the CPU.
    visited : array of shape (n,)
        Their indices in order of presentation.
    weight : array of shape (n,) or None
        How many times in a row each sample is presented.
    grid : Grid
    h : callable
        Neighborhood h(δ², σ).
    sigma, alpha : sequences of n float
        Width and learning rate at each step.

    Returns
    -------
    tensor of shape (K, d), and the best-matching units at the presentation of each sample
    """
    seen = Seen.of(len(visited), blocks)
    pull = _pull(grid, h, sigma, alpha, weight, seen.distance.dtype)
    if blocks.missing:
        return _online_with_missing(W, blocks, visited, pull, seen)
    for first in range(0, len(visited), ONLINE_BLOCK):
        block = blocks[torch.from_numpy(visited[first : first + ONLINE_BLOCK])]
        samples = Block.of(block)
        to_units = squared_distances(samples, Codebook(W)).numpy()
        among = squared_distances(samples, Codebook(block)).numpy()
        rates = np.empty_like(to_units)
        for t in range(len(block)):
            c = to_units[t].argmin()  # equation 1
            ah = rates[t] = pull(first + t, c)
            later = to_units[t + 1 :]
            later -= ah * to_units[t]
            later *= 1 - ah
            later += np.multiply.outer(among[t + 1 :, t], ah)
        # row t of to_units holds the distances of sample t when it was presented
        near = torch.from_numpy(to_units)
        units = near.argmin(1, keepdim=True)
        others = near.scatter(1, units, torch.inf).argmin(1, keepdim=True) if len(W) > 1 else units
        seen.note(
            slice(first, first + len(block)),
            torch.cat([units, others], 1),
            near.gather(1, units).clamp(min=0),
        )
        # m after the block: Π (1 − αh) of the old m, plus each update as later ones shrink it
        kept = np.cumprod((1 - rates)[::-1], axis=0)[::-1]
        share = rates
        share[:-1] *= kept[1:]
        W = torch.from_numpy(kept[0])[:, None] * W + product(torch.from_numpy(share).T, block)
    return W, seen


def _online_with_missing(
    W: torch.Tensor,
    blocks: Blocks,
    visited: NDArray[np.int64],
    pull: Callable[[int, np.intp], Array],
    seen: Seen,
) -> tuple[torch.Tensor, Seen]:
    """Run Algorithm 1 literally, on the known values of each sample."""
    m = W.numpy().copy()
    for i, index in enumerate(visited):
        x = blocks[slice(index, index + 1)].numpy()[0]
        known = ~np.isnan(x)
        to_units = ((x[known] - m[:, known]) ** 2).sum(1)
        c = to_units.argmin()
        m[:, known] += pull(i, c)[:, None] * (x[known] - m[:, known])
        near = np.argsort(to_units, kind="stable")[[0, min(1, len(m) - 1)]]
        seen.units[i], seen.distance[i] = near, to_units[c] ** 0.5
    return torch.from_numpy(m), seen


def _pull(
    grid: Grid,
    h: Neighborhood,
    sigma: Sequence[float],
    alpha: Sequence[float],
    weight: Array | None,
    dtype: np.dtype[Any],
) -> Callable[[int, np.intp], Array]:
    """Return a function of step i and BMU c: αh(c, ·), the step size of each unit."""
    squared = _squared_rows(grid, dtype)

    def pull(i: int, c: np.intp) -> Array:
        ah: Array = alpha[i] * h(squared(c), sigma[i])
        # a weight of w is worth w presentations in a row
        return ah if weight is None else 1 - (1 - ah) ** weight[i]

    return pull


def _squared_rows(grid: Grid, dtype: np.dtype[Any]) -> Callable[[Any], Array]:
    """Return a function of units c: their squared grid distances to all units."""
    if grid.n_units**2 <= BLOCK_ELEMENTS:  # small enough to store
        table: Array = (grid.distances**2).astype(dtype)
        return table.__getitem__
    coords = torch.from_numpy(grid.coords.astype(dtype))
    return lambda c: np.asarray(grid.distance(coords[c][..., None, :], coords)) ** 2


def prototype_gradient(
    m: torch.Tensor,
    x: torch.Tensor,
    w: torch.Tensor,
    product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.matmul,
) -> torch.Tensor:
    """Return Σ_i w_ik (m_k − x_i), the gradient of Σ_i Σ_k w_ik ‖x_i − m_k‖² / 2 by m, (K, d)."""
    return w.sum(-2)[..., None] * m - product(w.mT, x)


@one_torch_thread
def sgd_pass(
    W: torch.Tensor,
    adam: Adam,
    blocks: Blocks,
    visited: NDArray[np.int64],
    weight: Array | None,
    batch_size: int,
    grid: Grid,
    h: Neighborhood,
    sigma: Sequence[float],
    rate: Sequence[float],
) -> Seen:
    """Take one step of Adam per batch on the mean of Σ_i h(c, i) ‖x − m_i‖².

    The loss of the DESOM slides on raw data ("kerasom"): BMUs are found before the step, and h has
    no gradient. W is updated in place; for the other arguments see `online_pass`.
    """
    seen = Seen.of(len(visited), blocks)
    squared_rows = _squared_rows(grid, seen.distance.dtype)
    for i, first in enumerate(range(0, len(visited), batch_size)):
        where = slice(first, first + batch_size)
        x = blocks[torch.from_numpy(visited[where])]
        units, squared = best_units(Block.of(x), Codebook(W))
        seen.note(where, units, squared)
        squared_grid = torch.from_numpy(squared_rows(seen.units[where, 0])).to(x)
        hc = h(squared_grid, sigma[i]).to(x)
        if weight is not None:
            hc *= torch.from_numpy(weight[where]).to(x)[:, None]
        times = len(x) if weight is None else max(float(weight[where].sum()), 1e-12)
        # ∂/∂m_i of 1/B Σ_x h(c, i) ‖x − m_i‖²
        W.grad = 2 / times * prototype_gradient(W, x, hc, product)
        adam.rate = rate[i]
        adam.step()
    return seen


# ---------------------------------------------------------------- initialization

START_SAMPLES = 1000
"""Number of random samples from which the center of the data and the plane of the initial
prototypes are estimated; both need to be only approximate."""


def pca_sheet(X: Array, grid: Grid, weight: Array | None = None) -> Array:
    """Return prototypes on a regular grid in the plane of the two largest principal components.

    The longer side of the map follows the first component. Along each axis of the map the
    prototypes have the variance of the data along its component, whatever the units of
    measurement.

    Parameters
    ----------
    X : array of shape (n, d)
        Samples; a missing value is replaced by its feature's mean.
    grid : Grid
    weight : array of shape (n,), optional

    Returns
    -------
    ndarray of shape (K, d)
    """
    mean, spread, axes = principal_plane(X, weight)
    position = grid.coords - grid.coords.mean(0)
    position = position[:, np.argsort(-np.ptp(position, axis=0), kind="stable")]
    scale = position.std(0)
    position = position / np.where(scale > 0, scale, 1)
    sheet: Array = mean + (position[:, : len(spread)] * spread) @ axes
    return sheet.astype(X.dtype)


def principal_plane(X: Array, weight: Array | None = None) -> tuple[Array, Array, Array]:
    """Return the mean of some samples and their two largest principal components.

    Parameters
    ----------
    X : array of shape (n, d)
        Samples; a missing value is replaced by its feature's mean.
    weight : array of shape (n,), optional

    Returns
    -------
    mean : ndarray of shape (d,)
    spread : ndarray of shape (c,)
        Standard deviations along the components, largest first; c is 2, or 1 where n or d is.
    axes : ndarray of shape (c, d)
    """
    rows = some_rows(len(X))
    some = np.array(X[rows], dtype=np.float64, order="C")
    times = np.ones(len(some)) if weight is None else weight[rows].astype(np.float64)
    if not times.any():
        times = np.ones(len(some))
    known = ~np.isnan(some)
    some[~known] = 0
    mean = (times @ some) / (times @ known).clip(min=np.finfo(float).tiny)
    deviation = np.where(known, some - mean, 0)
    scaled = deviation * np.sqrt(times / times.sum())[:, None]
    _, spread, axes = randomized_svd(scaled, min(2, *scaled.shape), random_state=0)
    # an axis points to the sample that is farthest along it, whatever the weights
    along = deviation[times > 0] @ axes.T
    farthest = along[np.abs(along).argmax(0), np.arange(len(axes))]
    return mean, spread, np.where(farthest < 0, -1, 1)[:, None] * axes


UNITS_PER_ROOT = 5
"""Units of a map for each √n of n samples: the heuristic of SOM Toolbox."""

SAMPLES_PER_UNIT = 2
"""Samples that there are at least for each unit of a suggested grid."""


@checks.arguments
def suggest_grid(
    X: ArrayLike, topology: Topology = "rect", wrap: bool | tuple[bool, bool] = False
) -> Grid:
    """Return a grid of the usual size for some samples, in their proportions.

    It has about 5√n units, but at most one for every two samples (and at least two units). Its
    sides are to each other as the standard deviations of the data along their two largest principal
    components, the longer one horizontal: `SOM(init="pca")` then starts as a regular lattice. That
    is a point to start from. Smaller maps are for clusters, larger ones for detail; the U-matrix
    and `metrics.summary` tell more.

    Parameters
    ----------
    X : array of shape (n, d)
        Samples, scaled as they will be for training. Missing values (NaN) count as their feature's
        mean; of more than 1000 samples a random subset gives the proportions.
    topology : {"rect", "hex"}, default="rect"
    wrap : bool or (bool, bool), default=False
        As in `Grid`. Wrapped hexagonal rows are even in number.

    Returns
    -------
    Grid
        Its repr says why it has this size.

    Raises
    ------
    ValueError
        When there are fewer than two samples, or they are all equal.

    References
    ----------
    J. Vesanto, J. Himberg, E. Alhoniemi and J. Parhankangas, *SOM Toolbox for Matlab 5*, Helsinki
    University of Technology, report A57, 2000: the default of `som_topol_struct`.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(400, 3)) * [2, 1, 0.1]
    >>> suggest_grid(X).why
    '5√400 = 100 units, sides as the standard deviations 1.96 : 0.971 of two principal components'
    >>> suggest_grid(X).rows, suggest_grid(X).cols
    (7, 14)
    """
    X = arrays.samples(X, least=2, missing=True, streamed=True)
    n, spread = len(X), np.append(principal_plane(X)[1], 0.0)[:2]
    if spread[0] == 0:
        raise ValueError(
            f"all {n} samples of X are equal and have no proportions; check the data, or choose "
            "Grid(rows, cols) yourself"
        )
    most = max(2, n // SAMPLES_PER_UNIT)
    usual = round(UNITS_PER_ROOT * n**0.5)
    wanted = min(usual, most)
    shape = Grid(2, 2, topology, wrap)
    height = shape.mesh()[1, 0, 0]  # of a row, in lattice spacings
    step = 2 if topology == "hex" and shape.periods[0] else 1
    rows = step * max(1, round((wanted * spread[1] / spread[0] / height) ** 0.5 / step))
    grid = Grid(rows, max(1, min(round(wanted / rows), most // rows)), topology, wrap)
    limit = f", but {n} samples allow {most}" if usual > most else ""
    object.__setattr__(
        grid,
        "why",
        f"{UNITS_PER_ROOT}√{n} = {usual} units{limit}, sides as the "
        f"standard deviations {spread[0]:.3g} : {spread[1]:.3g} of two principal components",
    )
    return grid


def some_rows(n: int) -> NDArray[np.int64]:
    """Return the indices of at most `START_SAMPLES` rows: all, or a fixed random subset.

    Not every k-th row, because data are often periodic (interleaved classes, paired measurements).
    """
    if n <= START_SAMPLES:
        return np.arange(n)
    return np.unique(np.random.default_rng(0).integers(n, size=START_SAMPLES))


def data_center(X: Array) -> Array:
    """Return the mean of some samples."""
    some = X[some_rows(len(X))].astype(np.float64, order="C")
    known = ~np.isnan(some)
    center: Array = np.where(known, some, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    return center.astype(X.dtype)
