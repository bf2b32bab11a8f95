"""Our map beside other Python libraries: the same work, one clock, one pair of errors.

    python -m benchmarks.som                          everything, some 15 minutes on two cores
    python -m benchmarks.som --cases batch-10k        one case (they are listed by --help)
    python -m benchmarks.som --quick                  toy sizes: does everything still run?

One protocol for all. Every library gets the same samples in the same order, the same first
prototypes, the same Gaussian h = exp(−δ²/2σ²) on a square lattice without wrapping, the same σ at
each step and the same number of passes, and may use all cores. Before anything is timed the
weights that come out of a small case are compared with ours, so that what is timed is known to be
equal work, or known not to be and why. Samples come in the type that a library computes in;
making its object and handing over data and prototypes is not timed, `fit` or `train` is. Libraries
take turns, so that a busy moment of the machine hits all of them, and the median counts. The two
errors are `somlib.evaluation.metrics`' for all. Memory is measured in a fresh process.

A complete run writes table and figure to figures/benchmarks/, any other one to runs/benchmarks/.
"""

import contextlib
import importlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from benchmarks.common import (
    Array,
    Source,
    against_aim,
    all_cores,
    command,
    dots,
    heading,
    machine,
    peak,
    resident,
    samples,
    save,
    say,
)
from somlib import report
from somlib.evaluation.metrics import quantization_error, topographic_error
from somlib.models.som import SOM
from somlib.search.products import product
from somlib.spaces import Grid
from somlib.training.schedules import Schedule

Mode = Literal["batch", "online"]

LIMIT = 120.0
"""Seconds: what is estimated to take longer is not run."""

PROBE = 1.0
"""Seconds that the last of the trainings takes from which the time is estimated."""

BUDGET = 20.0
"""Seconds that the repeats of one library in one case may take; one is always measured."""

TURN = 0.2
"""Seconds that a turn lasts at least (or 50 trainings): one of a millisecond says little."""

AIMS = (
    ("batch-10k", "XPySom", 2.5),
    ("batch-10k", "TorchSOM", 5),
    ("batch-10k", "MiniSom", 100),
    ("online-10k", "MiniSom", 3),
    ("batch-small", "MiniSom", 1),
    ("online-small", "MiniSom", 1),
)
"""What the project set out to be: in which case, beside whom, how many times as fast."""

LIMITS = """\
Where the time of a batch epoch goes that is not in the matrix products: finding the best, second
and third unit in the table of distances (the third is what certifies the second), measuring
doubtful winners again, summing the Voronoi cells, and errors and labels of the finished map, one
search more than there are passes, which XPySom and MiniSom do not make. Tried and kept: oneDNN's
product in place of PyTorch's own and of NumPy's (where it does not round: `search.products`), one
table reused for all blocks, norms computed once, three passes of `argmin` in place of a selection,
sums by `embedding_bag`. Tried and dropped: PyTorch's threads for the rest beside NumPy's for the
products (twice as slow), oneDNN's large products between NumPy's small ones in online training
(seven times as slow), smaller and larger blocks, a lower bound on doubt (5 % faster, but no longer
exact). On data of a few kilobytes each step costs more in calls than in arithmetic; there XPySom,
which does less in each epoch, is faster, and all of it is over in milliseconds. TorchSOM with b =
32 reaches lower errors than batch training in ten passes because it takes hundreds of steps in
each."""

CONNECTIVITY = 8
"""Who counts as a neighbour in all topographic errors here; MiniSom and TorchSOM count so too."""


# ---------------------------------------------------------------- what is trained


@dataclass(frozen=True)
class Case:
    """Data, map and training that every library gets alike."""

    name: str
    mode: Mode
    source: Source
    n: int
    d: int
    rows: int
    cols: int
    n_passes: int

    @property
    def sigma(self) -> Schedule:
        """Width of the neighbourhood, from half the longer side of the map to 0.5."""
        return Schedule(max(self.rows, self.cols) / 2, 0.5)

    @property
    def alpha(self) -> Schedule:
        """The learning rate; it cancels out of batch training where 1 is as good as any."""
        return Schedule(0.5, 0.01) if self.mode == "online" else Schedule(1.0, 1.0)

    @property
    def n_steps(self) -> int:
        """Steps over which both shrink: passes or samples."""
        return self.n_passes * (self.n if self.mode == "online" else 1)

    @property
    def grid(self) -> Grid:
        """The lattice."""
        return Grid(self.rows, self.cols)

    @property
    def size(self) -> str:
        """The case in short."""
        passes = f"{self.n_passes} pass{'es' * (self.n_passes > 1)}"
        return f"{self.n} × {self.d}, map {self.rows} × {self.cols}, {passes}"

    @property
    def contents(self) -> str:
        """What the data are: MNIST is replaced where it is not at hand."""
        return samples(self.source, self.n, self.d)[1]

    def samples(self, dtype: str) -> Array:
        """Return the data, shape (n, d)."""
        return samples(self.source, self.n, self.d)[0].astype(dtype, copy=False)

    def start(self, X: Array) -> Array:
        """Return the first prototypes, some of the samples."""
        n_units = self.rows * self.cols
        chosen = np.random.default_rng(0).choice(len(X), n_units, replace=len(X) < n_units)
        return np.asarray(X[chosen])


CASES = (
    Case("batch-small", "batch", "mixture", 240, 4, 10, 10, 10),
    Case("batch-digits", "batch", "digits", 1797, 64, 15, 15, 10),
    Case("batch-10k", "batch", "mnist", 10_000, 784, 20, 20, 10),
    Case("batch-70k", "batch", "mnist", 70_000, 784, 20, 20, 10),
    Case("batch-70k-wide", "batch", "mnist", 70_000, 784, 100, 100, 1),
    Case("online-small", "online", "mixture", 240, 4, 10, 10, 10),
    Case("online-digits", "online", "digits", 1797, 64, 15, 15, 10),
    Case("online-10k", "online", "mnist", 10_000, 784, 20, 20, 1),
    Case("online-70k", "online", "mnist", 70_000, 784, 20, 20, 1),
)
HEADLINE, WIDEST = "batch-10k", "batch-70k-wide"
MAPPED = "somlib, data in a file"
DIFFERS = "differs, see the end"
AGREEMENT = (
    Case("agreement", "batch", "mixture", 300, 6, 7, 4, 5),
    Case("agreement", "online", "mixture", 300, 6, 7, 4, 2),
)


def toy(case: Case) -> Case:
    """Return the case in a size that takes no time."""
    small = replace(case, source="mixture", n=min(case.n, 200), d=min(case.d, 8))
    return replace(small, rows=5, cols=4, n_passes=min(case.n_passes, 2))


# ---------------------------------------------------------------- who trains
#
# Each function makes a library's object for a case and returns what is to be timed: a function
# that trains and returns the weights, shape (K, d).

Train = Callable[[], Any]
Prepare = Callable[[Case, Array, Array], Train]


def somlib(case: Case, X: Array, start: Array) -> Train:
    som = SOM(
        grid=case.grid,
        mode=case.mode,
        n_epochs=case.n_passes,
        sigma=(case.sigma.start, case.sigma.end),
        learning_rate=(case.alpha.start, case.alpha.end) if case.mode == "online" else None,
        init=start,
        shuffle=False,
        random_state=0,
        device="cpu",
    )
    return lambda: som.fit(X).weights_


def minisom(case: Case, X: Array, start: Array) -> Train:
    from minisom import MiniSom

    som = MiniSom(
        case.rows,
        case.cols,
        case.d,
        sigma=case.sigma.start,
        decay_function=lambda _, t, n: case.alpha(t, n),
    )
    som._sigma_decay_function = lambda _, t, n: case.sigma(t, n)  # takes only its own three
    som.get_weights()[:] = _sheet(case, start)

    def train() -> Array:
        (som.train_batch_offline if case.mode == "batch" else som.train)(X, case.n_steps)
        return _rows(case, som.get_weights())

    return train


def xpysom(case: Case, X: Array, start: Array, keep_float32: bool = False) -> Train:
    with contextlib.redirect_stdout(None):  # it prints that there is no CuPy
        from xpysom import XPySom
    som = XPySom(
        case.rows,
        case.cols,
        case.d,
        sigma=case.sigma.start,
        sigmaN=case.sigma.end,
        learning_rate=case.alpha.start,
        learning_rateN=case.alpha.end,
        std_coeff=1.0,  # its own Gaussian, at 0.5, is half as wide as its σ
        xp=np,
    )
    if keep_float32:
        # its σ is a NumPy scalar, which makes NumPy ≥ 2 carry the neighbourhood in float64
        decay = som._decay_function
        som._decay_function = lambda *arguments: float(decay(*arguments))
    som.get_weights()[:] = _sheet(case, start)

    def train() -> Array:
        # its σ reaches the end one pass after the last: count a pass less, but do it
        som.train(X, max(case.n_passes - 1, 1), iter_end=case.n_passes)
        return _rows(case, som.get_weights())

    return train


def xpysom_float32(case: Case, X: Array, start: Array) -> Train:
    return xpysom(case, X, start, keep_float32=True)


def torchsom(case: Case, X: Array, start: Array, batch_size: int = 1) -> Train:
    from torchsom import SOM as TorchSOM  # noqa: N811

    som = TorchSOM(
        case.rows,
        case.cols,
        case.d,
        epochs=case.n_passes,
        batch_size=min(batch_size, len(X)),
        device="cpu",
    )
    at = [(case.sigma(i, case.n_passes), case.alpha(i, case.n_passes)) for i in range(som.epochs)]
    som.sigma_schedule, som.lr_schedule = torch.tensor(at).T
    som.weights.data = torch.from_numpy(_sheet(case, start).copy())
    x = torch.from_numpy(X)

    def train() -> Array:
        som.fit(x, verbose=False)
        return _rows(case, som.weights.numpy())

    return train


def torchsom_coarse(case: Case, X: Array, start: Array) -> Train:
    return torchsom(case, X, start, batch_size=10_000)


def torchsom_fine(case: Case, X: Array, start: Array) -> Train:
    return torchsom(case, X, start, batch_size=32)


def python_som(case: Case, X: Array, start: Array) -> Train:
    from python_som import SOM as PythonSOM  # noqa: N811

    som = PythonSOM(
        case.rows,
        case.cols,
        case.d,
        learning_rate=case.alpha.start,
        learning_rate_decay=lambda _, t, n: case.alpha(t, n),
        neighborhood_radius=case.sigma.start,
        neighborhood_radius_decay=lambda _, t, n: case.sigma(t, n),
        min_neighborhood_radius=case.sigma.end,
        random_seed=0,
    )
    som.get_weights()[:] = _sheet(case, start)
    mode: Any = "batch" if case.mode == "batch" else "sequential"

    def train() -> Array:
        som.train(X, n_iteration=case.n_steps, mode=mode)
        return _rows(case, som.get_weights())

    return train


def products_torch(case: Case, X: Array, start: Array) -> Train:
    return _products(case, torch.from_numpy(X), torch.from_numpy(start), torch.mm)


def products_numpy(case: Case, X: Array, start: Array) -> Train:
    return _products(case, X, start, np.matmul)


def products_onednn(case: Case, X: Array, start: Array) -> Train:
    """Prepare the products as `somlib.search.products` has them: by oneDNN, where that is exact."""
    return _products(case, torch.from_numpy(X), torch.from_numpy(start), product)


def _products(case: Case, X: Any, W: Any, multiply: Callable[..., Any]) -> Train:
    """Return the matrix products that batch training needs, and nothing else of it.

    X Wᵀ for the winners of each pass and once more for the labels of the finished map, and H S,
    units by units times the sums of what each unit wins, for each pass.
    """
    H = X.new_ones(len(W), len(W)) if isinstance(X, torch.Tensor) else np.ones((len(W),) * 2, "f4")
    scores, sums = multiply(X, W.T), multiply(H, W)  # memory is had before the clock starts

    def train() -> None:
        for _ in range(case.n_passes):
            multiply(X, W.T, out=scores)
            multiply(H, W, out=sums)
        multiply(X, W.T, out=scores)

    return train


def _sheet(case: Case, weights: Array) -> Array:
    return weights.reshape(case.rows, case.cols, case.d)


def _rows(case: Case, weights: Array) -> Array:
    return weights.reshape(-1, case.d)


@dataclass(frozen=True)
class Library:
    """Somebody who trains: how, in which precision, and in which way differently from us."""

    name: str
    package: str
    dtype: Literal["float32", "float64"]
    batch: Prepare | None = None
    online: Prepare | None = None
    differs: str = ""
    only: tuple[str, ...] = ()
    is_map: bool = True

    @property
    def absent(self) -> str:
        """Why it cannot take part, or nothing."""
        module = self.package.replace("-", "_").lower()
        if find_spec(module) is None:
            return "not installed"
        try:
            with contextlib.redirect_stdout(None):
                importlib.import_module(module)
        except Exception as error:  # whatever it is, it is the reason
            return f"does not run: {error!r}"
        return ""

    def takes(self, case: Case) -> bool:
        """Whether it has this way of training, and the case is one of its own."""
        has = self.batch if case.mode == "batch" else self.online
        return has is not None and (not self.only or case.name in self.only)

    def prepare(self, case: Case, X: Array, start: Array) -> Train:
        """Return what is to be timed."""
        has = self.batch if case.mode == "batch" else self.online
        assert has is not None, f"{self.name} has no {case.mode} training"
        return has(case, X, start)


OURS = Library("somlib", "somlib", "float32", somlib, somlib)
LIBRARIES = (
    OURS,
    Library(
        "somlib, float64",
        "somlib",
        "float64",
        somlib,
        somlib,
        only=("agreement", "batch-small", HEADLINE, "online-small", "online-10k"),
    ),
    Library("XPySom", "XPySom", "float32", xpysom),
    Library("XPySom, helped", "XPySom", "float32", xpysom_float32),
    Library("python-som", "python-som", "float64", python_som, python_som),
    Library("MiniSom", "MiniSom", "float64", minisom, minisom),
    Library(
        "TorchSOM",
        "torchsom",
        "float32",
        torchsom_coarse,
        torchsom,
        "its batch training is one gradient step m += α/b Σ h (x − m) for each b samples (here "
        "10 000, α = 1) in place of their mean; in its online training (b = 1) σ and α change "
        "between passes only, and the order is its own",
    ),
    Library(
        "TorchSOM, b = 32",
        "torchsom",
        "float32",
        torchsom_fine,
        differs="the same gradient steps for each 32 samples, in random order: n/32 steps in a "
        "pass where batch training takes one",
        only=("agreement", "batch-digits", HEADLINE),
    ),
    Library(
        "bare products, torch", "torch", "float32", products_torch, only=(HEADLINE,), is_map=False
    ),
    Library(
        "bare products, NumPy", "numpy", "float32", products_numpy, only=(HEADLINE,), is_map=False
    ),
    Library(
        "bare products, oneDNN", "torch", "float32", products_onednn, only=(HEADLINE,), is_map=False
    ),
)


# ---------------------------------------------------------------- equal work, time, memory


def agreement(libraries: Sequence[Library]) -> pd.DataFrame:
    """Return how far the weights after a small case are from ours, library by library."""
    table = []
    for case in AGREEMENT:
        for library in libraries:
            if not library.is_map or not library.takes(case):
                continue
            difference, verdict = np.nan, library.absent
            if not verdict:
                X = case.samples(library.dtype)
                theirs = library.prepare(case, X, case.start(X))()
                reference = somlib(case, X.astype("float64"), case.start(X).astype("float64"))()
                difference = float(np.abs(theirs - reference).max())
                equal = difference < 1000 * np.finfo(library.dtype).eps
                verdict = "equal to rounding" if equal else DIFFERS
            say(f"{case.mode}, {library.name}: {difference:.1e} from ours in float64, {verdict}")
            table.append(
                {"training": case.mode, "library": library.name, "computes in": library.dtype}
                | {"largest difference": difference, "verdict": verdict}
            )
    return pd.DataFrame(table)


@dataclass
class Entrant:
    """A library in one case: how often it is timed, or why it is not, and what came out."""

    case: Case
    library: Library
    repeats: int
    note: str = ""
    weights: Any = None

    def __post_init__(self) -> None:
        self.seconds: list[float] = []
        expected = 0.0
        self.note = self.library.absent
        if not self.note:
            expected = self._guarded(self._expected)
        if not self.note and expected > LIMIT:
            self.note = f"not run: estimated {expected:.0f} s, limit {LIMIT:.0f} s"
        if self.note:
            say(f"{self.case.name}, {self.library.name}: {self.note}")
        self.turns = int(np.clip(BUDGET / max(expected, 1e-9), 1, self.repeats))
        self.trainings = int(np.clip(TURN / max(expected, 1e-9), 1, 50))

    def take_turn(self, turn: int) -> None:
        """Train and note the seconds, unless it is not run or has had all its turns."""
        if not self.note and turn < self.turns:
            taken = self._guarded(self._median)
            self.seconds += [] if self.note else [taken]
            say(f"{self.case.name}, {self.library.name}: {self.note or f'{taken:.4g} s'}")

    def row(self) -> dict[str, Any]:
        """Return the line of the table, without what compares it with others."""
        X, W, times = self.case.samples("float32"), self.weights, self.seconds or [np.nan]
        return {
            "case": self.case.name,
            "library": self.library.name,
            "computes in": self.library.dtype,
            "seconds": np.median(times),
            "fastest": min(times),
            "slowest": max(times),
            "runs": len(self.seconds),
            "QE": np.nan if W is None else quantization_error(X, W),
            "TE": np.nan if W is None else topographic_error(X, W, self.case.grid, CONNECTIVITY),
            "note": self.note,
        }

    def _expected(self) -> float:
        """Return the seconds of one training to come, from a growing share of the samples.

        A part of the time goes with the number of samples, another one does not: two sizes tell
        them apart. It also warms up what is slow at first.
        """
        m, n = max(10, self.case.n // 400), self.case.n
        few = replace(self.case, n=m, n_passes=1)
        _timed(few, self.library)
        before, seconds = 0.0, _timed(few, self.library)[0]
        while (seconds < PROBE and 4 * m <= n) or not before:
            m, before = 2 * m, seconds
            seconds = _timed(replace(few, n=m), self.library)[0]
        per_sample = float(np.clip((seconds - before) / (m / 2), 0, seconds / m))
        return self.case.n_passes * (seconds + per_sample * (n - m))

    def _median(self) -> float:
        seconds, weights = zip(
            *(_timed(self.case, self.library) for _ in range(self.trainings)), strict=True
        )
        self.weights = weights[-1]
        return float(np.median(seconds))

    def _guarded(self, step: Callable[[], float]) -> float:
        """Run a step; a library that fails must not cost the measurements of the others."""
        try:
            return step()
        except Exception as error:
            self.note = f"does not run: {error!r}"
            return 0.0


def measure(case: Case, libraries: Sequence[Library], repeats: int) -> pd.DataFrame:
    """Return time, ratio to ours and both errors of every library in one case, a row for each."""
    entrants = [Entrant(case, library, repeats) for library in libraries]
    for turn in range(repeats):
        for entrant in entrants:
            entrant.take_turn(turn)
    table = pd.DataFrame([entrant.row() for entrant in entrants])
    ours = table.seconds[table.library == OURS.name].min()
    table.insert(4, "× ours", table.seconds / ours)
    return table


def _timed(case: Case, library: Library) -> tuple[float, Array | None]:
    """Return the seconds of one training, and the weights it ends with."""
    X = case.samples(library.dtype)
    train = library.prepare(case, X, case.start(X))
    begin = time.perf_counter()
    weights = train()
    return time.perf_counter() - begin, weights


def memory(case: Case, libraries: Sequence[Library]) -> pd.DataFrame:
    """Return by how many MB one pass raises the peak of a fresh process that holds the data.

    A last row has ours with the data in a file, as a `numpy.memmap`; the pages of the file that
    the system happens to keep in memory count too, so it is an upper bound.
    """
    case, rows = replace(case, n_passes=1), []
    entrants = [(library, library.name, False) for library in libraries]
    if OURS in libraries:
        entrants.append((OURS, MAPPED, True))
    with tempfile.TemporaryDirectory() as folder:
        for library, name, mapped in entrants:
            file = Path(folder) / f"{library.dtype}.npy"
            if not file.exists():
                np.save(file, case.samples(library.dtype))
            used = peak(f"{case.name}, {name}", _peak, case, library.name, file, mapped)
            rows.append({"case": case.name, "library": name, "MB above data": used})
    return pd.DataFrame(rows)


def _peak(case: Case, name: str, file: Path, mapped: bool) -> float:
    """Train in this process, and return the MB that it took beyond those it had with the data."""
    library = next(library for library in LIBRARIES if library.name == name)
    with all_cores():
        _timed(toy(case), library)  # code and threads are there before
        X = np.load(file, mmap_mode="r" if mapped else None)
        before = resident("VmRSS")
        library.prepare(case, X, case.start(X))()
    return resident("VmHWM") - before


# ---------------------------------------------------------------- table and figure


def page(
    cases: Sequence[Case],
    libraries: Sequence[Library],
    equal: pd.DataFrame,
    times: pd.DataFrame,
    made_by: dict[str, Any],
) -> str:
    """Return the tables as one page of Markdown."""
    numba = "with" if find_spec("numba") else "without"
    parts = [
        "# Training a self-organizing map: our library beside others",
        heading(made_by),
        "The same samples, first prototypes, Gaussian neighbourhood, σ (from half the longer side "
        "of the map to 0.5, exponentially) and passes for all. Seconds are the median of `runs`, "
        f"taken in turn after a warm-up; `× ours` is their ratio to somlib's in float32; QE and TE "
        f"({CONNECTIVITY} neighbours) are measured for all alike. What would take more than "
        f"{LIMIT:.0f} s, estimated from small fractions, is not run. `MB above data` is what one "
        "pass adds to the peak memory of a fresh process that holds the data, prototypes included.",
        "Ours and python-som measure the finished map within the time (ours QE, TE and labels), "
        "TorchSOM both errors of every batch; MiniSom and XPySom train only, XPySom in batches "
        "only. XPySom hands σ on as a NumPy scalar, by which NumPy 2 makes it compute half of its "
        "work in float64; `XPySom, helped` is given a plain number and stays in float32. MiniSom's "
        f"batch training is `train_batch_offline`. python-som ran {numba} the optional numba. "
        "somoclu is left out: it has to be built from source.",
        "## Equal work",
        "Largest difference between the weights after a small case and ours in float64.",
        report.markdown(equal),
    ]
    for case in cases:
        rows = times[times.case == case.name]
        shown = rows[["library", "computes in", "runs", "QE", "TE"]].copy()
        for position, column in enumerate(("seconds", "× ours")):
            digits = rows[column].map("{:.3g}".format, na_action="ignore")
            shown.insert(2 + position, column, digits)
        for column in ("MB above data", "note"):
            if column in rows and rows[column].replace("", None).notna().any():
                shown[column] = rows[column]
        parts += [f"## {case.name}", f"{case.size}: {case.contents}.", report.markdown(shown)]
        if limit := _share_of_limit(rows):
            parts.append(limit)
    notes = [f"- {x.name}: {x.differs}." for x in libraries if x.differs and not x.absent]
    parts += ["## What remains different", "\n".join(notes)]
    if set(CASES) <= set(cases):  # the aims are about these sizes, not about toys
        parts.append(against_aims(times))
    return "\n\n".join(parts) + "\n"


def against_aims(times: pd.DataFrame) -> str:
    """Return which of the project's own aims the measured times meet, and what stands in the way.

    Parameters
    ----------
    times : pandas.DataFrame
        As in som.csv.
    """
    table = times.set_index(["case", "library"])
    rows = []
    for case, other, wanted in AIMS:
        ours = (case, OURS.name)
        if ours not in table.index or (case, other) not in table.index:
            continue
        ratio = table.seconds[case, other] / table.seconds[ours]
        rows.append(against_aim(f"{case}: times as fast as {other}", ratio, "≥", wanted, "×"))
    for case, wanted in (("batch-10k", 1.3),):
        part = times[times.case == case]
        bare = part[part.library.str.startswith("bare")].seconds
        for library, seconds in zip(part.library[bare.index], bare, strict=True):
            share = table.seconds[case, OURS.name] / seconds
            rows.append(against_aim(f"{case}: time of the {library}", share, "≤", wanted, "×"))
    if ("batch-70k-wide", OURS.name) in table.index and "MB above data" in times:
        memory = float(table["MB above data"]["batch-70k-wide", OURS.name])
        rows.append(against_aim("batch-70k-wide: memory above the data", memory, "≤", 1000, "MB"))
    return "\n\n".join(["## Against the aims", report.markdown(pd.DataFrame(rows)), LIMITS])


def _share_of_limit(rows: pd.DataFrame) -> str:
    """Return our time against that of the bare matrix products, where those were measured."""
    bare = rows[rows.library.str.startswith("bare")].seconds.min()
    if pd.isna(bare):
        return ""
    ours = rows.seconds[rows.library == OURS.name].min()
    return (
        f"The matrix products alone, by the fastest library: {bare:.3g} s; ours {ours / bare:.2f}×."
    )


# ---------------------------------------------------------------- the command


def run(
    cases: Sequence[Case],
    libraries: Sequence[Library],
    repeats: int,
    remembered: Sequence[str],
    folder: Path,
) -> pd.DataFrame:
    """Measure everything, write som.csv, .md, .png and .json to a folder, and return the table.

    Parameters
    ----------
    cases, libraries : sequences of Case and Library
    repeats : int
        How often a training is timed, if `BUDGET` allows.
    remembered : sequence of str
        Cases in which memory is measured too.
    folder : pathlib.Path

    Returns
    -------
    pandas.DataFrame
        A row for each case and library.
    """
    begin = time.perf_counter()
    with all_cores():
        made_by = machine(x.package for x in libraries if not x.absent)
        equal = agreement(libraries)
        tables = []
        for case in cases:
            entrants = [library for library in libraries if library.takes(case)]
            table = measure(case, entrants, repeats)
            if case.name in remembered:
                ran = set(table.library[table.seconds.notna()])
                maps = [x for x in entrants if x.is_map and x.name in ran]
                table = _joined(table, memory(case, maps))
            tables.append(table)
    times = pd.concat(tables, ignore_index=True)
    times["note"] = times.note.fillna("")
    settings = {
        "cases": {case.name: f"{case.mode}, {case.size}: {case.contents}" for case in cases},
        "repeats": repeats,
        "limit": LIMIT,
        "budget": BUDGET,
        "duration": round(time.perf_counter() - begin, 1),
    }
    record = made_by | settings | {"agreement": equal.to_dict("records")}
    labels = {case.name: f"{case.mode}\n{case.size}" for case in cases}
    text = page(cases, libraries, equal, times, made_by)
    save(folder, "som", times, text, dots(times, labels, {OURS.name}), record)
    return times


def _joined(table: pd.DataFrame, used: pd.DataFrame) -> pd.DataFrame:
    """Return the times with the memory beside them, and below them what has memory only."""
    only_memory = used[~used.library.isin(table.library)]
    return pd.concat([table.merge(used, how="left"), only_memory], ignore_index=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command("som", __doc__, [case.name for case in CASES])
    options = parser.parse_args(arguments)
    cases = [case for case in CASES if case.name in options.cases]
    complete = cases == list(CASES) and not options.quick
    folder = report.output_folder("figures" if complete else "runs", "benchmarks")
    if options.quick:
        cases = [toy(case) for case in cases]
    run(cases, LIBRARIES, options.repeats, (HEADLINE, WIDEST), folder)


if __name__ == "__main__":
    main()
