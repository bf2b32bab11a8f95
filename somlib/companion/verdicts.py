"""Verdicts with their uncertainty: on claims, and on numbers that a paper prints.

Every rule begins with a `Difference`: an estimate, its standard error and its degrees of freedom,
from which intervals and p values follow by Student's t distribution. Nothing here reads or writes
files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.05
"""Error rate of every verdict: intervals of 95 %, and of 90 % in tests of equivalence."""

MARGIN = 0.02
"""Two means whose difference is shown to be smaller than this agree."""

STRICT_MARGIN = 0.01
"""The verdict within this margin is shown beside the other."""

Kind = Literal["greater", "equal"]


@dataclass(frozen=True)
class Difference:
    """The difference between two means, with its uncertainty.

    Attributes
    ----------
    mean : float
        The estimate.
    error : float
        Its standard error, above 0; infinite for a single replicate, whose interval has no ends.
    freedom : float
        Degrees of freedom of the standard error.

    Examples
    --------
    >>> Difference(0.02, 0.01, 9).interval(0.95)[0] > 0
    False
    """

    mean: float
    error: float
    freedom: float

    def interval(self, level: float) -> tuple[float, float]:
        """Return the two ends of the confidence interval of a level such as 0.95."""
        from scipy.special import stdtrit

        half = self.error * float(stdtrit(self.freedom, (1 + level) / 2))
        return self.mean - half, self.mean + half

    def p_above(self, bound: float) -> float:
        """Return the one-sided p value of "the difference is above the bound"."""
        from scipy.special import stdtr

        return float(stdtr(self.freedom, (bound - self.mean) / self.error))

    def p_within(self, margin: float) -> float:
        """Return the p value of two one-sided tests: the difference is within ± `margin`."""
        below = Difference(-self.mean, self.error, self.freedom).p_above(-margin)
        return max(self.p_above(-margin), below)

    def p_not(self, bound: float) -> float:
        """Return the two-sided p value of "the difference is not `bound`"."""
        return 2 * Difference(abs(self.mean - bound), self.error, self.freedom).p_above(0)


# ---------------------------------------------------------------- differences


def paired(values: ArrayLike) -> Difference:
    """Return the mean of paired differences, one value per replicate.

    Raises
    ------
    ValueError
        Without values, with a value that is not finite, or with several and no spread.
    """
    values = _sample(values, "difference")
    if values.size == 1:
        return Difference(values.mean(), np.inf, 1)
    return _with_spread(Difference(values.mean(), _error(values), values.size - 1), values)


def independent(values: ArrayLike, against: ArrayLike) -> Difference:
    """Return the difference between the means of two independent samples, as in Welch's test.

    Raises
    ------
    ValueError
        Without values in either sample, with a value that is not finite, or with several and no
        spread in both.

    Notes
    -----
    B. L. Welch, *The generalization of "Student's" problem when several different population
    variances are involved*, Biometrika 34, 1947.
    """
    values, against = _sample(values, "difference"), _sample(against, "against")
    both = np.concatenate([values, against])
    mean = values.mean() - against.mean()
    if min(values.size, against.size) == 1:
        return Difference(mean, np.inf, 1)
    errors = _error(values), _error(against)
    return _with_spread(_welch(mean, *errors, values.size - 1, against.size - 1), both)


def _sample(values: ArrayLike, what: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{what} has the shape {array.shape}; expected one value per replicate")
    if not array.size:
        raise ValueError(f"{what} has no values; expected one value per replicate")
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)][0]
        raise ValueError(
            f"{what} has the value {bad} at replicate {int(np.argmin(np.isfinite(array)))}; "
            "expected finite numbers. Find out why that replicate has no value before claiming."
        )
    return array


def _error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / values.size**0.5)


def _with_spread(difference: Difference, values: NDArray[np.float64]) -> Difference:
    rounding = 8 * np.finfo(np.float64).eps * np.abs(values).max()
    if difference.error <= rounding:
        raise ValueError(
            f"all replicates have the difference {difference.mean:.6g}; expected some spread, "
            "without which there is no interval. Deterministic results need no claim: assert them."
        )
    return difference


def _welch(mean: float, a: float, b: float, freedom_a: float, freedom_b: float) -> Difference:
    """Return a difference with the standard errors of both means and Welch's degrees of freedom."""
    square = a**2 + b**2
    if square == 0:  # refused by who calls
        return Difference(mean, 0.0, freedom_a + freedom_b)
    a, b = a / square**0.5, b / square**0.5  # tiny spreads do not underflow
    return Difference(mean, square**0.5, 1 / (a**4 / freedom_a + b**4 / freedom_b))


# ---------------------------------------------------------------- claims


def judge(difference: Difference, kind: Kind, margin: float = 0.0) -> tuple[str, float]:
    """Return the verdict on a claim, and the p value of that verdict.

    Parameters
    ----------
    difference : Difference
        In the direction of the claim: positive supports it.
    kind : {"greater", "equal"}
        "greater": the difference exceeds the margin. It holds if the 95 % interval is above the
        margin, and does not hold if the interval is below. "equal": the difference is within
        ± margin. It holds if the 90 % interval is inside, which is the test of equivalence by two
        one-sided tests, and does not hold if the 95 % interval is outside.
    margin : float, default=0.0
        Finite; above 0 for "equal".

    Returns
    -------
    str
        "holds", "does not hold", or else "undecided".
    float
        The smallest level at which the verdict that the estimate points to would be reached.

    Raises
    ------
    ValueError
        For another kind or a margin that does not fit it.

    Examples
    --------
    >>> judge(Difference(0.03, 0.01, 9), "greater")[0]
    'holds'
    >>> judge(Difference(0.03, 0.01, 9), "equal", margin=0.02)[0]
    'undecided'
    """
    if kind not in ("greater", "equal"):
        raise ValueError(f"kind = {kind!r}; expected 'greater' or 'equal'")
    if not np.isfinite(margin) or (kind == "equal" and margin <= 0):
        expected = "above 0: the largest difference that still counts as equal"
        raise ValueError(
            f"margin = {margin!r}; expected a finite number"
            + (f" {expected}" if kind == "equal" else "")
        )
    if kind == "greater":
        supports = difference.mean > margin
        p = difference.p_not(margin)
    else:
        supports = abs(difference.mean) <= margin
        nearer = margin if difference.mean > 0 else -margin
        p = difference.p_within(margin) if supports else difference.p_not(nearer)
    return decided("holds" if supports else "does not hold", p), p


def decided(verdict: str, p: float) -> str:
    """Return the verdict if its p value is below `LEVEL`, else "undecided"."""
    return verdict if p < LEVEL else "undecided"


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return p values that are corrected for their number, by Holm's step-down procedure.

    Parameters
    ----------
    p : array-like of shape (n,)
        The p values of n tests.

    Returns
    -------
    numpy.ndarray of shape (n,)
        Tests whose corrected value is below a level are, all together, wrong with at most that
        probability.

    Notes
    -----
    S. Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian Journal of
    Statistics 6, 1979.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(values.size, 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


# ---------------------------------------------------------------- published numbers


def from_published(
    ours: tuple[float, float, int], mean: float, sd: float | None, runs: int | None
) -> Difference:
    """Return the difference between our mean and a published one.

    Parameters
    ----------
    ours : tuple of float, float, int
        Mean, standard deviation of the sample (ddof = 1) and number of our runs, at least two.
    mean : float
        The published mean.
    sd : float or None
        The published standard deviation, as of a sample. None if none is printed: then it is
        assumed to be ours. What is assumed brings no information, so that the degrees of freedom
        are those of our runs alone.
    runs : int or None
        The published number of runs; None if none is printed: then it is assumed to be ours.

    Returns
    -------
    Difference
        Ours minus published, with a standard error of 0 if there is no spread on either side.

    Examples
    --------
    >>> found = from_published((0.94, 0.001, 3), 0.939, None, 10)
    >>> round(found.mean, 3), found.freedom
    (0.001, 2)
    """
    our_mean, our_sd, n = ours
    theirs = n if runs is None else runs
    difference = our_mean - mean
    if sd is None or theirs < 2:  # the spread of one run is not known, whatever is printed
        return Difference(difference, our_sd * (1 / n + 1 / theirs) ** 0.5, n - 1)
    return _welch(difference, our_sd / n**0.5, sd / theirs**0.5, n - 1, theirs - 1)


def agreement(difference: Difference, margin: float = MARGIN) -> str:
    """Return the verdict on a published number.

    Parameters
    ----------
    difference : Difference
        Ours minus published.
    margin : float, default=0.02
        What still counts as the same.

    Returns
    -------
    str
        "agrees" if the test of equivalence within the margin passes, else "differs" if the 95 %
        interval excludes 0, else "undecided".

    Examples
    --------
    >>> agreement(Difference(0.004, 0.001, 9)), agreement(Difference(0.05, 0.05, 2))
    ('agrees', 'undecided')
    """
    if difference.p_within(margin) < LEVEL:
        return "agrees"
    return "differs" if difference.p_not(0) < LEVEL else "undecided"


def significance(ours: Mapping[str, ArrayLike]) -> pd.Series:
    """Test every row against the best: p values of the difference between their means.

    Parameters
    ----------
    ours : mapping of str to array-like, or DataFrame
        One value per seed for each row, higher is better (negate errors); a row may be empty.

    Returns
    -------
    pandas.Series
        The p value of each row, by a two-sided t-test against the row with the highest mean. It
        is Welch's test, because variances differ between methods; if both rows are deterministic,
        p is 1 or 0. The best row has 1, so that "the best and those that do not differ from it",
        which papers print in bold, are ``significance(ours) > 0.05``. NaN if a row, or the best,
        has fewer than two runs.

    Examples
    --------
    >>> ours = {"a": [0.90, 0.92, 0.94], "b": [0.89, 0.92, 0.93], "c": [0.5, 0.6, 0.7], "d": [0.8]}
    >>> significance(ours).round(2).to_dict()
    {'a': 1.0, 'b': 0.71, 'c': 0.03, 'd': nan}
    """
    runs = {row: np.asarray(values, dtype=float) for row, values in ours.items()}
    means = pd.Series({row: values.mean() for row, values in runs.items() if values.size}).dropna()
    if means.empty:
        return pd.Series(np.nan, index=list(runs), name="p")
    best = means.idxmax()
    p = {row: 1.0 if row == best else _p_unlike(values, runs[best]) for row, values in runs.items()}
    return pd.Series(p, name="p")


def _p_unlike(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if min(a.size, b.size) < 2:
        return np.nan
    if np.ptp(np.concatenate([a, b])) == 0:
        return 1.0  # the formula gives 0 / 0
    found = _welch(a.mean() - b.mean(), _error(a), _error(b), a.size - 1, b.size - 1)
    return found.p_not(0) if found.error else 0.0
