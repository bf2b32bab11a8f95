"""Data larger than the memory: a map of a file, in a process that is allowed a part of its size.

    python -m benchmarks.memory                       everything, in some minutes (4 GB of disk)
    python -m benchmarks.memory --cases float32-1000  one case (they are listed by --help)
    python -m benchmarks.memory --quick               toy sizes: does everything still run?

Each row is a process of its own that the system refuses more than `LIMIT_MB` beyond what it has
once everything is imported (RLIMIT_DATA), so what ends at all has proved its point. Pages of the
file count neither for that limit nor in the MB measured: the system takes them back when it needs
the room. Linux only.

A complete run writes table and figure to figures/benchmarks/, any other one to runs/benchmarks/.
"""

import re
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from benchmarks import harness
from benchmarks.harness import Array, Clock, NotRun
from somlib.evaluation import metrics
from somlib.models.autoencoders import Autoencoder
from somlib.models.som import SOM

LIMIT_MB = 400
"""What a process may take beyond its imports."""

WIDTH = 784


@dataclass(frozen=True)
class Case:
    """A file of samples."""

    name: str
    dtype: str
    megabytes: int

    @property
    def label(self) -> str:
        """The case in short."""
        return f"{self.dtype}\n{self.megabytes} MB"

    @property
    def description(self) -> str:
        """What is computed, and of what data."""
        return f"A file of {self.megabytes} MB in {self.dtype}"


CASES = tuple(
    Case(f"{dtype}-{size}", dtype, size)
    for dtype in ("float32", "float64")
    for size in (1000, 10 * LIMIT_MB)
)

METHODS: dict[str, Callable[[SOM, Array], Any]] = {
    "SOM.fit": lambda som, X: som.fit(X),
    "SOM.fit, init='sample'": lambda som, X: som.set_params(init="sample").fit(X),
    "SOM.predict": lambda som, X: som.predict(X),
    "SOM.transform": lambda som, X: som.transform(X),
    "quantization_error": lambda som, X: metrics.quantization_error(X, som.weights_),
    "SOM.fit, in memory": lambda som, X: som.fit(np.array(X)),
    "Autoencoder.fit": lambda som, X: Autoencoder((8,), 2, n_iter=1).fit(X),
}
"""By name, something to do with X and a map of some of it; the last two hold X in memory."""


# ---------------------------------------------------------------- one process


def anonymous() -> float:
    """Return the MB of this process that no file holds."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"RssAnon:\s*(\d+) kB", status)
    return int(found[1]) * 1024 / 1e6 if found else np.nan


def limited(path: Path, method: str, limit: int) -> tuple[float, float]:
    """Do something with a file of samples here; return the MB it took at most and the seconds.

    Raises
    ------
    MemoryError
        When `limit` MB are not enough.
    """
    import resource

    X = np.load(path, mmap_mode="r")
    som = SOM((5, 5), n_epochs=2).fit(np.array(X[:500]))  # code and threads are there before
    before, used, done = anonymous(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            used[0] = max(used[0], anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = Path("/proc/self/status").read_text()
    data = int(re.findall(r"VmData:\s*(\d+) kB", status)[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (data + limit * 10**6, resource.RLIM_INFINITY))
    begin = time.perf_counter()
    try:
        METHODS[method](som, X)
    except RuntimeError as error:  # PyTorch's own word for it
        raise MemoryError(str(error)) if "memory" in str(error) else error from None
    finally:
        seconds = time.perf_counter() - begin
        done.set()
        watcher.join()
    return used[0], seconds


def alone(path: Path, method: str, limit: int) -> tuple[float, float, str]:
    """Return what `limited` does in a fresh process, or why it did not end."""
    try:
        return *harness.alone(limited, path, method, limit), ""
    except MemoryError:
        return np.nan, np.nan, "more than the limit: MemoryError"


# ---------------------------------------------------------------- cases, prose, command


def write(path: Path, dtype: str, megabytes: float) -> None:
    """Write a file of samples, block by block."""
    block, _ = harness.samples("mixture", 5000, WIDTH)
    n = int(megabytes * 1e6 / np.dtype(dtype).itemsize / WIDTH)
    X = open_memmap(path, "w+", dtype, (n, WIDTH))
    for first in range(0, n, len(block)):
        X[first : first + len(block)] = block[: n - first]


def entrants(folder: Path, case: Case, gpu: bool = False) -> list[harness.Entrant]:
    """Write the file of a case, and return what is done with it."""
    path, used = folder / "samples.npy", dict.fromkeys(METHODS, np.nan)
    write(path, case.dtype, case.megabytes)

    def clock(method: str) -> float:
        megabytes, seconds, note = alone(path, method, LIMIT_MB)
        if note:
            raise NotRun(note)
        used[method] = megabytes
        return seconds

    def ready(method: str) -> Clock:
        return partial(clock, method)

    def columns(method: str, seconds: float) -> dict[str, Any]:
        return {"MB": used[method]}

    return [
        harness.Entrant(x, case.dtype, partial(ready, x), partial(columns, x), most_trainings=1)
        for x in METHODS
    ]


def prose(proof: None) -> list[str]:
    return [
        f"Files of samples with {WIDTH} features, opened as `np.load(file, mmap_mode='r')`; a map "
        "of 5 × 5 units, 2 epochs. Each row is a fresh process to which the system allows "
        f"{LIMIT_MB} MB beyond what it has after its imports (RLIMIT_DATA). MB: how much more it "
        "took at most, without the pages of the file, which the system takes back when it needs "
        "the room, and with what is returned: labels, or 25 distances a sample. The last two "
        "methods hold all samples in memory; the deep models always do.",
    ]


def subject(folder: Path) -> harness.Subject[Case]:
    return harness.Subject(
        name="memory",
        title="Data larger than the memory",
        usage=__doc__,
        cases=CASES,
        toy=lambda case: replace(case, megabytes=50),
        agreement=lambda: None,
        entrants=partial(entrants, folder),
        prose=prose,
        measured="MB",
        repeats=1,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        harness.main(subject(Path(folder)), arguments)


if __name__ == "__main__":
    main()
