"""The nearest neighbors of samples, and the ranks of others: exact, and in bounded memory.

For ‖x − w‖² = ‖x‖² + R with R = ‖w‖² − 2 x·w, which of n points w are nearest to x, and how many
are nearer than a given one, depends on R alone. Here R is first had at less cost than that of a
product in float64, with an error that is bounded. The pairs that the error leaves in doubt, some of
thousands, are measured in float64.

The k nearest are found by the lower bounds of `somlib.search.screen`: a point is none of them if
its bound exceeds the largest of any k distances. Where the bounds leave too many, and for ranks,
which depend on all points, all R are computed in float32, in half the time of float64.

**Proof** of the bound in float32. Let u = 2⁻²⁴ be the unit roundoff, d u ≤ 1/200, and no point
longer than M. The factors are rounded, and their d products are rounded and summed in any order:
the computed 2 x·w is off by at most 2.02 (d + 2) u ‖x‖ M (Higham, *Accuracy and Stability of
Numerical Algorithms*, 2002, section 3.1, and Cauchy and Schwarz). R is at most M² + 2 ‖x‖ M.
‖w‖² is rounded once, and R once where it is computed and once more where it is compared; an index
in its last bits (`_sorted`) moves it by at most 2 u of itself. That is 5 u M² + 8 u ‖x‖ M in all,
but for products of roundings. So

    |R̃ − R| ≤ u M (2.02 (d + 12) ‖x‖ + 16 M),

in which the rounding of float64 and a tie's tolerance have room, but for what underflows
(`Codebook.lost`). ∎
"""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from somlib.search.best_units import BLOCK_ELEMENTS, Block, Codebook, Table, _of_pairs
from somlib.search.products import one_torch_thread, product
from somlib.search.screen import LONGEST, Screen, directions

POINTS, FEATURES = 4000, 256
"""Points and features, from which on the search below pays ..."""

WANTED = 1 / 200
"""... and the share of points that are wanted of each search, up to which it does."""

MOST_FEATURES = 80_000
"""Features up to which the proof holds."""

MOST_PAIRS = 1 / 64
"""Share of all pairs, beyond which it is faster to compute all than to measure those in doubt."""

SHARE, MOST_DIRECTIONS = 6, 128
"""The screen's directions: one for each `SHARE` features, but at most so many."""

BASIS_SAMPLES = 1000
"""Number of points from which they are found."""

INDEX_BITS = 29
"""Bits by which the fraction of a float64 is longer than that of a float32."""


class Neighbors:
    """Points among which neighbors are searched.

    Both searches return None once too many pairs are in doubt, and from then on.

    Parameters
    ----------
    points : tensor of shape (n, d)
        In float64, on the CPU, and centered: the errors grow with their lengths.
    tolerance : float, default=0.0
        Squared distances from x are equal if they differ by at most this fraction of their own size
        plus ‖x‖².
    """

    def __init__(self, points: torch.Tensor, tolerance: float = 0.0) -> None:
        self._codebook, self._tolerance = Codebook(points), tolerance
        self._searches = [self._near_by_screen, self._near_in_float32]

    @staticmethod
    def pay(n: int, d: int, wanted: float) -> bool:
        """Return whether they save time when so many of n points of d features are wanted."""
        return n >= POINTS and FEATURES <= d <= MOST_FEATURES and wanted <= WANTED * n

    @one_torch_thread
    def nearest(
        self, x: torch.Tensor, k: int, own: slice | None = None
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the k nearest points of each sample and all that are as near as the k-th.

        Parameters
        ----------
        x : tensor of shape (b, d)
            Samples in float64, centered as the points are.
        k : int
        own : slice, optional
            Which points the samples are: none is its own neighbor.

        Returns
        -------
        relative : tensor of shape (b, at least k)
            ‖w‖² − 2 x·w in float64, ascending, also of some that are farther; the end is inf.
        points : tensor of that shape, int64
            Which they are; of equally near ones the lowest index comes first.
        """
        block = Block.of(x)
        while self._fits(block):
            row, point = pairs(self._searches[0](block, k, own))
            if len(row) <= MOST_PAIRS * len(x) * len(self._codebook):
                return in_order(len(x), row, point, self._exact(block, row, point))
            del self._searches[0]
        return None

    @one_torch_thread
    def places(
        self, x: torch.Tensor, own: slice, points: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return how many points are nearer than a given one, and how many are as near.

        Parameters
        ----------
        x, own
            As in `nearest`.
        points : tensor of shape (b, c), int64
            Which points each sample is asked about.
        wanted : tensor of that shape, bool
            Which of them count; what is returned for the others has no meaning.

        Returns
        -------
        nearer, tied : tensors of shape (b, c), int64
        """
        block = Block.of(x)
        if not self._fits(block):
            return None
        relative = torch.zeros(wanted.shape, dtype=x.dtype)
        row, column = pairs(wanted)
        relative[row, column] = self._exact(block, row, points[row, column])
        slack = self._slack(block, relative)
        low, high = relative - slack, relative + slack
        ordered, index, off = self._sorted(block, own)
        first = torch.searchsorted(ordered, low - off)
        number = torch.searchsorted(ordered, high + off, right=True) - first
        number[~wanted] = 0
        if int(number.sum()) > MOST_PAIRS * ordered.numel():
            self._searches.clear()
            return None
        which, place = _ranges(first.flatten(), number.flatten())
        row = which // wanted.shape[1]
        exact = self._exact(block, row, index[row, place] & (2**INDEX_BITS - 1))
        below = exact < low.flatten()[which]
        tied = ~below & (exact <= high.flatten()[which])
        nearer, as_near = (
            torch.bincount(which[some], minlength=number.numel()).view(number.shape)
            for some in (below, tied)
        )
        return first + nearer, as_near

    def _fits(self, block: Block) -> bool:
        """Return whether a search is left, and none of its numbers can overflow."""
        longest = float(block.norm.max()) + self._codebook.longest
        return bool(self._searches) and longest < LONGEST

    def _exact(self, block: Block, row: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
        """Return ‖w‖² − 2 x·w of pairs in float64, sorted by sample."""
        return _of_pairs(block, self._codebook, row, point)

    def _slack(self, block: Block, relative: torch.Tensor) -> torch.Tensor:
        """Return how far ‖w‖² − 2 x·w of each row may differ from others and still be equal."""
        return self._tolerance * (relative + 2 * block.norm[:, None].square())

    def _near_by_screen(self, block: Block, k: int, own: slice | None) -> torch.Tensor:
        """Return which points may be among the k nearest, by lower bounds."""
        codebook = self._codebook
        if codebook.screen is None:
            n, d = codebook.W.shape
            some = np.unique(np.random.default_rng(0).integers(n, size=BASIS_SAMPLES))
            basis = directions(codebook.W[torch.from_numpy(some)], min(d // SHARE, MOST_DIRECTIONS))
            codebook.screen = Screen(basis, rounded=False)
        least = codebook.scratch(len(block.x), bounds=True)
        factors = codebook.factors
        assert factors is not None
        codebook.screen.bounds(codebook.screen.samples(block.x, block.norm), factors, least)
        _exclude(least, own)
        low = torch.from_numpy(np.argpartition(least.numpy(), k - 1, axis=1)[:, :k].copy())
        row = torch.arange(len(low)).repeat_interleave(k)
        farthest = self._exact(block, row, low.flatten()).view(low.shape).amax(1, keepdim=True)
        rounding = codebook.slack(block.norm) + codebook.lost(block.norm)
        return least <= _raised(farthest + self._slack(block, farthest) + rounding[:, None])

    def _near_in_float32(self, block: Block, k: int, own: slice | None) -> torch.Tensor:
        """Return which points may be among the k nearest, by all products."""
        rough, off = self._rough(block, own)
        kth = kth_smallest(rough, k) + off
        return rough <= _raised(kth + self._slack(block, kth) + off)

    def _rough(self, block: Block, own: slice | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all ‖w‖² − 2 x·w in float32, and how far they may be off, shape (b, 1)."""
        rough = product(block.x.float(), self._minus_two_w).add_(self._squared)
        _exclude(rough, own)
        norm, longest = block.norm[:, None], self._codebook.longest
        off = 2.0**-24 * longest * (2.02 * (block.x.shape[1] + 12) * norm + 16 * longest)
        return rough, off + self._codebook.lost(norm)

    def _sorted(self, block: Block, own: slice) -> tuple[torch.Tensor, ...]:
        """Return `_rough` in ascending order, with the indices in the last bits of the integers."""
        rough, off = self._rough(block, own)
        # a float32 leaves those bits of a float64 empty
        ordered = rough.double()
        index = ordered.view(torch.int64)
        index |= torch.arange(len(self._codebook))
        ordered.numpy().sort(axis=1)  # bare values, by vector instructions: 8 × torch's sort
        return ordered, index, off

    @cached_property
    def _minus_two_w(self) -> torch.Tensor:
        return (-2 * self._codebook.W).float().T

    @cached_property
    def _squared(self) -> torch.Tensor:
        return self._codebook.squared.float()


def nearest_of_many(
    points: NDArray[np.floating], x: NDArray[np.floating], k: int
) -> NDArray[np.intp] | None:
    """Return the k nearest points of each sample, nearest first, or None if this does not pay.

    Parameters
    ----------
    points : ndarray of shape (n, d)
        In float64 and centered.
    x : ndarray of shape (b, d)
        Samples, centered alike.
    k : int

    Returns
    -------
    ndarray of shape (b, k)
        Of equally near points the lowest index comes first.
    """
    n, d = points.shape
    if len(x) < POINTS or not Neighbors.pay(n, d, k):
        return None
    search = Neighbors(torch.from_numpy(points))
    near = np.empty((len(x), k), np.intp)
    size = max(1, BLOCK_ELEMENTS // n)
    for first in range(0, len(x), size):
        rows = slice(first, first + size)
        if (found := search.nearest(torch.from_numpy(x[rows]), k)) is None:
            return None
        near[rows] = found[1][:, :k]
    return near


def kth_smallest(values: torch.Tensor, k: int) -> torch.Tensor:
    """Return the k-th smallest entry of each row, shape (b, 1)."""
    # NumPy selects by vector instructions, torch does not
    return torch.from_numpy(np.partition(values.numpy(), k - 1, axis=1)[:, k - 1 : k])


def pairs(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows and columns of the entries that are true, row by row."""
    row, column = np.divmod(np.flatnonzero(mask.numpy()), mask.shape[1])
    return torch.from_numpy(row), torch.from_numpy(column)


def in_order(
    n: int, row: torch.Tensor, column: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return values of pairs in ascending order in each of n rows, then inf, and their columns."""
    table = Table.of(n, row, column, values)
    ordered, places = table.relative.sort(dim=1, stable=True)
    return ordered, table.named(places)


def _exclude(table: torch.Tensor, own: slice | None) -> None:
    """Put all points at the end of their own neighbors."""
    if own is not None:
        table[:, own].fill_diagonal_(torch.finfo(table.dtype).max)


def _raised(limit: torch.Tensor) -> torch.Tensor:
    """Return numbers in float32, none lower."""
    return limit.float().nextafter(torch.tensor(torch.inf))


def _ranges(first: torch.Tensor, number: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the members first, first + 1, ... of ranges, and before them which range they are of.

    Each has as many as `number` says.
    """
    which = torch.arange(len(number)).repeat_interleave(number)
    begin = number.cumsum(0) - number
    return which, (first - begin)[which] + torch.arange(len(which))
