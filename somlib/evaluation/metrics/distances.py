"""Distances between all points of a set, in blocks of rows."""

from collections.abc import Iterator

import numpy as np
import torch

from somlib.evaluation.arguments import Array, in_range
from somlib.search.best_units import BLOCK_ELEMENTS
from somlib.search.neighbors import Neighbors, in_order, kth_smallest, pairs
from somlib.spaces import Space

TIE_TOLERANCE = 1e-12
"""Squared distances in float64 count as equal when they differ by less than this fraction of their
own size plus the squared norm of the centered point: the most by which rounding moves them."""


class Points:
    """Squared distances from some of n points to all, and how far rounding may move them."""

    def __init__(self, points: Array, space: Space | None = None) -> None:
        self.space = space
        if space:
            # samples on a map share a few positions: measure between those
            sites, site = np.unique(points, axis=0, return_inverse=True)
            self.sites, self.site = torch.from_numpy(sites).double(), torch.from_numpy(site)
        else:
            (points,), _ = in_range(points)
        self.at = torch.from_numpy(points - points.mean(0, dtype=np.float64))
        self.norm = self.at.square().sum(1, keepdim=True)
        self._neighbors: Neighbors | None = None

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
        return TIE_TOLERANCE * (squared if self.space else squared + self.norm[rows])

    def nearest(self, rows: slice, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the squared distances of the k nearest of each row, and which they are.

        They come in ascending order, with all that are as near as the k-th and perhaps some that
        are farther; rows with fewer points end in inf.
        """
        if (search := self._search(k)) and (found := search.nearest(self.at[rows], k, rows)):
            return (found[0] + self.norm[rows]).clamp(min=0), found[1]
        squared = self.squared(rows)
        kth = kth_smallest(squared, k)
        row, point = pairs(squared <= kth + self.slack(rows, kth))
        return in_order(len(squared), row, point, squared[row, point])

    def places(
        self, rows: slice, points: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return how many of all are nearer to each row than given points, and how many tie.

        What is returned for points that are not `wanted` has no meaning.
        """
        search = self._search(int(wanted.sum()) / len(wanted))
        if search and (found := search.places(self.at[rows], rows, points, wanted)):
            return found
        squared = self.squared(rows)
        distance = squared.gather(1, points)
        squared.numpy().sort(axis=1)  # bare values, by vector instructions: 8 × torch's sort
        return places(squared, distance, self.slack(rows, distance))

    def _search(self, wanted: float) -> Neighbors | None:
        """Return a faster search for so many points of each row, if there is one."""
        n, d = self.at.shape
        if self.space or not Neighbors.pay(n, d, wanted):
            return None
        if self._neighbors is None:
            self._neighbors = Neighbors(self.at, TIE_TOLERANCE)
        return self._neighbors


def places(
    ordered: torch.Tensor, value: torch.Tensor, slack: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how many of a row's `ordered` entries lie below each value, and how many tie it."""
    below = torch.searchsorted(ordered, value - slack)
    return below, torch.searchsorted(ordered, value + slack, right=True) - below


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of all rows, so long that a block of them has about `BLOCK_ELEMENTS` numbers.

    Those of float64 count twice.
    """
    size = max(1, BLOCK_ELEMENTS // (2 * columns))
    return (slice(first, min(first + size, rows)) for first in range(0, rows, size))
