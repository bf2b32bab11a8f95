"""Paired times of this checkout and of another revision, to see whether a change slowed it down.

    python -m benchmarks.compare HEAD~1               some 20 minutes on two cores
    python -m benchmarks.compare v0.1 --cases "VAE full size" "DEC, digits"
    python -m benchmarks.compare HEAD --repeats 3     uncommitted changes beside the last commit

The revision is checked out into a temporary folder. In each case two processes, one with either
somlib, take turns, first one and then the other beginning, so that a busy moment of the machine
slows both. A turn is a short fit and a long one through the public interface; an iteration's time
is their difference. The interval is that of the mean logarithm of the paired ratios (Student's t).
Memory is what the fits have added to the process at most.

A row is slower where a fit takes more than 50 ms and an interval, of the iterations or of the whole
fit, lies above 1.05; the command then ends with status 1.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats

from benchmarks import worker
from benchmarks.harness import count, heading, machine, samples, say
from somlib.companion import report

HERE = Path(__file__).resolve().parents[1]

SHORTEST_SECONDS = 0.05
"""A fit that takes less is not judged: its ratio is mostly noise."""

SLOWER = 1.05
"""The ratio above which all of an interval must lie."""


class Ratio(NamedTuple):
    """How many times as long, and between which bounds with 95 % confidence."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def paired(before: Sequence[float], after: Sequence[float]) -> Ratio:
    """Return the geometric mean of the ratios of the turns, with the interval of Student's t.

    Turns in which a difference of two fits is not positive say nothing and are left out.

    Examples
    --------
    >>> print(paired([1.0, 2.0, 4.0], [1.1, 2.2, 4.4]))
    1.100 [1.100, 1.100]
    """
    turns = np.array([before, after], float)
    logs = np.diff(np.log(turns[:, (turns > 0).all(0)]), axis=0)[0]
    if len(logs) < 2:
        return Ratio(float(np.exp(logs.mean())) if len(logs) else np.nan, 0.0, np.inf)
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    low, middle, high = np.exp(logs.mean() + half * np.array([-1, 0, 1]))
    return Ratio(float(middle), float(low), float(high))


def is_slower(seconds: float, *ratios: Ratio) -> bool:
    """Return whether a fit of so many seconds has become slower, by any of its ratios."""
    return seconds > SHORTEST_SECONDS and any(ratio.low > SLOWER for ratio in ratios)


# ---------------------------------------------------------------- two revisions


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Yield a folder with another revision."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--quiet", "--detach", str(tree), revision)
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(HERE), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


class Worker:
    """A process that fits one case with the somlib of one checkout."""

    def __init__(self, tree: Path, case: str, *files: Path) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, an unread pipe would fill up
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(HERE / "benchmarks" / "worker.py"), case, *map(str, files)],
            env=os.environ | {"PYTHONPATH": str(tree)},
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def answer(self, question: object = None) -> Any:
        """Return what it has to say, to a question or at its start."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if question is not None:
            with contextlib.suppress(BrokenPipeError):
                print(question, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            raise RuntimeError((self.errors.read().strip().splitlines() or ["no answer"])[-1])
        return json.loads(line)


def compared(name: str, trees: tuple[Path, Path], files: Sequence[Path], repeats: int) -> Any:
    """Return the row of a case: both times, their ratios, both peaks of memory."""
    case = worker.CASES[name]
    with Worker(trees[0], name, *files) as old, Worker(trees[1], name, *files) as new:
        both = (old, new)
        for process, tree in zip(both, trees, strict=True):
            for file in process.answer():  # an installed somlib would stand in for what is missing
                if not Path(file).resolve().is_relative_to(tree.resolve()):
                    raise RuntimeError(f"{file} was imported, which is not of {tree}")
        short, long = np.empty((2, 2, repeats))
        for turn in range(repeats):
            for i in (0, 1) if turn % 2 == 0 else (1, 0):
                short[i, turn] = both[i].answer(case.few)
                long[i, turn] = both[i].answer(case.many)
        peaks = [process.answer("peak") for process in both]
    iteration, whole = paired(*(long - short)), paired(*long)
    seconds = np.median(long, 1)
    per_iteration = 1000 * np.median(long - short, 1) / (case.many - case.few)
    return {
        "case": name,
        "fit before, s": f"{seconds[0]:.3g}",
        "iteration before, ms": f"{per_iteration[0]:.3g}",
        "iteration after, ms": f"{per_iteration[1]:.3g}",
        "ratio of iterations": str(iteration),
        "ratio of fits": str(whole),
        "MB before": f"{peaks[0]:.0f}",
        "MB after": f"{peaks[1]:.0f}",
        "verdict": "slower" if is_slower(float(seconds[0]), iteration, whole) else "",
    }


# ---------------------------------------------------------------- the command


def page(revision: str, table: pd.DataFrame, repeats: int) -> str:
    """Return the table as a page of Markdown."""
    shortest = f"{1000 * SHORTEST_SECONDS:.0f} ms"
    parts = [
        f"# This checkout beside {revision}",
        heading(machine() | {"threads": torch.get_num_threads()}),
        f"Medians over {repeats} turns, which one process of either revision take in turn. Ratios "
        "are times after by times before, geometric means over the turns, with 95 % intervals; "
        "*fits* are whole ones, of an *iteration* the set-up is subtracted. MB: what the fits add "
        f"to the memory of a process at most. *Slower*: a fit of more than {shortest}, and an "
        f"interval above {SLOWER}.",
        report.markdown(table.dropna(axis=1, how="all")),
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("revision", help="what to compare this checkout with")
    parser.add_argument("--cases", nargs="+", choices=worker.CASES, default=list(worker.CASES),
                        metavar="CASE", help=f"any of {', '.join(worker.CASES)}")  # fmt: skip
    parser.add_argument("--repeats", type=count, default=10, help="how many turns (default 10)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which removes the worktree
    commit = git("rev-parse", "--verify", "--end-of-options", f"{options.revision}^{{commit}}")
    rows = []
    with checked_out(commit) as tree, tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("digits.npy", "wide.npy")]
        np.save(files[0], samples("digits", 1792, 64)[0])
        np.save(files[1], samples("mnist", 10_240, 784)[0])
        for name in options.cases:
            try:
                row = compared(name, (tree, HERE), files, options.repeats)
            except RuntimeError as error:  # it must not cost the other cases
                row = {"case": name, "verdict": f"does not run: {error}"}
            say("; ".join(f"{key}: {value}" for key, value in row.items() if value))
            rows.append(row)
    table = pd.DataFrame(rows)
    text = page(f"{options.revision} ({commit})", table, options.repeats)
    path = report.output_folder("runs", "benchmarks") / "compare.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    say(f"\n{text}\nWritten: {path}")
    return int((table.verdict != "").any())


if __name__ == "__main__":
    sys.exit(main())
