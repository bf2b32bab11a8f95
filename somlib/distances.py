"""The search for the best-matching units: exact, and in bounded memory.

‖x − w‖² = ‖x‖² − 2 x·w + ‖w‖² turns the search over N samples and K units into one matrix
product, which is what makes a map fast. It also loses digits: two distances that differ by less
than the rounding error of the product can come out in either order, and the order then depends
on the block size, the processor and the library. Here those pairs, and only those, are measured
again term by term, so that the winner is the true one, and the lowest index among equals.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

BLOCK_ELEMENTS = 2**21
"""Numbers in a block's distance matrix (8 MiB in float32): enough for the matrix product to run
at full speed, little enough for its result to stay in the processor's cache."""

CONFIDENCE = 6.0
"""Rounding errors of a product of length d add up like a random walk, to about √d ε ‖x‖ ‖w‖ with
one running sum, half of that with the four or more that processors keep side by side. A difference
of two products that exceeds this many times √d ε ‖x‖ ‖w‖ is beyond doubt: λ = 6 for each of them
fails with probability below 1e-7 (Higham & Mary, *A new approach to probabilistic rounding error
analysis*, SIAM J. Sci. Comput. 41, 2019, theorem 3.1)."""


@dataclass
class Blocks:
    """The samples minus a common centre, in blocks of rows on one device.

    Without centring, an offset of the data far from the origin eats the digits that distinguish
    one unit from the next. Data in memory are centred once; a `numpy.memmap` is read block by
    block, so that it may be larger than the memory.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Samples; NaN marks a missing value.
    center : ndarray of shape (d,)
        Subtracted from every sample.
    device : torch.device
        Where the blocks are wanted.
    missing : bool, default=False
        Whether to look for NaN.
    """

    X: NDArray[np.floating]
    center: NDArray[np.floating]
    device: torch.device
    missing: bool = False
    _resident: torch.Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.X, np.memmap):
            self._resident = self._load(slice(None))

    def __len__(self) -> int:
        return len(self.X)

    def rows(self, n_units: int) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor | None]]:
        """Yield (where, samples, known) with blocks sized for `n_units` distances a sample.

        `known` is 1 where a value is present and 0 where it is missing (and the sample's value is
        then 0), or None when nothing is missing.
        """
        size = max(1, BLOCK_ELEMENTS // max(n_units, self.X.shape[1]))
        for first in range(0, len(self.X), size):
            where = slice(first, min(first + size, len(self.X)))
            yield (where, *self._split(self[where]))

    def __getitem__(self, where: slice | torch.Tensor) -> torch.Tensor:
        """Return centred samples, NaN where missing."""
        if self._resident is not None:
            return self._resident[where]
        return self._load(where)

    def batch(self, where: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return (samples, known) of the rows with the given indices, on the device."""
        return self._split(self[where])

    def _load(self, where: slice | torch.Tensor) -> torch.Tensor:
        rows = self.X[where.numpy(force=True) if isinstance(where, torch.Tensor) else where]
        return torch.from_numpy(np.subtract(rows, self.center)).to(self.device)

    def _split(self, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        if not self.missing:
            return samples, None
        known = (~samples.isnan()).to(samples.dtype)
        return samples.nan_to_num(nan=0.0), known


def best_units(
    X: torch.Tensor, W: torch.Tensor, known: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best- and second-best-matching unit of each sample.

    Parameters
    ----------
    X : tensor of shape (n, d)
        One block of centred samples (see `Blocks`).
    W : tensor of shape (K, d)
        Prototypes, centred alike.
    known : tensor of shape (n, d), optional
        1 where the sample's value is known, 0 where it is missing and does not count.

    Returns
    -------
    units : tensor of shape (n, 2), int64
        Nearest and second-nearest unit; of equally near ones the lowest index. With a single
        unit both columns are 0.
    squared : tensor of shape (n, 2)
        Their squared distances, never negative.

    Notes
    -----
    Every unit closer to the second-best than the rounding error of the matrix product (see
    `CONFIDENCE`) is measured again directly, in float64 where the device has it. On real data
    that is some samples in a hundred.

    Examples
    --------
    >>> X = torch.tensor([[0.0, 0.0], [5.0, 5.0]])
    >>> W = torch.tensor([[4.0, 4.0], [1.0, 0.0], [1.0, 0.0]])
    >>> best_units(X, W)[0].tolist()
    [[1, 2], [0, 1]]
    """
    n_units = len(W)
    relative, x_squared, slack = _relative(X, W, known)
    # the three nearest tell whether the first two places are beyond doubt
    near, units = torch.topk(relative, min(3, n_units), largest=False)
    doubtful = (near.diff(dim=1) <= slack[:, None]).any(1)
    near, units = near[:, :2], units[:, :2]
    squared = near + x_squared[:, None]
    doubtful |= squared[:, 0] <= slack
    rows = doubtful.nonzero().squeeze(1)
    if len(rows):
        limit = near[rows, -1] + slack[rows]
        squared[rows], units[rows] = _measured(X, W, known, relative, rows, limit)
    if n_units == 1:
        squared, units = squared.expand(-1, 2), units.expand(-1, 2)
    return units, squared.clamp(min=0)


def squared_distances(
    X: torch.Tensor, W: torch.Tensor, known: torch.Tensor | None = None
) -> torch.Tensor:
    """Return ‖x − w‖² for all pairs of a block, shape (n, K); see `best_units` for the arguments.

    Distances too short for the matrix product to resolve are measured directly, so that a sample
    that equals a prototype is at distance 0.
    """
    relative, x_squared, slack = _relative(X, W, known)
    squared = relative + x_squared[:, None]
    rows, units = (squared <= 32 * slack[:, None]).nonzero(as_tuple=True)
    squared[rows, units] = _direct(X, W, known, rows, units).to(squared.dtype)
    return squared.clamp(min=0)


def _relative(
    X: torch.Tensor, W: torch.Tensor, known: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ‖w‖² − 2 x·w, shape (n, K), by one matrix product, ‖x‖², and how far two may be off.

    ‖x‖² is the same for all units and stays out of their comparison: a map that training has
    contracted around the centre has small w, hence small errors, however far its samples lie.
    """
    if known is None:
        relative = torch.addmm(W.square().sum(1), X, W.T, alpha=-2)
    else:
        # a missing value is 0 in X; its column of the prototypes must not count either
        relative = torch.addmm(known @ W.square().T, X, W.T, alpha=-2)
    norm = torch.linalg.vector_norm(X, dim=1)
    longest = torch.linalg.vector_norm(W, dim=1).max()
    slack = (CONFIDENCE * X.shape[1] ** 0.5 * torch.finfo(X.dtype).eps * longest) * norm
    return relative, norm.square(), slack


def _measured(
    X: torch.Tensor,
    W: torch.Tensor,
    known: torch.Tensor | None,
    relative: torch.Tensor,
    rows: torch.Tensor,
    limit: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the two nearest of the units of `rows` that lie within `limit`, measured directly."""
    candidate, unit = (relative[rows] <= limit[:, None]).nonzero(as_tuple=True)
    exact = torch.full((len(rows), len(W)), torch.inf, dtype=_precise(X.device), device=X.device)
    exact[candidate, unit] = _direct(X, W, known, rows[candidate], unit)
    # argmin names the first of equals, on every device
    places = []
    for _ in range(min(2, len(W))):
        best = exact.argmin(1, keepdim=True)
        places.append((exact.gather(1, best), best))
        exact = exact.scatter(1, best, torch.inf)
    near, units = (torch.cat(columns, 1) for columns in zip(*places, strict=True))
    return near.to(X.dtype), units


def _direct(
    X: torch.Tensor,
    W: torch.Tensor,
    known: torch.Tensor | None,
    rows: torch.Tensor,
    units: torch.Tensor,
) -> torch.Tensor:
    """Return Σ (x − w)² of the given pairs, term by term, in slices of bounded memory."""
    size = max(1, BLOCK_ELEMENTS // X.shape[1])
    parts: list[torch.Tensor] = []
    for r, u in zip(torch.split(rows, size), torch.split(units, size), strict=True):
        difference: torch.Tensor = X[r].to(_precise(X.device)) - W[u]
        if known is not None:
            difference *= known[r]
        parts.append(difference.square().sum(1))
    return torch.cat(parts)


def _precise(device: torch.device) -> torch.dtype:
    """Return the widest floating type of the device: Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
