"""SOAE's training beside its products, its plain twin, a plain version, and many seeds in one pass.

    python -m benchmarks.soae                         everything, in some minutes on two cores
    python -m benchmarks.soae --cases full            one case (they are listed by --help)
    python -m benchmarks.soae --quick                 toy sizes: does everything still run?

Nobody has published a program for SOAE, so the peers are those of the DESOM benchmark, from which
the clock comes too: the matrix products alone, and algorithm 2 as one would write it in PyTorch.
The latter begins with our first weights and must, with our noise, end with ours before anything
is timed.

A complete run writes table and figure to figures/benchmarks/, any other one to runs/benchmarks/.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks import desom
from benchmarks.common import Array, heading, samples
from benchmarks.desom import MANY, Aim, Entrant, Factors, Train, one_seed, stacked
from somlib.models.autoencoders import Autoencoder
from somlib.models.soae import SOAE
from somlib.search.products import Precision
from somlib.spaces import Torus
from somlib.training import Noise
from somlib.training.loop import resolve_device
from somlib.training.network import NoiseSource

# ---------------------------------------------------------------- what is trained


class Case(desom.Case):
    """Data, networks and number of seeds; `latent_dim` circles make the torus."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths of the encoder's layers, from the samples to a cosine and a sine per circle."""
        return (self.d, *self.hidden, 2 * self.latent_dim)

    @property
    def size(self) -> str:
        """The case in short."""
        return super().size.replace("map 8 × 8", f"torus of {self.latent_dim} circles")

    def model(self, precision: Precision, n_iter: int, seed: int = 0) -> SOAE:
        """Return what is fitted."""
        return SOAE(
            space=Torus(self.latent_dim),
            hidden=self.hidden,
            batch_size=self.batch_size,
            n_iter=n_iter,
            precision=precision,
            random_state=seed,
            device=self.device,
        )

    def products(self, S: int) -> Iterator[Factors]:
        """Yield the matrix products of an iteration: of each step those that it cannot do without.

        Asleep, gradients go through the decoder to the encoder's weights; awake they end at the
        decoder's, whose first input needs none.
        """
        layers = list(self.layers(S))
        forward, weight, inputs = zip(*layers, strict=True)
        k = len(layers) // 2
        yield from (*forward, *inputs[:0:-1], *weight[:k])
        yield from (*forward, *inputs[:k:-1], *weight[k:])


# ---------------------------------------------------------------- who trains


def twin(case: Case, precision: Precision, X: Array) -> Train:
    """Prepare the plain autoencoder of the same networks: one step where SOAE takes two."""
    model = Autoencoder(
        hidden=case.hidden,
        latent_dim=case.sizes[-1],
        batch_size=case.batch_size,
        precision=precision,
        random_state=0,
        device=case.device,
    )
    return lambda n: model.set_params(n_iter=n).fit(X)


Draw = Callable[[int], tuple[Tensor, Tensor]]
"""The batch of an iteration, and the standard normals that displace its codes."""


def at_random(case: Case, X: Array) -> Draw:
    """Return what one would write: samples and noise drawn on the spot."""
    x, g = torch.from_numpy(X), torch.Generator().manual_seed(0)
    B, m = case.batch_size, case.latent_dim
    return lambda i: (
        x[torch.randint(len(x), (B,), generator=g)],
        torch.randn(B, m + 1, generator=g),
    )


def as_ours(case: Case, X: Array) -> Draw:
    """Return the samples in file order and the noise of our training."""
    batches = torch.split(torch.from_numpy(X), case.batch_size)
    normals = Noise((case.batch_size, case.latent_dim + 1))
    noise = NoiseSource({"normals": normals}, [0], batches[0])
    return lambda i: (batches[i % len(batches)], noise(i)["normals"])


def plain(case: Case, precision: Precision, X: Array) -> Train:
    start, draw = desom.first_weights(case, X), at_random(case, X)
    return lambda n: plain_pytorch(case, start, draw, n)


def plain_pytorch(case: Case, start: dict[str, Array], draw: Draw, n_iter: int) -> dict[str, Array]:
    """Train SOAE as one would write it without somlib, and return the weights by our names."""
    C, G = (desom.sequential(case, start, part) for part in ("encoder", "decoder"))
    adam_C, adam_G = (torch.optim.Adam(x.parameters(), lr=1e-3, eps=1e-7) for x in (C, G))
    m = case.latent_dim

    def encode(x: Tensor) -> Tensor:
        pairs = C(x)
        return torch.atan2(pairs[:, m:], pairs[:, :m])

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
            z += sigma * noise[:, m:].abs() * nn.functional.normalize(noise[:, :m], dim=1)
        adam_G.zero_grad()
        loss(x, z).backward()  # type: ignore[no-untyped-call]
        adam_G.step()
    return desom.by_our_names(encoder=C, decoder=G)


ONE = (
    Entrant("somlib", one_seed),
    Entrant("somlib, Autoencoder", twin),
    Entrant("plain PyTorch", plain),
    Entrant("bare products", desom.bare),
    Entrant("bare products, PyTorch's own", desom.bare_as_usual),
)
ON_GPU = (Entrant("somlib, stacked", stacked), Entrant("somlib, one seed", one_seed))

WIDE = (256, 256)
CASES = (
    Case("full", "mnist", 5120, 784, WIDE, 2, 256, 1, 300, ONE),
    Case("whole", "mnist", 60_000, 784, WIDE, 2, 256, 1, 4000, ONE[:1], whole=True, at_most=2),
    Case("digits-10-seeds", "digits", 1792, 64, (64, 64), 2, 128, 10, 500, MANY),
    Case("gpu-10-seeds", "mnist", 60_000, 784, WIDE, 2, 256, 10, 4000, ON_GPU, "cuda", whole=True),
)
AGREEMENT = Case("agreement", "mixture", 192, 12, (16, 8), 2, 64, 1, 100, ONE)

AIMS: tuple[Aim, ...] = (
    ("full", "somlib", "bare products, PyTorch's own", "≤", None),
    ("full", "somlib", "bare products", "≤", None),
    ("full", "somlib", "somlib, Autoencoder", "≤", None),
    ("full", "plain PyTorch", "somlib", "≥", None),
    ("digits-10-seeds", "somlib, in turn", "somlib, stacked", "≥", None),
    ("digits-10-seeds", "bare products, in turn", "bare products, stacked", "≥", None),
    ("gpu-10-seeds", "somlib, stacked", "somlib, one seed", "≤", 2),
)
LIMIT = ("whole", "somlib", 60)
"""The seconds that a whole training shall take."""


# ---------------------------------------------------------------- equal work, table, command


def agreement() -> float:
    """Return how far the weights of the plain version end from ours, in float64."""
    case = AGREEMENT
    X = samples(case.source, case.n, case.d)[0].astype(np.float64)
    model = case.model("highest", case.iterations).set_params(shuffle=False)
    start, draw = desom.first_weights(case, X), as_ours(case, X)
    theirs = plain_pytorch(case, start, draw, case.iterations)
    return desom.largest_difference(model.fit(X).parameters_, theirs)


def page(cases: Sequence[desom.Case], times: pd.DataFrame, record: dict[str, Any]) -> str:
    """Return the tables as one page of Markdown."""
    parts = [
        "# Training SOAE: beside its matrix products, its plain twin, a plain version",
        heading(record),
        desom.HOW_TIMED,
        "*Autoencoder*: the plain one of the same networks, which takes one step where SOAE takes "
        "two, asleep and awake. *Bare products*: the matrix products of both steps alone, into "
        "memory that is there already. Asleep they are those of both networks forwards, of the "
        "gradients back through the decoder, and of the encoder's weights; awake both forwards "
        f"again, and the gradients of the decoder's weights. {desom.WHOSE_PRODUCTS} *Stacked*: all "
        "seeds as one batched product. *Plain PyTorch*: `nn.Sequential`, two `torch.optim.Adam`, "
        "`loss.backward()` (which, asleep, finds gradients for the decoder's weights too), "
        "`torch.randn`. From our first weights and with our samples and noise it ends, after "
        f"{AGREEMENT.iterations} iterations of a small case in float64, within "
        f"{record['agreement']:.1e} of ours.",
        *desom.sections(cases, times),
        *desom.judged(cases, CASES, times, AIMS, LIMIT),
    ]
    return "\n\n".join(parts) + "\n"


def run(
    cases: Sequence[desom.Case], repeats: int, device: torch.device, folder: Path
) -> pd.DataFrame:
    """Measure everything, write soae.csv, .md, .png and .json to a folder, and return the table."""
    return desom.written("soae", cases, repeats, device, folder, agreement, page)


def main(arguments: Sequence[str] | None = None) -> None:
    options, cases, folder = desom.chosen("soae", __doc__, CASES, arguments)
    run(cases, options.repeats, resolve_device(options.device), folder)


if __name__ == "__main__":
    main()
