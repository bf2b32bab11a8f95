"""What a notebook's statements rest on: its claims, and every value of every seed.

A `Claim` is a sentence with the numbers that decide it. `long_format` gives the values of one
method as rows. Both are kept as CSV files, one for each notebook, and read again by notebook 06.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from somlib.companion import verdicts

VALUES = (
    *("experiment", "method", "data", "seed"),
    *("changed", "protocol", "metric", "value", "commit"),
)
"""Columns of the values of seeds."""

KEY = ["experiment", "method", "data", "seed", "changed", "protocol", "metric"]
"""The columns that tell two values apart."""


@dataclass(frozen=True)
class Claim:
    """A sentence that a run can contradict, with the numbers that decide it.

    Attributes
    ----------
    name, sentence : str
        Its id and its words.
    kind, margin : str, float
        What is claimed of the difference: see `verdicts.judge`.
    over, unit : str
        What the replicates are, and the unit of the difference, "" if it has none.
    n, n_against : int
        Numbers of replicates; `n_against` is 0 if the differences are paired.
    difference, low, high : float
        Mean difference and its 95 % interval; from minus to plus infinity for one replicate.
    p : float
        The p value of the verdict.
    alone : str
        "holds", "does not hold" or "undecided", uncorrected for the other claims of a notebook.
    """

    name: str
    sentence: str
    kind: str
    margin: float
    over: str
    unit: str
    n: int
    n_against: int
    difference: float
    low: float
    high: float
    p: float
    alone: str

    @property
    def replicates(self) -> str:
        """The number of replicates in words, such as "5 seeds" or "5 and 3 seeds"."""
        return f"{self.n}{f' and {self.n_against}' if self.n_against else ''} {self.over}"

    @property
    def line(self) -> str:
        """The claim in one line of Markdown."""
        unit = f" {self.unit}" if self.unit else ""
        asked = {"greater": f"more than {self.margin:g}", "equal": f"within ±{self.margin:g}"}
        needed = f", claimed {asked[self.kind]}" if self.margin else ""
        known = np.isfinite(self.high)
        interval = f"95 % interval {self.low:+.3g} to {self.high:+.3g}" if known else "no interval"
        return (
            f"**Claim: {self.alone}.** {self.sentence} Mean difference {self.difference:+.3g}{unit}"
            f"{needed}; {interval}, {self.replicates}."
        )

    def _ipython_display_(self) -> None:
        """Show nothing: `Run.claim` has shown the line, also where it is not a cell's last."""


def make_claim(
    name: str,
    sentence: str,
    difference: ArrayLike,
    *,
    against: ArrayLike | None = None,
    kind: verdicts.Kind = "greater",
    margin: float = 0.0,
    over: str = "seeds",
    unit: str = "",
) -> Claim:
    """Return a claim with its verdict; parameters and errors as of `Run.claim`.

    Examples
    --------
    >>> claim = make_claim("toy-a", "A beats B.", [0.02, 0.03, 0.025])
    >>> claim.alone, claim.replicates
    ('holds', '3 seeds')
    """
    sentence = " ".join(str(sentence).split())
    if not sentence:
        raise ValueError(f"claim {name!r} needs a sentence, found none")
    try:
        if against is None:
            found = verdicts.paired(difference)
        else:
            found = verdicts.independent(difference, against)
        alone, p = verdicts.judge(found, kind, margin)
    except ValueError as error:
        raise ValueError(f"claim {name!r}: {error}") from None
    return Claim(
        name, sentence, kind, float(margin), over, unit,
        len(np.asarray(difference)), 0 if against is None else len(np.asarray(against)),
        found.mean, *found.interval(1 - verdicts.LEVEL), p, alone,
    )  # fmt: skip


def claims_table(claims: Iterable[Claim]) -> pd.DataFrame:
    """Return the claims of a notebook, with verdicts that are corrected for their number.

    Returns
    -------
    pandas.DataFrame
        One row for each claim: the attributes of `Claim`, `p_holm` and `verdict`, by Holm's
        procedure over all of them.
    """
    rows = list(claims)
    columns = [*Claim.__dataclass_fields__, "p_holm", "verdict"]
    table = pd.DataFrame([asdict(claim) for claim in rows], columns=columns[:-2])
    table["p_holm"] = verdicts.holm(table["p"])
    table["verdict"] = [
        verdicts.decided(alone, p) if alone != "undecided" else alone
        for alone, p in zip(table["alone"], table["p_holm"], strict=True)
    ]
    return table[columns]


def claims_shown(claims: Iterable[Claim]) -> pd.DataFrame:
    """Return the columns of `claims_table` that a reader wants."""
    rows = list(claims)
    table = claims_table(rows)
    table["replicates"] = [claim.replicates for claim in rows]
    table = table.rename(columns={"name": "claim", "p_holm": "p (Holm)"})
    columns = ["claim", "sentence", "difference", "low", "high", "replicates"]
    return table[[*columns, "alone", "p (Holm)", "verdict"]]


# ---------------------------------------------------------------- values of seeds


def long_format(
    experiment: str,
    method: str,
    data: str,
    metrics: Mapping[str, ArrayLike],
    *,
    seeds: Sequence[int],
    changed: str = "",
    protocol: str = "",
) -> list[dict[str, Any]]:
    """Return one row for each value; parameters and errors as of `Run.values`.

    Examples
    --------
    >>> rows = long_format("toy", "SOM", "digits", {"purity": [0.7, 0.8]}, seeds=[0, 1])
    >>> [(row["seed"], row["value"]) for row in rows]
    [(0, 0.7), (1, 0.8)]
    """
    texts = {"experiment": experiment, "method": method, "data": data}
    for what, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{what} = {text!r}; expected its name, a text that is not empty")
    where = f"values of {method!r} on {data!r} in {experiment!r}"
    numbers = [int(seed) for seed in seeds]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"{where}: seeds = {numbers}; expected at least one, each only once")
    if not metrics:
        raise ValueError(f"{where}: no metrics; expected one value per seed for each of them")
    rows: list[dict[str, Any]] = []
    for metric, values in metrics.items():
        array = _one_per_seed(values, metric, numbers, where)
        kept = texts | {"changed": changed, "protocol": protocol, "metric": metric}
        rows += [
            kept | {"seed": seed, "value": float(value)}
            for seed, value in zip(numbers, array, strict=True)
        ]
    return rows


def _one_per_seed(values: ArrayLike, metric: str, seeds: list[int], where: str) -> Any:
    if metric.strip().lower() == "nmi":
        raise ValueError(
            f"{where}: metric {metric!r} names no average, and they differ; expected "
            "'nmi (arithmetic)' or 'nmi (geometric)'"
        )
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(seeds),):
        raise ValueError(
            f"{where}: {metric} has the shape {array.shape}; expected one value for each of the "
            f"{len(seeds)} seeds"
        )
    if not np.isfinite(array).all():
        seed = seeds[int(np.argmin(np.isfinite(array)))]
        raise ValueError(
            f"{where}: {metric} of seed {seed} is {array[seeds.index(seed)]}; expected a finite "
            "number. If that run failed, leave its seed out and say so in `changed`."
        )
    return array


def values_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows of `long_format` as a table with the columns `VALUES`."""
    return pd.DataFrame(list(rows), columns=list(VALUES))


def read(folder: Path) -> pd.DataFrame:
    """Return the tables of all notebooks in a folder, `claims` or `values` of a profile.

    Returns
    -------
    pandas.DataFrame
        All rows, after a column `notebook`; empty without columns if there is no file.
    """
    found = []
    for path in sorted(folder.glob("[!.]*.csv")):
        table = pd.read_csv(path, keep_default_na=False, na_values={"value": [""], "p": [""]})
        table.insert(0, "notebook", path.stem)
        found.append(table)
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()
