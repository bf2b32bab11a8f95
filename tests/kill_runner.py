"""Kill `somlib reproduce` at random moments, run it once more, compare with an undisturbed run.

From the project's folder, for the real notebook (any option of `somlib reproduce` may follow):

    python -m tests.kill_runner --times 20 --only 01

Both runs write into temporary folders; the project's own figures are not touched.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from somlib import cli
from somlib.files import PARTIAL_PREFIX

PACKAGE = Path(cli.__file__).parents[1]


@dataclass
class Outcome:
    """What came of it; everything is well when `differences` and `orphans` are empty."""

    kills: int = 0
    cut: int = 0  # kills in the middle of a write, by the unfinished figures and results
    differences: list[str] = field(default_factory=list)
    orphans: list[int] = field(default_factory=list)


def kill_and_compare(project: Path, folder: Path, times: int, options: list[str]) -> Outcome:
    """Run undisturbed, then killed `times` times and once to the end; tell what differs."""
    # forked from a process that has the slow imports behind it: they are not what is tested
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["papermill", "nbconvert.exporters", "somlib.companion.report"]
    )
    rng = np.random.default_rng(0)
    outcome = Outcome()

    def launch(output: Path) -> multiprocessing.process.BaseProcess:
        process = processes.Process(target=_reproduce, args=(project, output, options))
        process.start()
        return process

    def complete(output: Path) -> float:
        began = time.monotonic()
        process = launch(output)
        process.join()
        if process.exitcode:
            log = (output / "log.txt").read_text()
            outcome.differences.append(f"{output.name} ended with {process.exitcode}:\n{log}")
        return time.monotonic() - began

    complete(folder / "warm-up")  # byte code, font caches, the server itself
    duration = complete(folder / "undisturbed")
    disturbed = folder / "disturbed"
    kernels: list[psutil.Process] = []
    while outcome.kills < times:
        process = launch(disturbed)
        process.join(rng.uniform(0, duration))
        if not process.is_alive():  # reading the cache it may be faster than the first time
            continue
        try:
            kernels += psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:  # it ended by itself just now: no kill
            continue
        process.kill()
        process.join()
        outcome.kills += 1
        unfinished = [*disturbed.glob(f"[fr]*/*/{PARTIAL_PREFIX}*")]
        outcome.cut += any(not path.name.endswith(".ipynb") for path in unfinished)
    complete(disturbed)
    _, alive = psutil.wait_procs(kernels, timeout=10)
    outcome.orphans = [process.pid for process in alive]
    expected, found = _contents(folder / "undisturbed"), _contents(disturbed)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            outcome.differences.append(f"{name} differs or is on one side only")
    return outcome


def _reproduce(project: Path, output: Path, options: list[str]) -> None:
    os.chdir(project)
    os.environ["PYTHONPATH"] = str(PACKAGE)  # for kernels, where the package is not installed
    output.mkdir(parents=True, exist_ok=True)
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
    sys.exit(bool(result.differences or result.orphans))
