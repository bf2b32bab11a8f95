"""DC-SOMRL's training beside its plain twin, its products, plain versions, many seeds in one pass.

    python -m benchmarks.somrl                        everything, in four minutes on two cores
    python -m benchmarks.somrl --cases full           one case (they are listed by --help)
    python -m benchmarks.somrl --quick                toy sizes: does everything still run?

No program for DC-SOMRL has been published, so the peers are its matrix products alone, a plain
PyTorch version, and for the map alone its rule as one would write it, once with loops over groups
and once also over samples and nodes. Plain versions begin with our first weights and must end with
ours before anything is timed.

A complete run writes table and figure to figures/benchmarks/, any other one to runs/benchmarks/.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from benchmarks import harness, networks
from benchmarks.harness import Aim, Array
from benchmarks.networks import PAPER, Case, Train, Trainer, one_seed, one_step
from somlib.models.somrl import DCSOMRL, SOMRL
from somlib.search.products import Precision

# the paper's best values for MNIST, which are our defaults
ALPHA, A_T, LR, RHO, LD = 0.1145, 0.99425, 0.1426, 1.0, 0.36
BETA, GAMMA, S = 0.067, 1.382, 0.426
ROOM = 200
LAYER_A_T = 0.95
"""At which ten Gaussians, whose points lie wider apart than codes, need some 100 nodes."""


# ---------------------------------------------------------------- who trains


class Groups:
    """A map as one would write it: `cat` inserts nodes, a mask removes them, groups are a loop."""

    def __init__(self, x: Tensor, a_t: float) -> None:
        self.c, self.omega, self.delta = (x.new_empty(0, x.shape[1]) for _ in range(3))
        self.life, self.a_t = x.new_empty(0), a_t

    def activations(self, x: Tensor) -> Tensor:
        """Return activations, a column for each node."""
        total = self.omega.sum(1)
        return total / (total + (self.omega * (x[:, None] - self.c) ** 2).sum(-1) + 1e-7)

    def learn(self, x: Tensor) -> None:
        """Learn from one batch."""
        if not len(self.c):
            return self._insert([x])
        free = ROOM - len(self.c)
        best, winner = self.activations(x).max(1)
        reached = best >= self.a_t
        accepted = sorted(set(winner[reached].tolist()))
        self._move([(j, x[reached & (winner == j)].mean(0)) for j in accepted])
        rejected = [x[~reached & (winner == j)] for j in sorted(set(winner[~reached].tolist()))]
        self.life -= LD
        self.life[winner] = 1.0
        stay = self.life >= 0
        for name in ("c", "omega", "delta", "life"):
            setattr(self, name, getattr(self, name)[stay])
        self._insert(sorted(rejected, key=len, reverse=True)[:free])

    def _move(self, groups: list[tuple[int, Tensor]]) -> None:
        total = torch.zeros_like(self.c)
        weight, left = torch.zeros_like(self.c[:, :1]), torch.ones_like(self.c[:, :1])
        for j, mean in groups:
            activations = self.activations(mean[None])[0]
            activations[j] = 2.0
            rank = activations.argsort(descending=True).argsort().to(mean)
            lr = (LR * torch.exp(-rank / GAMMA) * (activations >= self.a_t))[:, None]
            total, weight, left = total + lr * mean, weight + lr, left * (1 - lr)
        at = weight[:, 0] > 0
        c, x, rate = self.c[at], total[at] / weight[at], 1 - left[at]
        d = self.c.mean(0) - c
        c = c + rate * ((x - c) - RHO * d.sign() * (1 - 2 * d.abs()).clamp(min=0))
        delta = (1 - BETA * rate) * self.delta[at] + BETA * rate * (x - c).abs()
        spread = S * (delta.amax(1, True) - delta.amin(1, True))
        self.omega[at] = torch.sigmoid((delta.mean(1, True) - delta) / spread).nan_to_num(1.0)
        self.c[at], self.delta[at] = c, delta

    def _insert(self, groups: list[Tensor]) -> None:
        for x in groups:
            self.c = torch.cat([self.c, x.mean(0)[None]])
            self.omega = torch.cat([self.omega, torch.ones_like(x[:1])])
            self.delta = torch.cat([self.delta, torch.zeros_like(x[:1])])
            self.life = torch.cat([self.life, x.new_ones(1)])


class OneByOne(Groups):
    """The same, with activations computed for one sample and one node at a time."""

    def activations(self, x: Tensor) -> Tensor:
        """Return activations, a column for each node."""
        nodes = [(c, w, w.sum()) for c, w in zip(self.c.numpy(), self.omega.numpy(), strict=True)]
        found = [
            [total / (total + w @ (sample - c) ** 2 + 1e-7) for c, w, total in nodes]
            for sample in x.numpy()
        ]
        return torch.from_numpy(np.array(found, x.numpy().dtype))


def alone(kind: type[Groups], case: Case, precision: Precision, X: Array) -> Train:
    """Prepare a map without networks."""
    batches = torch.split(torch.from_numpy(X), case.model.batch_size)

    def train(n: int) -> dict[str, Array]:
        nodes = kind(batches[0], LAYER_A_T)
        for i in range(n):
            nodes.learn(batches[i % len(batches)])
        return in_no_order(nodes.c, nodes.omega)

    return train


def standardized(X: Array) -> Array:
    scaled: Array = (X - X.mean()) / X.std(ddof=1)
    return scaled


def twin(case: Case, precision: Precision, X: Array) -> Train:
    """Prepare the plain autoencoder of the same networks, with inputs of the same scale."""
    return one_seed(networks.twin(case, "sigmoid"), precision, standardized(X))


def plain(case: Case, precision: Precision, X: Array) -> Train:
    X = standardized(X)
    start = networks.first_weights(networks.twin(case, "sigmoid"), X)
    return lambda n: plain_pytorch(case, X, start, n)


def plain_pytorch(case: Case, X: Array, start: dict[str, Array], n_iter: int) -> dict[str, Array]:
    """Train DC-SOMRL as one would write it without somlib, and return what it has learned."""
    encoder, decoder = (networks.sequential(start, part) for part in ("encoder", "decoder"))
    adam = networks.adam(encoder, decoder)
    batches = torch.split(torch.from_numpy(X), case.model.batch_size)
    nodes = Groups(batches[0].new_empty(0, case.widths[-1]), A_T)
    for i in range(n_iter):
        x = batches[i % len(batches)]
        z = torch.sigmoid(encoder(x))
        with torch.no_grad():
            nodes.learn(z)
            winner = nodes.activations(z).argmax(1)
        L_c = (nodes.omega[winner] * (z - nodes.c[winner]) ** 2).sum(1).mean()
        loss = ((decoder(z) - x) ** 2).sum(1).mean() + ALPHA * L_c
        adam.zero_grad()
        loss.backward()
        adam.step()
    learned = networks.by_our_names(encoder=encoder, decoder=decoder)
    return learned | in_no_order(nodes.c, nodes.omega)


def in_no_order(c: Any, omega: Any) -> dict[str, Array]:
    """Return nodes such that it does not matter where each is kept, nor how many there are."""
    found = np.zeros((ROOM, 2 * c.shape[1]), np.asarray(c).dtype)
    found[: len(c)] = np.hstack([c, omega])
    return {"nodes": np.sort(found, 0)}


ONE = (
    Trainer("somlib", one_seed),
    Trainer("somlib, Autoencoder", twin),
    Trainer("plain PyTorch", plain),
    *networks.bare(one_step),
)
ALONE = (
    Trainer("somlib", one_seed),
    Trainer("plain PyTorch", partial(alone, Groups)),
    Trainer("one by one", partial(alone, OneByOne)),
)
MANY = networks.many(one_step)

# ---------------------------------------------------------------- cases and aims

MNIST = DCSOMRL(latent_dim=22, hidden=PAPER, max_nodes=ROOM)
DIGITS = DCSOMRL(latent_dim=8, hidden=(32, 32, 64), max_nodes=ROOM, batch_size=64)
LAYER = SOMRL(
    activation_threshold=LAYER_A_T,
    node_rate=LR,
    repel_rate=RHO,
    life_decay=LD,
    relevance_rate=BETA,
    neighborhood_decay=GAMMA,
    relevance_smoothness=S,
    max_nodes=ROOM,
)
MAP = f"room for {ROOM} nodes"
CASES = (
    Case("full", "mnist", 5120, 784, MNIST, MAP, 1, 100, ONE),
    Case("epoch", "mnist", 60_000, 784, MNIST, MAP, 1, 235, ONE[:2]),
    Case("digits-10-seeds", "digits", 1792, 64, DIGITS, MAP, 10, 300, MANY),
    Case("layer", "mixture", 5120, 22, LAYER, f"map alone with {MAP}", 1, 50, ALONE),
    Case("gpu-10-seeds", "mnist", 60_000, 784, MNIST, MAP, 10, 7050, networks.ON_GPU, "cuda", True),
)
SMALL = DCSOMRL(latent_dim=4, hidden=(16, 8), max_nodes=ROOM, batch_size=64, shuffle=False)
SMALL_LAYER = clone(LAYER).set_params(batch_size=64, shuffle=False)
AGREEMENT = (
    Case("agreement", "mixture", 192, 12, SMALL, MAP, 1, 100, ONE[2:3]),
    Case("agreement", "mixture", 192, 12, SMALL_LAYER, MAP, 1, 30, ALONE[1:]),
)

AIMS = (
    Aim("epoch", "somlib", "somlib, Autoencoder", "≤", 1.3),
    Aim("full", "somlib", "somlib, Autoencoder", "≤", 1.3),
    Aim("full", "somlib", "bare products, PyTorch's own", "≤", None),
    Aim("full", "somlib", "bare products", "≤", None),
    Aim("full", "plain PyTorch", "somlib", "≥", None),
    Aim("digits-10-seeds", "somlib, in turn", "somlib, stacked", "≥", None),
    Aim("digits-10-seeds", "bare products, in turn", "bare products, stacked", "≥", None),
    Aim("layer", "plain PyTorch", "somlib", "≥", None),
    Aim("layer", "one by one", "somlib", "≥", None),
    Aim("gpu-10-seeds", "somlib, stacked", "somlib, one seed", "≤", None),
)


# ---------------------------------------------------------------- equal work, prose, command


def agreement() -> float:
    """Return how far what the plain versions learn is from ours, in float64."""
    differences = []
    for case in AGREEMENT:
        X = case.samples.astype(np.float64)
        model: Any = case.estimator(case.iterations).fit(X)
        ours = model.parameters_ | in_no_order(model.centers_, model.relevances_)
        for peer in case.trainers:
            theirs = peer.prepare(case, "highest", X)(case.iterations)
            differences.append(networks.largest_difference(ours, theirs))
    return max(differences)


def prose(difference: float) -> list[str]:
    return [
        networks.HOW_TIMED,
        "*Autoencoder*: the plain one of the same networks, with a sigmoid at the code, of samples "
        "that are standardized beforehand. *Bare products*: the matrix products of the layers "
        "alone, forwards and for both gradients, into memory that is there already. "
        f"{networks.WHOSE_PRODUCTS} *Stacked*: all seeds as one batched product. *Plain PyTorch*: "
        "`nn.Sequential`, `torch.optim.Adam`, and the rule of the nodes as one would write it, "
        "with all differences of codes and centers, nodes inserted by `torch.cat` and removed by "
        "masks, and a loop over the groups of a batch; it takes the samples in order. *One by "
        "one*: the same rule with activations computed for one sample and one node at a time. Only "
        "ours takes equally long whether there is one node or 200, and keeps a history. From our "
        f"first weights they end, after {AGREEMENT[0].iterations} iterations of a small case in "
        f"float64, or {AGREEMENT[1].iterations} of the map alone, within {difference:.1e} of ours.",
    ]


SUBJECT = networks.subject(
    name="somrl",
    title="Training DC-SOMRL: beside its plain twin, its matrix products, plain versions",
    usage=__doc__,
    cases=CASES,
    agreement=agreement,
    prose=prose,
    aims=AIMS,
)


def main(arguments: Sequence[str] | None = None) -> None:
    warnings.filterwarnings("ignore", message="no node was inserted")  # a full map is meant here
    harness.main(SUBJECT, arguments)


if __name__ == "__main__":
    main()
