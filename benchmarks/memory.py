"""Data larger than the memory: a map of a file, in a process that is allowed a part of its size.

    python -m benchmarks.memory                       everything, in some minutes (4 GB of disk)
    python -m benchmarks.memory --cases float32       one precision
    python -m benchmarks.memory --quick               toy sizes: does everything still run?

Each row is a process of its own that the system refuses more than `LIMIT` MB beyond what it has
once everything is imported (RLIMIT_DATA), so what ends at all has proved its point. Pages of the
file count neither for that limit nor in the MB measured: the system takes them back when it needs
the room. Linux only.

A complete run writes table and figure to figures/benchmarks/, any other one to runs/benchmarks/.
"""

import multiprocessing
import re
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.lib.format import open_memmap

from benchmarks.common import Array, command, dots, heading, machine, samples, save, say
from somlib import metrics, report
from somlib.models.autoencoders import Autoencoder
from somlib.models.som import SOM

LIMIT = 400
"""MB that a process may take beyond its imports."""

WIDTH = 784
SIZES = (1000, 4000)
"""MB of the files: to ten times the limit."""


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
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        try:
            return *process.submit(limited, path, method, limit).result(), ""
        except MemoryError:
            return np.nan, np.nan, "more than the limit: MemoryError"


# ---------------------------------------------------------------- table, figure, command


def write(path: Path, dtype: str, megabytes: float) -> None:
    """Write a file of samples, block by block."""
    block, _ = samples("mixture", 5000, WIDTH)
    n = int(megabytes * 1e6 / np.dtype(dtype).itemsize / WIDTH)
    X = open_memmap(path, "w+", dtype, (n, WIDTH))
    for first in range(0, n, len(block)):
        X[first : first + len(block)] = block[: n - first]


def measure(dtypes: Sequence[str], sizes: Sequence[float], limit: int) -> pd.DataFrame:
    """Return a row for each precision, method and size."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.npy"
        for dtype in dtypes:
            for size in sizes:
                write(path, dtype, size)
                for method in METHODS:
                    used, seconds, note = alone(path, method, limit)
                    say(f"{dtype}, {size} MB, {method}: {note or f'{used:.0f} MB'}")
                    case = f"{dtype}, {size} MB"
                    rows.append((case, method, used, seconds, note))
    return pd.DataFrame(rows, columns=["case", "library", "MB", "seconds", "note"])


def page(table: pd.DataFrame, limit: int, record: dict[str, Any]) -> str:
    """Return the table as a page of Markdown."""
    shown = table.rename(columns={"case": "file", "library": "what is done"})
    for column in ("MB", "seconds"):
        shown[column] = shown[column].map("{:.0f}".format, na_action="ignore")
    parts = [
        "# Data larger than the memory",
        heading(record),
        f"Files of samples with {WIDTH} features, opened as `np.load(file, mmap_mode='r')`; a map "
        f"of 5 × 5 units, 2 epochs. Each row is a fresh process to which the system allows {limit} "
        "MB beyond what it has after its imports (RLIMIT_DATA). MB: how much more it took at most, "
        "without the pages of the file, which the system takes back when it needs the room, and "
        "with what is returned: labels, or 25 distances a sample. The last two methods hold all "
        "samples in memory, the deep models by their nature.",
        report.markdown(shown),
    ]
    return "\n\n".join(parts) + "\n"


def run(dtypes: Sequence[str], sizes: Sequence[float], limit: int, folder: Path) -> pd.DataFrame:
    """Measure everything, write memory.csv, .md, .png and .json, and return the table."""
    begin = time.perf_counter()
    record = machine() | {"threads": torch.get_num_threads()}  # as many as in the processes
    table = measure(dtypes, sizes, limit)
    record |= {"limit": limit, "duration": round(time.perf_counter() - begin, 1)}
    figure = dots(table, {case: case.replace(", ", "\n") for case in table.case.unique()}, (), "MB")
    axis = figure.axes[0]
    axis.set(xscale="linear", xlim=(0, limit), xlabel=f"MB at most, of {limit} that were allowed")
    save(folder, "memory", table, page(table, limit, record), figure, record)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    dtypes = ("float32", "float64")
    options = command("memory", __doc__, dtypes).parse_args(arguments)
    complete = list(options.cases) == list(dtypes) and not options.quick
    folder = report.output_folder("figures" if complete else "runs", "benchmarks")
    run(options.cases, (50,) if options.quick else SIZES, LIMIT, folder)


if __name__ == "__main__":
    main()
