"""Kill `somlib reproduce` at random moments, run it once more, compare with an undisturbed run.

From the project's folder, for the real notebooks (any option of `somlib reproduce` may follow):

    python -m tests.kill_runner --times 100
    python -m tests.kill_runner --times 20 --only 01

The notebooks take turns, so that each is killed as often as the others however long it takes, and
half of the kills meet an empty cache, so that trainings are cut as well as what reads them. Both
runs write into temporary folders; the project's own figures are not touched.
"""

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from somlib.companion import cli
from somlib.files import PARTIAL_PREFIX

PACKAGE = Path(cli.__file__).parents[2]


@dataclass
class Outcome:
    """The result; `well` when no file differs and no process or partial file is left."""

    kills: Counter[str] = field(default_factory=Counter)  # by notebook
    cut: int = 0  # kills in the middle of a write, by the unfinished figures and results
    differences: list[str] = field(default_factory=list)
    orphans: list[int] = field(default_factory=list)
    partials: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether the killed runs came to the same as the undisturbed one."""
        return not (self.differences or self.orphans or self.partials)


def kill_and_compare(project: Path, folder: Path, times: int, options: list[str]) -> Outcome:
    """Run undisturbed, then killed `times` times and once to the end; tell what differs."""
    # forked from a process that has the slow imports behind it: they are not what is tested
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["papermill", "nbconvert.exporters", "somlib.companion.report"]
    )
    rng = np.random.default_rng(0)
    outcome = Outcome()

    def launch(output: Path, *more: str) -> multiprocessing.process.BaseProcess:
        process = processes.Process(target=_reproduce, args=(project, output, [*options, *more]))
        process.start()
        return process

    def complete(output: Path) -> float:
        print(f"{output.name}: to the end ... ", end="", flush=True)
        began = time.monotonic()
        process = launch(output)
        process.join()
        if process.exitcode:
            log = (output / "log.txt").read_text()
            outcome.differences.append(f"{output.name} ended with {process.exitcode}:\n{log}")
        print(f"{(took := time.monotonic() - began):.0f} s", flush=True)
        return took

    complete(folder / "warm-up")  # byte code, font caches, the server itself
    whole = complete(folder / "undisturbed")
    log = (folder / "undisturbed" / "log.txt").read_text()
    seconds = _seconds(log)
    if outcome.differences or not seconds:  # nothing to compare with
        return outcome
    around = max(0.0, whole - _running(log))  # start, page
    lasts = {(name, anew): seconds[name] + around for name in seconds for anew in (False, True)}
    disturbed = folder / "disturbed"
    kernels: list[psutil.Process] = []
    for name in itertools.islice(_turns(list(seconds), rng), times):
        alive = False
        while not alive:
            if anew := bool(rng.integers(2)):
                shutil.rmtree(disturbed / "runs" / "cache", ignore_errors=True)
            within = lasts[name, anew]
            after, began = rng.uniform(0, within), time.monotonic()
            process = launch(disturbed, "--only", name)
            process.join(after)
            with contextlib.suppress(psutil.NoSuchProcess):  # it may end by itself just now
                kernels += psutil.Process(process.pid).children(recursive=True)
                alive = process.is_alive()
            if not alive:  # what reads the cache is faster, and the machine may be less busy
                lasts[name, anew] = min(within, time.monotonic() - began)
            if process.exitcode:
                outcome.differences.append(f"{name} ended with {process.exitcode}")
                return outcome
        process.kill()
        process.join()
        outcome.kills[name] += 1
        unfinished = [
            path for path in _partials(disturbed) if not path.endswith((".ipynb", ".lock"))
        ]
        outcome.cut += bool(unfinished)
        print(
            f"[{outcome.kills.total()}/{times}] {name} killed after {after:.1f} s of "
            f"{within:.1f} s, {'without' if anew else 'with'} what was cached; "
            f"in the middle of {', '.join(unfinished) or 'no write'}",
            flush=True,
        )
    complete(disturbed)
    outcome.orphans = _alive(kernels, seconds=10)
    outcome.partials = [*_partials(disturbed), *_partials(folder / "undisturbed")]
    expected, found = _contents(folder / "undisturbed"), _contents(disturbed)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            outcome.differences.append(f"{name} differs or is on one side only")
    return outcome


def _alive(processes: list[psutil.Process], seconds: float) -> list[int]:
    """Return the pids of the processes that do not end within some seconds."""
    until = time.monotonic() + seconds
    while (left := [p for p in processes if p.is_running()]) and time.monotonic() < until:
        time.sleep(0.1)
    return [process.pid for process in left]


def _seconds(log: str) -> dict[str, float]:
    """Return how long each notebook took, from what the runner printed."""
    lines = re.findall(r"^\[\d+/\d+\] (\S+) done, (\d+) s", log, flags=re.MULTILINE)
    return {name: float(seconds) for name, seconds in sorted(lines)}


def _running(log: str) -> float:
    """Return for how long notebooks were running, several of them at the same time."""
    return float(re.findall(r"^all, start to end +(\d+)$", log, flags=re.MULTILINE)[-1])


def _turns(names: list[str], rng: np.random.Generator) -> Iterator[str]:
    """Yield every name once in a random order, then once in another, and so on."""
    while True:
        yield from rng.permutation(names).tolist()


def _partials(output: Path) -> list[str]:
    return sorted(path.name for path in output.rglob(f"{PARTIAL_PREFIX}*"))


def _reproduce(project: Path, output: Path, options: list[str]) -> None:
    os.chdir(project)
    os.environ["PYTHONPATH"] = str(PACKAGE)  # for kernels, where the package is not installed
    temporary = output / "temporary"  # of what is killed something stays there
    temporary.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    with (output / "log.txt").open("w") as log, contextlib.redirect_stdout(log):
        os.dup2(log.fileno(), sys.stderr.fileno())
        code = cli.main(["reproduce", "--output", str(output), *options])
    sys.exit(code)


def _contents(output: Path) -> dict[str, object]:
    """Return what each file under figures/ says, leaving out what no two runs have in common."""
    of_this_run = ("date", "duration", "peak memory")
    contents: dict[str, object] = {}
    for path in sorted((output / "figures").rglob("*")):
        name = str(path.relative_to(output))
        if path.suffix == ".json":
            record = json.loads(path.read_text())
            contents[name] = {k: v for k, v in record.items() if k not in of_this_run}
        elif path.stem == "results-runs":  # how many seconds each notebook took
            contents[name] = "there"
        elif path.name == "README.md":
            text = re.sub(r"### results-runs:.*?(?=\n### |\Z)", "", path.read_text(), flags=re.S)
            contents[name] = re.sub(r"[\d.]+ s after|at most \d+ MB", "", text)
        elif path.is_file():
            contents[name] = path.read_bytes()
    return contents


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    arguments, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        result = kill_and_compare(Path.cwd(), Path(temporary), arguments.times, rest)
    print(result)
    sys.exit(not result.well)
