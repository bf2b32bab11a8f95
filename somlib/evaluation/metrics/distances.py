"""Distances between all points of a set, in blocks of rows."""

from collections.abc import Iterator

import numpy as np
import torch

from somlib.evaluation.arguments import Array, in_range
from somlib.search.best_units import BLOCK_ELEMENTS
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


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of all rows, so long that a block of them has about `BLOCK_ELEMENTS` numbers."""
    size = max(1, BLOCK_ELEMENTS // columns)
    return (slice(first, min(first + size, rows)) for first in range(0, rows, size))
