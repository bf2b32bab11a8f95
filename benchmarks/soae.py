"""SOAE's training beside its products, its plain twin, a plain version, and many seeds in one pass.

    python -m benchmarks.soae                         everything, in some minutes on two cores
    python -m benchmarks.soae --cases full            one case (they are listed by --help)
    python -m benchmarks.soae --quick                 toy sizes: does everything still run?

No program for SOAE has been published, so the peers are the matrix products alone, and algorithm 2
as one would write it in PyTorch. The latter begins with our first weights and must, with our noise,
end with ours before anything is timed.

A complete run writes table and figure to figures/benchmarks/, any other one to runs/benchmarks/.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import harness, networks
from benchmarks.harness import Aim, Array
from benchmarks.networks import Case, Factors, Layer, Train, Trainer, one_seed
from somlib.models.soae import SOAE
from somlib.search.products import Precision
from somlib.spaces import Torus
from somlib.training import Noise
from somlib.training.network import NoiseSource

# ---------------------------------------------------------------- who trains


def two_steps(found: Sequence[Layer]) -> list[Factors]:
    """Return the products of an iteration: of each step those that it cannot do without.

    In the sleep step, gradients go through the decoder to the encoder's weights; in the wake step
    they end at the decoder's, whose first input needs none.
    """
    forward, weight, inputs = zip(*found, strict=True)
    k = len(found) // 2
    sleep = (*forward, *inputs[:0:-1], *weight[:k])
    wake = (*forward, *inputs[:k:-1], *weight[k:])
    return [*sleep, *wake]


def twin(case: Case, precision: Precision, X: Array) -> Train:
    return one_seed(networks.twin(case), precision, X)


Draw = Callable[[int], tuple[Tensor, Tensor]]
"""The batch of an iteration, and the standard normals that displace its codes."""


def at_random(case: Case, X: Array) -> Draw:
    """Return what one would write: samples and noise drawn on the spot."""
    x, g = torch.from_numpy(X), torch.Generator().manual_seed(0)
    B, m = case.model.batch_size, case.widths[-1] // 2
    return lambda i: (
        x[torch.randint(len(x), (B,), generator=g)],
        torch.randn(B, m + 1, generator=g),
    )


def as_ours(case: Case, X: Array) -> Draw:
    """Return the samples in file order and the noise of our training."""
    B, m = case.model.batch_size, case.widths[-1] // 2
    batches = torch.split(torch.from_numpy(X), B)
    noise = NoiseSource({"normals": Noise((B, m + 1))}, [0], batches[0])
    return lambda i: (batches[i % len(batches)], noise(i)["normals"])


def plain(case: Case, precision: Precision, X: Array) -> Train:
    start, draw = networks.first_weights(case, X), at_random(case, X)
    return lambda n: plain_pytorch(start, draw, n)


def plain_pytorch(start: dict[str, Array], draw: Draw, n_iter: int) -> dict[str, Array]:
    """Train SOAE as one would write it without somlib, and return the weights by our names."""
    C, G = (networks.sequential(start, part) for part in ("encoder", "decoder"))
    adam_C, adam_G = networks.adam(C), networks.adam(G)

    def encode(x: Tensor) -> Tensor:
        cos, sin = C(x).chunk(2, 1)
        return torch.atan2(sin, cos)

    def loss(x: Tensor, z: Tensor) -> Tensor:
        decoded: Tensor = G(torch.cat([torch.cos(z), torch.sin(z)], 1))
        return ((x - decoded) ** 2).sum(1).mean()

    for i in range(n_iter):
        x, noise = draw(i)
        sigma = 1.5 * (0.05 / 1.5) ** (i / max(n_iter - 1, 1))
        adam_C.zero_grad()
        loss(x, encode(x)).backward()  # type: ignore[no-untyped-call]
        adam_C.step()
        with torch.no_grad():
            z = encode(x)
            direction = nn.functional.normalize(noise[:, :-1], dim=1)
            z += sigma * noise[:, -1:].abs() * direction
        adam_G.zero_grad()
        loss(x, z).backward()  # type: ignore[no-untyped-call]
        adam_G.step()
    return networks.by_our_names(encoder=C, decoder=G)


ONE = (
    Trainer("somlib", one_seed),
    Trainer("somlib, Autoencoder", twin),
    Trainer("plain PyTorch", plain),
    *networks.bare(two_steps),
)
MANY = networks.many(two_steps)

# ---------------------------------------------------------------- cases and aims

MNIST = SOAE(Torus(2), hidden=(256, 256))
DIGITS = SOAE(Torus(2), hidden=(64, 64), batch_size=128)
MAP = "torus of 2 circles"
CASES = (
    Case("full", "mnist", 5120, 784, MNIST, MAP, 1, 300, ONE),
    Case("whole", "mnist", 60_000, 784, MNIST, MAP, 1, 4000, ONE[:1], whole=True),
    Case("digits-10-seeds", "digits", 1792, 64, DIGITS, MAP, 10, 500, MANY),
    Case("gpu-10-seeds", "mnist", 60_000, 784, MNIST, MAP, 10, 4000, networks.ON_GPU, "cuda", True),
)
SMALL = SOAE(Torus(2), hidden=(16, 8), batch_size=64, shuffle=False)
AGREEMENT = Case("agreement", "mixture", 192, 12, SMALL, MAP, 1, 100, ONE)

AIMS = (
    Aim("full", "somlib", "bare products, PyTorch's own", "≤", None),
    Aim("full", "somlib", "bare products", "≤", None),
    Aim("full", "somlib", "somlib, Autoencoder", "≤", None),
    Aim("full", "plain PyTorch", "somlib", "≥", None),
    Aim("digits-10-seeds", "somlib, in turn", "somlib, stacked", "≥", None),
    Aim("digits-10-seeds", "bare products, in turn", "bare products, stacked", "≥", None),
    Aim("gpu-10-seeds", "somlib, stacked", "somlib, one seed", "≤", 2),
    Aim("whole", "somlib", None, "≤", 60),
)


# ---------------------------------------------------------------- equal work, prose, command


def agreement() -> float:
    """Return how far the weights of the plain version end from ours, in float64."""
    case, X = AGREEMENT, AGREEMENT.samples.astype(np.float64)
    ours = case.estimator(case.iterations).fit(X).parameters_
    theirs = plain_pytorch(networks.first_weights(case, X), as_ours(case, X), case.iterations)
    return networks.largest_difference(ours, theirs)


def prose(difference: float) -> list[str]:
    return [
        networks.HOW_TIMED,
        "*Autoencoder*: the plain one of the same networks, which takes one step where SOAE takes "
        "two, sleep and wake. *Bare products*: the matrix products of both steps alone, into "
        "memory that is there already. Those of the sleep step are of both networks forwards, of "
        "the gradients back through the decoder, and of the encoder's weights; those of the wake "
        "step are both forwards again, and the gradients of the decoder's weights. "
        f"{networks.WHOSE_PRODUCTS} *Stacked*: all seeds as one batched product. *Plain PyTorch*: "
        "`nn.Sequential`, two `torch.optim.Adam`, `loss.backward()` (which in the sleep step "
        "computes gradients of the decoder's weights too), `torch.randn`. From our first weights "
        f"and with our samples and noise it ends, after {AGREEMENT.iterations} iterations of a "
        f"small case in float64, within {difference:.1e} of ours.",
    ]


SUBJECT = networks.subject(
    name="soae",
    title="Training SOAE: beside its matrix products, its plain twin, a plain version",
    usage=__doc__,
    cases=CASES,
    agreement=agreement,
    prose=prose,
    aims=AIMS,
)


def main(arguments: Sequence[str] | None = None) -> None:
    harness.main(SUBJECT, arguments)


if __name__ == "__main__":
    main()
