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
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from benchmarks import harness
from benchmarks.harness import Aim, Array, Clock, NotRun, Source, say
from somlib.companion import report
from somlib.evaluation.metrics import quantization_error, topographic_error
from somlib.models.som import SOM
from somlib.search.products import product
from somlib.spaces import Grid
from somlib.training.schedules import Schedule

Mode = Literal["batch", "online"]

LIMIT_SECONDS = 120.0
"""What is estimated to take longer is not run."""

PROBE_SECONDS = 1.0
"""What the last of the trainings takes from which the time is estimated."""

COMMENT = """\
Bare products are those of all samples with all units, most of which a screen of lower bounds spares
(`search.screen`), on data whose spectrum decays: winners are the same. What else takes time in a
batch epoch: finding the three lowest bounds of each sample, measuring the units that are left and
doubtful winners, summing the Voronoi cells, and errors and labels of the finished map, one search
more than there are passes, which XPySom and MiniSom do not make. Tried and kept: oneDNN's
product in place of PyTorch's own and of NumPy's (where it does not round: `search.products`), one
table reused for all blocks, norms computed once, passes of `argmin` in place of a selection,
sums by `embedding_bag` over sorted samples, or block by block where they are few. Tried and
dropped: PyTorch's threads for the rest beside NumPy's for the products (twice as slow), oneDNN's
large products between NumPy's small ones in online training (seven times as slow), smaller and
larger blocks, a lower bound on doubt (5 % faster, but no longer exact). On data of a few kilobytes
all distances are measured term by term, and each step costs more in calls than in arithmetic:
XPySom, which does less in each epoch, is faster there. Of our five milliseconds for 240 samples a
loop in bare NumPy, with errors and labels, takes two. On a GPU our time contains the checks of the
data, by the CPU, and errors and labels of each pass, which XPySom does not compute. TorchSOM with
b = 32 reaches lower errors than batch training in ten passes because it takes hundreds of steps in
each."""

CONNECTIVITY = 8
"""Who counts as a neighbor in all topographic errors here; MiniSom and TorchSOM count so too."""


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
    device: str = "cpu"

    @property
    def sigma(self) -> Schedule:
        """Width of the neighborhood, from half the longer side of the map to 0.5."""
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
    def label(self) -> str:
        """The case in short."""
        passes = f"{self.n_passes} pass{'es' * (self.n_passes > 1)}"
        where = self.mode if self.device == "cpu" else f"{self.mode}, GPU"
        return f"{where}\n{self.n} × {self.d}, map {self.rows} × {self.cols}, {passes}"

    @property
    def description(self) -> str:
        """What is trained, and of what data: MNIST is replaced where it is not at hand."""
        contents = harness.samples(self.source, self.n, self.d)[1]
        return f"{', '.join(self.label.splitlines())}; {contents}"

    def samples(self, dtype: str) -> Array:
        """Return the data, shape (n, d)."""
        return harness.samples(self.source, self.n, self.d)[0].astype(dtype, copy=False)

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
    Case("batch-60k-middle", "batch", "mnist", 60_000, 784, 50, 50, 1),
    Case("batch-70k-wide", "batch", "mnist", 70_000, 784, 100, 100, 1),
    Case("online-small", "online", "mixture", 240, 4, 10, 10, 10),
    Case("online-digits", "online", "digits", 1797, 64, 15, 15, 10),
    Case("online-10k", "online", "mnist", 10_000, 784, 20, 20, 1),
    Case("online-70k", "online", "mnist", 70_000, 784, 20, 20, 1),
    Case("gpu-70k", "batch", "mnist", 70_000, 784, 20, 20, 10, "cuda"),
    Case("gpu-70k-wide", "batch", "mnist", 70_000, 784, 100, 100, 10, "cuda"),
)
ON_GPU = ("gpu-70k", "gpu-70k-wide")
HEADLINE, MIDDLE, WIDEST = "batch-10k", "batch-60k-middle", "batch-70k-wide"
DIFFERS = "differs, see below"
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
        device=case.device,
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
        xp=np if case.device == "cpu" else importlib.import_module("cupy"),
    )
    if keep_float32:
        # its σ is a NumPy scalar, which makes NumPy ≥ 2 carry the neighborhood in float64
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
        device=case.device,
    )
    at = [(case.sigma(i, case.n_passes), case.alpha(i, case.n_passes)) for i in range(som.epochs)]
    som.sigma_schedule, som.lr_schedule = torch.tensor(at).T
    som.weights.data = torch.from_numpy(_sheet(case, start).copy())
    som.weights.data = som.weights.data.to(case.device)
    x = torch.from_numpy(X).to(case.device)

    def train() -> Array:
        som.fit(x, verbose=False)
        return _rows(case, som.weights.numpy(force=True))

    return train


def torchsom_coarse(case: Case, X: Array, start: Array) -> Train:
    return torchsom(case, X, start, batch_size=10_000)


def torchsom_fine(case: Case, X: Array, start: Array) -> Train:
    return torchsom(case, X, start, batch_size=32)


def python_som(case: Case, X: Array, start: Array, compiled: bool = False) -> Train:
    from python_som import SOM as PythonSOM  # noqa: N811
    from python_som import _som as module

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
        kernel = module.bmu_kernel
        if not compiled:  # else it takes what numba compiles wherever that is installed
            module.bmu_kernel = lambda: None
        try:
            som.train(X, n_iteration=case.n_steps, mode=mode)
        finally:
            module.bmu_kernel = kernel
        return _rows(case, som.get_weights())

    return train


def python_som_compiled(case: Case, X: Array, start: Array) -> Train:
    return python_som(case, X, start, compiled=True)


def somoclu(case: Case, X: Array, start: Array) -> Train:
    from somoclu import Somoclu

    som = Somoclu(
        case.cols, case.rows, _sheet(case, start).copy(), compactsupport=False, std_coeff=1.0
    )
    # its radius reaches the end one pass after the last
    first, last = case.sigma.start, case.sigma.end
    beyond = first * (last / first) ** (case.n_passes / max(case.n_passes - 1, 1))

    def train() -> Array:
        som.train(X, case.n_passes, first, beyond, "exponential", scalecooling="exponential")
        return _rows(case, som.codebook)

    return train


def products_torch(case: Case, X: Array, start: Array) -> Train:
    x, w = (torch.from_numpy(array).to(case.device) for array in (X, start))
    return _products(case, x, w, torch.mm)


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
    """A peer that trains: how, in which precision, and how it differs from somlib."""

    name: str
    package: str
    dtype: Literal["float32", "float64"]
    batch: Prepare | None = None
    online: Prepare | None = None
    differs: str = ""
    only: tuple[str, ...] = ()
    is_map: bool = True
    on_gpu: tuple[str, ...] = ()
    needs: str = ""

    @property
    def absent(self) -> str:
        """Why it cannot take part, or nothing."""
        for package in filter(None, (self.package, self.needs)):
            module = package.replace("-", "_").lower()
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
        if case.device != "cpu":
            return has is not None and case.name in self.on_gpu
        return has is not None and (not self.only or case.name in self.only)

    def prepare(self, case: Case, X: Array, start: Array) -> Train:
        """Return what is to be timed."""
        has = self.batch if case.mode == "batch" else self.online
        assert has is not None, f"{self.name} has no {case.mode} training"
        return has(case, X, start)


OURS = Library("somlib", "somlib", "float32", somlib, somlib, on_gpu=ON_GPU)
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
    Library("XPySom", "XPySom", "float32", xpysom, on_gpu=ON_GPU),
    Library("XPySom, helped", "XPySom", "float32", xpysom_float32),
    Library("python-som", "python-som", "float64", python_som, python_som),
    Library(
        "python-som, numba",
        "numba",
        "float64",
        python_som_compiled,
        only=("agreement", "batch-small", "batch-digits", HEADLINE),
        needs="python-som",
    ),
    Library("MiniSom", "MiniSom", "float64", minisom, minisom),
    Library("somoclu", "somoclu", "float32", somoclu),
    Library(
        "TorchSOM",
        "torchsom",
        "float32",
        torchsom_coarse,
        torchsom,
        "its batch training is one gradient step m += α/b Σ h (x − m) for each b samples (here "
        "10 000, α = 1) in place of their mean; in its online training (b = 1) σ and α change "
        "between passes only, and the order is its own",
        on_gpu=ON_GPU[:1],
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
        "bare products, torch",
        "torch",
        "float32",
        products_torch,
        only=(HEADLINE,),
        is_map=False,
        on_gpu=ON_GPU,
    ),
    Library(
        "bare products, NumPy", "numpy", "float32", products_numpy, only=(HEADLINE,), is_map=False
    ),
    Library(
        "bare products, oneDNN",
        "torch",
        "float32",
        products_onednn,
        only=(HEADLINE, MIDDLE, WIDEST),
        is_map=False,
    ),
)


AIMS = (
    Aim("batch-10k", "XPySom", "somlib", "≥", 4),
    Aim("batch-10k", "TorchSOM", "somlib", "≥", 5),
    Aim("batch-10k", "MiniSom", "somlib", "≥", 100),
    Aim("online-10k", "MiniSom", "somlib", "≥", 3),
    Aim("batch-small", "MiniSom", "somlib", "≥", 1),
    Aim("online-small", "MiniSom", "somlib", "≥", 1),
    *(Aim(HEADLINE, "somlib", x.name, "≤", 1.25) for x in LIBRARIES if not x.is_map),
    Aim(MIDDLE, "somlib", "bare products, oneDNN", "≤", 1.1),
    Aim(WIDEST, "somlib", "bare products, oneDNN", "≤", 1.05),
    Aim(WIDEST, "somlib", None, "≤", 1000, "MB above data"),
    Aim("gpu-70k", "XPySom", "somlib", "≥", 1),
    Aim("gpu-70k-wide", "XPySom", "somlib", "≥", 1),
    Aim("gpu-70k-wide", "somlib", "bare products, torch", "≤", None),
)
"""What the project set out to be."""


# ---------------------------------------------------------------- equal work, time, memory


def agreement(libraries: Sequence[Library] = LIBRARIES) -> pd.DataFrame:
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
                {"training": case.mode, "library": library.name, "precision": library.dtype}
                | {"largest difference": difference, "verdict": verdict}
            )
    return pd.DataFrame(table)


def entrants(
    case: Case, gpu: bool = False, libraries: Sequence[Library] = LIBRARIES
) -> list[harness.Entrant]:
    """Return who takes part, each with both errors of the map that it ends with."""
    weights: dict[str, Array] = {}

    def ready(library: Library) -> Clock:
        seconds = expected(case, library)
        if seconds > LIMIT_SECONDS:
            raise NotRun(f"not run: estimated {seconds:.0f} s, limit {LIMIT_SECONDS:.0f} s")

        def clock() -> float:
            seconds, weights[library.name] = timed(case, library)
            return seconds

        return clock

    def errors(library: Library, seconds: float) -> dict[str, Any]:
        X, W = case.samples("float32"), weights.get(library.name) if library.is_map else None
        return {
            "QE": np.nan if W is None else quantization_error(X, W),
            "TE": np.nan if W is None else topographic_error(X, W, case.grid, CONNECTIVITY),
        }

    no_gpu = "" if gpu or case.device == "cpu" else harness.NO_GPU
    return [
        harness.Entrant(x.name, x.dtype, partial(ready, x), partial(errors, x), no_gpu or x.absent)
        for x in libraries
        if x.takes(case)
    ]


def expected(case: Case, library: Library) -> float:
    """Return the seconds of one training to come, from a growing share of the samples.

    A part of the time goes with the number of samples, another one does not: two sizes tell them
    apart. It also warms up what is slow at first.
    """
    m, n = max(10, case.n // 400), case.n
    few = replace(case, n=m, n_passes=1)
    timed(few, library)
    before, seconds = 0.0, timed(few, library)[0]
    while (seconds < PROBE_SECONDS and 4 * m <= n) or not before:
        m, before = 2 * m, seconds
        seconds = timed(replace(few, n=m), library)[0]
    per_sample = float(np.clip((seconds - before) / (m / 2), 0, seconds / m))
    return case.n_passes * (seconds + per_sample * (n - m))


def timed(case: Case, library: Library) -> tuple[float, Any]:
    """Return the seconds of one training, and the weights it ends with."""
    X = case.samples(library.dtype)
    train = library.prepare(case, X, case.start(X))
    begin = time.perf_counter()
    weights = train()
    harness.wait_for(case.device)
    return time.perf_counter() - begin, weights


def memory(case: Case, libraries: Sequence[Library] = LIBRARIES) -> list[dict[str, Any]]:
    """Return the memory of one pass of each library that takes the case, prototypes included.

    A last row has ours with the data in a file, as a `numpy.memmap`; the pages of the file that
    the system happens to keep in memory count too, so it is an upper bound.
    """
    case = replace(case, n_passes=1)
    maps = [x for x in libraries if x.takes(case) and x.is_map and not x.absent]
    rows = []
    for library, mapped in [*((x, False) for x in maps), *((x, True) for x in maps if x == OURS)]:
        if expected(case, library) > LIMIT_SECONDS:
            continue
        name = f"{library.name}{', data in a file' * mapped}"
        warm_up, train = partial(timed, toy(case), library), partial(_trained, case, library)
        X = case.samples(library.dtype)
        used = harness.peak(f"{case.name}, {name}", warm_up, train, X, mapped=mapped)
        rows.append({"case": case.name, "library": name, "MB above data": used})
    return rows


def _trained(case: Case, library: Library, X: Array) -> None:
    library.prepare(case, X, case.start(X))()


# ---------------------------------------------------------------- prose, command


def prose(equal: pd.DataFrame) -> list[str]:
    took_part = equal.library[equal.verdict == DIFFERS]
    notes = [f"- {x.name}: {x.differs}." for x in LIBRARIES if x.name in set(took_part)]
    return [
        "The same samples, first prototypes, Gaussian neighborhood, σ (from half the longer side "
        "of the map to 0.5, exponentially) and passes for all. Seconds are the median of `runs`, "
        "which the libraries take in turn after a warm-up; `× first row` is the median, over the "
        f"turns, of the ratio to somlib in float32; QE and TE ({CONNECTIVITY} neighbors) are "
        f"measured for all alike. What would take more than {LIMIT_SECONDS:.0f} s, estimated from "
        "small fractions, is not run.",
        "Ours and python-som measure the finished map within the time (ours QE, TE and labels), "
        "somoclu finds labels and the U-matrix, TorchSOM both errors of every batch; MiniSom and "
        "XPySom train only. XPySom and somoclu train in batches only. XPySom hands σ on as a NumPy "
        "scalar, by which NumPy 2 makes it compute half of its work in float64; `XPySom, helped` "
        "is given a plain number and stays in float32. MiniSom's batch training is "
        "`train_batch_offline`. python-som searches by NumPy, or by what the optional numba "
        "compiles. somoclu has to be built from source: `pip install --no-build-isolation "
        "--no-binary somoclu somoclu`. *Bare products* are the matrix products that batch training "
        "cannot do without, alone. On a GPU, XPySom computes by CuPy; the time includes handing "
        "over the samples, which TorchSOM and the bare products have there already.",
        "## Equal work",
        "Largest difference between the weights after a small case and ours in float64.",
        report.markdown(equal),
        *(["\n".join(notes)] if notes else []),
    ]


SUBJECT = harness.Subject(
    name="som",
    title="Training a self-organizing map: our library beside others",
    usage=__doc__,
    cases=CASES,
    toy=toy,
    agreement=agreement,
    entrants=entrants,
    prose=prose,
    measured="seconds",
    aims=AIMS,
    comment=COMMENT,
    remembered=[case for case in CASES if case.name in (HEADLINE, WIDEST)],
    memory=memory,
    packages=[x.package for x in LIBRARIES],
    on_gpu=lambda case: case.device == "cuda",
)


def main(arguments: Sequence[str] | None = None) -> None:
    harness.main(SUBJECT, arguments)


if __name__ == "__main__":
    main()
