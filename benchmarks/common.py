"""What every benchmark needs beside its clock: data, machine, memory, aims, files, command."""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from somlib import data, plots, report
from somlib.files import replacing

Array = NDArray[np.floating]
Source = Literal["mixture", "digits", "mnist"]
Sign = Literal["≤", "≥"]

_DIGITS = {"×": 2, "s": 1, "MB": 0}


@cache
def samples(source: Source, n: int, d: int) -> tuple[Array, str]:
    """Return float32 samples in [0, 1] and what they are; a mixture where MNIST is not at hand."""
    if source == "digits":
        return data.load("digits").X[:n], "scikit-learn's digits"
    folder = os.environ.get("SOMLIB_DATA") or report.project_root() / "data"
    if source == "mnist" and (Path(folder) / "mnist").is_dir():
        return data.load("mnist").X[:n], "MNIST"
    generator = np.random.default_rng(0)
    means, spread = generator.random((10, d)), 0.15
    X = means[generator.integers(10, size=n)] + spread * generator.standard_normal((n, d))
    return X.clip(0, 1).astype(np.float32), "ten Gaussians clipped to [0, 1]"


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
    # a run that saves nothing: its record says what every figure of the notebooks says
    made_by = report.provenance(device)
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    packages = sorted({*packages, "scipy", "threadpoolctl"})
    return made_by | {
        "processor": model[1] if model else platform.processor() or "unknown",
        "threads": os.cpu_count(),
        "linear algebra": sorted(
            {f"{x['internal_api']} {x['version'] or ''}".strip() for x in threadpool_info()}
        ),
        "versions": made_by["versions"] | {x: metadata.version(x) for x in packages},
    }


def heading(made_by: dict[str, Any]) -> str:
    """Return what `machine` found as a paragraph."""
    used = ", ".join(f"{name} {version}" for name, version in made_by["versions"].items())
    return (
        f"{made_by['processor']}, {made_by['platform']}; {made_by['threads']} threads for every "
        f"library ({', '.join(made_by['linear algebra'])}). {used}. Commit "
        f"{made_by['commit'] or 'unknown'}, {made_by['date']}."
    )


def peak(name: str, function: Callable[..., float], *arguments: Any) -> float:
    """Return the MB above the data that a function finds in a process of its own.

    NaN when it fails, which must not cost the other measurements.
    """
    used = np.nan
    # spawned, not forked: a fork starts with all the memory that this process has had
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        try:
            used = process.submit(function, *arguments).result()
        except Exception as error:
            say(f"{name}: memory not measured: {error!r}")
    say(f"{name}: {used:.0f} MB above the data")
    return used


def resident(field: str) -> float:
    """Return the MB of main memory that this process has (VmRSS) or has had at most (VmHWM)."""
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


# ---------------------------------------------------------------- table, figure, files


def against_aim(
    aim: str, value: float, sign: Sign, bound: float | None, unit: str, why_not: str = ""
) -> dict[str, str]:
    """Return a row of the table of aims; without value or bound nothing is met or missed."""
    verdict, wanted = "–", "–"
    measured = (why_not or "not run") if pd.isna(value) else f"{value:.{_DIGITS[unit]}f} {unit}"
    if bound is not None:
        wanted = f"{sign} {bound} {unit}"
        if not pd.isna(value):
            verdict = "met" if (value <= bound if sign == "≤" else value >= bound) else "missed"
    return {"aim": aim, "wanted": wanted, "measured": measured, "verdict": verdict}


def dots(
    times: pd.DataFrame, labels: Mapping[str, str], ours: Collection[str], measured: str = "seconds"
) -> Figure:
    """Return what `measured` is, by case and library, on a logarithmic axis.

    Parameters
    ----------
    times : pandas.DataFrame
        With columns "case", "library" and `measured`.
    labels : mapping of str to str
        By case, what is written beside it; in the order of the rows.
    ours : collection of str
        The libraries whose marks are larger.
    measured : str, default="seconds"
        Column, and name of the axis.
    """
    names = times.library[times[measured].notna()].unique()
    with plots.style():
        fig, ax = plt.subplots(figsize=(8, 1.5 + 0.8 * len(labels)))
        lanes = np.linspace(-0.36, 0.36, len(names))  # equal times would hide one another
        for name, lane, colour, marker in zip(
            names, lanes, *plots.palette(len(names)), strict=True
        ):
            rows = times[times.library == name].set_index("case")[measured]
            height = [i for i, case in enumerate(labels) if case in rows.index]
            ax.plot(
                rows.reindex(case for case in labels if case in rows.index),
                np.array(height) + lane,
                marker=marker,
                markersize=10 if name in ours else 7,
                color=colour,
                markeredgecolor="0.2",
                linestyle="none",
                label=name,
                zorder=3 if name in ours else 2,
            )
        ax.set_xscale("log")
        ax.set_yticks(range(len(labels)), list(labels.values()))
        ax.set_ylim(len(labels) - 0.5, -0.5)
        ax.hlines(
            np.arange(1, len(labels)) - 0.5, 0, 1, "0.6", lw=0.8, transform=ax.get_yaxis_transform()
        )
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color="0.85")
        ax.set_axisbelow(True)
        ax.set_xlabel(f"{measured} (left is faster)")
        fig.legend(loc="outside lower center", ncols=4)
    return fig


def save(
    folder: Path, name: str, times: pd.DataFrame, page: str, fig: Figure, record: dict[str, Any]
) -> None:
    """Write a benchmark's .csv, .md, .png and .json, and close the figure."""
    with replacing(folder / f"{name}.csv") as partial:
        times.to_csv(partial, index=False, lineterminator="\n")
    _write(folder / f"{name}.md", page)
    with replacing(folder / f"{name}.png") as partial:
        fig.savefig(partial, dpi=130, metadata={"Software": None})
        plt.close(fig)
    _write(folder / f"{name}.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    say(f"Written: {name}.md, .csv, .png and .json in {folder}, after {record['duration']} s")


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- the command


def command(name: str, description: str | None, cases: Sequence[str]) -> argparse.ArgumentParser:
    """Return what reads the options that all benchmarks have."""
    found = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    found.formatter_class = argparse.RawDescriptionHelpFormatter
    found.add_argument("--quick", action="store_true", help="toy sizes: does everything still run?")
    found.add_argument("--cases", nargs="+", choices=cases, default=cases, metavar="CASE",
                       help=f"any of {', '.join(cases)}")  # fmt: skip
    found.add_argument("--repeats", type=_count, default=5, help="how often to time (default 5)")
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
