"""The search for best-matching units over the number of units, beside the bare product.

    python -m benchmarks.search                      everything, some three minutes on two cores
    python -m benchmarks.search --cases units-400    one number of units
    python -m benchmarks.search --quick              toy sizes: does everything still run?

A map of each size is trained for some epochs; the time is that of the two best units of all samples
under it, exact in all rows. A screen (`somlib.search.screen`) has the samples' coordinates already,
as in every epoch of a training, or finds them first, as in `predict`. The bare product is X Wᵀ, by
the fastest of the libraries at hand, which every search without a screen has to compute.

A complete run writes table and figure to figures/benchmarks/, any other one to runs/benchmarks/.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks import harness
from benchmarks.harness import Aim, Array, Clock, Source
from somlib.companion import report
from somlib.evaluation import plots
from somlib.models.som import SOM
from somlib.search.best_units import Blocks, Codebook, best_units
from somlib.search.products import product
from somlib.search.screen import screening
from somlib.training.loop import Logs

EPOCHS = 6
"""Of the training whose successive maps show how far prototypes move; the last one is searched."""

KINDS = (
    "somlib, screened",
    "somlib, coordinates and all",
    "somlib, product of all",
    "bare product",
)

COMMENT = """\
Early maps are screened by 16 or 32 directions of their own prototypes. On 10 000 digits and a map
of 20 × 20, the data's directions left too many units of the first contracted map (σ = 10) to be
measured, and of the second 18 for each sample; those of the prototypes left 2.3 and 2.2.

Tried and dropped: bounds carried from one epoch to the next (Hamerly, *Making k-means even faster*,
SDM 2010; Elkan, ICML 2003), which know a sample's two winners without any product as long as no
prototype has moved too far. The neighborhood shrinks until the last epoch, and all prototypes move
with it: the table above has the share of samples that such bounds would spare. Also tried: minima
of groups of units in place of three passes of `argmin`, which were no faster on this processor."""


@dataclass(frozen=True)
class Case:
    """Samples and a square map."""

    side: int
    source: Source = "mnist"
    n: int = 10_000
    d: int = 784
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Number of units."""
        return f"{'gpu-' * (self.device != 'cpu')}units-{self.side**2}"

    @property
    def label(self) -> str:
        """The case in short."""
        where = "" if self.device == "cpu" else "GPU, "
        return f"{where}{self.n} × {self.d}, map {self.side} × {self.side}"

    @property
    def description(self) -> str:
        """What is searched."""
        return f"{self.label}; {harness.samples(self.source, self.n, self.d)[1]}"


CASES = (
    *(Case(side) for side in (10, 20, 30, 50, 80, 100)),
    *(Case(side, n=70_000, device="cuda") for side in (20, 30, 50, 100)),
)


def toy(case: Case) -> Case:
    """Return the case in a size that takes no time."""
    return replace(case, side=case.side // 10 + 1, source="mixture", n=300, d=40)


@cache
def maps(case: Case) -> tuple[Array, ...]:
    """Return the samples, and the prototypes after each epoch but the first."""
    X = harness.samples(case.source, case.n, case.d)[0]
    som = SOM((case.side, case.side), n_epochs=EPOCHS, random_state=0, device=case.device)
    epochs: list[Array] = []

    def note(epoch: int, logs: Logs) -> None:
        epochs.append(som.weights_)

    som.fit(X, callbacks=[note])
    return X, *epochs[1:]


def search(blocks: Blocks, W: Array) -> torch.Tensor:
    """Return the two best units of all samples."""
    prototypes = torch.from_numpy(W - blocks.center).to(blocks.device)
    codebook = Codebook(prototypes, blocks.screen)
    return torch.cat([best_units(x, codebook)[0] for x in blocks.split(len(W))])


def blocks_of(X: Array, W: Array, wanted: bool, device: str) -> Blocks:
    """Return samples with the factors of a screen, or without."""
    with screening(wanted):
        return Blocks(X, W.mean(0), torch.device(device), n_units=len(W))


def bare(X: torch.Tensor, W: torch.Tensor, out: torch.Tensor) -> None:
    """Compute X Wᵀ in blocks, in the memory given."""
    for x in torch.split(X, len(out)):
        product(x, W.T, out[: len(x)])


def entrants(case: Case, gpu: bool = False) -> list[harness.Entrant]:
    """Return the searches that are timed."""

    def ready(kind: str) -> Clock:
        X, *_, W = maps(case)
        screened, unscreened = (blocks_of(X, W, wanted, case.device) for wanted in (True, False))
        x, w = (torch.from_numpy(array).to(case.device) for array in (X, W))
        block = torch.empty(512 if case.device == "cpu" else len(X), len(W), device=case.device)
        work: dict[str, Callable[[], object]] = {
            "somlib, screened": partial(search, screened, W),
            "somlib, coordinates and all": lambda: search(blocks_of(X, W, True, case.device), W),
            "somlib, product of all": partial(search, unscreened, W),
            "bare product": partial(bare, x, w, block),
        }
        work[kind]()

        def clock() -> float:
            harness.wait_for(case.device)
            begin = time.perf_counter()
            work[kind]()
            harness.wait_for(case.device)
            return time.perf_counter() - begin

        return clock

    absent = "" if gpu or case.device == "cpu" else harness.NO_GPU
    return [harness.Entrant(kind, "float32", partial(ready, kind), absent=absent) for kind in KINDS]


def agreement(case: Case = Case(20, n=3000)) -> pd.DataFrame:
    """Return, by epoch, whether winners are the same, and whom carried bounds would spare."""
    X, *epochs = maps(case)
    x, rows = torch.from_numpy(X[:1000]), []
    for epoch, (before, after) in enumerate(pairwise(epochs), 2):
        found = [search(blocks_of(X, after, wanted, "cpu"), after) for wanted in (True, False)]
        old, new, move = (torch.from_numpy(W) for W in (before, after, after - before))
        distance, moved = torch.cdist(x, old), move.norm(dim=1)
        units = distance.topk(2, 1, largest=False).indices
        second = torch.cdist(x, new).gather(1, units).amax(1)
        others = distance.scatter(1, units, torch.inf)
        share = {
            name: float((least > second).float().mean())
            for name, least in (
                ("spared by the largest move", others.amin(1) - moved.max()),
                ("spared by each unit's own", (others - moved).amin(1)),
            )
        }
        equal = bool(torch.equal(*found))
        rows.append({"epochs": epoch, "same winners, screened or not": equal} | share)
    return pd.DataFrame(rows)


def prose(equal: pd.DataFrame) -> list[str]:
    return [
        "Seconds of a search for the two best units of all samples, the median of `runs`, in turn.",
        "## Equal work",
        "Whether the winners are the same with and without a screen, and the share of samples that "
        "bounds carried from one epoch to the next would have spared any product "
        "(3000 of the samples, map 20 × 20).",
        report.markdown(equal),
    ]


def over_units(times: pd.DataFrame, labels: Mapping[str, str], measured: str) -> Figure:
    """Return the cost over the number of units, a line each; see `harness.dots`."""
    gpu = times.case.str.startswith("gpu-")
    times = times[~gpu] if times[measured][~gpu].notna().any() else times[gpu]
    with plots.style():
        fig, ax = plt.subplots(figsize=(6, 4.2))
        for name, color, marker in zip(KINDS, *plots.palette(len(KINDS)), strict=True):
            rows = times[times.library == name]
            line = "--" if name.startswith("bare") else "-"
            units = rows.case.str.rpartition("-")[2].astype(int)
            ax.plot(units, rows[measured], line, color=color, marker=marker, label=name)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("units")
        ax.set_ylabel(f"{measured} (lower is faster)")
        ax.grid(color="0.85")
        ax.legend()
    return fig


SUBJECT = harness.Subject(
    name="search",
    title="The search for best-matching units over the number of units",
    usage=__doc__,
    cases=CASES,
    toy=toy,
    agreement=agreement,
    entrants=entrants,
    prose=prose,
    measured="seconds",
    aims=(
        Aim("units-400", "somlib, screened", "bare product", "≤", 1.25),
        Aim("units-2500", "somlib, screened", "bare product", "≤", 1.1),
        Aim("units-10000", "somlib, screened", "bare product", "≤", 1.05),
        Aim("gpu-units-2500", "somlib, screened", "somlib, product of all", "≤", None),
        Aim("gpu-units-10000", "somlib, screened", "somlib, product of all", "≤", None),
    ),
    comment=COMMENT,
    figure=over_units,
    on_gpu=lambda case: case.device == "cuda",
)


def main(arguments: Sequence[str] | None = None) -> None:
    harness.main(SUBJECT, arguments)


if __name__ == "__main__":
    main()
