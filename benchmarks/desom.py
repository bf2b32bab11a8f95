"""DESOM's training beside its matrix products, beside a plain version, and many seeds in one pass.

    python -m benchmarks.desom                        everything, some 5 minutes on two cores
    python -m benchmarks.desom --cases full           one case (they are listed by --help)
    python -m benchmarks.desom --quick                toy sizes: does everything still run?

No package trains DESOM (its authors published scripts), so the peers are two: the matrix products
that training cannot do without, and nothing else, and a plain PyTorch version as one would write
it. The latter begins with our first weights and must end with ours before anything is timed. Fits
are whole ones through the public interface, timed twice with few and with many iterations: set-up
and the labels at the end are in both and drop out of the difference. Entrants take turns, so that
a busy moment of the machine hits all of them, and the median counts. Memory is measured in a fresh
process.

A complete run writes table and figure to figures/benchmarks/, any other one to runs/benchmarks/.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias
from unittest import mock

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.common import (
    Array,
    Sign,
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
from somlib import report, training
from somlib.models.desom import DESOM
from somlib.search.products import Precision, products
from somlib.training import DeepEstimator, fit_seeds
from somlib.training.loop import resolve_device

FEW = 5
"""Iterations of the fit whose time is taken off that of a longer one."""

NO_GPU = "not run: no GPU"

HOW_TIMED = (
    "Seconds are those of the iterations named, for all seeds together: the median of `runs`, "
    "which the rows take in turn after a warm-up. Each is the difference between two fits, of "
    f"{FEW} iterations and of so many more, so that what happens once, at the beginning and at "
    "the end, is not in it; *whole trainings* keep it. The fits are those of the public `fit` "
    "and `fit_seeds`. `× first row` is the ratio to the seconds of the first row."
)
WHOSE_PRODUCTS = (
    "They go through oneDNN, as our training does, where that gives float32's own results "
    "(`products.onednn_is_exact`); *PyTorch's own* are the same products as any program gets "
    "them, by Intel's MKL."
)


# ---------------------------------------------------------------- what is trained


Train = Callable[[int], Any]
Prepare = Callable[[Any, Precision, Array], Train]
Factors: TypeAlias = list[Tensor]
"""Both factors of a matrix product, and where it goes."""


@dataclass(frozen=True)
class Entrant:
    """Who takes part in a case.

    `prepare` returns what is to be timed, a function that does a number of iterations for all
    seeds, each in a new training. One that is `extrapolated` does those of one seed, whose time
    is then multiplied.
    """

    name: str
    prepare: Prepare
    precision: Precision = "highest"
    extrapolated: bool = False


@dataclass(frozen=True)
class Case:
    """Data, networks and number of seeds.

    For the CPU the number of samples is a multiple of the batch, so that all iterations are alike.
    Where the `whole` of a training is timed, set-up and labels count too; one that takes long is
    timed only `at_most` so often.
    """

    name: str
    source: Source
    n: int
    d: int
    hidden: tuple[int, ...]
    latent_dim: int
    batch_size: int
    n_seeds: int
    iterations: int
    entrants: tuple[Entrant, ...]
    device: Literal["cpu", "cuda"] = "cpu"
    whole: bool = False
    at_most: int | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths of the encoder's layers, from the samples to the codes."""
        return (self.d, *self.hidden, self.latent_dim)

    @property
    def size(self) -> str:
        """The case in short."""
        seeds = f"{self.n_seeds} seed{'s' * (self.n_seeds > 1)}"
        widths = "-".join(map(str, self.sizes))
        return f"{seeds}, {widths} and mirror, map 8 × 8, batch {self.batch_size}"

    @property
    def contents(self) -> str:
        """What the data are: MNIST is replaced where it is not at hand."""
        return f"{self.n} samples of {samples(self.source, self.n, self.d)[1]}"

    def model(self, precision: Precision, n_iter: int, seed: int = 0) -> DeepEstimator:
        """Return what is fitted."""
        return DESOM(
            hidden=self.hidden,
            latent_dim=self.latent_dim,
            batch_size=self.batch_size,
            n_iter=n_iter,
            precision=precision,
            random_state=seed,
            device=self.device,
        )

    def products(self, S: int) -> Iterator[Factors]:
        """Yield the matrix products of an iteration, for S seeds at once.

        The first layer's input needs no gradient.
        """
        for number, (forward, weight, inputs) in enumerate(self.layers(S)):
            yield from (forward, weight, inputs) if number else (forward, weight)

    def layers(self, S: int) -> Iterator[tuple[Factors, Factors, Factors]]:
        """Yield the products of each layer: x W, and of its gradient g, xᵀ g for W, g Wᵀ for x.

        Memory is had before the clock starts.
        """
        generator = torch.Generator().manual_seed(0)
        B = self.batch_size

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(self.device)

        for number, (a, b) in enumerate(pairwise((*self.sizes, *self.sizes[-2::-1]))):
            x, W, g = random(S, B, a), random(S, a, b), random(S, B, b)
            if number == 0:
                x = x[:1].expand(S, B, a)  # seeds share the samples
            yield (
                [x, W, torch.empty_like(g)],
                [x.mT, g, torch.empty_like(W)],
                [g, W.mT, torch.empty_like(x)],
            )


def toy(case: Case) -> Case:
    """Return the case in a size that takes no time, too little for a difference of two."""
    small = replace(case, source="mixture", n=128, d=12, hidden=(8, 6), latent_dim=3)
    few = min(case.n_seeds, 3)
    return replace(small, batch_size=32, n_seeds=few, iterations=10, whole=True)


# ---------------------------------------------------------------- who trains


def in_turn(case: Case, precision: Precision, X: Array) -> Train:
    def train(n: int) -> None:
        for seed in range(case.n_seeds):
            case.model(precision, n, seed).fit(X)

    return train


def one_seed(case: Case, precision: Precision, X: Array) -> Train:
    return lambda n: case.model(precision, n).fit(X)


def stacked(case: Case, precision: Precision, X: Array) -> Train:
    return lambda n: fit_seeds(case.model(precision, n), X, range(case.n_seeds))


def launched(case: Case, precision: Precision, X: Array) -> Train:
    """Seeds stacked, but each GPU kernel is started from Python: no step is captured."""

    def train(n: int) -> None:
        with mock.patch.object(training, "_Captured", lambda step: step):
            stacked(case, precision, X)(n)

    return train


def plain(case: Case, precision: Precision, X: Array) -> Train:
    start = first_weights(case, X)
    return lambda n: plain_pytorch(case, X, start, n)


def first_weights(case: Case, X: Array) -> dict[str, Array]:
    """Return the weights that our training begins with: those after one step of no length."""
    still: DeepEstimator = case.model("highest", n_iter=1).set_params(learning_rate=1e-300)
    # in float64 such a step leaves a trace, and a bias of 1e-300 switches on units that 0 does not
    return {k: np.where(abs(v) < 1e-290, 0, v) for k, v in still.fit(X).parameters_.items()}


def plain_pytorch(case: Case, X: Array, start: dict[str, Array], n_iter: int) -> dict[str, Array]:
    """Train DESOM as one would write it without somlib, and return the weights by our names."""
    encoder, decoder = (sequential(case, start, part) for part in ("encoder", "decoder"))
    m = nn.Parameter(torch.from_numpy(start["prototypes"].copy()))
    units = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    delta = (units[:, None] - units).abs().sum(-1).to(m)
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters(), m], lr=1e-3, eps=1e-7)
    batches = [torch.from_numpy(x) for x in np.split(X, len(X) // case.batch_size)]
    for i in range(n_iter):
        x = batches[i % len(batches)]
        T = 10 * (0.1 / 10) ** (i / max(n_iter - 1, 1))
        z = encoder(x)
        d2 = ((z[:, None] - m) ** 2).sum(-1)
        w = torch.exp(-(delta[d2.argmin(1)] ** 2) / T**2)
        loss = nn.functional.mse_loss(decoder(z), x) + 1e-3 * (w * d2).sum(1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return {"prototypes": m.numpy(force=True)} | by_our_names(encoder=encoder, decoder=decoder)


def sequential(case: Case, start: Mapping[str, Array], part: str) -> nn.Sequential:
    """Return an encoder or decoder as one would build it, with our first weights."""
    layers: list[nn.Module] = []
    for number in range(len(case.sizes) - 1):
        W, b = (start[f"{part}.layers.{number}.{name}"] for name in ("weight", "bias"))
        linear = nn.Linear(*W.shape)
        linear.weight.data = torch.from_numpy(W.T.copy())
        linear.bias.data = torch.from_numpy(b[0].copy())
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def by_our_names(**networks: nn.Sequential) -> dict[str, Array]:
    learned = {}
    for part, network in networks.items():
        linears = (layer for layer in network if isinstance(layer, nn.Linear))
        for number, linear in enumerate(linears):
            learned[f"{part}.layers.{number}.weight"] = linear.weight.numpy(force=True).T
            learned[f"{part}.layers.{number}.bias"] = linear.bias.numpy(force=True)[None]
    return learned


def bare(case: Case, precision: Precision, X: Array) -> Train:
    seeds = [list(case.products(1)) for _ in range(case.n_seeds)]
    first = [[[tensor[0] for tensor in factors] for factors in one] for one in seeds]
    return _multiplied(case, precision, torch.mm, first)


def bare_as_usual(case: Case, precision: Precision, X: Array) -> Train:
    """Prepare the same products by the library to which PyTorch gives them unasked."""
    first = [[tensor[0] for tensor in factors] for factors in case.products(1)]
    return _multiplied(case, None, torch.mm, [first])


def bare_stacked(case: Case, precision: Precision, X: Array) -> Train:
    return _multiplied(case, precision, torch.bmm, [list(case.products(case.n_seeds))])


def _multiplied(
    case: Case, precision: Precision | None, product: Any, trainings: list[list[Factors]]
) -> Train:
    def train(n: int) -> None:
        device = torch.device(case.device)
        with products(precision, device) if precision else nullcontext():
            for one in trainings:
                for _ in range(n):
                    for left, right, out in one:
                        product(left, right, out=out)
        if case.device == "cuda":
            torch.cuda.synchronize()

    return train


ONE = (
    Entrant("somlib", in_turn),
    Entrant("somlib, medium", in_turn, "medium"),
    Entrant("plain PyTorch", plain),
    Entrant("bare products", bare),
    Entrant("bare products, medium", bare, "medium"),
    Entrant("bare products, PyTorch's own", bare_as_usual),
)
MANY = (
    Entrant("somlib, stacked", stacked),
    Entrant("somlib, in turn", in_turn),
    Entrant("bare products, stacked", bare_stacked),
    Entrant("bare products, in turn", bare),
)
RUNS_ON_GPU = (
    Entrant("somlib, stacked", stacked),
    Entrant("somlib, stacked, medium", stacked, "medium"),
    Entrant("somlib, in turn", one_seed, extrapolated=True),
)
STEPS_ON_GPU = (
    Entrant("somlib, stacked", stacked),
    Entrant("somlib, stacked, not captured", launched),
    Entrant("bare products, stacked", bare_stacked),
)

PAPER = (500, 500, 2000)
CASES = (
    Case("full", "mnist", 5120, 784, PAPER, 10, 256, 1, 100, ONE),
    Case("full-3-seeds", "mnist", 5120, 784, PAPER, 10, 256, 3, 50, MANY),
    Case("digits-10-seeds", "digits", 1792, 64, (32, 32, 64), 8, 64, 10, 1000, MANY),
    Case("digits-wide-10-seeds", "digits", 1792, 64, (64, 64, 256), 8, 256, 10, 300, MANY),
    Case("gpu-10-seeds", "mnist", 70_000, 784, PAPER, 10, 256, 10, 10_000, RUNS_ON_GPU, "cuda",
         whole=True),
    Case("gpu-steps", "mnist", 70_000, 784, PAPER, 10, 256, 10, 1000, STEPS_ON_GPU, "cuda"),
)  # fmt: skip
AGREEMENT = Case("agreement", "mixture", 192, 12, (16, 8), 4, 64, 1, 60, ONE)
REMEMBERED = (replace(CASES[0], n=70_000), *CASES[2:4])

Aim: TypeAlias = tuple[str, str, str, Sign, float | None]
AIMS: tuple[Aim, ...] = (
    ("full", "somlib", "bare products, PyTorch's own", "≤", 1.25),
    ("full", "somlib", "bare products", "≤", 1.25),
    ("full", "somlib, medium", "bare products, medium", "≤", 1.25),
    ("full", "plain PyTorch", "somlib", "≥", None),
    ("full-3-seeds", "somlib, in turn", "somlib, stacked", "≥", 1.0),
    ("full-3-seeds", "bare products, in turn", "bare products, stacked", "≥", None),
    ("digits-10-seeds", "somlib, in turn", "somlib, stacked", "≥", 4),
    ("digits-10-seeds", "bare products, in turn", "bare products, stacked", "≥", None),
    ("digits-wide-10-seeds", "somlib, in turn", "somlib, stacked", "≥", None),
    ("digits-wide-10-seeds", "bare products, in turn", "bare products, stacked", "≥", None),
    ("gpu-10-seeds", "somlib, in turn", "somlib, stacked", "≥", 5),
    ("gpu-steps", "somlib, stacked, not captured", "somlib, stacked", "≥", None),
)
"""How many times the seconds of the second the first shall take, where that is an aim."""

GPU_AIM = ("gpu-10-seeds", "somlib, stacked", 60)
"""The seconds that ten full trainings shall take."""


# ---------------------------------------------------------------- equal work, time, memory


def agreement() -> float:
    """Return how far the weights of the plain version end from ours, in float64."""
    case = AGREEMENT
    X = samples(case.source, case.n, case.d)[0].astype(np.float64)
    ours = case.model("highest", case.iterations).fit(X).parameters_
    theirs = plain_pytorch(case, X, first_weights(case, X), case.iterations)
    return largest_difference(ours, theirs)


def largest_difference(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    difference = max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)
    say(f"plain PyTorch: {difference:.1e} from ours in float64")
    return difference


def measure(case: Case, repeats: int, gpu: bool = False) -> pd.DataFrame:
    """Return the seconds of each entrant in one case, a row for each.

    Parameters
    ----------
    case : Case
    repeats : int
        How often each is timed.
    gpu : bool, default=False
        Whether there is a GPU, without which a case for one is not run.
    """
    X = samples(case.source, case.n, case.d)[0]
    trains: dict[str, Train] = {}
    taken: dict[str, list[float]] = {entrant.name: [] for entrant in case.entrants}
    notes = dict.fromkeys(taken, "" if gpu or case.device == "cpu" else NO_GPU)
    for turn in range(1 + min(repeats, case.at_most or repeats)):
        for entrant in case.entrants:
            name = entrant.name
            if notes[name]:
                continue
            try:
                if turn == 0:  # what is slow at first is over before the clock starts
                    trains[name] = entrant.prepare(case, entrant.precision, X)
                    trains[name](FEW)
                    continue
                seconds = clock(case, trains[name])
                taken[name].append(seconds * (case.n_seeds if entrant.extrapolated else 1))
                say(f"{case.name}, {name}: {taken[name][-1]:.4g} s")
            except Exception as error:  # whatever it is, it must not cost the others' turns
                notes[name] = f"does not run: {error!r}"
                say(f"{case.name}, {name}: {notes[name]}")
    table = pd.DataFrame([_row(case, x, taken[x.name], notes[x.name]) for x in case.entrants])
    table.insert(5, "× first row", table.seconds / table.seconds[0])
    return table


def clock(case: Case, train: Train) -> float:
    """Return the seconds of a case's iterations."""

    def seconds(n: int) -> float:
        begin = time.perf_counter()
        train(n)
        return time.perf_counter() - begin

    if case.whole:
        return seconds(case.iterations)
    return -seconds(FEW) + seconds(FEW + case.iterations)


def _row(case: Case, entrant: Entrant, taken: Sequence[float], note: str) -> dict[str, Any]:
    seconds = np.median(taken or [np.nan])
    if entrant.extrapolated and not note:
        note = f"extrapolated: {case.n_seeds} times one training"
    return {
        "case": case.name,
        "library": entrant.name,
        "precision": entrant.precision,
        "seconds": seconds,
        "milliseconds per iteration": 1000 * seconds / case.iterations,
        "fastest": min(taken, default=np.nan),
        "slowest": max(taken, default=np.nan),
        "runs": len(taken),
        "note": note,
    }


def memory(cases: Sequence[Case]) -> pd.DataFrame:
    """Return by how many MB training raises the peak of a fresh process that holds the data."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            file = Path(folder) / f"{case.name}.npy"
            np.save(file, samples(case.source, case.n, case.d)[0])
            used = peak(case.name, _peak, case, file)
            widths = pairwise((*case.sizes, *case.sizes[-2::-1]))
            numbers = 64 * case.latent_dim + sum(a * b + b for a, b in widths)
            rows.append(
                {"case": case.name, "training": f"{case.size}; {case.contents}"}
                # float32: weights, gradients, Adam's two moments
                | {"parameters and Adam, MB": case.n_seeds * numbers * 4 * 4 / 1e6}
                | {"MB above data": used}
            )
    return pd.DataFrame(rows)


def _peak(case: Case, file: Path) -> float:
    """Train in this process, and return the MB that it took beyond those it had with the data."""
    small = toy(case)
    with all_cores():
        # code and threads are there before
        stacked(small, "highest", samples(small.source, small.n, small.d)[0])(FEW)
        X = np.load(file)
        before = resident("VmRSS")
        stacked(case, "highest", X)(FEW)
    return resident("VmHWM") - before


# ---------------------------------------------------------------- table and figure


def page(
    cases: Sequence[Case],
    difference: float,
    times: pd.DataFrame,
    used: pd.DataFrame,
    made_by: dict[str, Any],
) -> str:
    """Return the tables as one page of Markdown."""
    parts = [
        "# Training DESOM: beside its matrix products, a plain version, and seeds in turn",
        heading(made_by),
        HOW_TIMED,
        "*Bare products*: the matrix products of the layers alone, forwards and for both "
        "gradients, into memory that is there already (the first layer's input needs no gradient). "
        f"{WHOSE_PRODUCTS} "
        "*Stacked*: all seeds as one batched product. *fast*: factors rounded to bfloat16 on the "
        "processor, to TensorFloat-32 on a GPU. *Plain PyTorch*: `nn.Sequential`, "
        "`torch.optim.Adam`, autograd through all differences of codes and prototypes; no package "
        "that can be installed trains DESOM. From our first weights it ends, after "
        f"{AGREEMENT.iterations} iterations of a small case in float64, within {difference:.1e} of "
        "ours.",
        *sections(cases, times),
    ]
    if len(used):
        parts += [
            "## Memory",
            "What training and labelling add to the peak memory of a fresh process that holds the "
            "data; beside it what weights, gradients and Adam's moments take in float32.",
            report.markdown(used),
        ]
    aims = against_aims([case for case in cases if case in CASES], times)
    if len(aims):  # the aims are about these sizes, not about toys
        text = (
            "Full-sized networks keep a processor busy one at a time: the question there is "
            "whether a stack loses time, for which three seeds are enough. What an iteration "
            "takes beyond its products goes to Adam, which streams parameters, gradients and two "
            "moments through the memory, to the activations and their gradients, and to the map."
        )
        parts += ["## Against the aims", report.markdown(aims), text]
    return "\n\n".join(parts) + "\n"


def sections(cases: Sequence[Case], times: pd.DataFrame) -> list[str]:
    """Return heading, description and table of each case."""
    parts = []
    for case in cases:
        rows = times[times.case == case.name]
        shown = rows[["library", "precision"]].copy()
        for column in ("seconds", "milliseconds per iteration", "× first row"):
            shown[column] = rows[column].map("{:.3g}".format, na_action="ignore")
        shown["runs"] = rows.runs
        if (rows.note != "").any():
            shown["note"] = rows.note
        timed = "whole trainings of " if case.whole else ""
        text = f"{case.size}; {timed}{case.iterations} iterations; {case.contents}."
        parts += [f"## {case.name}", text, report.markdown(shown)]
    return parts


def against_aims(
    cases: Sequence[Case],
    times: pd.DataFrame,
    ratios: Sequence[Aim] = AIMS,
    limit: tuple[str, str, float] = GPU_AIM,
) -> pd.DataFrame:
    """Return the ratios that count, and which of the project's own aims they meet.

    Parameters
    ----------
    cases : sequence of Case
    times : pandas.DataFrame
        As in desom.csv.
    ratios, limit
        As `AIMS` and `GPU_AIM`.
    """
    names = {case.name for case in cases}
    table = times.set_index(["case", "library"])
    rows = []
    for case, above, below, sign, bound in ratios:
        if case in names:
            ratio = table.seconds[case, above] / table.seconds[case, below]
            aim = f"{case}: time of {above} / {below}"
            rows.append(against_aim(aim, ratio, sign, bound, "×", table.note[case, above]))
    case, library, most = limit
    if case in names:
        seconds, aim = table.seconds[case, library], f"{case}: {library}"
        rows.append(against_aim(aim, seconds, "≤", most, "s", table.note[case, library]))
    return pd.DataFrame(rows)


def judged(
    cases: Sequence[Case], all_cases: Sequence[Case], times: pd.DataFrame, *aims: Any
) -> list[str]:
    """Return the section about the aims; none where only toys ran, which they are not about."""
    table = against_aims([case for case in cases if case in all_cases], times, *aims)
    return ["## Against the aims", report.markdown(table)] if len(table) else []


# ---------------------------------------------------------------- the command


def run(
    cases: Sequence[Case],
    remembered: Sequence[Case],
    repeats: int,
    device: torch.device,
    folder: Path,
) -> pd.DataFrame:
    """Measure everything, write desom.csv, .md, .png and .json to a folder, and return the table.

    Parameters
    ----------
    cases : sequence of Case
    remembered : sequence of Case
        Those whose memory is measured.
    repeats : int
        How often a training is timed.
    device : torch.device
        The best that there is; cases for a GPU are not run on the CPU.
    folder : pathlib.Path

    Returns
    -------
    pandas.DataFrame
        A row for each case and entrant.
    """
    begin = time.perf_counter()
    times, record = timed(cases, repeats, device, agreement)
    used = memory(remembered)
    record["memory"] = used.to_dict("records")
    record["duration"] = round(time.perf_counter() - begin, 1)
    text = page(cases, record["agreement"], times, used, record)
    save(folder, "desom", times, text, figure(cases, times), record)
    return times


def written(
    name: str,
    cases: Sequence[Case],
    repeats: int,
    device: torch.device,
    folder: Path,
    agreement: Callable[[], float],
    page: Callable[[Sequence[Case], pd.DataFrame, dict[str, Any]], str],
) -> pd.DataFrame:
    """Measure everything, write NAME.csv, .md, .png and .json to a folder, return the table."""
    begin = time.perf_counter()
    times, record = timed(cases, repeats, device, agreement)
    record["duration"] = round(time.perf_counter() - begin, 1)
    save(folder, name, times, page(cases, times, record), figure(cases, times), record)
    return times


def timed(
    cases: Sequence[Case], repeats: int, device: torch.device, agreement: Callable[[], float]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the seconds of every entrant, and the record of how they came about."""
    with all_cores():
        made_by = machine(device=str(device))
        difference = agreement()
        tables = [measure(case, repeats, device.type == "cuda") for case in cases]
    record = made_by | {
        "cases": {case.name: f"{case.size}; {case.contents}" for case in cases},
        "repeats": repeats,
        "agreement": difference,
    }
    return pd.concat(tables, ignore_index=True), record


def figure(cases: Sequence[Case], times: pd.DataFrame) -> Figure:
    ran = set(times.case[times.seconds.notna()])
    labels = {
        x.name: x.size.replace("mirror, ", "mirror\n") + ", whole" * x.whole
        for x in cases
        if x.name in ran
    }
    ours = {library for library in times.library if library.startswith("somlib")}
    return dots(times, labels, ours, "milliseconds per iteration")


def chosen(
    name: str, description: str | None, cases: Sequence[Case], arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, list[Case], Path]:
    """Return the options of a command, the cases that it is to run, and the folder for them."""
    parser = command(name, description, [case.name for case in cases])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="cpu leaves out what is for a GPU (default auto)")  # fmt: skip
    options = parser.parse_args(arguments)
    found = [case for case in cases if case.name in options.cases]
    complete = found == list(cases) and not options.quick
    folder = report.output_folder("figures" if complete else "runs", "benchmarks")
    return options, [toy(case) for case in found] if options.quick else found, folder


def main(arguments: Sequence[str] | None = None) -> None:
    options, cases, folder = chosen("desom", __doc__, CASES, arguments)
    remembered = [case for case in REMEMBERED if case.name in options.cases]
    if options.quick:
        remembered = [toy(case) for case in remembered]
    run(cases, remembered, options.repeats, resolve_device(options.device), folder)


if __name__ == "__main__":
    main()
