"""The seconds of a benchmark by kind of processor: a column of its page for each.

A record, NAME.json, has the columns under "by processor". Cases for a GPU belong to the column of
the GPU, all others to that of the processor. `merge` takes the columns of a record from another
machine into a record here. The aims of cases for a GPU are judged from its column where the
machine of the record has no GPU.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from somlib.companion import report
from somlib.companion.cache import SOURCE
from somlib.files import replacing
from somlib.hashing import content_hash

Column = dict[str, Any]
"""Processor, threads, commit, hash of the code, and seconds as [case, library, seconds]."""

HEADING = "## By processor"
BELOW = ("## Memory", "## Against the aims")
"""Sections that come after it on a page."""

FIELDS = ("processor", "threads", "commit", "code", "seconds")


# ---------------------------------------------------------------- columns of a record


def by_processor(
    path: Path, record: Mapping[str, Any], times: pd.DataFrame, on_gpu: Collection[str] = ()
) -> list[Column]:
    """Return the columns of this run, and before them the last of each other processor.

    Parameters
    ----------
    path : pathlib.Path
        The record of an earlier run, if there is one.
    record : mapping
        What `harness.machine` returned.
    times : pandas.DataFrame
        The table of this run; rows without seconds are left out.
    on_gpu : collection of str
        The cases that are for a GPU.
    """
    is_gpu = times.case.isin(on_gpu)
    # the number of threads says nothing about what the GPU computes
    gpu = {"processor": record.get("gpu"), "threads": None, "commit": record["commit"]}
    both = [_column(record, times[~is_gpu], _code()), _column(gpu, times[is_gpu], _code())]
    mine = [column for column in both if column["seconds"]]
    names = {column["processor"] for column in mine}
    return [x for x in recorded(path) if x["processor"] not in names] + mine


def recorded(path: Path) -> list[Column]:
    """Return the columns of a record: a single one, from its table, if the record has none."""
    if not path.exists():
        return []
    record, table = json.loads(path.read_text(encoding="utf-8")), path.with_suffix(".csv")
    if "by processor" in record:
        columns: list[Column] = record["by processor"]
        return columns
    if not (table.exists() and {"processor", "threads", "commit"} <= set(record)):
        return []
    return [_column(record, pd.read_csv(table), None)]


def _column(made_by: Mapping[str, Any], times: pd.DataFrame, code: str | None) -> Column:
    rows = times.dropna(subset="seconds")
    seconds = [list(row) for row in zip(rows.case, rows.library, rows.seconds, strict=True)]
    facts = {name: made_by[name] for name in ("processor", "threads", "commit")}
    return facts | {"code": code, "seconds": seconds}


def on_gpu(
    columns: Sequence[Column], case: str, libraries: Sequence[str]
) -> tuple[Column, list[float]] | None:
    """Return the last column of a GPU that has libraries in a case, and their seconds there."""
    for column in reversed(columns):
        seconds = {library: taken for found, library, taken in column["seconds"] if found == case}
        if column["threads"] is None and all(seconds.get(library) for library in libraries):
            return column, [seconds[library] for library in libraries]
    return None


def is_current(column: Column) -> bool:
    """Return whether a column was measured with the present code of the library."""
    return bool(column["code"] == _code())


def _code() -> str:
    """Return the hash of the modules on which the seconds depend."""
    return content_hash(*(SOURCE[name] for name in sorted(SOURCE) if _counts(name)))


def _counts(module: str) -> bool:
    """Whether the seconds depend on a module: not on that which writes pages or draws."""
    return module.split(".")[0] in ("search", "models", "spaces", "training", "arrays")


# ---------------------------------------------------------------- the table on a page


def section(columns: Sequence[Column], cases: Sequence[str]) -> Iterator[str]:
    """Yield heading, text and table of the columns; nothing if there is only one."""
    if len(columns) < 2:
        return
    text = "Seconds; in parentheses what was measured before the library's code last changed."
    if any(column["threads"] is None for column in columns):
        text += (
            " Aims of cases for a GPU are judged from these medians where the processor is named "
            "beside the number."
        )
    yield from (HEADING, text, report.markdown(table(columns, cases)))


def table(columns: Sequence[Column], cases: Sequence[str]) -> pd.DataFrame:
    """Return a table with a row for each case and library and a column for each processor."""
    shown = {}
    for column in columns:
        form = "{:.3g}" if is_current(column) else "({:.3g})"
        shown[_title(column)] = {
            (case, library): form.format(seconds)
            for case, library, seconds in column["seconds"]
            if case in cases and seconds is not None
        }
    found = pd.DataFrame(shown).fillna("–").rename_axis(["case", "library"]).reset_index()
    return found.sort_values("case", kind="stable", key=lambda x: x.map(cases.index))


def _title(column: Column) -> str:
    threads = f"{column['threads']} threads" if column["threads"] else ""
    parts = (column["processor"], threads, (column["commit"] or "")[:7])
    return ", ".join(part for part in parts if part)


def on_page(
    page: str,
    columns: Sequence[Column],
    cases: Sequence[str],
    aims: Iterable[Mapping[str, str]] = (),
) -> str:
    """Return a page on which the table of columns and the rows of `aims` are written again."""
    for aim in aims:
        row = report.markdown(pd.DataFrame([aim])).splitlines()[-1]
        begin = re.escape(row[: row.index(" | ")])
        page = re.sub(rf"(?m)^{begin} \|.*$", row.replace("\\", "\\\\"), page)
    parts = [part.strip("\n") for part in re.split(r"(?m)^(?=## )", page)]
    parts = [part for part in parts if part.splitlines()[0] != HEADING]
    after = [i for i, part in enumerate(parts) if part.splitlines()[0] in BELOW]
    at = min(after, default=len(parts))
    return "\n\n".join([*parts[:at], *section(columns, cases), *parts[at:]]) + "\n"


# ---------------------------------------------------------------- from another machine


def merge(
    name: str,
    cases: Mapping[str, str],
    source: Path,
    folder: Path,
    judged: Callable[[Sequence[Column]], Iterable[Mapping[str, str]]] = lambda columns: (),
) -> list[str]:
    """Take the columns of a record from another machine into the record and page of a folder.

    Parameters
    ----------
    name : str
        Of the benchmark.
    cases : mapping of str to str
        Its cases and their descriptions, which must be the same there.
    source, folder : pathlib.Path
        The record from the other machine; the folder with NAME.json and NAME.md.
    judged : callable, optional
        Returns the rows of the table "Against the aims" that the columns of a GPU decide.

    Returns
    -------
    list of str
        The processors whose columns were taken. That of the folder's own record is not among them:
        the page has its measurements already.

    Raises
    ------
    ValueError
        When either record is missing or no record of this benchmark, when a case is another, or
        when there is no column to take.
    """
    path, page = (folder / f"{name}.{suffix}" for suffix in ("json", "md"))
    record = _read(path)
    own = {record.get("processor"), record.get("gpu")}
    taken = [x for x in _columns_of(name, cases, source) if x["processor"] not in own]
    if not taken:
        raise ValueError(
            f"{source}: no column of another processor than {record.get('processor')}, which "
            f"{path.name} has itself; expected one from another machine"
        )
    names = [column["processor"] for column in taken]
    kept = [x for x in recorded(path) if x["processor"] not in names]
    # the folder's own column is the last, as after a run
    record["by processor"] = sorted([*kept, *taken], key=lambda x: x["processor"] in own)
    columns = record["by processor"]
    aims = () if record.get("gpu") else judged(columns)  # else its own run has judged them
    text = on_page(page.read_text(encoding="utf-8"), columns, list(cases), aims)
    with replacing(page) as partial:
        partial.write_text(text, encoding="utf-8")
    with replacing(path) as partial:
        shown = json.dumps(record, indent=2, ensure_ascii=False)
        partial.write_text(shown + "\n", encoding="utf-8")
    return names


def _columns_of(name: str, cases: Mapping[str, str], source: Path) -> list[Column]:
    """Return the columns of the run that wrote a record; earlier ones may be of other cases."""
    record = _read(source)
    if record.get("benchmark") != name:
        found = record.get("benchmark", "no benchmark")
        raise ValueError(f"{source} is a record of {found!r}; expected one of {name!r}")
    columns: Any = record.get("by processor")
    described: Any = record.get("cases")
    sound = isinstance(columns, list) and isinstance(described, dict)
    if not sound or not all(isinstance(x, dict) and {*FIELDS} <= set(x) for x in columns):
        raise ValueError(
            f"{source} has no columns by processor; expected a record that "
            f"python -m benchmarks.{name} has written"
        )
    for case, description in described.items():
        if cases.get(case) != description:
            raise ValueError(
                f"{source}: case {case!r} is {description!r}; expected {cases.get(case)!r}. "
                "Measure it there with the same cases and data, without --quick"
            )
    return [x for x in columns if {case for case, *_ in x["seconds"]} <= set(described)]


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; expected the record of a benchmark") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); expected a record") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} is a {type(record).__name__}; expected the record of a benchmark")
    return record
