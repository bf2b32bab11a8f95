"""Lower bounds on all distances at a fraction of a product's cost: a screen before the search.

A product of short or coarse vectors cannot tell which unit is nearest, but it can tell which ones
are not. Each sample and each prototype is replaced by its coordinates along some directions, or by
its rounding to bfloat16 where the processor has matrix units for that, or by both; what the
replacement leaves out is known exactly, so that its effect on a distance can be bounded. Only the
units whose lower bound does not exceed the distance to the second-best are measured: two or three
of thousands, on data whose spectrum decays.

Directions come from one of two sources. Those in which the data vary most (`directions`) serve all
searches of a training, and so do the samples' coordinates. Those in which the prototypes vary
(`of_prototypes`) serve one search. They are needed early in training: a wide neighborhood makes
prototypes smooth averages that differ by less than what the data's directions leave out, but that
lie, up to a small fraction of their differences, in a space of 10 to 30 dimensions.

For ‖x − w‖² = ‖x‖² + R with R = ‖w‖² − 2 x·w, a screen gives numbers L ≤ R for all pairs, as one
product L = −2 a(x)·b(w) of factors with some columns more than the coordinates.

**Proof.** Let U be any d × q matrix with ‖UᵀU − I‖ ≤ δ, y_x = Uᵀx + η_x and y_w = Uᵀw + η_w what is
computed for Uᵀx and Uᵀw, ŷ their roundings, r = x − U y. Written out,

    x·w = ŷ_x·ŷ_w + (y_x − ŷ_x)·y_w + ŷ_x·(y_w − ŷ_w) − η_x·y_w + r_x·r_w + y_x·(Uᵀr_w),

and Uᵀr_w = −η_w − (UᵀU − I) y_w. An entry of η is the error of a sum of d products, for sums in any
order at most ε ‖x‖: ε = d 2⁻⁵³ for prototypes, whose coordinates are computed in float64, and
ε = (d + 8) 2⁻²³ for samples, where x and U are rounded to float32 and each addition may truncate.
So |η_x·y_w| ≤ ε_x ‖x‖ |y_w|₁, with the sum |y_w|₁ of absolute values, and ‖η‖ ≤ √q ε ‖x‖. With
κ = 4 (√q ε + δ) < 1, which has room for terms of second order, ‖Uᵀr_w‖ is at most κ_w ‖w‖ and

    ‖r_x‖² = ‖x‖² − ‖y_x‖² + 2 η_x·y_x + y_x·(UᵀU − I) y_x ≤ (1 + κ_x) ‖x‖² − ‖y_x‖².

By Cauchy and Schwarz

    x·w ≤ ŷ_x·ŷ_w + ‖r_x‖ ‖r_w‖ + ‖y_x − ŷ_x‖ (1 + κ_w) ‖w‖
          + (1 + κ_x) ‖x‖ (‖y_w − ŷ_w‖ + ε_x |y_w|₁ + κ_w ‖w‖).

The four terms and −‖w‖²/2 are the product a·b of q + 5 columns. Summed in float32, whatever the
order and even if each addition truncates, it is off by at most γ = (q + 8) 2⁻²³ of the sum of its
terms' absolute values, which is below 3 ‖x‖ ‖w‖ + ‖w‖²/2; so κ_w ‖w‖ has 3 γ ‖w‖ more, and −‖w‖²/2
is raised by γ ‖w‖². Norms are computed in floating point: they are raised by a hundredth, and
columns that are rounded are rounded up. What underflows in a coordinate of a sample is below
2⁻¹²³ d (1 + ‖x‖), and ε_x ‖x‖ has room for it if ‖x‖ is taken to be at least `SHORTEST`; what
underflows in the product is within the slack of the search (`Codebook`). ∎

With U = I (no directions) r = 0 and y = x, and the bound is that of the rounding alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property

import torch

from somlib.search.products import product, rounded_product, rounds_faster

SHARE, STEP, MOST = 8, 16, 128
"""Directions of the data: one for each `SHARE` features, in whole vectors of `STEP`, at most so
many. The coordinates of 10 000 × 784 samples along 98 directions took 28 ms of one core, those
along 96 and 112 directions 20 and 23 ms."""

FEW, SKETCH = 32, 48
"""Directions of the prototypes, at most, and the random combinations of prototypes among which
they are found."""

LEFT_OUT = 2.0**-8
"""Share of the prototypes' standard deviation that their own directions may leave out. Two to three
units of each MNIST image were then left on a map of 20 × 20, three to four on one of 50 × 50."""

PAIRS_COST = 150
"""What measuring the units that a screen leaves of a sample costs, in units of a product."""

COORDINATES_COST = 2
"""What a multiplication in a sample's coordinates costs, in those of a product."""

DIRECTIONS_COST = 5000
"""Samples whose coordinates cost as much as finding the directions."""

LEAST_SAVED = 2**26
"""Multiplications that a screen has to save in each search: its calls take time, too."""

LEAST_ON_GPU, LEAST_UNITS_ON_GPU = 2**36, 1000
"""Multiplications of a search, and units, from which a screen saves time on a GPU, as measured on
an H100: of 70 000 × 784 samples and 1600 units a seventh, of 10 000 units four tenths."""

ROWS = 512
"""Prototypes that are turned to float64 at once: they stay in the processor's cache."""

SHORTEST, LONGEST = 2.0**-80, 2.0**60
"""Norm of a sample below which its coordinates could underflow, and length of a sample and a
prototype beyond which a screen's numbers could overflow."""

RAISED = 1.01
"""Factor that covers the rounding of a norm of up to 100 000 features."""

_forced: ContextVar[bool | None] = ContextVar("forced", default=None)


@contextmanager
def screening(wanted: bool) -> Iterator[None]:
    """Screen all searches inside a `with`, or none, whatever would be faster."""
    before = _forced.set(wanted)
    try:
        yield
    finally:
        _forced.reset(before)


@dataclass(frozen=True)
class Screen:
    """How samples and prototypes are replaced.

    Parameters
    ----------
    U : tensor of shape (d, q), optional
        Orthonormal directions, float64; without them all features are kept.
    rounded : bool
        Whether factors are rounded to bfloat16.
    """

    U: torch.Tensor | None
    rounded: bool

    def samples(self, x: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
        """Return the factors a of samples of norm `norm`, shape (n, q + 5 or more)."""
        if not bool(norm.max() < LONGEST):  # nothing will be asked of these factors
            x, norm = torch.zeros_like(x), torch.zeros_like(norm)
        y, rest, kappa = x, torch.zeros_like(norm), 0.0
        norm = norm.clamp(min=SHORTEST)
        if self.U is not None:
            y = product(x.float(), self._coarse)
            kappa = self._kappa(_gamma(len(self.U)))
            rest = _rest(y, norm, kappa + (len(self.U) + 4) * torch.finfo(norm.dtype).eps)
        near = self._round(y)
        lost = RAISED * torch.linalg.vector_norm(y - near, dim=1)
        columns = [self._round(c, up=True) for c in (rest, lost, RAISED * (1 + kappa) * norm)]
        return _aligned(near.new_ones(len(x), 2), near, *columns)

    def units(self, W: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        """Return −2 b of prototypes, shape (q + 5 or more, K); `squared` is ‖w‖², in float64."""
        y, norm = W, squared.sqrt()
        rest, off, kappa = torch.zeros_like(norm), torch.zeros_like(norm), 0.0
        if self.U is not None:
            d = len(self.U)
            y = torch.cat([product(w.double(), self.U) for w in torch.split(W, ROWS)])
            kappa = self._kappa(d * 2.0**-53)
            rest = _rest(y, norm, kappa + (d + 4) * 2.0**-52)
            off = _gamma(d) * y.abs().sum(1)
        near = self._round(y)
        gamma = _gamma(near.shape[1])
        lost = RAISED * (torch.linalg.vector_norm(y - near, dim=1) + off)
        lost += (kappa + 3 * gamma) * norm
        columns = [self._round(c, up=True) for c in (rest, RAISED * (1 + kappa) * norm, lost)]
        raised = (gamma - 0.5 + 2**-15) * squared
        high = self._round(raised)
        low = self._round(raised - high)
        return (-2 * _aligned(high, low, near, *columns)).T

    def bounds(self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Return L ≤ ‖w‖² − 2 x·w for all pairs, in `out`."""
        return (rounded_product if self.rounded else product)(a, b, out)

    @cached_property
    def _coarse(self) -> torch.Tensor:
        """The directions in float32."""
        assert self.U is not None
        return self.U.float()

    @cached_property
    def _not_orthonormal(self) -> float:
        """The largest possible ‖UᵀU − I‖."""
        assert self.U is not None
        d, q = self.U.shape
        off = self.U.T @ self.U - torch.eye(q, dtype=self.U.dtype, device=self.U.device)
        return float(off.norm()) + q * d * 2.0**-53

    def _kappa(self, error: float) -> float:
        """Return κ for coordinates with errors of up to `error` times the norm."""
        assert self.U is not None
        return float(4 * (self.U.shape[1] ** 0.5 * error + self._not_orthonormal))

    def _round(self, x: torch.Tensor, up: bool = False) -> torch.Tensor:
        """Return numbers as factors have them, in float32; `up`: of numbers ≥ 0, none lower."""
        x = x * (1 + 2**-7) if up else x
        return (x.bfloat16() if self.rounded else x).float()


def chosen(
    some: Callable[[], torch.Tensor],
    n: int,
    d: int,
    n_units: int,
    n_passes: int,
    device: torch.device,
) -> Screen | None:
    """Return the screen for searches of n samples of d features, or None if none pays.

    On a GPU factors are rounded, and all features kept: reading the bounds takes as long there as
    computing them.

    Parameters
    ----------
    some : callable
        Returns some of the samples, centered, shape (s, d); not called unless they are needed.
    n, d, n_units, n_passes : int
        How many searches of how many samples among how many units are to come.
    device : torch.device
        Where: "cpu" or "cuda"; there is none on others.
    """
    if device.type == "cuda":
        if (wanted := _forced.get()) is None:
            large = n_units >= LEAST_UNITS_ON_GPU and n * d * n_units > LEAST_ON_GPU
            wanted = large and rounds_faster(d, n_units, device)
        return Screen(None, rounded=True) if wanted else None
    if device.type != "cpu":
        return None
    q = min(max(d // SHARE // STEP, 1) * STEP, MOST)
    plain = d * n_units
    short = (q + 5) * n_units + PAIRS_COST * d
    once = COORDINATES_COST * q * d * (n + DIRECTIONS_COST)
    if (wanted := _forced.get()) is None:
        wanted = n * (plain - short) - once / n_passes > LEAST_SAVED
    if not wanted:
        return None
    return Screen(directions(some(), q) if q < d else None, rounds_faster(d, n_units, device))


def directions(x: torch.Tensor, q: int) -> torch.Tensor:
    """Return q orthonormal directions in which samples vary most, approximately, shape (d, q).

    By two steps of subspace iteration from a fixed random start (Halko, Martinsson & Tropp,
    *Finding structure with randomness*, SIAM Review 53, 2011, algorithm 4.4). Exactness does not
    depend on them.
    """
    x = (x / x.abs().max().clamp(min=torch.finfo(x.dtype).tiny)).float()  # that nothing overflows
    U = torch.randn(x.shape[1], q, generator=torch.Generator().manual_seed(0)).to(x)
    for _ in range(2):
        U = torch.linalg.qr(product(x.T, product(x, U)).double())[0].to(x)
    orthonormal: torch.Tensor = torch.linalg.qr(U.double())[0]
    return orthonormal


def of_prototypes(W: torch.Tensor, fewer_than: int) -> Screen | None:
    """Return a screen by directions that leave almost nothing of the prototypes out, or None.

    The directions are the mean and as many principal components as `LEFT_OUT` demands, both of some
    random combinations of prototypes (Halko, Martinsson & Tropp 2011, algorithm 4.1). Exactness
    does not depend on them: what they leave out of each prototype is computed.

    Parameters
    ----------
    W : tensor of shape (K, d)
        Prototypes, no longer than `LONGEST`.
    fewer_than : int
        Number of directions with which a screen is not wanted.
    """
    W = W.float()
    S = torch.randn(SKETCH, len(W), generator=torch.Generator().manual_seed(0)).to(W)
    apart = product(S - S.mean(1, keepdim=True), W).double()  # the same of W minus its mean
    variance, components = torch.linalg.eigh(apart @ apart.T)
    left = variance.sum() - variance.flip(0).cumsum(0)
    needed = 2 + int((left > LEFT_OUT**2 * variance.sum()).sum())
    q = -(-needed // STEP) * STEP
    if q > FEW or q >= fewer_than:
        return None
    U = torch.cat([W.mean(0)[:, None].double(), apart.T @ components[:, 1 - q :]], 1)
    return Screen(torch.linalg.qr(U)[0], rounded=False)


def _rest(y: torch.Tensor, norm: torch.Tensor, more: float) -> torch.Tensor:
    """Return ‖r‖ of vectors of norm `norm` and coordinates `y`, not too low."""
    squared = norm.double().square()
    return RAISED * (squared * (1 + more) - y.square().sum(1)).clamp(min=0).sqrt()


def _gamma(q: int) -> float:
    """Return the relative error of a sum of q + 5 products in float32."""
    return (q + 8) * 2.0**-23


def _aligned(*columns: torch.Tensor) -> torch.Tensor:
    """Return columns side by side, and zeros up to a multiple of 8: matrix units are faster so."""
    together = torch.column_stack(columns)
    return torch.nn.functional.pad(together, (0, -together.shape[1] % 8))
