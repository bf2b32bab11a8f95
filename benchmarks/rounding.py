"""Whether rounded matrix products change what is learned: precision "medium" beside "highest".

    python -m benchmarks.rounding --device cuda       everything, on a GPU
    python -m benchmarks.rounding --models desom      one model (they are listed by --help)
    python -m benchmarks.rounding --quick             toy sizes: does everything still run?

Each model is trained twice with the same seeds, all of them in one pass, and judged by the measures
of its notebook. The differences, seed by seed, decide whether both agree. On a processor that
computes in float32 at any precision there is nothing to compare, and the run is refused.

A complete run, with MNIST at hand, writes its page to figures/benchmarks/, any other one to
runs/benchmarks/.
"""

import argparse
import functools
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from benchmarks import harness
from benchmarks.harness import say
from benchmarks.networks import PAPER
from somlib import data
from somlib.companion import report, verdicts
from somlib.data import Dataset
from somlib.evaluation import metrics
from somlib.files import replacing
from somlib.models.desom import DESOM
from somlib.models.soae import SOAE
from somlib.models.somrl import DCSOMRL
from somlib.models.vae import VAE
from somlib.search.products import Precision, products
from somlib.spaces import Torus
from somlib.training import DeepEstimator, fit_seeds
from somlib.training.loop import resolve_device

EXACT: Precision = "highest"
ROUNDED: Precision = "medium"

MSE = "MSE × 10³"
"""The one measure whose differences are relative to the exact training."""

RECONSTRUCTED = 10_000
"""Samples whose reconstructions are judged, at most."""

SAMPLE = 1000
"""Samples for neighbors of codes, whose cost is quadratic."""

ERROR_OF_FLOAT32 = 1e-5
"""Relative error of a product that no rounding of factors stays below, and float32 does."""


# ---------------------------------------------------------------- measures


Source = Literal["digits", "mnist"]
Measure = Callable[[Any, Dataset], dict[str, float]]


def reconstruction(model: Any, judged: Dataset) -> dict[str, float]:
    X = judged.sample(min(RECONSTRUCTED, len(judged))).X
    decoded = model.inverse_transform(model.transform(X))
    return {MSE: 1e3 * float(np.square(decoded - X).mean())}


def clusters(model: Any, judged: Dataset) -> dict[str, float]:
    """Return the measures of DESOM and DC-SOMRL."""
    units = model.predict(judged.X)
    return reconstruction(model, judged) | {
        "purity": metrics.purity(judged.y, units),
        "NMI": metrics.nmi(judged.y, units, "arithmetic"),
    }


def codes(model: Any, judged: Dataset) -> dict[str, float]:
    """Return the measures of SOAE and VAE; half of the sample votes for the other half."""
    few, space = judged.sample(min(SAMPLE, len(judged))), getattr(model, "space_", None)
    Z, y = model.transform(few.X), few.y
    return reconstruction(model, judged) | {
        "10-NN accuracy": metrics.knn_accuracy(Z[::2], y[::2], Z[1::2], y[1::2], space=space),
        "trustworthiness": metrics.trustworthiness(few.X, Z, 10, space),
    }


# ---------------------------------------------------------------- experiments


@dataclass(frozen=True)
class Experiment:
    """A model and what it learns from; `splits` are those for training and for the measures."""

    name: str
    model: DeepEstimator
    source: Source
    n_seeds: int
    measure: Measure
    splits: tuple[str, str] = ("train", "test")

    @property
    def seeds(self) -> range:
        """The seeds of both trainings."""
        return range(self.n_seeds)

    @property
    def data(self) -> tuple[Dataset, Dataset]:
        """The samples for training and for the measures."""
        train, judged = self.splits
        return _load(self.source, train), _load(self.source, judged)


_load = functools.cache(data.load)

ALL = ("all", "all")
"""DESOM's paper judges the images that it trains on."""

SMALL: dict[str, Any] = {"hidden": (96,), "batch_size": 128, "n_iter": 2000}
SMALL_MAP = DESOM((8, 8), hidden=(64, 64), latent_dim=8, n_iter=2000)
SMALL_NODES = DCSOMRL(
    10, hidden=(64, 64), batch_size=64, max_nodes=100, activation_threshold=0.97, n_epochs=30
)
EXPERIMENTS = (
    Experiment("DESOM", SMALL_MAP, "digits", 10, clusters, ALL),
    Experiment("SOAE", SOAE(Torus(2), **SMALL), "digits", 10, codes),
    Experiment("VAE", VAE(**SMALL), "digits", 10, codes),
    Experiment("DC-SOMRL", SMALL_NODES, "digits", 10, clusters),
    Experiment("DESOM", DESOM((8, 8), PAPER, 10, n_iter=10_000), "mnist", 3, clusters, ALL),
    Experiment("SOAE", SOAE(Torus(2)), "mnist", 3, codes),
    Experiment("VAE", VAE(), "mnist", 3, codes),
    Experiment("DC-SOMRL", DCSOMRL(), "mnist", 3, clusters),  # the paper's values are our defaults
)
MODELS = {x.name.lower(): x.name for x in EXPERIMENTS}


def toy(experiment: Experiment) -> Experiment:
    """Return the experiment in a size that takes no time."""
    small = clone(experiment.model).set_params(hidden=(12,), batch_size=64, n_iter=30)
    return replace(experiment, model=small, n_seeds=3)


@dataclass(frozen=True)
class Result:
    """What both trainings gave: the measures of each seed, and the seconds, by precision."""

    experiment: Experiment
    values: Mapping[str, Sequence[Mapping[str, float]]]
    seconds: Mapping[str, float]
    note: str = ""


def compared(experiment: Experiment, device: torch.device) -> Result:
    """Train and judge with both precisions; a failure becomes a note."""
    what = f"{experiment.name}, {experiment.source}"
    try:
        train, judged = experiment.data
        values: dict[str, list[dict[str, float]]] = {}
        seconds: dict[str, float] = {}
        for precision in (EXACT, ROUNDED):
            model = clone(experiment.model).set_params(precision=precision, device=str(device))
            # what is slow at first: kernels are loaded, and a step is captured
            fit_seeds(clone(model).set_params(n_iter=5), train.X[:1000], experiment.seeds)
            begin = time.perf_counter()
            fitted = fit_seeds(model, train.X, experiment.seeds)
            seconds[precision] = time.perf_counter() - begin
            values[precision] = [experiment.measure(x, judged) for x in fitted]
            say(f"{what}, {precision}: {seconds[precision]:.1f} s")
        return Result(experiment, values, seconds)
    except Exception as error:
        say(f"{what}: does not run: {error!r}")
        return Result(experiment, {}, {}, f"does not run: {error!r}")


# ---------------------------------------------------------------- verdicts


def rows(result: Result) -> Iterator[dict[str, Any]]:
    """Yield a row of the table for each measure, or one that says why there is none."""
    begin: dict[str, Any] = {"model": result.experiment.name, "data": result.experiment.source}
    if result.note:
        yield begin | {"measure": "–", "verdict": result.note}
        return
    for measure in result.values[EXACT][0]:
        exact, rounded = (
            np.array([seed[measure] for seed in result.values[x]]) for x in (EXACT, ROUNDED)
        )
        yield begin | {
            "measure": measure,
            "seeds": len(exact),
            EXACT: exact.mean(),
            f"sd, {EXACT}": exact.std(ddof=1),
            ROUNDED: rounded.mean(),
            f"sd, {ROUNDED}": rounded.std(ddof=1),
            **verdict(measure, exact, rounded),
            f"seconds, {EXACT}": result.seconds[EXACT],
            f"seconds, {ROUNDED}": result.seconds[ROUNDED],
        }


def verdict(measure: str, exact: harness.Array, rounded: harness.Array) -> dict[str, Any]:
    """Return the mean difference, its 95 % interval and the verdict; relative for an error."""
    differences = rounded - exact
    if measure == MSE:
        differences = differences / exact
    if np.ptp(differences) == 0:  # without spread there is no interval
        low = high = mean = float(differences[0])
        said = "agrees" if abs(mean) < verdicts.MARGIN else "differs"
    else:
        difference = verdicts.paired(differences)
        mean, (low, high) = difference.mean, difference.interval(1 - verdicts.LEVEL)
        said = verdicts.agreement(difference)
    return {"difference": float(mean), "low": low, "high": high, "verdict": said}


# ---------------------------------------------------------------- device, page, command


def rounding(device: torch.device) -> str:
    """Return to which format the device rounds factors at medium precision; "" if to none."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(256, 256, generator=generator) - 0.5 for _ in range(2))
    truth = a.double() @ b.double()
    with products(ROUNDED, device):
        found = (a.to(device) @ b.to(device)).cpu()
    if (found - truth).abs().max() < ERROR_OF_FLOAT32 * truth.abs().max():
        return ""
    return "TensorFloat-32" if device.type == "cuda" else "bfloat16"


def page(record: Mapping[str, Any], results: Sequence[Result], table: pd.DataFrame) -> str:
    """Return the page in Markdown."""
    margin = f"{verdicts.MARGIN:.0%}".replace("%", " %")
    text = (
        f'Each model is trained with precision "{EXACT}", in float32, and with "{ROUNDED}", which '
        f"here rounds the factors of matrix products to {record['format']}; sums, weights, losses "
        f"and Adam stay in float32. Computed on {record['gpu'] or record['processor']}. Both "
        "trainings have the same seeds, all of them in one pass, and each model computes its codes "
        "and reconstructions in the precision of its training.",
        f"Differences are those of the same seed, {ROUNDED} − {EXACT}, with the 95 % interval of "
        "their mean by Student's t; those of the MSE are relative. *Agrees*: the mean difference "
        f"is within ± {verdicts.MARGIN}, or ± {margin} of the MSE, by two one-sided tests at the "
        f"level {verdicts.LEVEL}. *Differs*: it does not agree, and the interval excludes 0. "
        "*Undecided*: all other cases. Verdicts are not corrected for their number.",
        f"The MSE is that of at most {RECONSTRUCTED} reconstructions, per feature; NMI has the "
        f"arithmetic mean; accuracy and trustworthiness are those of at most {SAMPLE} codes and 10 "
        "neighbors. DESOM is judged on the images that it is trained on, as in its paper, all "
        "others on the test images.",
    )
    parts = (
        "# Rounded products: what is learned",
        harness.heading(record),
        *text,
        "## Measures",
        report.markdown(_shown(table)),
        "## Seconds",
        "Those of one training of all seeds, measured once. Parameters that are not named have "
        "their defaults.",
        report.markdown(_seconds(results)),
    )
    return "\n\n".join(parts) + "\n"


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    relative, plain = "{:+.2%} [{:+.2%}, {:+.2%}]", "{:+.4f} [{:+.4f}, {:+.4f}]"
    forms = np.where(table.measure == MSE, relative, plain)
    numbers = zip(forms, table.difference, table.low, table.high, strict=True)
    texts = pd.Series([form.format(*x).replace("%", " %") for form, *x in numbers], table.index)
    shown = {
        "model": table.model,
        "data": table.data,
        "measure": table.measure,
        EXACT: table[EXACT],
        "± sd": table[f"sd, {EXACT}"],
        ROUNDED: table[ROUNDED],
        " ± sd": table[f"sd, {ROUNDED}"],
        "difference": texts.where(table.difference.notna(), "–"),
        "verdict": table.verdict,
    }
    return pd.DataFrame(shown).rename(columns=str.strip)


def _seconds(results: Sequence[Result]) -> pd.DataFrame:
    found = []
    for x in results:
        exact, rounded = (x.seconds.get(precision, np.nan) for precision in (EXACT, ROUNDED))
        found.append(
            {"training": " ".join(repr(x.experiment.model).split()), "data": x.experiment.source}
            | {"seeds": x.experiment.n_seeds, EXACT: exact, ROUNDED: rounded}
            | {f"{EXACT} / {ROUNDED}": exact / rounded}
        )
    return pd.DataFrame(found)


def run(experiments: Sequence[Experiment], device: torch.device, folder: Path) -> pd.DataFrame:
    """Compare all, write rounding.csv, .md and .json to a folder, and return the table.

    After each model what there is so far goes to runs/benchmarks/, in case a run is stopped.
    """
    begin, so_far = time.perf_counter(), report.output_folder("runs", "benchmarks")
    with harness.all_cores(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no node was inserted")  # a full map is meant
        record = harness.machine(device=str(device)) | {
            "benchmark": "rounding",
            "format": rounding(device),
        }
        results: list[Result] = []
        for experiment in experiments:
            results.append(compared(experiment, device))
            record["duration"] = round(time.perf_counter() - begin, 1)
            write(record, results, so_far)
    table = write(record, results, folder)
    say(f"Written: rounding.md, .csv, .json in {folder}, after {record['duration']} s")
    return table


def write(record: Mapping[str, Any], results: Sequence[Result], folder: Path) -> pd.DataFrame:
    """Write table, page and record of some results to a folder, and return the table."""
    table = pd.DataFrame([row for x in results for row in rows(x)], columns=COLUMNS)
    experiments = [
        {"model": repr(x.experiment.model), "data": x.experiment.source}
        | {"splits": x.experiment.splits, "seconds": x.seconds, "values": x.values, "note": x.note}
        for x in results
    ]
    text = json.dumps(dict(record) | {"experiments": experiments}, indent=2, ensure_ascii=False)
    for suffix, content in (
        ("csv", table.to_csv(index=False, lineterminator="\n")),
        ("md", page(record, results, table)),
        ("json", text + "\n"),
    ):
        with replacing(folder / f"rounding.{suffix}") as partial:
            partial.write_text(content, encoding="utf-8", newline="\n")
    return table


COLUMNS = [
    *("model", "data", "measure", "seeds"),
    *(EXACT, f"sd, {EXACT}", ROUNDED, f"sd, {ROUNDED}"),
    *("difference", "low", "high", "verdict", f"seconds, {EXACT}", f"seconds, {ROUNDED}"),
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rounding", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--quick", action="store_true", help="toy sizes: does everything still run?"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS], metavar="MODEL",
                        help=f"any of {', '.join(MODELS)}")  # fmt: skip
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args(arguments)
    device = resolve_device(options.device)
    if not rounding(device):
        parser.error(
            f"--device: {device.type} computes in float32 at precision {ROUNDED!r} too, so both "
            "trainings would be equal; expected a GPU with TensorFloat-32, or a processor with "
            "units for bfloat16 matrices"
        )
    names = {MODELS[x] for x in options.models}
    small = options.quick or not harness.mnist_is_at_hand()
    sources = ("digits",) if small else ("digits", "mnist")
    chosen = [x for x in EXPERIMENTS if x.name in names and x.source in sources]
    if options.quick:
        chosen = [toy(x) for x in chosen]
    complete = len(chosen) == len(EXPERIMENTS)
    run(chosen, device, report.output_folder("figures" if complete else "runs", "benchmarks"))


if __name__ == "__main__":
    main()
