"""What all benchmarks share: data, clock, memory, aims, table, figure, record, command.

A benchmark is a `Subject`: its cases, who takes part in each, the proof that all do equal work, the
prose of its page. `main` runs it: the proof first, then the turns, then peak memory.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from benchmarks import processors
from somlib import data
from somlib.companion import report
from somlib.evaluation import plots
from somlib.files import replacing
from somlib.training.loop import resolve_device

Array = NDArray[np.floating]
Source = Literal["mixture", "digits", "mnist"]
Sign = Literal["≤", "≥"]
Clock = Callable[[], float]
"""Does the work of an entrant once, and returns its seconds."""

BUDGET_SECONDS = 50.0
"""What the turns of one entrant in one case may take together; the first is always taken."""

TURN_SECONDS = 0.2
"""What a turn lasts at least, by repetition: a single training of a millisecond says little."""

P = ParamSpec("P")
R = TypeVar("R")


@cache
def samples(source: Source, n: int, d: int) -> tuple[Array, str]:
    """Return float32 samples in [0, 1] and what they are; a mixture where MNIST is not at hand."""
    if source == "digits":
        return data.load("digits").X[:n], "scikit-learn's digits"
    if source == "mnist" and mnist_is_at_hand():
        return data.load("mnist").X[:n], "MNIST"
    generator = np.random.default_rng(0)
    means, spread = generator.random((10, d)), 0.15
    X = means[generator.integers(10, size=n)] + spread * generator.standard_normal((n, d))
    return X.clip(0, 1).astype(np.float32), "ten Gaussians clipped to [0, 1]"


def mnist_is_at_hand() -> bool:
    """Return whether MNIST's files are there: a benchmark downloads nothing."""
    folder = os.environ.get("SOMLIB_DATA") or report.project_root() / "data"
    return (Path(folder) / "mnist").is_dir()


def say(line: str) -> None:
    print(line, flush=True)


# ---------------------------------------------------------------- the machine


@contextlib.contextmanager
def all_cores() -> Iterator[None]:
    """Let every library use as many threads as there are cores."""
    cores = os.cpu_count() or 1
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        with threadpool_limits(cores):
            yield
    finally:
        torch.set_num_threads(before)


def machine(packages: Iterable[str] = (), device: str = "cpu") -> dict[str, Any]:
    """Return what the numbers depend on: processor, versions, commit, date; no names, no paths."""
    made_by = report.provenance(device)
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    versions = dict(made_by["versions"])
    for package in sorted({*packages, "scipy", "threadpoolctl"}):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return made_by | {
        "processor": model[1] if model else platform.processor() or "unknown",
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "threads": os.cpu_count(),
        "linear algebra": sorted(
            {f"{x['internal_api']} {x['version'] or ''}".strip() for x in threadpool_info()}
        ),
        "versions": versions,
    }


def heading(made_by: Mapping[str, Any]) -> str:
    """Return what `machine` found as a paragraph."""
    used = ", ".join(f"{name} {version}" for name, version in made_by["versions"].items())
    return (
        f"{made_by['processor']}, {made_by['platform']}; {made_by['threads']} threads for every "
        f"library ({', '.join(made_by['linear algebra'])}). {used}. Commit "
        f"{made_by['commit'] or 'unknown'}, {made_by['date']}."
    )


# ---------------------------------------------------------------- time


NO_GPU = "not run: no GPU"
"""Why a case for a GPU is not run elsewhere."""


class NotRun(Exception):  # noqa: N818
    """Raised by an entrant that does not run, for the reason given, which is no fault."""


@dataclass(frozen=True)
class Entrant:
    """Who takes part in a case.

    Parameters
    ----------
    name, precision : str
        What is computed, and in which precision.
    prepare : callable
        Returns the clock, once what is slow at first is over.
    columns : callable
        Further columns of the table, from the median of the seconds.
    absent, remark : str
        Why it does not take part; what is to be said if it does.
    most_trainings : int
        In one turn.
    """

    name: str
    precision: str
    prepare: Callable[[], Clock]
    columns: Callable[[float], dict[str, Any]] = lambda seconds: {}
    absent: str = ""
    remark: str = ""
    most_trainings: int = 50


def measure(case: str, entrants: Sequence[Entrant], repeats: int) -> pd.DataFrame:
    """Return the seconds of each entrant in one case, a row for each.

    All take turns, so that a busy moment of the machine slows all of them, and ratios are medians
    over the turns that two have had together. Whoever fails does not cost the others' turns.
    """
    clocks: dict[str, Clock] = {}
    turns: dict[str, list[float]] = {x.name: [] for x in entrants}
    notes = {x.name: x.absent for x in entrants}
    for turn in range(-1, repeats):
        for entrant in entrants:
            name, taken = entrant.name, turns[entrant.name]
            if notes[name] or sum(taken) + sum(taken[-1:]) > BUDGET_SECONDS:
                continue
            try:
                if turn < 0:
                    clocks[name] = entrant.prepare()
                    continue
                taken.append(_turn(clocks[name], entrant.most_trainings))
                say(f"{case}, {name}: {taken[-1]:.4g} s")
            except NotRun as reason:
                notes[name] = str(reason)
            except Exception as error:
                notes[name] = f"does not run: {error!r}"
            if notes[name]:
                say(f"{case}, {name}: {notes[name]}")
    first = turns[entrants[0].name]
    return pd.DataFrame([_row(case, x, turns[x.name], first, notes[x.name]) for x in entrants])


def _turn(clock: Clock, most: int) -> float:
    first = clock()
    more = int(np.clip(TURN_SECONDS / max(first, 1e-9), 1, most)) - 1
    return float(np.median([first, *(clock() for _ in range(more))]))


def _row(
    case: str, entrant: Entrant, taken: list[float], first: list[float], note: str
) -> dict[str, Any]:
    seconds = float(np.median(taken or [np.nan]))
    return {
        "case": case,
        "library": entrant.name,
        "precision": entrant.precision,
        "seconds": seconds,
        **entrant.columns(seconds),
        "× first row": paired_ratio(taken, first),
        "fastest": min(taken, default=np.nan),
        "slowest": max(taken, default=np.nan),
        "runs": len(taken),
        "note": note or entrant.remark,
        "turns": taken,
    }


def wait_for(device: str) -> None:
    """Wait until a GPU has done all that it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def paired_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median, over the turns that both have had, of the ratio of their seconds."""
    ratios = [a / b for a, b in zip(above, below, strict=False)]
    return float(np.median(ratios or [np.nan]))


# ---------------------------------------------------------------- memory


def alone(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Return what a function returns in a fresh process."""
    # spawned, not forked: a fork starts with all the memory that this process has had
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *args, **kwargs).result()


def peak(
    name: str,
    warm_up: Callable[[], Any],
    train: Callable[[Array], Any],
    X: Array,
    *,
    mapped: bool = False,
) -> float:
    """Return by how many MB training raises the peak of a fresh process that holds the data.

    NaN when it fails, which must not cost the other measurements. With `mapped` the data stay in
    a file.
    """
    used = np.nan
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "samples.npy"
        np.save(file, X)
        try:
            used = alone(_peak, warm_up, train, file, "r" if mapped else None)
        except Exception as error:
            say(f"{name}: memory not measured: {error!r}")
    say(f"{name}: {used:.0f} MB above the data")
    return used


def _peak(
    warm_up: Callable[[], Any],
    train: Callable[[Array], Any],
    file: Path,
    mode: Literal["r"] | None,
) -> float:
    with all_cores():
        warm_up()  # code and threads are there before
        X = np.load(file, mmap_mode=mode)
        before = resident("VmRSS")
        train(X)
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """Return a field of this process's status in MB: main memory now (VmRSS), at most (VmHWM)."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(rf"{field}:\s*(\d+) kB", status.read_text())
        return int(found[1]) * 1024 / 1e6 if found else np.nan
    import resource  # without /proc the peak so far stands for both; Windows has neither

    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        / 1e6
        * (1 if sys.platform == "darwin" else 1024)
    )


# ---------------------------------------------------------------- a benchmark


class Case(Protocol):
    """What the harness reads of a case."""

    @property
    def name(self) -> str:
        """By which it is chosen."""

    @property
    def label(self) -> str:
        """What is written beside it in the figure."""

    @property
    def description(self) -> str:
        """What is trained, and of what data."""


@dataclass(frozen=True)
class Aim:
    """The most or least that a library may need, as a ratio to `beside` where there is one.

    Without `bound` the number is reported only.
    """

    case: str
    library: str
    beside: str | None
    sign: Sign
    bound: float | None
    column: str = "seconds"


C = TypeVar("C", bound=Case)


@dataclass(frozen=True)
class Subject(Generic[C]):
    """A benchmark.

    Parameters
    ----------
    name, title, usage : str
        Of its files, of its page, of its command.
    cases : sequence of Case
    toy : callable
        Returns a case in a size that takes no time.
    agreement : callable
        Proves, before anything is timed, that all do equal work: a number or a table.
    entrants : callable
        Those of a case; the second argument is whether there is a GPU.
    prose : callable
        The paragraphs of the page above its tables, from what `agreement` found.
    measured : str
        The column that the figure shows.
    aims : sequence of Aim
        About `cases`, not about toys.
    comment : str
        Below the aims.
    remembered : sequence of Case
        Those whose memory is measured.
    memory : callable
        The rows of the table of memory for one of them.
    packages : sequence of str
        Whose versions matter, beside those that always do.
    repeats : int
        Turns, where the command does not say otherwise.
    on_gpu : callable
        Whether a case is for a GPU.
    figure : callable
        Returns the figure; see `dots`.
    """

    name: str
    title: str
    usage: str | None
    cases: Sequence[C]
    toy: Callable[[C], C]
    agreement: Callable[[], Any]
    entrants: Callable[[C, bool], Sequence[Entrant]]
    prose: Callable[[Any], Sequence[str]]
    measured: str
    aims: Sequence[Aim] = ()
    comment: str = ""
    remembered: Sequence[C] = ()
    memory: Callable[[C], list[dict[str, Any]]] = lambda case: []
    packages: Sequence[str] = ()
    repeats: int = 5
    on_gpu: Callable[[C], bool] = lambda case: False
    figure: Callable[[pd.DataFrame, Mapping[str, str], str], Figure] = field(
        default_factory=lambda: dots
    )


def main(subject: Subject[C], arguments: Sequence[str] | None = None) -> None:
    """Run a benchmark from the command line; only a complete run replaces the committed files."""
    names = [case.name for case in subject.cases]
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{subject.name}", description=subject.usage
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--quick", action="store_true", help="toy sizes: does everything still run?"
    )
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE",
                        help=f"any of {', '.join(names)}")  # fmt: skip
    parser.add_argument("--repeats", type=count, default=subject.repeats,
                        help=f"how many turns (default {subject.repeats})")  # fmt: skip
    on_gpu = any(map(subject.on_gpu, subject.cases))
    if on_gpu:
        parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                            help="cpu leaves out what is for a GPU (default auto)")  # fmt: skip
    parser.add_argument("--merge", type=Path, metavar="RECORD.json",
                        help="measure nothing: take the columns of a record from another machine "
                        "into the committed one, and onto its page")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.merge:
        return _merge(subject, options.merge, parser)
    complete = set(options.cases) == set(names) and not options.quick
    folder = report.output_folder("figures" if complete else "runs", "benchmarks")
    device = resolve_device(options.device if on_gpu else "cpu")
    chosen, remembered = (
        [subject.toy(x) if options.quick else x for x in cases if x.name in options.cases]
        for cases in (subject.cases, subject.remembered)
    )
    run(subject, chosen, remembered, options.repeats, device, folder)


def _merge(subject: Subject[C], source: Path, parser: argparse.ArgumentParser) -> None:
    folder = report.output_folder("figures", "benchmarks")
    cases = {case.name: case.description for case in subject.cases}
    try:
        names = processors.merge(
            subject.name, cases, source, folder, lambda columns: gpu_aims(subject.aims, columns)
        )
    except ValueError as error:
        parser.error(f"--merge: {error}")
    say(f"Columns of {', '.join(names)} in {subject.name}.json and .md in {folder}")


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def run(
    subject: Subject[C],
    cases: Sequence[C],
    remembered: Sequence[C],
    repeats: int,
    device: torch.device,
    folder: Path,
) -> pd.DataFrame:
    """Prove, measure, write NAME.csv, .md, .png and .json to a folder, and return the table."""
    begin = time.perf_counter()
    with all_cores():
        record = machine(subject.packages, str(device))
        proof = subject.agreement()
        gpu = device.type == "cuda"
        tables = [measure(x.name, subject.entrants(x, gpu), repeats) for x in cases]
    times = pd.concat(tables, ignore_index=True)
    used = pd.DataFrame([row for x in remembered for row in subject.memory(x)])
    on_gpu = [case.name for case in cases if subject.on_gpu(case)]
    path = folder / f"{subject.name}.json"
    record["by processor"] = processors.by_processor(path, record, times, on_gpu)
    page = "\n\n".join(_page(subject, cases, proof, times, used, record)) + "\n"
    record |= {
        "benchmark": subject.name,
        "cases": {case.name: case.description for case in cases},
        "repeats": repeats,
        "agreement": proof.to_dict("records") if isinstance(proof, pd.DataFrame) else proof,
        "turns": times[["case", "library", "turns"]].to_dict("records"),
        "memory": used.to_dict("records"),
        "duration": round(time.perf_counter() - begin, 1),
    }
    with replacing(folder / f"{subject.name}.csv") as partial:
        times.drop(columns="turns").to_csv(partial, index=False, lineterminator="\n")
    _write(folder / f"{subject.name}.md", page)
    figure = subject.figure(times, {x.name: x.label for x in cases}, subject.measured)
    with replacing(folder / f"{subject.name}.png") as partial:
        figure.savefig(partial, dpi=130, metadata={"Software": None})
        plt.close(figure)
    _write(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    say(f"Written: {subject.name}.md, .csv, .png, .json in {folder}, after {record['duration']} s")
    return times


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- page and figure


def _page(
    subject: Subject[C],
    cases: Sequence[C],
    proof: Any,
    times: pd.DataFrame,
    used: pd.DataFrame,
    record: Mapping[str, Any],
) -> Iterator[str]:
    """Yield the paragraphs of a page of Markdown."""
    yield from (f"# {subject.title}", heading(record), *subject.prose(proof))
    for case in cases:
        shown = times[times.case == case.name]
        shown = shown.drop(columns=["case", "fastest", "slowest", "turns"])
        for column in shown.columns.intersection(
            ["seconds", "milliseconds per iteration", "× first row"]
        ):
            shown[column] = shown[column].map("{:.3g}".format, na_action="ignore")
        if not shown.note.any():
            del shown["note"]
        yield from (f"## {case.name}", f"{case.description}.", report.markdown(shown))
    yield from processors.section(record["by processor"], [case.name for case in cases])
    if len(used):
        text = "What is added to the peak memory of a fresh process that holds the data."
        yield from ("## Memory", text, report.markdown(used))
    names = {case.name for case in cases if case in subject.cases}
    wanted = [aim for aim in subject.aims if aim.case in names]
    aims = against_aims(wanted, times, used, record["by processor"])
    if len(aims):
        yield from ("## Against the aims", report.markdown(aims))
        if subject.comment:
            yield subject.comment


def against_aims(
    aims: Iterable[Aim],
    times: pd.DataFrame,
    used: pd.DataFrame,
    columns: Sequence[processors.Column] = (),
) -> pd.DataFrame:
    """Return the numbers that count, and which of the project's own aims they meet.

    Of those who have not taken part there is no row. What has not run here is judged from the
    column of a GPU, if there is one among `columns`.
    """
    rows = []
    for aim in aims:
        table = times if aim.column == "seconds" else used
        if table.empty:
            continue
        found = table[table.case == aim.case].set_index("library")
        if not {aim.library, aim.beside or aim.library} <= set(found.index):
            continue
        value = float(found[aim.column][aim.library])
        if aim.beside is not None:
            value = paired_ratio(found.turns[aim.library], found.turns[aim.beside])
        row = _judged(aim, value)
        if np.isnan(value):
            notes = found.get("note", pd.Series("", found.index))
            row["measured"] = notes[aim.library] or (aim.beside and notes[aim.beside]) or "not run"
            row = next(gpu_aims([aim], columns), row)
        rows.append(row)
    return pd.DataFrame(rows)


def gpu_aims(aims: Iterable[Aim], columns: Sequence[processors.Column]) -> Iterator[dict[str, str]]:
    """Yield the rows of those aims that the column of a GPU can be compared with."""
    for aim in aims:
        names = [aim.library] if aim.beside is None else [aim.library, aim.beside]
        found = processors.on_gpu(columns, aim.case, names)
        if found is None or aim.column != "seconds":
            continue
        column, seconds = found
        row = _judged(aim, seconds[0] if aim.beside is None else seconds[0] / seconds[1])
        row["measured"] += f" on {column['processor']}"
        if not processors.is_current(column):
            row["measured"] = f"({row['measured']})"
        yield row


def _judged(aim: Aim, value: float) -> dict[str, str]:
    """Return the row of an aim whose number is `value`."""
    what, unit, digits = f"{aim.case}: {aim.library}", "s", 1
    if aim.beside is not None:
        what, unit, digits = f"{aim.case}: time of {aim.library} / {aim.beside}", "×", 2
    elif aim.column != "seconds":
        what, unit, digits = f"{what}, {aim.column}", "MB", 0
    wanted, verdict = "–", "–"
    if aim.bound is not None:
        wanted = f"{aim.sign} {aim.bound} {unit}"
        met = value <= aim.bound if aim.sign == "≤" else value >= aim.bound
        verdict = "–" if np.isnan(value) else "met" if met else "missed"
    measured = f"{value:.{digits}f} {unit}"
    return {"aim": what, "wanted": wanted, "measured": measured, "verdict": verdict}


def dots(times: pd.DataFrame, labels: Mapping[str, str], measured: str) -> Figure:
    """Return a column of the table, by case and library; our marks are larger.

    Parameters
    ----------
    times : pandas.DataFrame
    labels : mapping of str to str
        By case, what is written beside it; in the order of the rows.
    measured : str
        Column, and name of the axis; times are on a logarithmic one.
    """
    times = times[times[measured].notna()]
    shown = [case for case in labels if case in set(times.case)]
    names: Collection[str] = times.library.unique()
    is_time = measured != "MB"
    with plots.style():
        fig, ax = plt.subplots(figsize=(8, 1.5 + 0.8 * len(shown)))
        lanes = np.linspace(-0.36, 0.36, len(names))  # equal times would hide one another
        for name, lane, color, marker in zip(names, lanes, *plots.palette(len(names)), strict=True):
            ours = name.startswith("somlib")
            rows = times[times.library == name].set_index("case")[measured]
            own = [case for case in shown if case in rows.index]
            ax.plot(
                rows.reindex(own),
                np.array([shown.index(case) for case in own]) + lane,
                marker=marker,
                markersize=10 if ours else 7,
                color=color,
                markeredgecolor="0.2",
                linestyle="none",
                label=name,
                zorder=3 if ours else 2,
            )
        ax.set_xscale("log" if is_time else "linear")
        ax.set_yticks(range(len(shown)), [labels[case] for case in shown])
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.hlines(
            np.arange(1, len(shown)) - 0.5, 0, 1, "0.6", lw=0.8, transform=ax.get_yaxis_transform()
        )
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color="0.85")
        ax.set_axisbelow(True)
        ax.set_xlabel(f"{measured} (left is {'faster' if is_time else 'less'})")
        fig.legend(loc="outside lower center", ncols=4)
    return fig
