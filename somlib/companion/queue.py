"""The order of a run that lasts a day, its estimate, and its page of progress.

The full profile runs in rounds of 1, 3 and all seeds: after the first there is a page of every
result, and each further round only narrows the intervals, because the cache computes what is
missing. Within a round, that notebook comes first which settles most per minute. All numbers come
from the results in the cache, which know how long they took and which notebook asked for them; so a
notebook is estimated once one of its seeds has been trained, here or where results were imported
from.
"""

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from somlib.companion import report, results
from somlib.files import replacing

if TYPE_CHECKING:  # which imports this file
    from somlib.companion.runner import Job

ROUNDS = (1, 3)
"""Numbers of seeds before all of them."""


@dataclass
class Measured:
    """What there is of a notebook: results in the cache, figures and tables.

    Attributes
    ----------
    seconds : dict of int to float
        What the results of each seed took.
    others : float
        What the results without a seed took.
    number : int
        How many results there are.
    failed : list of str
        Names and errors of those that failed.
    shown : int
        With how many seeds its figures and tables were made, if it has no trainings of its own.
    most : float
        How many seeds count at most: while a round runs, those of the rounds before.
    """

    seconds: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    others: float = 0.0
    number: int = 0
    failed: list[str] = field(default_factory=list)
    shown: int = 0
    most: float = math.inf

    @property
    def seeds(self) -> int:
        """For how many seeds, counted from 0, there are results; without any, figures."""
        if not self.seconds:
            return self.shown
        found = next(s for s in range(len(self.seconds) + 1) if s not in self.seconds)
        return int(min(found, self.most))

    @property
    def total(self) -> float:
        """Seconds of all results."""
        return sum(self.seconds.values()) + self.others

    def left(self, seeds: int) -> float | None:
        """Return about how many seconds are left up to so many seeds, None if nothing was measured.

        Each further seed is taken to last as long as the last one: the first ones are also used for
        comparisons, for which later ones are not.
        """
        if not self.seeds:
            return None
        return max(0, seeds - self.seeds) * self.seconds.get(self.seeds - 1, 0.0)


def measured(folder: Path, page: Path, readers: Collection[str] = ()) -> dict[str, Measured]:
    """Return by notebook what there is of one profile, of results those of the present code.

    Parameters
    ----------
    folder : pathlib.Path
        The cache.
    page : pathlib.Path
        The folder of the figures, whose name is the profile.
    readers : collection of str
        Notebooks that read what the others have made. They are known by their figures, the others
        only by their results: a clone of the project has figures, but has trained nothing.
    """
    found: dict[str, Measured] = defaultdict(Measured)
    for record in report.records(page):
        if record["notebook"] in readers:
            found[record["notebook"]].shown = len(record["seeds"])
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.failed")]):
        try:
            facts = json.loads(path.read_bytes())
            if facts["profile"] != page.name or results.difference(facts["made_from"]):
                continue
            notebook = found[str(facts["notebook"])]
            if path.suffix == ".failed":
                notebook.failed.append(f"{path.stem}: {facts['error']}")
                continue
            notebook.number += 1
            seed, seconds = _seed(facts["made_from"]), float(facts["seconds"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # of an older version, or being written
        if seed is None:
            notebook.others += seconds
        else:
            notebook.seconds[seed] += seconds
    return dict(found)


def _seed(made_from: dict[str, Any]) -> int | None:
    given = made_from.get("params") or made_from.get("arguments") or {}
    seed = given.get("random_state", given.get("seed"))
    return seed if isinstance(seed, int) else None


# ---------------------------------------------------------------- the order


def settled(notebook: str) -> tuple[int, int]:
    """Return how many published numbers a notebook repeats, and how many figures and tables.

    Examples
    --------
    >>> settled("01_som")[0]
    0
    """
    known = report.registry().query("notebook == @notebook")
    path = report.project_root() / "data" / "published.csv"
    if not path.exists():
        return 0, len(known)
    printed = pd.read_csv(path)
    tables = set(zip(known["paper"], known["number"].str.replace(" ", ""), strict=True))
    pairs = zip(printed["paper"], printed["table"], strict=True)
    return sum(pair in tables for pair in pairs), len(known)


def gain(notebook: str, before: int, after: int) -> float:
    """Return what a notebook settles by going from `before` to `after` seeds.

    The first seed settles each published number, figure and table; later ones narrow the intervals
    of the numbers, whose widths are proportional to 1/√seeds.
    """
    numbers, shown = settled(notebook)
    if not before:
        return float(numbers + shown)
    return float(numbers * (before**-0.5 - after**-0.5))


def ordered(
    jobs: "Sequence[Job]", known: dict[str, Measured], last: Collection[str]
) -> "list[Job]":
    """Return the jobs of all rounds in the order in which to run them.

    Parameters
    ----------
    jobs : sequence of Job
        One per notebook, with its number of seeds.
    known : dict
        See `measured`.
    last : collection of str
        Notebooks that read what the others have made: the last of each round.
    """
    queue: list[Job] = []
    before = 0
    for seeds in _rounds(job.parameters["n_seeds"] for job in jobs):
        ahead = [job for job in jobs if job.parameters["n_seeds"] > before]

        def rate(job: "Job", before: int = before, seeds: int = seeds) -> float:
            name = job.notebook.stem
            n = min(seeds, job.parameters["n_seeds"])
            minutes = known.get(name, Measured()).left(n)
            worth = gain(name, before, n)
            # not measured yet: before all others, most numbers first
            return 1e9 * (1 + worth) if minutes is None else worth / max(minutes / 60, 1 / 60)

        ahead.sort(key=lambda job: (job.notebook.stem in last, -rate(job)))
        for job in ahead:
            n = min(seeds, job.parameters["n_seeds"])
            queue.append(job._replace(parameters=job.parameters | {"n_seeds": n}))
        before = seeds
    return queue


def _rounds(seeds: Iterable[int]) -> list[int]:
    most = max(seeds)
    return [*(n for n in ROUNDS if n < most), most]


# ---------------------------------------------------------------- estimate and progress


def estimate(known: dict[str, Measured], jobs: "Sequence[Job]") -> str:
    """Return in a sentence about how long the trainings that are missing take."""
    wanted = _wanted(jobs)
    left = {name: known.get(name, Measured()).left(n) for name, n in wanted.items()}
    unknown = sorted(name for name, seconds in left.items() if seconds is None)
    known_seconds = sum(seconds for seconds in left.values() if seconds is not None)
    parts = (
        [f"trainings left: about {_duration(known_seconds)}"] if len(unknown) < len(left) else []
    )
    if unknown:
        parts.append(f"not measured before the first seed: {', '.join(unknown)}")
    return "; ".join(parts)


def write_page(
    page: Path, known: dict[str, Measured], jobs: "Sequence[Job]", states: dict[str, str]
) -> Path:
    """Write progress.md beside the figures.

    Parameters
    ----------
    page : pathlib.Path
        The folder of the figures.
    known : dict
        See `measured`.
    jobs : sequence of Job
        All rounds, as from `ordered`.
    states : dict of str to str
        By notebook, what there is to say: "running with 3 seeds".
    """
    rows = []
    for name, seeds in _wanted(jobs).items():
        own = known.get(name, Measured())
        left = own.left(seeds)
        rows.append({
            "notebook": name,
            "state": states.get(name, "waiting"),
            "seeds": f"{min(own.seeds, seeds)} of {seeds}",
            "results": own.number,
            "took": _duration(own.total),
            "left, about": "not measured" if left is None else _duration(left),
        })  # fmt: skip
    failed = [f"- {sentence}" for name in sorted(known) for sentence in known[name].failed]
    lines = [
        f"# Progress: {page.name}",
        "",
        f"{datetime.now(UTC).isoformat(' ', 'minutes')}. {estimate(known, jobs).capitalize()}.",
        "",
        report.markdown(pd.DataFrame(rows)),
        "",
        "*Took* counts trainings and other cached results. *Left* takes each further seed to last "
        "as long as the last one; those of a round that is running count when it is done. "
        "[Figures and tables](README.md)",
        *(
            ["", "Failed, and tried again when they are next asked for:", "", *failed]
            if failed
            else []
        ),
    ]
    with replacing(page / "progress.md") as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return page / "progress.md"


def _wanted(jobs: "Sequence[Job]") -> dict[str, int]:
    """Return the final number of seeds of each notebook."""
    wanted: dict[str, int] = {}
    for job in jobs:
        name = job.notebook.stem
        wanted[name] = max(wanted.get(name, 0), job.parameters["n_seeds"])
    return wanted


def _duration(seconds: float) -> str:
    """Return a duration in words.

    Examples
    --------
    >>> [_duration(s) for s in (0, 40, 600, 9000)]
    ['0 s', '40 s', '10 min', '2.5 h']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
