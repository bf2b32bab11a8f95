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
errors are `somlib.metrics`' for all. Memory is measured in a fresh process.

A complete run writes table and figure to figures/benchmarks/, any other one to runs/benchmarks/.
"""

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from importlib.util import find_spec
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
from somlib.metrics import quantization_error, topographic_error
from somlib.schedules import Schedule
from somlib.som import SOM
from somlib.spaces import Grid

Array = NDArray[np.floating]
Mode = Literal["batch", "online"]
Train = Callable[[], Array | None]

LIMIT = 120.0
"""Seconds: what is estimated to take longer is not run."""

BUDGET = 20.0
"""Seconds that the repeats of one library in one case may take; one is always measured."""

CONNECTIVITY = 8
"""Who counts as a neighbour in all topographic errors here; MiniSom and TorchSOM count so too."""


# ---------------------------------------------------------------- what is trained


@dataclass(frozen=True)
class Case:
    """Data, map and training that every library gets alike."""

    name: str
    mode: Mode
    source: Literal["mixture", "digits", "mnist"]
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

    def samples(self, dtype: str) -> Array:
        """Return the data, shape (n, d)."""
        return _samples(self.source, self.n, self.d)[0].astype(dtype)

    def start(self, X: Array) -> Array:
        """Return the first prototypes, some of the samples."""
        n_units = self.rows * self.cols
        chosen = np.random.default_rng(0).choice(len(X), n_units, replace=len(X) < n_units)
        return np.asarray(X[chosen])


@cache
def _samples(source: str, n: int, d: int) -> tuple[Array, str]:
    """Return float32 samples in [0, 1] and what they are."""
    if source == "digits":
        return data.load("digits").X[:n], "scikit-learn's digits"
    folder = os.environ.get("SOMLIB_DATA") or report.project_root() / "data"
    if source == "mnist" and (Path(folder) / "mnist").is_dir():
        return data.load("mnist").X[:n], "MNIST"
    generator = np.random.default_rng(0)
    means, spread = generator.random((10, d)), 0.15
    X = means[generator.integers(10, size=n)] + spread * generator.standard_normal((n, d))
    return X.clip(0, 1).astype(np.float32), "ten Gaussians clipped to [0, 1]"


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
AGREEMENT = tuple(Case("agreement", mode, "mixture", 300, 6, 7, 4, 3) for mode in ("batch", "online"))


def toy(case: Case) -> Case:
    """Return the case in a size that takes no time."""
    small = replace(case, source="mixture", n=min(case.n, 200), d=min(case.d, 8))
    return replace(small, rows=5, cols=4, n_passes=min(case.n_passes, 2))


# ---------------------------------------------------------------- who trains
#
# Each function makes a library's object for a case and returns what is to be timed.


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
        *(case.rows, case.cols, case.d),
        sigma=case.sigma.start,
        decay_function=lambda _, t, n: case.alpha(t, n),
    )
    som._sigma_decay_function = lambda _, t, n: case.sigma(t, n)  # takes only its own three
    som.get_weights()[:] = _sheet(case, start)

    def train() -> Array:
        (som.train_batch_offline if case.mode == "batch" else som.train)(X, case.n_steps)
        return _rows(case, som.get_weights())

    return train


def xpysom(case: Case, X: Array, start: Array) -> Train:
    with contextlib.redirect_stdout(None):  # it prints that there is no CuPy
        from xpysom import XPySom
    som = XPySom(
        *(case.rows, case.cols, case.d),
        sigma=case.sigma.start,
        sigmaN=case.sigma.end,
        learning_rate=case.alpha.start,
        learning_rateN=case.alpha.end,
        std_coeff=1.0,  # its own Gaussian, at 0.5, is half as wide as its σ
        xp=np,
    )
    # Its exponential decay ends a step late, and returns a NumPy scalar that makes NumPy ≥ 2 carry
    # the neighbourhood in float64; a plain number keeps the float32 that it was written for.
    som._decay_function = lambda first, last, t, n: Schedule(first, last)(t, n)
    som.get_weights()[:] = _sheet(case, start)

    def train() -> Array:
        som.train(X, case.n_passes)
        return _rows(case, som.get_weights())

    return train


def torchsom(case: Case, X: Array, start: Array, batch_size: int = 1) -> Train:
    from torchsom import SOM as TorchSOM  # noqa: N811

    som = TorchSOM(
        *(case.rows, case.cols, case.d),
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
        *(case.rows, case.cols, case.d),
        learning_rate=case.alpha.start,
        learning_rate_decay=lambda _, t, n: case.alpha(t, n),
        neighborhood_radius=case.sigma.start,
        neighborhood_radius_decay=lambda _, t, n: case.sigma(t, n),
        min_neighborhood_radius=case.sigma.end,
        random_seed=0,
    )
    som.get_weights()[:] = _sheet(case, start)
    mode = "batch" if case.mode == "batch" else "sequential"

    def train() -> Array:
        som.train(X, n_iteration=case.n_steps, mode=mode)
        return _rows(case, som.get_weights())

    return train


def products_torch(case: Case, X: Array, start: Array) -> Train:
    return _products(case, *map(torch.from_numpy, (X, start)), torch.mm)


def products_numpy(case: Case, X: Array, start: Array) -> Train:
    return _products(case, X, start, np.matmul)


def _products(case: Case, X: Any, W: Any, product: Callable[..., Any]) -> Train:
    """Return the matrix products that batch training needs, and nothing else of it.

    X Wᵀ for the winners of each pass and once more for the labels of the finished map, and H S,
    units by units times the sums of what each unit wins, for each pass.
    """
    H = X.new_ones(len(W), len(W)) if isinstance(X, torch.Tensor) else np.ones((len(W),) * 2, "f4")
    scores, sums = product(X, W.T), product(H, W)  # memory is had before the clock starts

    def train() -> None:
        for _ in range(case.n_passes):
            product(X, W.T, out=scores)
            product(H, W, out=sums)
        product(X, W.T, out=scores)

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
    prepare: dict[Mode, Callable[[Case, Array, Array], Train]]
    only: tuple[str, ...] = ()
    differs: str = ""
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
            return f"does not run: {error}"
        return ""

    def takes(self, case: Case) -> bool:
        """Whether it has this way of training, and its turn is worth the time."""
        return case.mode in self.prepare and (not self.only or case.name in self.only)


OURS = Library("somlib", "somlib", "float32", {"batch": somlib, "online": somlib})
LIBRARIES = (
    OURS,
    Library("somlib, float64", "somlib", "float64", {"batch": somlib, "online": somlib}),
    Library("MiniSom", "MiniSom", "float64", {"batch": minisom, "online": minisom}),
    Library("XPySom", "XPySom", "float32", {"batch": xpysom}),
    Library(
        *("TorchSOM", "torchsom", "float32", {"batch": torchsom_coarse, "online": torchsom}),
        differs="one step α/b Σ h (x − m) per batch of b samples (here up to 10 000, α = 1) instead "
        "of the mean; in online training (b = 1) σ and α change between passes only, and the "
        "order is its own",
    ),
    Library(
        *("TorchSOM, b = 32", "torchsom", "float32", {"batch": torchsom_fine}),
        only=("agreement", "batch-digits", HEADLINE),
        differs="the same with batches of 32: n/32 steps per pass in random order, where batch "
        "training takes one",
    ),
    Library("python-som", "python-som", "float64", {"batch": python_som, "online": python_som}),
    Library(
        *("bare products, torch", "torch", "float32", {"batch": products_torch}),
        only=(HEADLINE,),
        is_map=False,
    ),
    Library(
        *("bare products, NumPy", "numpy", "float32", {"batch": products_numpy}),
        only=(HEADLINE,),
        is_map=False,
    ),
)


# ---------------------------------------------------------------- equal work, time, memory


def agreement(libraries: Iterable[Library] = LIBRARIES) -> pd.DataFrame:
    """Return how far the weights of a small case are from ours, library by library."""
    table = []
    for case in AGREEMENT:
        for library in libraries:
            if library.is_map and library is not OURS and library.takes(case):
                difference = np.nan
                verdict = library.absent
                if not verdict:
                    X = case.samples(library.dtype)
                    start = case.start(X)
                    theirs = library.prepare[case.mode](case, X, start)()
                    ours = somlib(case, *(a.astype("float64") for a in (X, start)))()
                    difference = float(np.abs(theirs - ours).max())
                    # two roundings per product, a few hundred products per weight
                    equal = difference < 1000 * np.finfo(library.dtype).eps
                    verdict = "equal to rounding" if equal else f"differs: {library.differs or '?'}"
                line = {"training": case.mode, "library": library.name, "in": library.dtype}
                table.append(line | {"largest difference": difference, "verdict": verdict})
                print(f"{case.mode}, {library.name}: {difference:.1e}, {verdict}", flush=True)
    return pd.DataFrame(table)


def measure(case: Case, libraries: Iterable[Library] = LIBRARIES, repeats: int = 5) -> pd.DataFrame:
    """Return seconds, their ratio to ours and both errors of every library in one case."""
    table: dict[str, dict[str, Any]] = {}
    turns: dict[Library, int] = {}
    for library in (library for library in libraries if library.takes(case)):
        note, expected = library.absent, 0.0
        if not note:
            try:
                expected = _estimate(case, library)
            except Exception as error:
                note = f"does not run: {error}"
        if expected > LIMIT:
            note = f"not run: estimated {expected:.0f} s, limit {LIMIT:.0f} s"
        if not note:
            turns[_hashable(library)] = int(np.clip(BUDGET / max(expected, 1e-9), 1, repeats))
        table[library.name] = {"library": library.name, "in": library.dtype, "note": note}
        if note:
            print(f"{case.name}, {library.name}: {note}", flush=True)
    return pd.DataFrame(table.values())
