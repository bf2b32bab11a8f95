"""What the benchmarks of the deep models share: cases, peers, and the matrix products alone.

Peers are two: the matrix products that training cannot do without, and nothing else, and a plain
PyTorch version as one would write it. Fits are whole ones through the public interface, timed twice
with few and with many iterations: set-up and the labels at the end are in both and drop out of the
difference.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn

from benchmarks import harness
from benchmarks.harness import Array, Clock, Source, say
from somlib.models.autoencoders import Autoencoder
from somlib.models.soae import SOAE
from somlib.search.products import Precision, products
from somlib.training import DeepEstimator, fit_seeds
from somlib.training.adam import Adam
from somlib.training.layers import Activation

SHORT_FIT = 5
"""Iterations of the fit whose time is taken off that of a longer one."""


PAPER = (500, 500, 2000)
"""Hidden widths of the papers' networks for MNIST."""

HOW_TIMED = (
    "Seconds are those of the iterations named, for all seeds together: the median of `runs`, "
    "which the rows take in turn after a warm-up. Each is the difference between two fits, of "
    f"{SHORT_FIT} iterations and of so many more, so that what happens once, at the beginning and "
    "at the end, is not in it; *whole trainings* keep it. The fits are those of the public `fit` "
    "and `fit_seeds`. `× first row` is the median, over the turns, of the ratio to the first row."
)
WHOSE_PRODUCTS = (
    "They go through oneDNN, as our training does, where that gives float32's own results "
    "(`products.onednn_is_exact`); *PyTorch's own* are the same products as any program gets "
    "them, by Intel's MKL."
)


# ---------------------------------------------------------------- what is trained


Train = Callable[[int], Any]
"""Does a number of iterations, in a new training."""
Prepare: TypeAlias = "Callable[[Case, Precision, Array], Train]"
Factors: TypeAlias = list[Tensor]
"""Both factors of a matrix product, and where it goes."""
Layer: TypeAlias = tuple[Factors, Factors, Factors]
"""The products of a layer: x W, and of its gradient g, xᵀ g for W, g Wᵀ for x."""
Products: TypeAlias = Callable[[Sequence[Layer]], Iterable[Factors]]
"""Those products that an iteration cannot do without, in order."""


@dataclass(frozen=True)
class Trainer:
    """Who trains; one that is `extrapolated` trains one seed, whose time is then multiplied."""

    name: str
    prepare: Prepare
    precision: Precision = "highest"
    extrapolated: bool = False


@dataclass(frozen=True)
class Case:
    """Data, model and number of seeds.

    For the CPU the number of samples is a multiple of the batch, so that all iterations are alike.
    Where the `whole` of a training is timed, set-up and labels count too. `latent` says what the
    model has beside its networks.
    """

    name: str
    source: Source
    n: int
    d: int
    model: DeepEstimator
    latent: str
    n_seeds: int
    iterations: int
    trainers: tuple[Trainer, ...]
    device: Literal["cpu", "cuda"] = "cpu"
    whole: bool = False

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the encoder's layers, from the samples to the codes; none for a map alone."""
        model: Any = self.model
        if not hasattr(model, "hidden"):
            return ()
        code = model.space.n_embedded if isinstance(model, SOAE) else model.latent_dim
        return (self.d, *model.hidden, code)

    @property
    def label(self) -> str:
        """The case in short."""
        seeds = f"{self.n_seeds} seed{'s' * (self.n_seeds > 1)}"
        mirrored = "-".join(map(str, self.widths)) + " and mirror"
        networks = mirrored if self.widths else f"{self.d} dimensions"
        whole = ", whole" * self.whole
        return f"{seeds}, {networks},\n{self.latent}, batch {self.model.batch_size}{whole}"

    @property
    def description(self) -> str:
        """What is trained, and of what data: MNIST is replaced where it is not at hand."""
        contents = f"{self.n} samples of {harness.samples(self.source, self.n, self.d)[1]}"
        trainings = " trainings" * self.whole
        size = " ".join(self.label.splitlines()) + trainings
        return f"{size} of {self.iterations} iterations; {contents}"

    @property
    def samples(self) -> Array:
        """The data, shape (n, d)."""
        return harness.samples(self.source, self.n, self.d)[0]

    def estimator(
        self, n_iter: int, seed: int = 0, precision: Precision = "highest"
    ) -> DeepEstimator:
        """Return what is fitted."""
        found: DeepEstimator = clone(self.model).set_params(
            n_iter=n_iter, precision=precision, random_state=seed, device=self.device
        )
        return found


def toy(case: Case) -> Case:
    """Return the case in a size that takes no time, too little for a difference of two."""
    small = {"batch_size": 32, "hidden": (8, 6), "latent_dim": 3}
    has = case.model.get_params()
    model = clone(case.model).set_params(**{k: v for k, v in small.items() if k in has})
    few = min(case.n_seeds, 3)
    return replace(
        case, source="mixture", n=128, d=12, model=model, n_seeds=few, iterations=10, whole=True
    )


def entrants(case: Case, gpu: bool) -> list[harness.Entrant]:
    """Return who takes part; a case for a GPU is not run without."""
    return [
        harness.Entrant(
            x.name,
            x.precision,
            partial(_ready, case, x),
            lambda seconds: {"milliseconds per iteration": 1000 * seconds / case.iterations},
            absent="" if gpu or case.device == "cpu" else harness.NO_GPU,
            remark=f"extrapolated: {case.n_seeds} times one training" * x.extrapolated,
        )
        for x in case.trainers
    ]


def _ready(case: Case, trainer: Trainer) -> Clock:
    train = trainer.prepare(case, trainer.precision, case.samples)
    train(SHORT_FIT)
    times = case.n_seeds if trainer.extrapolated else 1
    return lambda: times * clock(case, train)


def clock(case: Case, train: Train) -> float:
    """Return the seconds of a case's iterations."""

    def seconds(n: int) -> float:
        begin = time.perf_counter()
        train(n)
        return time.perf_counter() - begin

    if case.whole:
        return seconds(case.iterations)
    return -seconds(SHORT_FIT) + seconds(SHORT_FIT + case.iterations)


def memory(case: Case) -> list[dict[str, Any]]:
    """Return the memory of training, beside that of weights, gradients, Adam's two moments."""
    small = toy(case)
    used = harness.peak(
        case.name, partial(_trained, small, small.samples), partial(_trained, case), case.samples
    )
    learned = case.estimator(1).fit(case.samples[:1000]).parameters_.values()
    needed = 4 * case.n_seeds * sum(x.nbytes for x in learned) / 1e6
    return [
        {"case": case.name, "training": case.description}
        | {"parameters and Adam, MB": needed, "MB above data": used}
    ]


def _trained(case: Case, X: Array) -> None:
    stacked(case, "highest", X)(SHORT_FIT)


subject = partial(
    harness.Subject[Case],
    toy=toy,
    entrants=entrants,
    measured="milliseconds per iteration",
    memory=memory,
    on_gpu=lambda case: case.device == "cuda",
)
"""Makes a benchmark of a deep model."""


# ---------------------------------------------------------------- who trains


def in_turn(case: Case, precision: Precision, X: Array) -> Train:
    def train(n: int) -> None:
        for seed in range(case.n_seeds):
            case.estimator(n, seed, precision).fit(X)

    return train


def one_seed(case: Case, precision: Precision, X: Array) -> Train:
    return lambda n: case.estimator(n, 0, precision).fit(X)


def stacked(case: Case, precision: Precision, X: Array) -> Train:
    return lambda n: fit_seeds(case.estimator(n, 0, precision), X, range(case.n_seeds))


def twin(case: Case, code: Activation = "linear") -> Case:
    """Return the case of the plain autoencoder of the same networks."""
    *hidden, latent = case.widths[1:]
    model = Autoencoder(hidden, latent, code=code, batch_size=case.model.batch_size)
    return replace(case, model=model)


def multiplied(
    products_of: Products, case: Case, precision: Precision | None, X: Array, *, stack: bool = False
) -> Train:
    """Prepare the matrix products of the layers alone, of each seed or of all in one."""
    seeds = [layers(case, case.n_seeds)] if stack else [layers(case) for _ in range(case.n_seeds)]
    trainings = [list(products_of(one)) for one in seeds]
    product: Any = torch.bmm if stack else torch.mm

    def train(n: int) -> None:
        with products(precision, torch.device(case.device)) if precision else nullcontext():
            for one in trainings:
                for _ in range(n):
                    for left, right, out in one:
                        product(left, right, out=out)
        harness.wait_for(case.device)

    return train


def layers(case: Case, n_seeds: int | None = None) -> list[Layer]:
    """Return the products of each layer; memory is had before the clock starts."""
    generator = torch.Generator().manual_seed(0)
    B, stack = case.model.batch_size, () if n_seeds is None else (n_seeds,)

    def random(*shape: int) -> Tensor:
        return torch.randn(*stack, *shape, generator=generator).to(case.device)

    found = []
    for number, (a, b) in enumerate(pairwise((*case.widths, *case.widths[-2::-1]))):
        x, W, g = random(B, a), random(a, b), random(B, b)
        if number == 0 and n_seeds is not None:
            x = x[:1].expand(n_seeds, B, a)  # seeds share the samples
        found.append(
            (
                [x, W, torch.empty_like(g)],
                [x.mT, g, torch.empty_like(W)],
                [g, W.mT, torch.empty_like(x)],
            )
        )
    return found


def one_step(found: Sequence[Layer]) -> Iterable[Factors]:
    """Return the products of a step for both networks: the first input needs no gradient."""
    return [factors for layer in found for factors in layer if factors is not found[0][2]]


def unasked(products_of: Products, case: Case, precision: Precision, X: Array) -> Train:
    """Prepare the same products by the library to which PyTorch gives them unasked."""
    return multiplied(products_of, case, None, X)


def bare(products_of: Products) -> tuple[Trainer, ...]:
    """Return the products of one seed, as we have them and as any program gets them."""
    return (
        Trainer("bare products", partial(multiplied, products_of)),
        Trainer("bare products, PyTorch's own", partial(unasked, products_of)),
    )


def adam_alone(case: Case, precision: Precision, X: Array) -> Train:
    """Prepare the steps of the optimizer alone, with gradients that stay as they are."""
    weights = [W for (_, W, _), *_ in layers(case)]
    for W in weights:
        W.grad = torch.ones_like(W)
    optimizer = Adam(weights, 1e-3, fused=True)

    def train(n: int) -> None:
        for _ in range(n):
            optimizer.step()
        harness.wait_for(case.device)

    return train


def many(products_of: Products) -> tuple[Trainer, ...]:
    """Return who trains many seeds, in one pass or one after another."""
    return (
        Trainer("somlib, stacked", stacked),
        Trainer("somlib, in turn", in_turn),
        Trainer("bare products, stacked", partial(multiplied, products_of, stack=True)),
        Trainer("bare products, in turn", partial(multiplied, products_of)),
    )


ON_GPU = (Trainer("somlib, stacked", stacked), Trainer("somlib, one seed", one_seed))


# ---------------------------------------------------------------- plain versions


def first_weights(case: Case, X: Array) -> dict[str, Array]:
    """Return the weights that our training begins with: those after one step of no length."""
    still: DeepEstimator = case.estimator(1).set_params(learning_rate=1e-300)
    # in float64 such a step leaves a trace, and a bias of 1e-300 switches on units that 0 does not
    return {k: np.where(abs(v) < 1e-290, 0, v) for k, v in still.fit(X).parameters_.items()}


def sequential(start: Mapping[str, Array], part: str) -> nn.Sequential:
    """Return an encoder or decoder as one would build it, with our first weights."""
    found: list[nn.Module] = []
    while f"{part}.layers.{len(found) // 2}.weight" in start:
        W, b = (start[f"{part}.layers.{len(found) // 2}.{name}"] for name in ("weight", "bias"))
        linear = nn.Linear(*W.shape)
        linear.weight.data = torch.from_numpy(W.T.copy())
        linear.bias.data = torch.from_numpy(b[0].copy())
        found += [linear, nn.ReLU()]
    return nn.Sequential(*found[:-1])


def by_our_names(**networks: nn.Sequential) -> dict[str, Array]:
    learned = {}
    for part, network in networks.items():
        linears = (layer for layer in network if isinstance(layer, nn.Linear))
        for number, linear in enumerate(linears):
            learned[f"{part}.layers.{number}.weight"] = linear.weight.numpy(force=True).T
            learned[f"{part}.layers.{number}.bias"] = linear.bias.numpy(force=True)[None]
    return learned


def adam(*modules: nn.Module | nn.Parameter) -> torch.optim.Adam:
    """Return PyTorch's Adam with our settings."""
    parameters = [
        parameter
        for x in modules
        for parameter in (x.parameters() if isinstance(x, nn.Module) else (x,))
    ]
    return torch.optim.Adam(parameters, lr=1e-3, eps=1e-7)


def largest_difference(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    """Return how far what one has learned is from what the other has."""
    difference = max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs)
    say(f"plain version: {difference:.1e} from ours in float64")
    return difference
