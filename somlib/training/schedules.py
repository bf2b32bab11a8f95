"""Schedules: the decay of a quantity from start to end over n steps (σ, α, T, β, ...)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from somlib import checks

Decay = Literal["exponential", "linear", "constant"]

MAX_KEPT_STEPS = 1000
"""Number of steps up to which all values are computed at the first call, and kept."""


@dataclass(frozen=True)
class Schedule:
    """A value that decreases from `start` to `end`, both reached exactly.

    Parameters
    ----------
    start, end : float
        First and last value; positive, and `end` not above `start`.
    decay : {"exponential", "linear", "constant"}, default="exponential"
        Exponential: equal ratios in equal numbers of steps, so that coarse and fine scales of a map
        get equal time. Linear: equal differences. Constant: `start`, which must equal `end`.

    Raises
    ------
    ValueError
        When a value is not positive or not finite, `end` is above `start`, or `decay` is unknown.

    Examples
    --------
    >>> sigma = Schedule(8.0, 0.5)
    >>> [sigma(i, 5) for i in range(5)]
    [8.0, 4.0, 2.0, 1.0, 0.5]
    >>> Schedule(1.0, 0.0625, "linear")(5, 6)
    0.0625
    """

    start: float
    end: float
    decay: Decay = "exponential"

    def __post_init__(self) -> None:
        checks.require("decay", self.decay, Decay)
        for name, value in (("start", self.start), ("end", self.end)):
            if not (checks.is_number(value) and value > 0):
                raise ValueError(
                    f"the schedule's {name} is {value!r}, but must be a positive, finite number: "
                    "with a width or rate of zero nothing is learned"
                )
        if self.end > self.start:
            raise ValueError(
                f"the schedule ends at {self.end} above its start {self.start}; "
                "it must decrease: swap the two"
            )
        if self.decay == "constant" and self.start != self.end:
            raise ValueError(
                f"decay='constant' cannot go from {self.start} to {self.end}; "
                "give the same value twice, or choose 'exponential' or 'linear'"
            )

    def __call__(self, i: int, n: int) -> float:
        """Return the value at step `i` of `n` (0 ≤ i ≤ n−1); after the last step it is `end`.

        The exponential form is start · (end/start)^(i/(n−1)); a single step has the value `start`.
        """
        if n > MAX_KEPT_STEPS:
            return self.values(i, 1, n)[0]
        if n not in self._kept:
            self._kept[n] = self.values(0, n, n)
        return self._kept[n][min(i, n - 1)]

    @cached_property
    def _kept(self) -> dict[int, list[float]]:
        return {}

    def values(self, first: int, count: int, n: int) -> list[float]:
        """Return the values of `count` consecutive steps from `first`; vectorized `__call__`.

        Examples
        --------
        >>> Schedule(8.0, 0.5).values(3, 3, 5)
        [1.0, 0.5, 0.5]
        """
        t = np.arange(first, first + count) / max(n - 1, 1)
        if self.decay == "exponential":
            values = self.start * (self.end / self.start) ** t
        else:
            values = self.start + (self.end - self.start) * t
        values[t >= 1] = self.end  # exactly
        floats: list[float] = values.tolist()
        return floats


def schedule(name: str, pair: Any, decay: Decay = "exponential") -> Schedule:
    """Return the schedule of a (start, end) parameter, or raise a ValueError that names it.

    Examples
    --------
    >>> schedule("sigma", (1.0, 2.0))
    Traceback (most recent call last):
    ValueError: sigma=(1.0, 2.0): the schedule ends at 2.0 above its start 1.0; it must decrease: \
swap the two
    """
    try:
        return _schedule(pair, decay)
    except ValueError as error:
        raise ValueError(f"{name}={checks.shown(pair)}: {error}") from None


def _schedule(pair: Any, decay: Decay) -> Schedule:
    if not checks.is_sequence(pair) or len(pair) != 2:
        raise ValueError("expected a pair of numbers")
    start, end = pair
    return Schedule(start, end, decay)


Range = Annotated[
    tuple[float, float], checks.Rule("(start, end)", lambda pair: _schedule(pair, "linear"))
]
"""The declaration of a (start, end) parameter."""


def in_steps(start: float, factor: float, interval: int, n: int) -> NDArray[np.float64]:
    """Return n values, the first `start`, multiplied by `factor` after every `interval` values.

    Examples
    --------
    >>> in_steps(1.0, 0.5, 2, 5).tolist()
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return start * np.power(factor, np.arange(n) // interval, dtype=np.float64)
