"""DESOM's training beside its matrix products, beside a plain version, and many seeds in one pass.

    python -m benchmarks.desom                        everything, some 5 minutes on two cores
    python -m benchmarks.desom --cases full           one case (they are listed by --help)
    python -m benchmarks.desom --quick                toy sizes: does everything still run?

No package trains DESOM (its authors published scripts), so the peers are the matrix products alone
and a plain PyTorch version. The latter begins with our first weights and must end with ours before
anything is timed.

A complete run writes table and figure to figures/benchmarks/, any other one to runs/benchmarks/.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from unittest import mock

import numpy as np
import torch
from torch import nn

from benchmarks import harness, networks
from benchmarks.harness import Aim, Array
from benchmarks.networks import PAPER, Case, Train, Trainer, multiplied, one_step, stacked
from somlib.models.desom import DESOM
from somlib.search.products import Precision
from somlib.training import ensembles

# ---------------------------------------------------------------- who trains


def launched(case: Case, precision: Precision, X: Array) -> Train:
    """Seeds stacked, but each GPU kernel is started from Python: no step is captured."""

    def train(n: int) -> None:
        with mock.patch.object(ensembles, "CapturedStep", lambda step, size: step):
            stacked(case, precision, X)(n)

    return train


def plain(case: Case, precision: Precision, X: Array) -> Train:
    start = networks.first_weights(case, X)
    return lambda n: plain_pytorch(case, X, start, n)


def plain_pytorch(case: Case, X: Array, start: dict[str, Array], n_iter: int) -> dict[str, Array]:
    """Train DESOM as one would write it without somlib, and return the weights by our names."""
    encoder, decoder = (networks.sequential(start, part) for part in ("encoder", "decoder"))
    m = nn.Parameter(torch.from_numpy(start["prototypes"].copy()))
    units = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    delta = (units[:, None] - units).abs().sum(-1).to(m)
    adam = networks.adam(encoder, decoder, m)
    batches = [torch.from_numpy(x) for x in np.split(X, len(X) // case.model.batch_size)]
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
    learned = networks.by_our_names(encoder=encoder, decoder=decoder)
    return {"prototypes": m.numpy(force=True)} | learned


BARE, USUAL = networks.bare(one_step)
ONE = (
    Trainer("somlib", networks.one_seed),
    Trainer("somlib, medium", networks.one_seed, "medium"),
    Trainer("plain PyTorch", plain),
    BARE,
    replace(BARE, name="bare products, medium", precision="medium"),
    USUAL,
    Trainer("Adam alone", networks.adam_alone),
)
MANY = networks.many(one_step)
RUNS_ON_GPU = (
    Trainer("somlib, stacked", stacked),
    Trainer("somlib, stacked, medium", stacked, "medium"),
    Trainer("somlib, in turn", networks.one_seed, extrapolated=True),
)
STEPS_ON_GPU = (
    Trainer("somlib, stacked", stacked),
    Trainer("somlib, stacked, not captured", launched),
    Trainer("bare products, stacked", partial(multiplied, one_step, stack=True)),
)

# ---------------------------------------------------------------- cases and aims

MNIST = DESOM(hidden=PAPER, latent_dim=10)
DIGITS = DESOM(hidden=(32, 32, 64), latent_dim=8, batch_size=64)
WIDE = DESOM(hidden=(64, 64, 256), latent_dim=8)
MAP = "map 8 × 8"
CASES = (
    Case("full", "mnist", 5120, 784, MNIST, MAP, 1, 100, ONE),
    Case("full-3-seeds", "mnist", 5120, 784, MNIST, MAP, 3, 50, MANY),
    Case("digits-10-seeds", "digits", 1792, 64, DIGITS, MAP, 10, 1000, MANY),
    Case("digits-wide-10-seeds", "digits", 1792, 64, WIDE, MAP, 10, 300, MANY),
    Case("gpu-10-seeds", "mnist", 70_000, 784, MNIST, MAP, 10, 10_000, RUNS_ON_GPU, "cuda", True),
    Case("gpu-steps", "mnist", 70_000, 784, MNIST, MAP, 10, 1000, STEPS_ON_GPU, "cuda"),
)
SMALL = DESOM(hidden=(16, 8), latent_dim=4, batch_size=64)
AGREEMENT = Case("agreement", "mixture", 192, 12, SMALL, MAP, 1, 60, ONE)

AIMS = (
    Aim("full", "somlib", "bare products, PyTorch's own", "≤", 1.25),
    Aim("full", "somlib", "bare products", "≤", 1.2),
    Aim("full", "somlib, medium", "bare products, medium", "≤", 1.2),
    Aim("full", "Adam alone", "bare products", "≤", None),
    Aim("full", "plain PyTorch", "somlib", "≥", None),
    Aim("full-3-seeds", "somlib, in turn", "somlib, stacked", "≥", 1.0),
    Aim("full-3-seeds", "bare products, in turn", "bare products, stacked", "≥", None),
    Aim("digits-10-seeds", "somlib, in turn", "somlib, stacked", "≥", 4),
    Aim("digits-10-seeds", "bare products, in turn", "bare products, stacked", "≥", None),
    Aim("digits-wide-10-seeds", "somlib, in turn", "somlib, stacked", "≥", None),
    Aim("digits-wide-10-seeds", "bare products, in turn", "bare products, stacked", "≥", None),
    Aim("gpu-10-seeds", "somlib, in turn", "somlib, stacked", "≥", 5),
    Aim("gpu-steps", "somlib, stacked, not captured", "somlib, stacked", "≥", None),
    Aim("gpu-10-seeds", "somlib, stacked", None, "≤", 60),
)
COMMENT = """\
Full-sized networks keep a processor busy one at a time: the question there is whether a stack loses
time, for which three seeds are enough. It does where a batched product takes longer than single
ones (see the rows of bare products). What an iteration takes beyond its products goes to the
activations and their gradients, to the map, and to Adam, which streams parameters, gradients and
two moments through the memory. On a GPU a step is captured as a graph, of one training as of a
stack; ten trainings in turn took 2.5 times as long there, not the five times that were aimed at."""


# ---------------------------------------------------------------- equal work, prose, command


def agreement() -> float:
    """Return how far the weights of the plain version end from ours, in float64."""
    case, X = AGREEMENT, AGREEMENT.samples.astype(np.float64)
    ours = case.estimator(case.iterations).fit(X).parameters_
    theirs = plain_pytorch(case, X, networks.first_weights(case, X), case.iterations)
    return networks.largest_difference(ours, theirs)


def prose(difference: float) -> list[str]:
    return [
        networks.HOW_TIMED,
        "*Bare products*: the matrix products of the layers alone, forwards and for both "
        "gradients, into memory that is there already (the first layer's input needs no gradient). "
        f"{networks.WHOSE_PRODUCTS} *Adam alone*: its steps on these layers' weights, fused, with "
        "gradients that stay as they are. *Stacked*: all seeds as one batched product. *medium*: "
        "factors rounded to bfloat16 on the processor, to TensorFloat-32 on a GPU. "
        "*Plain PyTorch*: `nn.Sequential`, `torch.optim.Adam`, autograd through all differences of "
        "codes and prototypes; no package that can be installed trains DESOM. From our first "
        f"weights it ends, after {AGREEMENT.iterations} iterations of a small case in float64, "
        f"within {difference:.1e} of ours.",
    ]


SUBJECT = networks.subject(
    name="desom",
    title="Training DESOM: beside its matrix products, a plain version, and seeds in turn",
    usage=__doc__,
    cases=CASES,
    agreement=agreement,
    prose=prose,
    aims=AIMS,
    comment=COMMENT,
    remembered=(replace(CASES[0], n=70_000), *CASES[2:4]),
)


def main(arguments: Sequence[str] | None = None) -> None:
    harness.main(SUBJECT, arguments)


if __name__ == "__main__":
    main()
