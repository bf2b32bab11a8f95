"""The search for the best-matching units: exact, and in bounded memory.

‖x − w‖² = ‖x‖² − 2 x·w + ‖w‖² turns the search over N samples and K units into one matrix
product, which is what makes a map fast. It also loses digits: two distances that differ by less
than the rounding error of the product can come out in either order, and the order then depends
on the block size, the processor and the library. Here those pairs, and only those, are measured
again term by term, so that the winner is the true one, and the lowest index among equals. On large
problems a screen of lower bounds (`somlib.search.screen`) comes first, and spares most of that
product.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from somlib.search import screen
from somlib.search.products import all_threads, one_torch_thread, product
from somlib.search.screen import LONGEST, Screen

BLOCK_ELEMENTS = 2**22
"""Numbers in a block of samples or of their distances (16 MiB in float32): enough for the matrix
product to run at full speed, little enough to stay near the processor."""

GPU_BLOCK_ELEMENTS = 2**27
"""The same on a GPU (512 MiB), where each step takes some time to begin, however short it is."""

GROUP = 32
"""On a GPU, bounds are read once, for the lowest of each group of so many units."""

BLOCK_ROWS = 512
"""... but not fewer samples than this, below which the product slows down."""

MOST_PAIRS = 1 / 16
"""Share of all pairs, beyond which a screen is of no use and the product of all is computed."""

MAX_KEPT = 2**20
"""Numbers in samples, up to which their blocks, and what `Block` derives from them, are kept from
one pass to the next: some MB, and on few samples each call counts."""

BASIS_SAMPLES = 1000
"""Number of samples from which the directions of a screen are found."""

MAX_DIRECT_DIFFERENCES = 2**19
"""Differences of single features, up to which computing them all is faster than a product and what
its rounding makes necessary."""

CONFIDENCE = 6.0
"""Rounding errors of a product of length d add up like a random walk, to about √d ε ‖x‖ ‖w‖ with
one running sum, half of that with the four or more that processors keep side by side. A difference
of two products that exceeds this many times √d ε ‖x‖ ‖w‖ is beyond doubt: λ = 6 for each of them
fails with probability below 1e-7 (Higham & Mary, *A new approach to probabilistic rounding error
analysis*, SIAM J. Sci. Comput. 41, 2019, theorem 3.1)."""


@dataclass(eq=False)
class Block:
    """Some consecutive samples, centered.

    `known` is 1 where a value is present and 0 where it is missing (and the value in `x` is then
    0), or None when nothing is missing; `norm` is ‖x‖ of each sample. `factors` are those of a
    screen, where they are kept; `weight` says how many times each sample counts, or is None.
    """

    where: slice
    x: torch.Tensor
    known: torch.Tensor | None
    norm: torch.Tensor
    factors: torch.Tensor | None = None
    weight: torch.Tensor | None = None

    @classmethod
    def of(cls, x: torch.Tensor, known: torch.Tensor | None = None) -> "Block":
        """Return samples as one block; what `known` marks as missing must be 0 in `x`."""
        return cls(slice(0, len(x)), x, known, torch.linalg.vector_norm(x, dim=1))

    @cached_property
    def counted(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Each sample times its weight, and its weight, shape (n, 1).

        With missing values the weight is (n, d), and 0 where one is missing.
        """
        present = self.x.new_ones(len(self.x), 1) if self.known is None else self.known
        if self.weight is None:
            return self.x, present
        times = self.weight[:, None]
        return self.x * times, present * times


@dataclass
class Blocks:
    """The samples minus a common center, in blocks of rows on one device.

    Without centering, an offset of the data far from the origin eats the digits that distinguish
    one unit from the next. Data in memory are centered once; a `numpy.memmap` is read block by
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
    n_units, n_passes : int, default=0, 1
        How many searches among how many units are to come: whether a screen pays depends on it.
    weight : ndarray of shape (n,), optional
        How many times each sample counts.

    Attributes
    ----------
    screen : Screen or None
        How samples are replaced in a first look at them; see `Codebook`.
    """

    X: NDArray[np.floating]
    center: NDArray[np.floating]
    device: torch.device
    missing: bool = False
    n_units: int = 0
    n_passes: int = 1
    weight: NDArray[np.floating] | None = None
    screen: Screen | None = field(default=None, init=False)
    _resident: torch.Tensor | None = field(default=None, init=False, repr=False)
    _norm: torch.Tensor | None = field(default=None, init=False, repr=False)
    _factors: torch.Tensor | None = field(default=None, init=False, repr=False)
    _kept: dict[int, list[Block]] = field(default_factory=dict, init=False, repr=False)

    @one_torch_thread
    def __post_init__(self) -> None:
        if not isinstance(self.X, np.memmap):
            self._resident = self._load(slice(None))
            if not self.missing:
                self._norm = torch.linalg.vector_norm(self._resident, dim=1)
        if self.n_units and not self.missing:
            passes = 1 if self._resident is None else self.n_passes
            n, d = self.X.shape
            self.screen = screen.chosen(self._some, n, d, self.n_units, passes, self.device)
        if self.screen is not None and self._resident is not None:
            parts = [self.screen.samples(some.x, some.norm) for some in self._split(self.n_units)]
            self._factors = torch.cat(parts)

    def __len__(self) -> int:
        return len(self.X)

    @property
    def resident(self) -> torch.Tensor | None:
        """All samples at once, centered, NaN where missing; None when they are streamed."""
        return self._resident

    def __getitem__(self, where: slice | torch.Tensor) -> torch.Tensor:
        """Return centered samples, NaN where missing."""
        if self._resident is not None:
            return self._resident[where]
        return self._load(where)

    def split(self, n_units: int) -> Iterable[Block]:
        """Return all samples in blocks sized for `n_units` distances a sample."""
        if self._resident is None or self.X.size > MAX_KEPT:
            return self._split(n_units)
        if n_units not in self._kept:
            self._kept[n_units] = list(self._split(n_units))
        return self._kept[n_units]

    def _split(self, n_units: int) -> Iterator[Block]:
        elements = BLOCK_ELEMENTS if self.device.type == "cpu" else GPU_BLOCK_ELEMENTS
        size = max(BLOCK_ROWS, elements // max(n_units, self.X.shape[1]))
        for first in range(0, len(self.X), size):
            where = slice(first, min(first + size, len(self.X)))
            x, known = self[where], None
            if self.missing:
                known = (~x.isnan()).to(x.dtype)
                x = x.nan_to_num(nan=0.0)
            norm = torch.linalg.vector_norm(x, dim=1) if self._norm is None else self._norm[where]
            factors = None if self._factors is None else self._factors[where]
            weight = None if self.weight is None else torch.from_numpy(self.weight[where]).to(x)
            yield Block(where, x, known, norm, factors, weight)

    def _some(self) -> torch.Tensor:
        """Return a random subset of the samples, centered."""
        rows = np.random.default_rng(0).integers(len(self.X), size=BASIS_SAMPLES)
        return self[torch.from_numpy(np.unique(rows))]

    def _load(self, where: slice | torch.Tensor) -> torch.Tensor:
        rows = self.X[where.numpy(force=True) if isinstance(where, torch.Tensor) else where]
        if self.device.type != "cpu" and rows.dtype == self.center.dtype:
            moved = torch.from_numpy(np.require(rows, requirements=("C", "W"))).to(self.device)
            return moved.sub_(torch.from_numpy(self.center).to(self.device))
        centered = np.subtract(
            rows, self.center, dtype=self.center.dtype, casting="same_kind", order="C"
        )
        return torch.from_numpy(centered).to(self.device)


class Codebook:
    """Prototypes ready for a search: what depends on them alone is computed once, not per block.

    Parameters
    ----------
    W : tensor of shape (K, d)
        Prototypes, centered as the samples are.
    screen : Screen, optional
        That of the samples' blocks, where they have one.

    Attributes
    ----------
    screen : Screen or None
        The one in use: the prototypes' own, where `screen.of_prototypes` has one, then that of the
        samples. It is dropped once it leaves too many units to be measured.
    """

    def __init__(self, W: torch.Tensor, screen: Screen | None = None) -> None:
        self.W, self._of_samples = W, screen
        self.screen = screen if screen is None else self._own(screen) or screen
        self._scratch: torch.Tensor | None = None

    def __len__(self) -> int:
        return self.W.shape[0]

    # a search among few pairs needs none of these

    @cached_property
    def _squared(self) -> torch.Tensor:
        return self.W.to(_precise(self.W.device)).square().sum(1)

    @cached_property
    def squared(self) -> torch.Tensor:
        """‖w‖² of each prototype, shape (K,)."""
        return self._squared.to(self.W.dtype)

    @cached_property
    def longest(self) -> float:
        """The largest ‖w‖."""
        return math.sqrt(self._squared.max())

    @cached_property
    def minus_two_W(self) -> torch.Tensor:  # noqa: N802
        """The factor of ‖w‖² − 2 x·w, shape (d, K)."""
        return -2 * self.W.T

    @cached_property
    def factors(self) -> torch.Tensor | None:
        """Those of the screen, where there is one; on a GPU of units that fill the groups."""
        if self.screen is None:
            return None
        factors = self.screen.units(self.W, self._squared)
        return _filled(factors) if _on_gpu(self.W) else factors

    def factors_of(self, block: Block) -> torch.Tensor | None:
        """Return a block's factors for the screen, where there is one."""
        if self.screen is None:
            return None
        kept = block.factors if self.screen is self._of_samples else None
        return self.screen.samples(block.x, block.norm) if kept is None else kept

    def drop_screen(self) -> None:
        """Go on with the next screen, or with none."""
        self.screen = None if self.screen is self._of_samples else self._of_samples
        self.__dict__.pop("factors", None)

    @one_torch_thread
    def _own(self, other: Screen) -> Screen | None:
        """Return a screen of the prototypes' own directions, if these are fewer than another's."""
        if other.U is None or not self.longest < LONGEST:
            return None
        return screen.of_prototypes(self.W, other.U.shape[1])

    def slack(self, norm: torch.Tensor) -> torch.Tensor:
        """Return how far two entries of ‖w‖² − 2 x·w of samples of norm ‖x‖ may be off."""
        d, (eps, tiny) = self.W.shape[1], _resolution(self.W.dtype)
        least = 4 * eps * self.longest * self.longest + d * tiny
        return CONFIDENCE * math.sqrt(d) * eps * self.longest * norm + least

    def lost(self, norm: torch.Tensor) -> torch.Tensor:
        """Return what may underflow in a screen, which computes in float32."""
        tiny = _resolution(torch.float32)[1]
        return (self.W.shape[1] + 8) * tiny * 16 * (1 + self.longest * self.longest) * (1 + norm)

    def scratch(self, n: int, bounds: bool = False) -> torch.Tensor:
        """Return room for n × K numbers, the same on every call: fresh memory costs time."""
        like = self.factors if bounds and self.factors is not None else self.W.T
        room = self._scratch
        fits = room is not None and len(room) >= n and room.shape[1] == like.shape[1]
        if room is None or not fits or room.dtype != like.dtype:
            self._scratch = room = like.new_empty(n, like.shape[1])
        return room[:n]


@one_torch_thread
def best_units(block: Block, codebook: Codebook) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best- and second-best-matching unit of each sample.

    Parameters
    ----------
    block : Block
        n centered samples of d features.
    codebook : Codebook
        K prototypes, centered alike.

    Returns
    -------
    units : tensor of shape (n, 2), int64
        Nearest and second-nearest unit; of equally near ones the lowest index. With a single
        unit both columns are 0.
    squared : tensor of shape (n, 2)
        Their squared distances, never negative.

    Notes
    -----
    Few pairs are all measured directly, in float64. Of many, every unit closer to the second-best
    than the rounding error of the matrix product (see `CONFIDENCE`) is measured again so, in
    float64 where the device has it. On real data that is some samples in a hundred.

    Examples
    --------
    >>> X = torch.tensor([[0.0, 0.0], [5.0, 5.0]])
    >>> W = torch.tensor([[4.0, 4.0], [1.0, 0.0], [1.0, 0.0]])
    >>> best_units(Block.of(X), Codebook(W))[0].tolist()
    [[1, 2], [0, 1]]
    """
    if codebook.screen is None and _are_few(block, codebook):
        near, at = _smallest(_all_direct(block, codebook.W), 2)
        squared, units = torch.from_numpy(near).to(codebook.W.dtype).T, torch.from_numpy(at.T)
    else:
        squared, units = _nearest_by_product(block, codebook)
    if len(codebook) == 1:
        squared, units = squared.expand(-1, 2), units.expand(-1, 2)
    return units, squared


@one_torch_thread
def squared_distances(block: Block, codebook: Codebook) -> torch.Tensor:
    """Return ‖x − w‖² for all pairs of a block, shape (n, K); see `best_units` for the arguments.

    Distances too short for the matrix product to resolve are measured directly, so that a sample
    that equals a prototype is at distance 0.
    """
    if _are_few(block, codebook):
        return torch.from_numpy(_all_direct(block, codebook.W)).to(codebook.W.dtype)
    slack = codebook.slack(block.norm)
    squared = _relative(block, codebook) + block.norm.square()[:, None]
    rows, units = (squared <= 32 * slack[:, None]).nonzero(as_tuple=True)
    squared[rows, units] = _direct(block, codebook.W, rows, units).to(squared.dtype)
    return squared.clamp(min=0)


@one_torch_thread
def mean_over_samples(
    X: NDArray[np.floating],
    weights: NDArray[np.floating],
    measure: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> float:
    """Return the mean over all samples of a number that depends on their best-matching units.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Samples without missing values.
    weights : ndarray of shape (K, d)
        Prototypes.
    measure : callable
        `measure(units, apart)` is called with blocks of b samples and returns b numbers: `units`
        of shape (b, 2) holds the two best units of each, `apart` of shape (b, d) its difference
        x − w from the best, in float64. PyTorch has one thread meanwhile, as in all of the search.

    Raises
    ------
    ValueError
        When samples and prototypes differ in the number of features.

    Examples
    --------
    >>> X, W = np.array([[0.0, 3.0], [4.0, 0.0]]), np.array([[0.0, 0.0], [4.0, 0.0]])
    >>> mean_over_samples(X, W, lambda units, apart: apart.norm(dim=1))
    1.5
    """
    if X.shape[1] != weights.shape[1]:
        raise ValueError(
            f"X has {X.shape[1]} features, but weights have {weights.shape[1]}; "
            "pass the data, or the codes, that the map was trained on"
        )
    center = weights.mean(0, dtype=np.float64).astype(np.result_type(X, weights))
    W = torch.from_numpy(weights - center)
    blocks = Blocks(X, center, W.device, n_units=len(W))
    codebook = Codebook(W, blocks.screen)
    values = torch.empty(len(X), dtype=torch.float64)  # one by one they would fragment the memory
    for block in blocks.split(len(W)):
        units, _ = best_units(block, codebook)
        apart = block.x.to(torch.float64, copy=True).sub_(W[units[:, 0]])
        values[block.where] = measure(units, apart)
    return float(values.mean())


def _nearest_by_product(block: Block, codebook: Codebook) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the squared distances to the two nearest units, and which they are."""
    slack = codebook.slack(block.norm)
    if (table := _screened(block, codebook, slack)) is None:
        table = Table(_relative(block, codebook, codebook.scratch(len(block.x))))
    # the three nearest tell whether the first two places are beyond doubt
    near, units = _nearest(table, 3)
    # written so that what is no number, because it overflowed, is in doubt
    sure = (near.diff(dim=1) > slack[:, None]).all(1)
    near, units = near[:, :2], units[:, :2]
    squared = near + block.norm.square()[:, None]
    sure &= squared[:, 0] > slack
    rows = (~sure).nonzero().squeeze(1)
    if len(rows):
        limit = near[rows, -1] + slack[rows]
        squared[rows], units[rows] = _measured(block, codebook.W, table, rows, limit)
    return squared.clamp(min=0), units


class Table(NamedTuple):
    """‖w‖² − 2 x·w of each sample with some units, shape (n, C); inf fills rows of fewer units.

    `units` of shape (n, C) says which they are, or is None where they are all in order.
    """

    relative: torch.Tensor
    units: torch.Tensor | None = None

    @classmethod
    def of(cls, n: int, rows: torch.Tensor, units: torch.Tensor, values: torch.Tensor) -> "Table":
        """Return pairs of a sample and a unit, sorted by sample, side by side."""
        number = torch.bincount(rows, minlength=n)
        place = torch.arange(len(rows), device=rows.device) - (number.cumsum(0) - number)[rows]
        shape = n, int(number.max())
        relative = torch.full(shape, torch.inf, dtype=values.dtype, device=rows.device)
        at = torch.zeros(shape, dtype=torch.int64, device=rows.device)
        relative[rows, place], at[rows, place] = values, units
        return cls(relative, at)

    def named(self, places: torch.Tensor) -> torch.Tensor:
        """Return the units that stand in places of shape (n, p)."""
        return places if self.units is None else self.units.gather(1, places)


def _relative(block: Block, codebook: Codebook, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return ‖w‖² − 2 x·w, shape (n, K), by one matrix product.

    ‖x‖² is the same for all units and stays out of their comparison: a map that training has
    contracted around the center has small w, hence small errors, however far its samples lie.
    """
    relative = product(block.x, codebook.minus_two_W, out)
    if block.known is None:
        relative += codebook.squared
    else:
        # a missing value is 0 in x; its column of the prototypes must not count either
        relative += product(block.known, codebook.W.T.square())
    return relative


def _screened(block: Block, codebook: Codebook, slack: torch.Tensor) -> Table | None:
    """Return the units of each sample that may be its two nearest, or None if they are too many.

    The two units of the lowest bounds are measured. Whichever are the two nearest, the second of
    them is no farther than the farther of these, and a unit with a higher lower bound is none.
    """
    factors = codebook.factors_of(block)
    if codebook.screen is None or codebook.factors is None or factors is None:
        return None
    if not float(block.norm.max()) + codebook.longest < LONGEST:
        codebook.drop_screen()
        return _screened(block, codebook, slack)
    n, least = len(block.x), codebook.scratch(len(block.x), bounds=True)
    codebook.screen.bounds(factors, codebook.factors, least)
    pair, lowest = _of_low_bounds(least)
    row = torch.arange(n, device=pair.device).repeat_interleave(pair.shape[1])
    first = _of_pairs(block, codebook, row, pair.flatten()).view(pair.shape)
    limit = first.amax(1) + slack + codebook.lost(block.norm)
    limit = limit.to(least.dtype).nextafter(least.new_tensor(torch.inf))  # rounded up
    least.scatter_(1, pair, torch.inf)
    row, unit = _within(least, lowest, limit)
    if len(row) > MOST_PAIRS * least.numel():
        codebook.drop_screen()
        return _screened(block, codebook, slack)
    others = Table.of(n, row, unit, _of_pairs(block, codebook, row, unit))
    assert others.units is not None
    return Table(torch.cat([first, others.relative], 1), torch.cat([pair, others.units], 1))


def _of_low_bounds(least: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two units of low bounds for each sample, (n, 2), and the lowest of each group, (n, G).

    Unit k belongs to group k modulo G, so that neighbors on the map, which are near to the same
    samples, belong to several. On the CPU each unit is a group, and the two are the lowest.
    """
    if not _on_gpu(least):
        return _nearest(Table(least), 2)[1].sort(1).values, least
    lowest, at = _grouped(least).min(1)
    group = _nearest(Table(lowest), 2)[1]
    return (at.gather(1, group) * lowest.shape[1] + group).sort(1).values, lowest


def _within(
    least: torch.Tensor, lowest: torch.Tensor, limit: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pairs of a sample and a unit whose bound is within the sample's limit."""
    if not _on_gpu(least):
        found = np.flatnonzero(least.numpy() <= limit.numpy()[:, None])
        row, unit = (torch.from_numpy(index) for index in np.divmod(found, least.shape[1]))
        return row, unit
    row, group = (lowest <= limit[:, None]).nonzero(as_tuple=True)
    members = _grouped(least)[row, :, group]
    which, at = (members <= limit[row, None]).nonzero(as_tuple=True)
    return row[which], at * lowest.shape[1] + group[which]


def _grouped(least: torch.Tensor) -> torch.Tensor:
    """Return bounds by place in a group and group, shape (n, GROUP, G), or (n, 1, K) of few."""
    members = GROUP if least.shape[1] >= 2 * GROUP else 1
    return least.view(len(least), members, -1)


def _filled(factors: torch.Tensor) -> torch.Tensor:
    """Return factors of units with those of further ones, far from all samples, to fill groups."""
    n_units = factors.shape[1]
    if n_units < 2 * GROUP:
        return factors
    more = torch.nn.functional.pad(factors, (0, -n_units % GROUP))
    more[0, n_units:] = 2 * LONGEST**2  # the bound itself: the sample's factor is 1
    return more


def _of_pairs(
    block: Block, codebook: Codebook, rows: torch.Tensor, units: torch.Tensor
) -> torch.Tensor:
    """Return ‖w‖² − 2 x·w of pairs of a sample and a unit, sorted by sample."""
    dots = _gathered_dots if _on_gpu(rows) else _sampled_dots
    relative: torch.Tensor = codebook.squared[units] - 2 * dots(block.x, codebook.W, rows, units)
    return relative


def _gathered_dots(
    x: torch.Tensor, W: torch.Tensor, rows: torch.Tensor, units: torch.Tensor
) -> torch.Tensor:
    """Return x·w of pairs, from copies of their vectors, in slices of bounded memory."""
    size = max(1, GPU_BLOCK_ELEMENTS // W.shape[1])
    slices = zip(torch.split(rows, size), torch.split(units, size), strict=True)
    return torch.cat([torch.linalg.vecdot(x[r], W[u]) for r, u in slices])


def _sampled_dots(
    x: torch.Tensor, W: torch.Tensor, rows: torch.Tensor, units: torch.Tensor
) -> torch.Tensor:
    """Return x·w of pairs sorted by sample, as the entries of a product that is sparse."""
    begin = torch.bincount(rows, minlength=len(x)).cumsum(0)
    begin = torch.cat([begin.new_zeros(1), begin])
    _suppress_sparse_warning()
    wanted = torch.sparse_csr_tensor(begin, units, x.new_zeros(len(units)), (len(x), len(W)))
    with all_threads():
        dots: torch.Tensor = torch.sparse.sampled_addmm(wanted, x, W.T, beta=0).values()
    return dots


@cache
def _suppress_sparse_warning() -> None:
    """Have PyTorch give its warning that sparse tensors are new, once, and suppress it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.sparse_csr_tensor([0, 0], [], [], (1, 1))


def _nearest(table: Table, places: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the smallest entries of each row in order, and the units they are of."""
    relative = table.relative
    if _on_gpu(relative):
        return _nearest_on_gpu(table, min(places, relative.shape[1]))
    near, at = (torch.from_numpy(rows.T) for rows in _smallest(relative.numpy(), places))
    return near, table.named(at)


def _smallest(
    values: NDArray[np.floating], places: int
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Return the smallest entries of each row in order, shape (places, n), and their columns.

    NumPy's argmin by vector instructions, a few times, is faster than selecting all at once.
    """
    n, n_columns = values.shape
    places = min(places, n_columns)
    flat, row = values.reshape(-1), n_columns * np.arange(n)
    at = np.empty((places, n), np.int64)
    near = np.empty((places, n), values.dtype)
    for place in range(places):
        at[place] = row + values.argmin(1)
        near[place] = flat[at[place]]
        flat[at[place]] = np.inf
    for place in reversed(range(places)):  # where all is inf, places are the same
        flat[at[place]] = near[place]
    return near, at - row


def _nearest_on_gpu(table: Table, places: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `_nearest` does; a few passes are faster than `topk`, which is made for many."""
    relative, found = table.relative, []
    for _ in range(places):
        found.append(relative.min(1, keepdim=True))
        relative.scatter_(1, found[-1].indices, torch.inf)
    for place in reversed(found):  # where all is inf, places are the same
        relative.scatter_(1, place.indices, place.values)
    near, at = (torch.cat(columns, 1) for columns in zip(*found, strict=True))
    return near, table.named(at)


def _measured(
    block: Block, W: torch.Tensor, table: Table, rows: torch.Tensor, limit: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the two nearest of the units of `rows` that lie within `limit`, measured directly."""
    candidate, place = (~(table.relative[rows] > limit[:, None])).nonzero(as_tuple=True)
    unit = place if table.units is None else table.units[rows[candidate], place]
    order = (candidate * len(W) + unit).argsort()
    candidate, unit = candidate[order], unit[order]
    exact = Table.of(len(rows), candidate, unit, _direct(block, W, rows[candidate], unit))
    # argmin names the first of equals, on every device
    places = []
    for _ in range(min(2, len(W))):
        best = exact.relative.argmin(1, keepdim=True)
        places.append((exact.relative.gather(1, best), exact.named(best)))
        exact.relative.scatter_(1, best, torch.inf)
    near, units = (torch.cat(columns, 1) for columns in zip(*places, strict=True))
    return near.to(W.dtype), units


def _are_few(block: Block, codebook: Codebook) -> bool:
    """Return whether measuring all pairs term by term is faster than a matrix product."""
    few = block.x.shape[0] * codebook.W.numel() <= MAX_DIRECT_DIFFERENCES
    return few and block.known is None and not _on_gpu(block.x)


def _all_direct(block: Block, W: torch.Tensor) -> NDArray[np.float64]:
    """Return Σ (x − w)² of all pairs, shape (n, K), term by term, in float64."""
    return np.asarray(cdist(block.x.numpy(), W.numpy(), "sqeuclidean"))


def _direct(block: Block, W: torch.Tensor, rows: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
    """Return Σ (x − w)² of the given pairs, term by term, in slices of bounded memory."""
    size = max(1, BLOCK_ELEMENTS // W.shape[1])
    parts: list[torch.Tensor] = []
    for r, u in zip(torch.split(rows, size), torch.split(units, size), strict=True):
        difference: torch.Tensor = block.x[r].to(_precise(W.device))
        difference -= W[u]
        if block.known is not None:
            difference *= block.known[r]
        # in order, as `_all_direct` sums: a pair has one distance, whichever way it is measured
        parts.append(difference.square_().cumsum(1)[:, -1])
    return torch.cat(parts)


def _resolution(dtype: torch.dtype) -> tuple[float, float]:
    """Return the relative error of a rounding, times two, and the smallest normal number."""
    info = torch.finfo(dtype)
    return info.eps, info.tiny


def _precise(device: torch.device) -> torch.dtype:
    """Return the widest floating type of the device: Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _on_gpu(x: torch.Tensor) -> bool:
    """Return whether what is fast with NumPy has to be done otherwise."""
    return not x.is_cpu
