"""Lower bounds on all distances at a fraction of a product's cost: a screen before the search.

A product of short or coarse vectors cannot tell which unit is nearest, but it can tell which ones
are not. Each sample and each prototype is replaced by its coordinates along some directions in
which the data vary most (`directions`), or by its rounding to bfloat16 where the processor has
matrix units for that, or by both; what the replacement leaves out is known exactly, so that its
effect on a distance can be bounded. Only the units whose lower bound does not exceed the distance
to the second-best are measured: two or three of thousands, on data whose spectrum decays.

For ‖x − w‖² = ‖x‖² + R with R = ‖w‖² − 2 x·w, a screen gives numbers L ≤ R for all pairs, as one
product L = −2 a(x)·b(w) of factors with some columns more than the coordinates.

**Proof.** Let U be any d × q matrix with ‖UᵀU − I‖ ≤ δ, y_x and y_w computed as Uᵀx and Uᵀw, ŷ
their roundings, r = x − U y. Written out,

    x·w = ŷ_x·ŷ_w + (y_x − ŷ_x)·y_w + ŷ_x·(y_w − ŷ_w) + r_x·r_w
          + y_x·(UᵀU − I) y_w + (Uᵀr_x)·y_w + y_x·(Uᵀr_w).

y is computed in float64, with an error η of at most √q d u ‖x‖ for sums in any order (u is the unit
roundoff). Hence ‖Uᵀr_x‖ = ‖η + (UᵀU − I) y_x‖ and the terms with δ are at most κ ‖x‖, with
κ = 2 (√q d u + δ), and ‖r_x‖² = ‖x‖² − ‖y_x‖² + 2 η·y_x + y_x·(UᵀU − I) y_x is at most
(1 + κ) ‖x‖² − ‖y_x‖². By Cauchy and Schwarz

    x·w ≤ ŷ_x·ŷ_w + ‖r_x‖ ‖r_w‖ + (‖y_x − ŷ_x‖ + κ ‖x‖) ‖w‖ + ‖x‖ (‖y_w − ŷ_w‖ + κ ‖w‖).

The four terms and −‖w‖²/2 are the product a·b of q + 5 columns. Summed in float32, whatever the
order and even if each addition truncates, it is off by at most γ = (q + 8) 2⁻²³ of the sum of its
terms' absolute values, which is below 3 ‖x‖ ‖w‖ + ‖w‖²/2; so κ has 3 γ more, and −‖w‖²/2 is
raised by γ ‖w‖². Norms are computed in floating point: they are raised by a hundredth, and columns
that are rounded are rounded up. What underflows is within the slack of the search (`Codebook`). ∎

With U = I (no directions) r = 0 and y = x, and the bound is that of the rounding alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch

from somlib.search.products import product, rounded_product, rounds_faster

SHARE, FEWEST, MOST = 8, 16, 128
"""Directions: one for each `SHARE` features, but at least and at most so many."""

PAIRS_COST = 150
"""What measuring the units that a screen leaves of a sample costs, in units of a product."""

COORDINATES_COST = 6
"""What a multiplication in a sample's coordinates costs, in those of a product in float32."""

LEAST_SAVED = 2**26
"""Multiplications that a screen has to save in each search: its calls take time, too."""

LEAST_ON_GPU, LEAST_UNITS_ON_GPU = 2**36, 1000
"""Multiplications of a search, and units, from which a screen saves time on a GPU, as measured on
an H100: of 70 000 × 784 samples and 1600 units a seventh, of 10 000 units four tenths."""

ROWS = 512
"""Samples that are turned to float64 at once: they stay in the processor's cache."""

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
        Nearly orthonormal directions, float64; without them all features are kept.
    rounded : bool
        Whether factors are rounded to bfloat16.
    """

    U: torch.Tensor | None
    rounded: bool

    def samples(self, x: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
        """Return the factors a of samples of norm `norm`, shape (n, q + 5 or more)."""
        near, rest, lost, long = self._replaced(x, norm)
        return _aligned(x.new_ones(len(x), 2).float(), near, rest, lost, long)

    def units(self, W: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        """Return −2 b of prototypes of squared norm `squared`, shape (q + 5 or more, K)."""
        near, rest, lost, long = self._replaced(W, squared.sqrt())
        raised = (_gamma(near.shape[1]) - 0.5 + 2**-15) * squared
        high = self._round(raised)
        low = self._round(raised - high)
        return (-2 * _aligned(high, low, near, rest, long, lost)).T

    def bounds(self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Return L ≤ ‖w‖² − 2 x·w for all pairs, in `out`."""
        return (rounded_product if self.rounded else product)(a, b, out)

    def _replaced(self, x: torch.Tensor, norm: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return ŷ, ‖r‖, ‖y − ŷ‖ + κ ‖x‖ and ‖x‖, none of the norms too low."""
        y, rest, kappa = x, torch.zeros_like(norm), 0.0
        if self.U is not None:
            (d, q), U = self.U.shape, self.U
            y = torch.cat([product(rows.double(), U) for rows in torch.split(x, ROWS)])
            off = U.T @ U - torch.eye(q).to(U)
            kappa = 2 * (q**0.5 * d * 2**-53 + float(off.norm()))
            squared = norm.double().square()  # no lower than it is, with what follows
            more = kappa + (d + 4) * torch.finfo(norm.dtype).eps
            rest = RAISED * (squared * (1 + more) - y.square().sum(1)).clamp(min=0).sqrt()
        near = self._round(y)
        lost = RAISED * torch.linalg.vector_norm(y - near, dim=1)
        lost += (kappa + 3 * _gamma(y.shape[1])) * norm
        return near, *(self._round(column, up=True) for column in (rest, lost, RAISED * norm))

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
    q = min(max(d // SHARE, FEWEST), MOST)
    plain = d * n_units
    short = (q + 5) * n_units + PAIRS_COST * d + COORDINATES_COST * q * d / n_passes
    if (wanted := _forced.get()) is None:
        wanted = n * (plain - short) > LEAST_SAVED
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


def _gamma(q: int) -> float:
    """Return the relative error of a sum of q + 5 products in float32."""
    return (q + 8) * 2.0**-23


def _aligned(*columns: torch.Tensor) -> torch.Tensor:
    """Return columns side by side, and zeros up to a multiple of 8: matrix units are faster so."""
    together = torch.column_stack(columns)
    return torch.nn.functional.pad(together, (0, -together.shape[1] % 8))
