"""SOMRL and DC-SOMRL: nodes that learn which dimensions matter to them.

A map without a grid. Nodes come where no node answers and go when nobody calls them; each weighs
the dimensions for itself, by how little its samples differ there; who is whose neighbour is asked
anew for every update. `SOMRL` is that map, for data in [0, 1]; `DCSOMRL` puts it inside an
autoencoder, whose code it shapes.

Equations are those of the DC-SOMRL paper, "Shaping Latent Representations using Self-Organizing
Maps with Relevance Learning".
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClusterMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from somlib.loop import resolve_device, resolve_seed
from somlib.products import Precision, products
from somlib.storage import Check, array, count
from somlib.training import ROWS_AT_ONCE, Array, DeepEstimator, require_count

Repel = Literal["signed", "literal"] | None
LifeRule = Literal["batch", "update"]

EPSILON = 1e-7
"""ε of equation 1."""


def _rounding(like: Tensor) -> float:
    """Return what may come of rounding alone, for numbers in [0, 1]."""
    return 8 * torch.finfo(like.dtype).eps


# ---------------------------------------------------------------- the formulas


def weighted_distance(x: Tensor, c: Tensor, omega: Tensor) -> Tensor:
    """Return D_ω(x, c) = Σ_i ω_i (x_i − c_i)² for all pairs, multiplied out: equation 2.

    Parameters
    ----------
    x : tensor of shape (S, B, m)
    c, omega : tensors of shape (S, K, m)

    Returns
    -------
    tensor of shape (S, B, K)
    """
    squares = x.square() @ omega.mT - 2 * x @ (omega * c).mT
    return (squares + (omega * c.square()).sum(-1)[:, None]).clamp(min=0)


def activation(x: Tensor, c: Tensor, omega: Tensor) -> Tensor:
    """Return how strongly each node answers each sample, (S, B, K) in (0, 1): equation 1."""
    total = omega.sum(-1)[:, None]
    return total / (total + weighted_distance(x, c, omega) + EPSILON)


def relevances(delta: Tensor, s: Tensor | float) -> Tensor:
    """Return ω of nodes whose samples lie δ away, dimension by dimension: equation 6.

    Where all distances are equal, up to rounding, all dimensions are relevant. The printed sign
    makes dimensions of *large* distance relevant, against the text beside it and every public code
    of this family; here, as the text has it, they go to zero.
    """
    mean, most, least = delta.mean(-1, True), delta.amax(-1, True), delta.amin(-1, True)
    differ = most - least > _rounding(delta)
    omega = torch.sigmoid((mean - delta) / torch.where(differ, s * (most - least), 1.0))
    return torch.where(differ, omega, 1.0)


def repulsion(d: Tensor, kind: Repel = "signed") -> Tensor:
    """Return repel(d), d = c̄ − c: equation 4, which the update subtracts.

    Printed is max(1 − 2d, 0), "literal". It is positive on either side of the centre, so it pushes
    every node towards smaller coordinates. "signed" pushes away from the centre, as the text says,
    sign(d) max(1 − 2|d|, 0); None does not push.
    """
    if kind is None:
        return torch.zeros_like(d)
    if kind == "literal":
        return (1 - 2 * d).clamp(min=0)
    away = d.sign() * (d.abs() > _rounding(d))  # the sign of what rounding left means nothing
    return away * (1 - 2 * d.abs()).clamp(min=0)


class Nodes(nn.Module):
    """S maps with room for K nodes each: arrays of fixed size, in which life says who is there.

    Buffers, of leading axes (S, K): `centers`, `relevances` and `distances` with m entries each,
    `life`, below 0 where there is no node. `unplaced`, of shape (S,), counts the samples that asked
    for a node when there was no room. A map that has seen samples is never empty: somebody answered
    most, and lives.
    """

    centers: Tensor
    relevances: Tensor
    distances: Tensor
    life: Tensor
    unplaced: Tensor

    def __init__(self, S: int, K: int, m: int) -> None:
        super().__init__()
        for name in ("centers", "relevances", "distances"):
            self.register_buffer(name, torch.zeros(S, K, m))
        self.register_buffer("life", torch.full((S, K), -1.0))
        self.register_buffer("unplaced", torch.zeros(S))

    @property
    def alive(self) -> Tensor:
        """Where there is a node, (S, K)."""
        return self.life >= 0

    def answers(self, x: Tensor) -> Tensor:
        """Return activations (S, B, K), −1 where there is no node."""
        return activation(x, self.centers, self.relevances).masked_fill(~self.alive[:, None], -1.0)

    @torch.no_grad()
    def learn(
        self,
        x: Tensor,
        rule: dict[str, Tensor],
        repel: Repel = "signed",
        life_rule: LifeRule = "batch",
    ) -> None:
        """Take one batch, (S, B, m): Algorithm 1.

        `rule` holds a_t, lr, ρ, ld, β, γ and s, each of shape (S, 1, 1). `repel` and
        `life_rule` as for `SOMRL`.
        """
        alive, a_t = self.alive, rule["a_t"]
        best, winner = self.answers(x).max(-1)
        called = nn.functional.one_hot(winner, alive.shape[1]).to(x)  # (S, B, K)
        near = (best >= a_t[..., 0])[..., None]
        heard, x_heard = _group_means(called * near, x)
        failed, x_failed = _group_means(called * ~near, x)
        self._move(heard, x_heard, rule, repel)
        # lines 16 and 17: who wins nothing loses life, and leaves below 0
        wins, loss = heard + failed, rule["ld"][..., 0]
        if life_rule == "update":
            wins, loss = heard, loss * (heard > 0).sum(-1, keepdim=True)
        life = torch.where(wins > 0, 1.0, self.life - loss)
        life = torch.where(life.abs() > _rounding(life), life, 0.0)
        self.life.copy_(torch.where(alive & (life >= 0), life, -1.0))
        self._insert(failed, x_failed, free=~alive)

    def _move(self, heard: Tensor, x: Tensor, rule: dict[str, Tensor], repel: Repel) -> None:
        """Pull winners and neighbours towards the means of what the winners heard: lines 10–15."""
        c, omega, delta = self.centers, self.relevances, self.distances
        answers = self.answers(x)  # (S, K groups, K nodes)
        answers.diagonal(dim1=-2, dim2=-1).fill_(2.0)  # rank 0 is the winner's
        r = torch.arange(answers.shape[-1], device=x.device)
        h = torch.exp(-r / rule["gamma"]).expand_as(answers)
        near = (answers >= rule["a_t"]) & self.alive[:, None] & (heard > 0)[..., None]
        by_rank = answers.argsort(-1, descending=True)
        lr = rule["lr"] * torch.zeros_like(answers).scatter_(-1, by_rank, h) * near  # lr h(r)
        # several groups may pull a node: as far as one after the other, to their weighted mean
        pulled = lr.sum(1)[..., None]
        rate = 1 - (1 - lr).prod(1)[..., None]
        target = (lr.mT @ x) / torch.where(pulled > 0, pulled, 1.0)
        there = self.alive[..., None].to(x)
        middle = (there * c).sum(1, True) / there.sum(1, True).clamp(min=1)  # c̄
        c += rate * ((target - c) - rule["rho"] * repulsion(middle - c, repel))  # (3)
        beta = rule["beta"] * rate
        delta.copy_((1 - beta) * delta + beta * (target - c).abs())  # (5)
        omega.copy_(torch.where(pulled > 0, relevances(delta, rule["s"]), omega))  # (6)

    def nearest(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return centre and relevances of the node that answers most, (S, B, m) each."""
        with torch.no_grad():
            winner = self.answers(z).argmax(-1)[..., None].expand_as(z)
            return self.centers.gather(1, winner), self.relevances.gather(1, winner)

    def _insert(self, failed: Tensor, x: Tensor, free: Tensor) -> None:
        """Make nodes of the groups that nobody answered while there is room: lines 7–9."""
        order = failed.argsort(dim=-1, descending=True, stable=True)  # most samples first
        slot = (~free).to(torch.uint8).argsort(dim=-1, stable=True)  # free ones first
        count = failed.gather(-1, order)
        new = (count > 0) & free.gather(-1, slot)
        self.unplaced += (count * ~new).sum(-1)
        x = x.gather(1, order[..., None].expand_as(x))
        at = slot[..., None].expand_as(x)
        for old, fresh in (
            (self.centers, x),
            (self.relevances, torch.ones_like(x)),
            (self.distances, torch.zeros_like(x)),
        ):
            old.scatter_(1, at, torch.where(new[..., None], fresh, old.gather(1, at)))
        self.life.scatter_(1, slot, torch.where(new, 1.0, self.life.gather(1, slot)))

    def make_room(self, K: int) -> None:
        """Have K places, which must be enough for the nodes that there are."""
        order = self.alive.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
        for name in ("centers", "relevances", "distances", "life"):
            old = getattr(self, name)
            at = order.view(*order.shape, *[1] * (old.ndim - 2)).expand_as(old)
            new = old.new_full((old.shape[0], K, *old.shape[2:]), -1.0 if name == "life" else 0.0)
            new[:, : old.shape[1]] = old.gather(1, at)[:, :K]
            setattr(self, name, new)


def _group_means(member: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return sizes (S, K) and means (S, K, m) of groups, of memberships (S, B, K)."""
    size = member.sum(1)
    return size, (member.mT @ x) / size.clamp(min=1)[..., None]


# ---------------------------------------------------------------- what both models have


class _NodesEstimator(ClusterMixin, DeepEstimator):
    """What the map alone and the map in an autoencoder have in common."""

    activation_threshold: float
    repel_rate: float
    life_decay: float
    relevance_rate: float
    neighborhood_decay: float
    relevance_smoothness: float
    max_nodes: int
    repel: Repel
    life_rule: LifeRule

    _SYMBOLS: ClassVar[dict[str, str]] = {
        "activation_threshold": "a_t",
        "learning_rate": "lr",
        "repel_rate": "rho",
        "life_decay": "ld",
        "relevance_rate": "beta",
        "neighborhood_decay": "gamma",
        "relevance_smoothness": "s",
    }
    _may_differ: ClassVar[tuple[str, ...]] = tuple(_SYMBOLS)
    _learned: ClassVar[dict[str, Check]] = {"unplaced_": count()}
    _also_learned: ClassVar[dict[str, Check]] = {"labels_": array("i", "n")}

    def _blank(self) -> Any:
        stack = super()._blank()
        life = self.parameters_.get("nodes.life", np.empty(self.max_nodes))
        stack.nodes.make_room(len(life))  # as much as `max_nodes` was when they were learned
        return stack

    def _tell(self, stack: Any, models: Sequence[Any]) -> None:
        like = stack.nodes.centers
        stack.rule = {
            symbol: like.new_tensor([getattr(model, name) for model in models])[:, None, None]
            for name, symbol in self._SYMBOLS.items()
        }

    def _restored(self, device: torch.device) -> Any:
        stack = super()._restored(device)
        self._tell(stack, [self])
        return stack

    def _answers(self, Z: Array) -> Iterator[Array]:
        """Yield how strongly each living node answers each point, (rows, n_nodes_) at a time."""
        device = resolve_device(self.device)
        nodes = self._restored(device).nodes
        for rows in np.split(Z, range(ROWS_AT_ONCE, len(Z), ROWS_AT_ONCE)):
            with torch.no_grad(), products(self.precision, device):
                answers = nodes.answers(torch.from_numpy(rows).to(device)[None])
            yield answers[0][:, nodes.alive[0]].numpy(force=True)

    def _winners(self, Z: Array, a_t: float = 0.0) -> NDArray[np.int64]:
        """Return who answers most, −1 where nobody answers with a_t."""
        if not self.n_nodes_:  # interrupted before the first batch
            return np.full(len(Z), -1)
        found = [np.where(ac.max(1) >= a_t, ac.argmax(1), -1) for ac in self._answers(Z)]
        return np.concatenate(found)

    def _places(self, X: Array) -> Array:
        """Return samples as points of the space that nodes lie in."""
        return X

    def predict(self, X: ArrayLike, *, noise: bool = False) -> NDArray[np.int64]:
        """Return the node of each sample, shape (n,).

        Parameters
        ----------
        X : array of shape (n, d)
        noise : bool, default=False
            Whether a sample that no node answers as strongly as `activation_threshold` gets −1.
        """
        return self._winners(
            self._places(self._valid(X, reset=False)), self.activation_threshold if noise else 0.0
        )

    def memberships(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Return which nodes answer each sample, shape (n, n_nodes_): none, one or several.

        Clusters of subspaces overlap: those whose activation reaches `activation_threshold`.
        """
        a_t = self.activation_threshold
        Z = self._places(self._valid(X, reset=False))
        return np.concatenate([ac >= a_t for ac in self._answers(Z)])

    def _living(self, name: str) -> Array:
        check_is_fitted(self)
        return self.parameters_[f"nodes.{name}"][self.parameters_["nodes.life"] >= 0]

    @property
    def n_nodes_(self) -> int:
        """Number of nodes."""
        return len(self._living("life"))

    @property
    def centers_(self) -> Array:
        """The nodes' centres c, shape (n_nodes_, m)."""
        return self._living("centers")

    @property
    def relevances_(self) -> Array:
        """The nodes' relevances ω, shape (n_nodes_, m), in [0, 1]."""
        return self._living("relevances")

    @property
    def distances_(self) -> Array:
        """The nodes' moving distances δ, shape (n_nodes_, m)."""
        return self._living("distances")

    @property
    def connections_(self) -> NDArray[np.bool_]:
        """Who is connected, shape (n_nodes_, n_nodes_): nodes that answer each other's centre."""
        heard = np.concatenate([*self._answers(self.centers_)]) >= self.activation_threshold
        mutual: NDArray[np.bool_] = heard & heard.T
        np.fill_diagonal(mutual, False)
        return mutual

    def _learn(self, stack: Any, s: int) -> None:
        super()._learn(stack, s)
        self.unplaced_ = int(self.parameters_["nodes.unplaced"])

    def _after(self, X: Array) -> None:
        self._warn_of(self.unplaced_, stacklevel=5)
        self.labels_ = self._winners(self._places(X))

    def _warn_of(self, unplaced: int, stacklevel: int) -> None:
        if unplaced:
            warnings.warn(
                f"{unplaced} times a sample asked for a node when all max_nodes="
                f"{self.max_nodes} were taken; raise max_nodes, or lower activation_threshold="
                f"{self.activation_threshold}",
                stacklevel=stacklevel,
            )

    def _check(self, n: int, d: int) -> None:
        if not 0 < self.activation_threshold < 1:
            raise ValueError(
                f"activation_threshold={self.activation_threshold!r} must lie between 0 and 1, "
                "without the ends"
            )
        for name in ("learning_rate", "repel_rate", "life_decay", "relevance_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must be a number from 0 to 1")
        for name in ("neighborhood_decay", "relevance_smoothness"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)!r} must be a positive number")
        if self.repel not in ("signed", "literal", None):
            raise ValueError(f"repel={self.repel!r} is unknown; choose 'signed', 'literal' or None")
        if self.life_rule not in get_args(LifeRule):
            raise ValueError(f"life_rule={self.life_rule!r} is unknown; choose 'batch' or 'update'")
        require_count("max_nodes", self.max_nodes)


@dataclass(eq=False, repr=False)
class SOMRL(_NodesEstimator):
    """Self-organizing map with relevance learning, for data in [0, 1].

    A batch is grouped by winner and the mean of each group is one update (algorithm 1). Where the
    winner answers weakly the mean becomes a node of its own, and a node that wins nothing for a
    while is removed: their number is found, not given.

    Parameters
    ----------
    activation_threshold : float, default=0.99
        a_t: a sample whose winner is less active asks for a new node.
    learning_rate : float, default=0.1
        lr of the winner; neighbours of rank r have lr exp(−r/γ).
    repel_rate : float, default=0.0
        ρ: how strongly nodes are pushed away from the centre of the map.
    life_decay : float, default=0.1
        ld: share of its life that a node loses with each batch in which it wins nothing.
    relevance_rate : float, default=0.1
        β: how quickly the moving distances δ follow.
    neighborhood_decay : float, default=2.0
        γ: how far down the ranks neighbours are pulled along.
    relevance_smoothness : float, default=0.1
        s: slope of the relevances between the largest and the smallest distance; a small one
        decides.
    max_nodes : int, default=100
        Room for so many.
    repel : {"signed", "literal"} or None, default="signed"
        Reading of equation 4; see `repulsion`.
    life_rule : {"batch", "update"}, default="batch"
        "batch", as the text has it: a node lives on that is the most active for any sample of the
        batch; one that is not loses ld. "update", as the listing is nested: only nodes that were
        updated as winners count, and the others lose ld for every such winner, which few survive.
    n_epochs : int, default=30
        Passes over the data.
    n_iter : int, optional
        Batches in all; overrides `n_epochs`.
    batch_size : int, default=256
    shuffle, precision, random_state, device, progress
        See `Autoencoder`.

    Attributes
    ----------
    n_nodes_ : int
    centers_, relevances_, distances_ : ndarrays of shape (n_nodes_, d)
        c, ω and δ of each node.
    connections_ : ndarray of bool, (n_nodes_, n_nodes_)
        Nodes that answer each other's centre.
    labels_ : ndarray of shape (n,)
        Node of each training sample.
    unplaced_ : int
        How many samples asked for a node when all were taken.
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`; the history holds "loss", the mean D_ω of samples to their
        node, and "nodes".

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.

    References
    ----------
    H. Bassani and A. Araujo, "Dimension Selective Self-Organizing Maps With Time-Varying Structure
    for Subspace and Projected Clustering", IEEE TNNLS 26, 2015 (LARFDSSOM); the DC-SOMRL paper.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((400, 6))  # two clusters, each narrow in three dimensions of its own
    >>> X[:200, :3] = 0.3 + 0.02 * rng.standard_normal((200, 3))
    >>> X[200:, 3:] = 0.7 + 0.02 * rng.standard_normal((200, 3))
    >>> map = SOMRL(activation_threshold=0.9, max_nodes=20, random_state=0).fit(X)
    >>> map.relevances_.shape == (map.n_nodes_, 6)
    True
    """

    activation_threshold: float = 0.99
    learning_rate: float = 0.1
    repel_rate: float = 0.0
    life_decay: float = 0.1
    relevance_rate: float = 0.1
    neighborhood_decay: float = 2.0
    relevance_smoothness: float = 0.1
    max_nodes: int = 100
    repel: Repel = "signed"
    life_rule: LifeRule = "batch"
    n_epochs: int = 30
    n_iter: int | None = None
    batch_size: int = 256
    shuffle: bool = True
    precision: Precision = "float32"
    random_state: Any = None
    device: str = "auto"
    progress: bool = False

    _in_unit_range: ClassVar[bool] = True

    def _build(self, d: int, generators: Sequence[torch.Generator]) -> nn.Module:
        stack = nn.Module()
        stack.nodes = Nodes(len(generators), self.max_nodes, d)
        return stack

    def _updates(
        self, stack: Any, x: Tensor, rows: Tensor, values: dict[str, Tensor]
    ) -> Iterator[tuple[dict[str, Tensor], Iterable[Tensor]]]:
        nodes = stack.nodes
        x = x.expand(len(nodes.life), *x.shape[-2:])
        nodes.learn(x, stack.rule, self.repel, self.life_rule)
        c, omega = nodes.nearest(x)
        D = (omega * (x - c).square()).sum(-1)  # (2)
        yield {"loss": D.mean(-1), "nodes": nodes.alive.to(x).sum(-1)}, ()

    def partial_fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Go on with one pass over more samples, in their order.

        The same as `fit` with one epoch and `shuffle=False` where nothing was fitted before.
        """
        fitted = hasattr(self, "parameters_")
        X = self._valid(X, reset=not fitted)
        n, d = X.shape
        require_count("batch_size", self.batch_size)
        self._check_common(max(n, self.batch_size), d)
        self._check(n, d)
        device = resolve_device(self.device)
        earlier = self.unplaced_ if fitted else 0
        if fitted:
            if self.n_nodes_ > self.max_nodes:
                raise ValueError(
                    f"max_nodes={self.max_nodes} is less than the {self.n_nodes_} nodes that there "
                    "are; raise it, or fit anew"
                )
            stack = self._restored(device)
            if stack.nodes.life.shape[1] != self.max_nodes:
                stack.nodes.make_room(self.max_nodes)
        else:
            self.seed_, self.n_iter_, self.history_ = resolve_seed(self.random_state), 0, {}
            stack = self._build(d, [torch.Generator()]).to(device, torch.from_numpy(X).dtype)
            self._tell(stack, [self])
        with torch.no_grad(), products(self.precision, device):
            for rows in np.split(X, range(self.batch_size, n, self.batch_size)):
                x = torch.from_numpy(rows).to(device)
                ((losses, _),) = self._updates(stack, x, torch.empty(0), {})
                for name, loss in losses.items():
                    seen = self.history_.get(name, np.empty(0, X.dtype))
                    self.history_[name] = np.append(seen, loss.numpy(force=True))
                self.n_iter_ += 1
        self._learn(stack, 0)
        self._warn_of(self.unplaced_ - earlier, stacklevel=3)
        self.labels_ = self._winners(X)
        return self

    def _valid(self, X: ArrayLike, *, reset: bool) -> Array:
        checked = super()._valid(X, reset=reset)
        if checked.min() < 0 or checked.max() > 1:
            raise ValueError(
                f"X lies within [{checked.min():.4g}, {checked.max():.4g}], but SOMRL takes data "
                "in [0, 1]; scale them, with sklearn.preprocessing.MinMaxScaler(clip=True) for one"
            )
        return checked

    def transform(self, X: ArrayLike) -> Array:
        """Return how strongly each node answers each sample, (n, n_nodes_): equation 1."""
        return np.concatenate([*self._answers(self._valid(X, reset=False))])

    def inverse_transform(self, Z: ArrayLike) -> Array:
        """Not there: activations do not tell the sample."""
        raise AttributeError("SOMRL has no decoder; its prototypes are centers_")

    @property
    def _n_features_out(self) -> int:
        return self.n_nodes_


@dataclass(eq=False, repr=False)
class DCSOMRL(_NodesEstimator):
    """DC-SOMRL: an autoencoder whose code is clustered by nodes with relevances.

    ℒ = ℒ_r + α ℒ_c (7), with ℒ_r = ‖x − x̂‖², summed over features, and ℒ_c = D_ω(z, c_z), the
    distance (2) of a code to its node, each a mean over the batch. The gradient of ℒ_c reaches the
    encoder alone: nodes move by their own rule. Defaults are the paper's best values for MNIST.

    Parameters
    ----------
    latent_dim : int, default=22
        m: dimensions of the code, which a sigmoid keeps in [0, 1].
    hidden : sequence of int, default=(500, 500, 2000)
        Widths of the encoder's hidden layers, mirrored in the decoder; see `Autoencoder`.
    alpha : float, default=0.1145
        α, per unit of a reconstruction loss that is a sum over features.
    activation_threshold : float, default=0.99425
    learning_rate : float, default=0.1426
        lr of the nodes, not of the networks.
    repel_rate : float, default=1.0
    life_decay : float, default=0.36
    relevance_rate : float, default=0.067
    neighborhood_decay : float, default=1.382
    relevance_smoothness : float, default=0.426
    max_nodes : int, default=200
    repel : {"signed", "literal"} or None, default="signed"
    life_rule : {"batch", "update"}, default="batch"
        The nodes' parameters; see `SOMRL`.
    input_scaling : "standardize", (float, float) or None, default="standardize"
        What is taken from each sample and what it is then divided by: one mean and one standard
        deviation of all training values, or the numbers given; the paper has (0.5, 0.5) for
        Fashion-MNIST.
    n_epochs : int, default=30
        Passes over the data.
    n_iter : int, optional
        Batches in all; overrides `n_epochs`.
    batch_size : int, default=256
    adam_rate : float, default=1e-3
        Learning rate of Adam, for the networks.
    shuffle, precision, random_state, device, progress
        See `Autoencoder`.

    Attributes
    ----------
    n_nodes_, centers_, relevances_, distances_, connections_, labels_, unplaced_
        See `SOMRL`; centres are codes, shape (n_nodes_, latent_dim).
    decoded_centers_ : ndarray of shape (n_nodes_, d)
        What the decoder makes of the centres.
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`; the history holds "loss" (7), "reconstruction" ℒ_r, in scaled
        units, "clustering" ℒ_c, and "nodes".

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.

    Warns
    -----
    UserWarning
        When samples asked for a node and all `max_nodes` were taken: once, with how many.

    References
    ----------
    "Shaping Latent Representations using Self-Organizing Maps with Relevance Learning", anonymous
    manuscript.

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> model = DCSOMRL(
    ...     8, hidden=(64,), activation_threshold=0.97, max_nodes=500, n_epochs=3, random_state=0
    ... ).fit(X)
    >>> model.relevances_.shape == (model.n_nodes_, 8), model.transform(X).shape
    (True, (1797, 8))
    """

    latent_dim: int = 22
    hidden: Sequence[int] = (500, 500, 2000)
    alpha: float = 0.1145
    activation_threshold: float = 0.99425
    learning_rate: float = 0.1426
    repel_rate: float = 1.0
    life_decay: float = 0.36
    relevance_rate: float = 0.067
    neighborhood_decay: float = 1.382
    relevance_smoothness: float = 0.426
    max_nodes: int = 200
    repel: Repel = "signed"
    life_rule: LifeRule = "batch"
    input_scaling: Literal["standardize"] | tuple[float, float] | None = "standardize"
    n_epochs: int = 30
    n_iter: int | None = None
    batch_size: int = 256
    adam_rate: float = 1e-3
    shuffle: bool = True
    precision: Precision = "float32"
    random_state: Any = None
    device: str = "auto"
    progress: bool = False

    _SYMBOLS: ClassVar[dict[str, str]] = _NodesEstimator._SYMBOLS | {"alpha": "alpha"}
    _may_differ: ClassVar[tuple[str, ...]] = tuple(_SYMBOLS)
    _adam_rate: ClassVar[str] = "adam_rate"
    _code: ClassVar[Any] = "sigmoid"

    # ------------------------------------------------------------ training

    def _build(self, d: int, generators: Sequence[torch.Generator]) -> nn.Module:
        stack: Any = super()._build(d, generators)
        stack.nodes = Nodes(len(generators), self.max_nodes, self.latent_dim)
        for name in ("shift", "scale"):
            stack.register_buffer(name, torch.ones(len(generators), 1, 1))
        return stack  # type: ignore[no-any-return]

    def _initialise(self, stack: Any, X: Tensor, generators: Sequence[torch.Generator]) -> None:
        if isinstance(self.input_scaling, str):
            shift, scale = float(X.mean()), max(float(X.std()), torch.finfo(X.dtype).tiny)
        else:
            shift, scale = (0.0, 1.0) if self.input_scaling is None else self.input_scaling
        stack.shift.fill_(shift)
        stack.scale.fill_(scale)

    def _updates(
        self, stack: Any, x: Tensor, rows: Tensor, values: dict[str, Tensor]
    ) -> Iterator[tuple[dict[str, Tensor], Iterable[Tensor]]]:
        x = (x - stack.shift) / stack.scale
        z, nodes = stack.encoder(x), stack.nodes
        nodes.learn(z.detach(), stack.rule, self.repel, self.life_rule)
        c, omega = nodes.nearest(z)
        difference = stack.decoder(z) - x
        L_r = (difference * difference).sum(-1).mean(-1)
        L_c = (omega * (z - c).square()).sum(-1).mean(-1)
        L = L_r + stack.rule["alpha"].flatten() * L_c  # (7)
        n_nodes = nodes.alive.to(L).sum(-1)
        losses = {"loss": L, "reconstruction": L_r, "clustering": L_c, "nodes": n_nodes}
        yield losses, stack.parameters()

    def _check(self, n: int, d: int) -> None:
        super()._check(n, d)
        if not 0 <= self.alpha < float("inf"):
            raise ValueError(f"alpha={self.alpha!r} must be a number of at least 0")
        if not 0 < self.adam_rate < float("inf"):
            raise ValueError(f"adam_rate={self.adam_rate!r} must be a positive number")
        given: Any = self.input_scaling
        if given is None or (isinstance(given, str) and given == "standardize"):
            return
        try:
            mean, sd = map(float, given)
        except (TypeError, ValueError):
            mean = sd = float("nan")
        if not (np.isfinite([mean, sd]).all() and sd > 0):
            raise ValueError(
                f"input_scaling={given!r}; choose 'standardize', (mean, standard deviation) with "
                "a positive second, or None"
            )

    # ------------------------------------------------------------ using

    def _places(self, X: Array) -> Array:
        shift, scale = (self.parameters_[name].ravel() for name in ("shift", "scale"))
        return self._through("encoder", (X - shift) / scale)

    def transform(self, X: ArrayLike) -> Array:
        """Return the code of each sample, shape (n, latent_dim), in [0, 1]."""
        return self._places(self._valid(X, reset=False))

    def inverse_transform(self, Z: ArrayLike) -> Array:
        """Return the decoded codes, shape (n, d), in the units of the data."""
        drawn = super().inverse_transform(Z)
        shift, scale = (self.parameters_[name].ravel() for name in ("shift", "scale"))
        return np.asarray(drawn * scale + shift)

    @property
    def decoded_centers_(self) -> Array:
        """What the decoder makes of the nodes' centres, shape (n_nodes_, d)."""
        return self.inverse_transform(self.centers_)
