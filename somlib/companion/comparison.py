"""Published numbers, and ours beside them.

`printed` reads the papers' numbers with their protocols. `compared` sets values of seeds beside
them: only numbers of the same metric, average and images get a verdict.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from somlib.companion import evidence, verdicts
from somlib.companion.folders import project_root

CELL = ["experiment", "data", "method", "metric"]
"""The columns that identify a number."""

COLUMNS = [
    *CELL,
    *("published", "ours", "± sd", "runs", "difference", "low", "high", "verdict", "within .01"),
    *("changed", "protocol", "note", "lines"),
]
"""Columns of `compared`."""


def _read_published() -> pd.DataFrame:
    path = project_root() / "data" / "published.csv"
    try:
        return pd.read_csv(
            path, dtype=dict.fromkeys(("average", "split", "source", "protocol"), str)
        )
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing; expected the papers' numbers, which are part of the repository. "
            "Run this inside a checkout of the project, or restore the file with git."
        ) from None


def published(
    paper: str, table: str, dataset: str | None = None, metric: str | None = None
) -> pd.Series:
    """Return the numbers of a table in a paper, from the project's data/published.csv.

    Parameters
    ----------
    paper, table : str
        The paper and its table, such as "desom-slides" and "table2".
    dataset, metric : str, optional
        One data set, one metric; by default all of them.

    Returns
    -------
    pandas.Series
        The values by method; if data set or metric are not given, by (data set, method, metric),
        and `.unstack("metric")` gives a table. `printed` has their protocols, too.

    Raises
    ------
    FileNotFoundError
        When the file does not exist, because this is not a checkout of the project.
    ValueError
        When the paper, the table, or the table's data set or metric is not in the file.

    Examples
    --------
    >>> published("desom-slides", "table3", "mnist", "acc")
    method
    k-means          0.5834
    AE+kerasom+km    0.7606
    DESOM+km         0.7611
    Name: value, dtype: float64
    """
    rows = _read_published()
    wanted = {"paper": paper, "table": table, "dataset": dataset, "metric": metric}
    asked = []
    for column, value in wanted.items():
        if value is None:
            continue
        asked.append(f"{column} {value!r}")
        choices = rows[column].unique()
        if value not in choices:
            raise ValueError(
                f"published.csv has no {', '.join(asked)}; "
                f"choose the {column} among {', '.join(map(repr, choices))}"
            )
        rows = rows[rows[column] == value]
    left_open = [name for name in ("dataset", "method", "metric") if wanted.get(name) is None]
    return rows.set_index(left_open)["value"]


def printed(experiment: str | None = None, data: str | None = None) -> pd.DataFrame:
    """Return published numbers with what a comparison needs to know of them.

    Parameters
    ----------
    experiment : str, optional
        A table such as "desom table 2"; by default all of them.
    data : str, optional
        One data set; by default all of them. No rows if none is published for it.

    Returns
    -------
    pandas.DataFrame
        Columns `experiment`, `data`, `method`, `metric` with its average, `published`, `sd` and
        `runs` (NaN where none is printed), `split` (the images judged), `source` (the table whose
        number is quoted, or "") and `protocol` (other words on how it came about).

    Raises
    ------
    FileNotFoundError
        When the file does not exist, because this is not a checkout of the project.
    ValueError
        When no paper has that table.

    Examples
    --------
    >>> printed("desom table 2", "mnist").query("method == 'DESOM'")["metric"].tolist()
    ['purity', 'nmi (geometric)']
    """
    rows = _read_published().rename(columns={"dataset": "data", "value": "published"})
    papers = rows["paper"].str.removesuffix("-slides")
    rows["experiment"] = papers + " " + rows["table"].str.replace("table", "table ")
    named = rows["metric"].replace("acc", "accuracy")
    rows["metric"] = named + (" (" + rows["average"] + ")").fillna("")
    for column in ("split", "source", "protocol"):
        rows[column] = rows[column].fillna("")
    if experiment is not None:
        choices = rows["experiment"].unique()
        if experiment not in choices:
            raise ValueError(
                f"no table {experiment!r} in published.csv; choose among "
                + ", ".join(map(repr, choices))
            )
        rows = rows[rows["experiment"] == experiment]
    if data is not None:
        rows = rows[rows["data"] == data]
    columns = [*CELL, "published", "sd", "runs", "split", "source", "protocol"]
    return rows[columns].reset_index(drop=True)


# ---------------------------------------------------------------- ours


def summarized(values: pd.DataFrame) -> pd.DataFrame:
    """Return mean, standard deviation and number of runs of values in long format.

    Parameters
    ----------
    values : pandas.DataFrame
        Columns `evidence.VALUES`.

    Returns
    -------
    pandas.DataFrame
        Columns `experiment`, `data`, `method`, `metric`, `changed`, `protocol`, `mean`, `sd` (of a
        sample, ddof = 1; NaN for one run), `runs` and `lines`, those of the values in the CSV file
        of the table, whose first line is its head.

    Examples
    --------
    >>> rows = evidence.long_format("toy", "SOM", "digits", {"purity": [0.7, 0.9]}, seeds=[0, 1])
    >>> print(summarized(evidence.values_table(rows))[["mean", "runs", "lines"]])
       mean  runs lines
    0   0.8     2   2–3
    """
    by = [*CELL, "changed", "protocol"]
    places = pd.Series(np.arange(2, len(values) + 2), values.index, dtype=int)
    parts = values.assign(line=places).groupby(by, sort=False)
    table = parts["value"].agg(["mean", "std", "size"])
    table["lines"] = parts["line"].agg(lambda lines: _ranges(lines.to_numpy()))
    names = {"std": "sd", "size": "runs"}
    return table.rename(columns=names).reset_index()


def _ranges(lines: NDArray[np.int64]) -> str:
    """Return whole numbers as ranges: "2–4, 9"."""
    breaks = np.flatnonzero(np.diff(lines) != 1) + 1
    parts = np.split(lines, breaks)
    return ", ".join(f"{p[0]}–{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)


# ---------------------------------------------------------------- both


def compared(ours: pd.DataFrame, stated: pd.DataFrame) -> pd.DataFrame:
    """Set our values beside published numbers, each with its difference and verdict.

    Parameters
    ----------
    ours : pandas.DataFrame
        Values in long format, as `Run.kept`, or their summary, as of `summarized`.
    stated : pandas.DataFrame
        Rows of `printed`.

    Returns
    -------
    pandas.DataFrame
        One row for each published number, then one for each of ours that has none.

        - `published`, `ours`, `± sd` (of the population, as in the papers), `runs` (ours);
        - `difference`, `low`, `high`: ours minus published and its 95 % interval, by Welch's
          formula. Where the paper prints no spread or number of runs, ours are assumed, as `note`
          says: see `verdicts.from_published`;
        - `verdict`, within `verdicts.MARGIN`: "agrees", "differs" or "undecided"; without a
          verdict "one run", "no spread", "other protocol" (ours has another metric, average or
          split), "quoted" (the number is that of another table, which `note` names), "not run",
          "not published"; `within .01` is the same within `verdicts.STRICT_MARGIN`;
        - `changed` (what differs from the paper), `protocol` (metric and images judged), `note`,
          and `lines` of the values.

        Of several results of ours the one nearest to the protocol is taken: unchanged before
        changed, then the first.

    Examples
    --------
    >>> values = evidence.long_format(
    ...     "desom table 2", "DESOM", "mnist", {"purity": [0.940, 0.941, 0.939]},
    ...     seeds=range(3), protocol="all images")
    >>> table = compared(evidence.values_table(values), printed("desom table 2", "mnist"))
    >>> table.query("method == 'DESOM'")["verdict"].tolist()
    ['agrees', 'not run']
    """
    if "value" in ours:
        ours = summarized(ours)
    rows = [_beside(row, ours) for row in stated.to_dict("records")]
    cells = set(map(tuple, stated[CELL[:3]].to_numpy()))
    for row in ours.to_dict("records"):
        if (row["experiment"], row["data"], row["method"]) not in cells:
            rows.append(_cell(row) | _numbers(row) | {"verdict": "not published"})
    return pd.DataFrame(rows, columns=COLUMNS)


def _cell(row: Mapping[str, Any]) -> dict[str, Any]:
    return {column: row[column] for column in CELL} | {"runs": 0, "note": "", "changed": ""}


def _numbers(ours: Mapping[str, Any]) -> dict[str, Any]:
    n = int(ours["runs"])
    sd = ours["sd"] * ((n - 1) / n) ** 0.5 if n > 1 else np.nan
    kept = {name: ours[name] for name in ("changed", "protocol", "lines")}
    return {"ours": ours["mean"], "± sd": sd, "runs": n} | kept


def _beside(stated: Mapping[str, Any], ours: pd.DataFrame) -> dict[str, Any]:
    """Return the row of a published number."""
    row = _cell(stated) | {"published": stated["published"], "protocol": stated["split"]}
    if stated["source"]:
        return row | {"verdict": "quoted", "note": f"quoted from {stated['source']}"}
    same = (ours[CELL[:3]] == [stated[column] for column in CELL[:3]]).all(axis=1)
    base = stated["metric"].partition(" (")[0]
    candidates = ours[same & (ours["metric"].str.partition(" (")[0] == base)]
    if candidates.empty:
        return row | {"verdict": "not run"}
    split = candidates["protocol"].str.partition(";")[0]
    alike = candidates[(candidates["metric"] == stated["metric"]) & (split == stated["split"])]
    if alike.empty:
        nearest = candidates.sort_values(
            "metric", key=lambda m: m != stated["metric"], kind="stable"
        )
        other = nearest.iloc[0]
        note = f"ours: {other['metric']}, {other['protocol'] or 'images not named'}"
        return row | {"verdict": "other protocol", "note": note, "changed": other["changed"]}
    nearest = alike.assign(
        far=2 * (alike["changed"] != "") + (alike["protocol"] != stated["split"])
    ).sort_values("far", kind="stable")
    found = nearest.iloc[0].to_dict()
    return row | _numbers(found) | _judged(found, stated)


def _judged(ours: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    difference = ours["mean"] - stated["published"]
    if ours["runs"] < 2:
        return {"difference": difference, "verdict": "one run"}
    sd = None if pd.isna(stated["sd"]) else float(stated["sd"])
    runs = None if pd.isna(stated["runs"]) else int(stated["runs"])
    found = verdicts.from_published(
        (ours["mean"], ours["sd"], int(ours["runs"])), stated["published"], sd, runs
    )
    if found.error == 0:
        return {"difference": difference, "verdict": "no spread"}
    low, high = found.interval(1 - verdicts.LEVEL)
    missing = [what for what, value in (("spread", sd), ("number of runs", runs)) if value is None]
    note = f"published {' and '.join(missing)} assumed to be ours" if missing else ""
    return {
        **{"difference": difference, "low": low, "high": high, "note": note},
        "verdict": verdicts.agreement(found),
        "within .01": verdicts.agreement(found, verdicts.STRICT_MARGIN),
    }


def versus_published(
    ours: Mapping[str, ArrayLike],
    stated: pd.DataFrame | Mapping[str, float],
    *,
    metric: str = "",
    protocol: str = "",
) -> pd.DataFrame:
    """Compare one column of values with a paper's, which must be of the same kind.

    Parameters
    ----------
    ours : mapping of str to array-like, or DataFrame
        One value per seed for each method; methods may be missing.
    stated : pandas.DataFrame
        Rows of `printed` for one table and one data set; an empty mapping if nothing is published.
    metric : str
        The metric of ours, with its average: "nmi (geometric)".
    protocol : str
        The images that ours judges: "all images".

    Returns
    -------
    pandas.DataFrame
        By method, the columns of `compared` from `published` to `within .01`, and its `note`.

    Raises
    ------
    ValueError
        When metric or images of a published number are not those of ours, or `stated` are bare
        numbers.

    Examples
    --------
    >>> ours = {"DESOM": [0.66, 0.659, 0.661]}
    >>> stated = printed("desom table 2", "mnist")
    >>> versus_published(ours, stated, metric="nmi (geometric)", protocol="all images").loc[
    ...     "DESOM", "verdict"]
    'agrees'
    """
    columns = [c for c in COLUMNS[4:] if c not in ("changed", "protocol", "lines")]
    if not isinstance(stated, pd.DataFrame):
        if len(stated):
            raise ValueError(
                "stated are bare numbers, which do not tell their metric, images or spread; "
                "expected rows of report.printed(...)"
            )
        stated = pd.DataFrame(columns=[*CELL, "published", "sd", "runs", "split", "source"])
    elif not stated.empty:
        stated = _alike(stated, ours, metric, protocol)
    where = stated.iloc[0] if len(stated) else {"experiment": "ours", "data": "ours"}
    rows: list[dict[str, Any]] = []
    for method, values in ours.items():
        if np.size(values):
            rows += evidence.long_format(
                where["experiment"], method, where["data"], {metric or "value": values},
                seeds=range(np.size(values)), protocol=protocol,
            )  # fmt: skip
    table = compared(evidence.values_table(rows), stated)
    return table.set_index("method")[columns].rename_axis(None)


def _alike(
    stated: pd.DataFrame, ours: Mapping[str, ArrayLike], metric: str, protocol: str
) -> pd.DataFrame:
    """Return the published numbers to compare with, or raise for those of another kind."""
    if len(stated[["experiment", "data"]].drop_duplicates()) > 1:
        raise ValueError("stated has rows of several tables or data sets; expected one of each")
    base = metric.partition(" (")[0]
    same = stated[stated["metric"].str.partition(" (")[0] == base]
    if same.empty:
        there = ", ".join(map(repr, stated["metric"].unique()))
        raise ValueError(f"metric {metric!r}: that table prints {there}")
    split = protocol.partition(";")[0]
    for row in same.itertuples():
        if row.method in ours and (row.metric, row.split) != (metric, split):
            raise ValueError(
                f"{row.method}: published is {row.metric} on {row.split}, ours {metric} on "
                f"{split or 'images that are not named'}. Numbers of different kinds are not "
                "compared: measure ours as published, or leave the method out."
            )
    return same
