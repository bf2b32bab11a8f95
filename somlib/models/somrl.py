"""SOMRL and DC-SOMRL: self-organizing maps without a grid, with relevance learning.

Each node learns a center and, per dimension, a relevance: high where its samples differ little.
Nodes are inserted for samples below the activation threshold of all nodes, and removed once they
win no sample for a while. Neighbors are ranked by activation, for every update. `SOMRL` is the
map alone, for data in [0, 1]; `DCSOMRL` clusters the latent code of an autoencoder with it, and
shapes that code.

Equations are those of the DC-SOMRL paper, "Shaping Latent Representations using Self-Organizing
Maps with Relevance Learning".
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClusterMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from somlib import checks
from somlib.search.products import products
from somlib.training import Array, DeepEstimator, Losses, Network, saving
from somlib.training.layers import AutoencoderNetwork
from somlib.training.loop import resolve_device, resolve_seed
from somlib.training.network import hyperparameter, member_state

Repel = Literal["signed", "literal"] | None
LifeRule = Literal["batch", "update"]
Scaling = tuple[float, checks.Positive]
Rate = Annotated[float, checks.number("a number above 0, up to 1", lambda value: 0 < value <= 1)]

EPSILON = 1e-7
"""ε of equation 1."""


def _rounding(like: Tensor) -> float:
    """Return the tolerance for rounding errors of numbers in [0, 1]."""
    return 8 * torch.finfo(like.dtype).eps


# ---------------------------------------------------------------- the formulas


def weighted_distance(x: Tensor, c: Tensor, omega: Tensor) -> Tensor:
    """Return D_ω(x, c) = Σ_i ω_i (x_i − c_i)² for all pairs, expanded: equation 2.

    Parameters
    ----------
    x : tensor of shape (B, m)
    c, omega : tensors of shape (K, m)

    Returns
    -------
    tensor of shape (B, K)
    """
    squares = x.square() @ omega.mT - 2 * x @ (omega * c).mT
    return (squares + (omega * c.square()).sum(-1)[..., None, :]).clamp(min=0)


def activation(x: Tensor, c: Tensor, omega: Tensor) -> Tensor:
    """Return the activation of each node by each sample, (B, K) in (0, 1): equation 1."""
    total = omega.sum(-1)[..., None, :]
    return total / (total + weighted_distance(x, c, omega) + EPSILON)


def relevances(delta: Tensor, s: Tensor | float) -> Tensor:
    """Return the relevances ω of nodes with moving distances δ, both (K, m): equation 6.

    Where all distances of a node are equal, up to rounding, all dimensions are relevant. The
    printed sign makes dimensions of *large* distance relevant, which contradicts the paper's text
    and all public implementations of related models; here their relevance is near 0.
    """
    mean, most, least = delta.mean(-1, True), delta.amax(-1, True), delta.amin(-1, True)
    differ = most - least > _rounding(delta)
    omega = torch.sigmoid((mean - delta) / torch.where(differ, s * (most - least), 1.0))
    return torch.where(differ, omega, 1.0)


def repulsion(d: Tensor, kind: Repel = "signed") -> Tensor:
    """Return repel(d), d = c̄ − c: equation 4, which the update subtracts.

    The paper prints max(1 − 2d, 0), "literal". It is positive on both sides of the center, so it
    moves every node towards smaller coordinates. "signed" moves nodes away from the center, as the
    text says: sign(d) max(1 − 2|d|, 0). None has no repulsion.
    """
    if kind is None:
        return torch.zeros_like(d)
    if kind == "literal":
        return (1 - 2 * d).clamp(min=0)
    away = d.sign() * (d.abs() > _rounding(d))  # ignore the sign of rounding errors
    return away * (1 - 2 * d.abs()).clamp(min=0)


# ---------------------------------------------------------------- nodes and their learning rule

_SYMBOLS = {
    "activation_threshold": "a_t",
    "node_rate": "lr",
    "repel_rate": "rho",
    "life_decay": "ld",
    "relevance_rate": "beta",
    "neighborhood_decay": "gamma",
    "relevance_smoothness": "s",
}
"""The paper's symbol of each parameter of the learning rule."""


class Rule(nn.Module):
    """Parameters of the nodes' learning rule, which may differ between the models of a stack.

    Parameters
    ----------
    a_t, lr, rho, ld, beta, gamma, s : float
        By the paper's symbols; stored as non-persistent buffers of shape (1, 1).
    repel : {"signed", "literal"} or None, default="signed"
    life_rule : {"batch", "update"}, default="batch"
        As for `SOMRL`; the same for all models of a stack.
    """

    a_t: Tensor
    lr: Tensor
    rho: Tensor
    ld: Tensor
    beta: Tensor
    gamma: Tensor
    s: Tensor

    def __init__(
        self, *, repel: Repel = "signed", life_rule: LifeRule = "batch", **values: float
    ) -> None:
        super().__init__()
        for symbol in _SYMBOLS.values():
            buffer = hyperparameter(values[symbol], (1, 1))
            self.register_buffer(symbol, buffer, persistent=False)
        self.repel, self.life_rule = repel, life_rule


class Nodes(nn.Module):
    """A map with capacity for K nodes: arrays of fixed size; `life` says which slots are in use.

    Buffers: `centers`, `relevances` and `distances`, of shape (K, m); `life`, of shape (K,), below
    0 where a slot is free; `unplaced`, of shape (), counts the rejected samples for which no node
    could be inserted, because no slot was free. After the first batch a map is never empty: the
    node that won most recently is in use.
    """

    centers: Tensor
    relevances: Tensor
    distances: Tensor
    life: Tensor
    unplaced: Tensor

    def __init__(self, K: int, m: int) -> None:
        super().__init__()
        for name in ("centers", "relevances", "distances"):
            self.register_buffer(name, torch.zeros(K, m))
        self.register_buffer("life", torch.full((K,), -1.0))
        self.register_buffer("unplaced", torch.zeros(()))

    @property
    def alive(self) -> Tensor:
        """Which slots hold a node, (K,)."""
        return self.life >= 0

    def activations(self, x: Tensor) -> Tensor:
        """Return the activations of all slots by samples x (B, m): (B, K), −1 for a free slot."""
        found = activation(x, self.centers, self.relevances)
        return found.masked_fill(~self.alive[..., None, :], -1.0)

    def nearest(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return center and relevances of the most active node of each sample, (B, m) each."""
        with torch.no_grad():
            winner = self.activations(z).argmax(-1)[..., None]
            winner = winner.expand(*winner.shape[:-1], z.shape[-1])
            return self.centers.gather(-2, winner), self.relevances.gather(-2, winner)

    @torch.no_grad()
    def learn(self, x: Tensor, rule: Rule) -> None:
        """Learn from one batch, (B, m): Algorithm 1."""
        alive = self.alive
        best, winner = self.activations(x).max(-1)
        assigned = nn.functional.one_hot(winner, alive.shape[-1]).to(x)  # (B, K)
        reached = (best >= rule.a_t[..., 0])[..., None]
        accepted, x_accepted = _group_means(assigned * reached, x)
        rejected, x_rejected = _group_means(assigned * ~reached, x)
        self._move(accepted, x_accepted, rule)
        # lines 16 and 17: a node that wins nothing loses life, and is removed below 0
        wins, loss = accepted + rejected, rule.ld[..., 0]
        if rule.life_rule == "update":
            wins, loss = accepted, loss * (accepted > 0).sum(-1, keepdim=True)
        life = torch.where(wins > 0, 1.0, self.life - loss)
        life = torch.where(life.abs() > _rounding(life), life, 0.0)
        self.life.copy_(torch.where(alive & (life >= 0), life, -1.0))
        self._insert(rejected, x_rejected, free=~alive)

    def _move(self, accepted: Tensor, x: Tensor, rule: Rule) -> None:
        """Update winners and their neighbors with the means of accepted samples: lines 10–15."""
        c, omega, delta = self.centers, self.relevances, self.distances
        activations = self.activations(x)  # (K groups, K nodes)
        activations.diagonal(dim1=-2, dim2=-1).fill_(2.0)  # the winner has rank 0
        r = torch.arange(activations.shape[-1], device=x.device)
        h = torch.exp(-r / rule.gamma).expand_as(activations)
        updated = (activations >= rule.a_t) & self.alive[..., None, :] & (accepted > 0)[..., None]
        by_rank = activations.argsort(-1, descending=True)
        lr = rule.lr * torch.zeros_like(activations).scatter_(-1, by_rank, h) * updated  # lr h(r)
        # updates of one node by several groups: the combined rate, to the weighted mean of targets
        total = lr.sum(-2)[..., None]
        rate = 1 - (1 - lr).prod(-2)[..., None]
        target = (lr.mT @ x) / torch.where(total > 0, total, 1.0)
        alive = self.alive[..., None].to(x)
        mean = (alive * c).sum(-2, True) / alive.sum(-2, True).clamp(min=1)  # c̄
        c += rate * ((target - c) - rule.rho * repulsion(mean - c, rule.repel))  # (3)
        beta = rule.beta * rate
        delta.copy_((1 - beta) * delta + beta * (target - c).abs())  # (5)
        omega.copy_(torch.where(total > 0, relevances(delta, rule.s), omega))  # (6)

    def _insert(self, rejected: Tensor, x: Tensor, free: Tensor) -> None:
        """Insert nodes at the means of rejected samples while slots are free: lines 7–9."""
        order = rejected.argsort(dim=-1, descending=True, stable=True)  # most samples first
        slot = (~free).to(torch.uint8).argsort(dim=-1, stable=True)  # free ones first
        count = rejected.gather(-1, order)
        new = (count > 0) & free.gather(-1, slot)
        self.unplaced += (count * ~new).sum(-1)
        x = x.gather(-2, order[..., None].expand_as(x))
        at = slot[..., None].expand_as(x)
        for old, initial in (
            (self.centers, x),
            (self.relevances, torch.ones_like(x)),
            (self.distances, torch.zeros_like(x)),
        ):
            old.scatter_(-2, at, torch.where(new[..., None], initial, old.gather(-2, at)))
        self.life.scatter_(-1, slot, torch.where(new, 1.0, self.life.gather(-1, slot)))

    def resize(self, K: int) -> None:
        """Change the capacity to K slots, which must be enough for the nodes in use."""
        order = self.alive.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
        axis = self.life.ndim - 1
        for name in ("centers", "relevances", "distances", "life"):
            old = getattr(self, name)
            at = order.view(*order.shape, *[1] * (old.ndim - order.ndim)).expand_as(old)
            kept = old.gather(axis, at).narrow(axis, 0, min(K, order.shape[-1]))
            shape = (*old.shape[:axis], K, *old.shape[axis + 1 :])
            new = old.new_full(shape, -1.0 if name == "life" else 0.0)
            new.narrow(axis, 0, kept.shape[axis]).copy_(kept)
            setattr(self, name, new)


def _group_means(member: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return sizes (K,) and means (K, m) of groups, of memberships (B, K)."""
    size = member.sum(-2)
    return size, (member.mT @ x) / size.clamp(min=1)[..., None]


# ---------------------------------------------------------------- the networks


class SOMRLNetwork(Network):
    """The map alone: nodes in the space of the samples, which learn without gradients.

    Parameters
    ----------
    config : SOMRL
        Its parameters.
    n_features : int
        d.
    """

    def __init__(self, config: "SOMRL", n_features: int) -> None:
        super().__init__()
        self.nodes = Nodes(config.max_nodes, n_features)
        self.rule = config._rule()

    def losses(self, x: Tensor) -> Losses:
        """Let the nodes learn from a batch, then return the mean D_ω of samples to their node."""
        self.nodes.learn(x, self.rule)
        c, omega = self.nodes.nearest(x)
        D = (omega * (x - c).square()).sum(-1)  # (2)
        return {"loss": D.mean(-1), "nodes": self.nodes.alive.to(x).sum(-1)}

    def updates(
        self, x: Tensor, rows: Tensor, **arguments: Tensor
    ) -> Iterator[tuple[Losses, Iterable[Tensor]]]:
        """Yield the losses and no parameters: there is no step of Adam."""
        yield self.losses(x, **arguments), ()


class DCSOMRLNetwork(AutoencoderNetwork):
    """The autoencoder of scaled samples, and nodes in its latent space.

    `encode` and `decode` use samples in the units of the data; `encoder` and `decoder` use scaled
    samples.

    Parameters
    ----------
    config : DCSOMRL
        Its parameters.
    n_features : int
        d.
    generator : torch.Generator
        Initializes the weights.
    """

    shift: Tensor
    scale: Tensor
    alpha: Tensor

    def __init__(self, config: "DCSOMRL", n_features: int, generator: torch.Generator) -> None:
        c = config
        super().__init__(n_features, c.hidden, c.latent_dim, generator, code="sigmoid")
        self.nodes = Nodes(c.max_nodes, c.latent_dim)
        self.rule = c._rule()
        self.register_buffer("alpha", hyperparameter(c.alpha), persistent=False)
        for name in ("shift", "scale"):
            self.register_buffer(name, torch.ones(1, 1))
        self.input_scaling = c.input_scaling

    def initialize(self, X: Tensor, generator: torch.Generator) -> None:
        """Set the scaling of the samples."""
        if isinstance(self.input_scaling, str):
            shift, scale = float(X.mean()), max(float(X.std()), torch.finfo(X.dtype).tiny)
        else:
            shift, scale = (0.0, 1.0) if self.input_scaling is None else self.input_scaling
        self.shift.fill_(shift)
        self.scale.fill_(scale)

    def encode(self, x: Tensor) -> Tensor:
        """Return the latent codes of samples, (B, latent_dim)."""
        return super().encode((x - self.shift) / self.scale)

    def decode(self, z: Tensor) -> Tensor:
        """Return the decoded codes, (B, d)."""
        return super().decode(z) * self.scale + self.shift

    def losses(self, x: Tensor) -> Losses:
        """Let the nodes learn from the codes of a batch; return ℒ = ℒ_r + α ℒ_c and both terms."""
        x = (x - self.shift) / self.scale
        z = self.encoder(x)
        self.nodes.learn(z.detach(), self.rule)
        c, omega = self.nodes.nearest(z)
        difference = self.decoder(z) - x
        L_r = (difference * difference).sum(-1).mean(-1)
        L_c = (omega * (z - c).square()).sum(-1).mean(-1)
        L = L_r + self.alpha * L_c  # (7)
        n_nodes = self.nodes.alive.to(L).sum(-1)
        return {"loss": L, "reconstruction": L_r, "clustering": L_c, "nodes": n_nodes}


# ---------------------------------------------------------------- base of both estimators


@dataclass(kw_only=True, eq=False, repr=False)
class _NodesEstimator(ClusterMixin, DeepEstimator):
    """Base of the map alone and of the map in an autoencoder: parameters of the nodes."""

    activation_threshold: checks.OpenFraction = 0.99
    node_rate: Rate = 0.1
    repel_rate: checks.Fraction = 0.0
    life_decay: checks.Fraction = 0.1
    relevance_rate: checks.Fraction = 0.1
    neighborhood_decay: checks.Positive = 2.0
    relevance_smoothness: checks.Positive = 0.1
    max_nodes: checks.Count = 100
    repel: Repel = "signed"
    life_rule: LifeRule = "batch"
    n_epochs: checks.Count = 30
    n_iter: checks.Count | None = None

    _may_differ: ClassVar[tuple[str, ...]] = tuple(_SYMBOLS)
    _learned: ClassVar[dict[str, saving.Check]] = {"unplaced_": saving.count()}

    def _empty_network(self) -> Any:
        network = super()._empty_network()
        life = self.parameters_.get("nodes.life", np.empty(self.max_nodes))
        with torch.device("meta"):  # the capacity with which they were learned
            network.nodes = Nodes(len(life), network.nodes.centers.shape[-1])
        return network

    def _rule(self) -> Rule:
        values: dict[str, float] = {s: getattr(self, name) for name, s in _SYMBOLS.items()}
        return Rule(**values, repel=self.repel, life_rule=self.life_rule)

    def _activations(self, Z: Array) -> Iterator[Array]:
        """Return the activations of the nodes by each point, (rows, n_nodes_) at a time."""
        return self._in_blocks(
            lambda network, z: network.nodes.activations(z)[:, network.nodes.alive], Z
        )

    def _winners(self, Z: Array, a_t: float = 0.0) -> NDArray[np.int64]:
        """Return the most active node of each point, −1 where no activation reaches a_t."""
        if not self.n_nodes_:  # interrupted before the first batch
            return np.full(len(Z), -1)
        found = [np.where(ac.max(1) >= a_t, ac.argmax(1), -1) for ac in self._activations(Z)]
        return np.concatenate(found)

    def _points(self, X: Array) -> Array:
        """Return samples as points of the nodes' space."""
        return X

    @checks.arguments
    def predict(self, X: ArrayLike, *, noise: bool = False) -> NDArray[np.int64]:
        """Return the most active node of each sample, shape (n,).

        Parameters
        ----------
        X : array of shape (n, d)
        noise : bool, default=False
            Whether a sample gets −1 where no node reaches `activation_threshold`.
        """
        return self._winners(
            self._points(self._valid(X, reset=False)), self.activation_threshold if noise else 0.0
        )

    def memberships(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Return which nodes are active for each sample, (n, n_nodes_): none, one or several.

        A node is active where its activation reaches `activation_threshold`. Clusters in different
        subspaces may overlap.
        """
        a_t = self.activation_threshold
        Z = self._points(self._valid(X, reset=False))
        return np.concatenate([ac >= a_t for ac in self._activations(Z)])

    def _of_nodes(self, name: str) -> Array:
        """Return an array of `Nodes`, without its free slots."""
        check_is_fitted(self)
        return self.parameters_[f"nodes.{name}"][self.parameters_["nodes.life"] >= 0]

    @property
    def n_nodes_(self) -> int:
        """Number of nodes."""
        return len(self._of_nodes("life"))

    @property
    def centers_(self) -> Array:
        """The nodes' centers c, shape (n_nodes_, m)."""
        return self._of_nodes("centers")

    @property
    def relevances_(self) -> Array:
        """The nodes' relevances ω, shape (n_nodes_, m), in [0, 1]."""
        return self._of_nodes("relevances")

    @property
    def distances_(self) -> Array:
        """The nodes' moving distances δ, shape (n_nodes_, m)."""
        return self._of_nodes("distances")

    @property
    def connections_(self) -> NDArray[np.bool_]:
        """Pairs of nodes of which each is active for the other's center, (n_nodes_, n_nodes_)."""
        activations = np.concatenate([*self._activations(self.centers_)])
        active = activations >= self.activation_threshold
        mutual: NDArray[np.bool_] = active & active.T
        np.fill_diagonal(mutual, False)
        return mutual

    def _learn(self, state: dict[str, Array]) -> None:
        super()._learn(state)
        self.unplaced_ = int(self.parameters_["nodes.unplaced"])

    def _finish(self, X: Array) -> None:
        self._warn_of(self.unplaced_, stacklevel=6)
        self.labels_ = self._winners(self._points(X))

    def _warn_of(self, unplaced: int, stacklevel: int) -> None:
        if unplaced:
            warnings.warn(
                f"no node was inserted for {unplaced} samples below "
                f"activation_threshold={self.activation_threshold}, because all max_nodes="
                f"{self.max_nodes} were in use; raise max_nodes, or lower activation_threshold",
                stacklevel=stacklevel,
            )


# ---------------------------------------------------------------- the estimators


@dataclass(eq=False, repr=False)
class SOMRL(_NodesEstimator):
    """Self-organizing map with relevance learning, for data in [0, 1].

    A batch is grouped by winner, the most active node of each sample, and the mean of each group is
    one update (Algorithm 1). If no node reaches the activation threshold, the mean is inserted as a
    new node; a node that wins no sample for a while is removed. The number of nodes is learned.

    Parameters
    ----------
    activation_threshold : float, default=0.99
        a_t: a node is inserted for samples whose winner is less active.
    node_rate : float, default=0.1
        lr: learning rate of the winner; neighbors of rank r have lr exp(−r/γ).
    repel_rate : float, default=0.0
        ρ: strength of the repulsion of nodes from the center of the map.
    life_decay : float, default=0.1
        ld: life that a node loses with each batch in which it wins no sample, of 1.
    relevance_rate : float, default=0.1
        β: rate of the moving averages δ of the distances.
    neighborhood_decay : float, default=2.0
        γ: decay constant of the neighborhood over ranks.
    relevance_smoothness : float, default=0.1
        s: smoothness of the relevances between the largest and the smallest distance; with a small
        value they are nearly 0 or 1.
    max_nodes : int, default=100
        Capacity: the maximum number of nodes.
    repel : {"signed", "literal"} or None, default="signed"
        Reading of equation 4; see `repulsion`.
    life_rule : {"batch", "update"}, default="batch"
        "batch", as in the paper's text: the life of a node that wins any sample of the batch is
        restored; others lose ld. "update", as in the paper's listing: only nodes that were updated
        as winners are restored, and the others lose ld for every such winner, so few remain.
    n_epochs : int, default=30
        Passes over the data.
    n_iter : int, optional
        Total number of batches; overrides `n_epochs`.
    batch_size, shuffle, precision, random_state, device, progress
        See `training.DeepEstimator`.

    Attributes
    ----------
    n_nodes_ : int
    centers_, relevances_, distances_ : ndarrays of shape (n_nodes_, d)
        c, ω and δ of each node.
    connections_ : ndarray of bool, (n_nodes_, n_nodes_)
        Pairs of nodes of which each is active for the other's center.
    labels_ : ndarray of shape (n,)
        Most active node of each training sample.
    unplaced_ : int
        Number of samples below the threshold for which no node could be inserted, because all
        `max_nodes` were in use.
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`; the history holds "loss", the mean D_ω of samples to their
        node, and "nodes".

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.

    Warns
    -----
    UserWarning
        When no node could be inserted, because all `max_nodes` were in use: once, with the number
        of samples.

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

    activation_threshold: checks.OpenFraction = 0.99

    _in_unit_range: ClassVar[bool] = True

    def _build(self, d: int, generator: torch.Generator) -> SOMRLNetwork:
        return SOMRLNetwork(self, d)

    def partial_fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Continue with one pass over more samples, in their order.

        The first call is equal to `fit` with one epoch and `shuffle=False`.
        """
        checks.parameters(self)
        fitted = hasattr(self, "parameters_")
        X = self._valid(X, reset=not fitted)
        n, d = X.shape
        self._check_common(max(n, self.batch_size), d)
        self._check(n, d)
        device = resolve_device(self.device)
        earlier = self.unplaced_ if fitted else 0
        if fitted:
            if self.n_nodes_ > self.max_nodes:
                raise ValueError(
                    f"max_nodes={self.max_nodes} is less than the {self.n_nodes_} nodes in use; "
                    "raise it, or fit a new map"
                )
            network = self._network(device)
            if len(network.nodes.life) != self.max_nodes:
                network.nodes.resize(self.max_nodes)
        else:
            self.seed_, self.n_iter_ = resolve_seed(self.random_state), 0
            self.history_: dict[str, Array] = {}
            network = self._build(d, torch.Generator()).to(device, torch.from_numpy(X).dtype)
        with torch.no_grad(), products(self.precision, device):
            for rows in np.split(X, range(self.batch_size, n, self.batch_size)):
                losses = network.losses(torch.from_numpy(rows).to(device))
                for name, loss in losses.items():
                    seen = self.history_.get(name, np.empty(0, X.dtype))
                    self.history_[name] = np.append(seen, loss.numpy(force=True))
                self.n_iter_ += 1
        self._learn(member_state(network, 0, 1))
        self._warn_of(self.unplaced_ - earlier, stacklevel=3)
        self.labels_ = self._winners(X)
        return self

    def transform(self, X: ArrayLike) -> Array:
        """Return the activation of each node by each sample, (n, n_nodes_): equation 1."""
        return np.concatenate([*self._activations(self._valid(X, reset=False))])

    def inverse_transform(self, Z: ArrayLike) -> Array:
        """Not available: a sample cannot be reconstructed from activations."""
        raise AttributeError("SOMRL has no decoder; its prototypes are centers_")

    @property
    def _n_features_out(self) -> int:
        return self.n_nodes_


@dataclass(eq=False, repr=False)
class DCSOMRL(_NodesEstimator):
    """DC-SOMRL: an autoencoder whose code is clustered by nodes with relevances.

    ℒ = ℒ_r + α ℒ_c (7), with ℒ_r = ‖x − x̂‖², summed over features, and ℒ_c = D_ω(z, c_z), the
    distance (2) of a code to its node, each a mean over the batch. The gradient of ℒ_c reaches the
    encoder alone: nodes learn by their own rule. Defaults are the paper's best values for MNIST.

    Parameters
    ----------
    latent_dim : int, default=22
        m: dimensions of the code, in [0, 1] by a sigmoid.
    hidden : sequence of int, default=(500, 500, 2000)
        Widths of the encoder's hidden layers, in reverse in the decoder; see `Autoencoder`.
    alpha : float, default=0.1145
        α, relative to a reconstruction loss that is a sum over features.
    activation_threshold : float, default=0.99425
    node_rate : float, default=0.1426
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
        Shift and scale of the samples: the mean and standard deviation of all training values, or
        the numbers given; the paper has (0.5, 0.5) for Fashion-MNIST.
    n_epochs : int, default=30
        Passes over the data.
    n_iter : int, optional
        Total number of batches; overrides `n_epochs`.
    learning_rate : float, default=1e-3
        Adam's, for encoder and decoder; that of the nodes is `node_rate`.
    batch_size, shuffle, precision, random_state, device, progress
        See `training.DeepEstimator`.

    Attributes
    ----------
    n_nodes_, centers_, relevances_, distances_, connections_, labels_, unplaced_
        See `SOMRL`; centers are codes, shape (n_nodes_, latent_dim).
    decoded_centers_ : ndarray of shape (n_nodes_, d)
        The decoded centers, in the units of the data.
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
        When no node could be inserted, because all `max_nodes` were in use: once, with the number
        of samples.

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

    latent_dim: checks.Count = 22
    hidden: Sequence[checks.Count] = (500, 500, 2000)
    alpha: checks.NotNegative = 0.1145
    _: KW_ONLY
    activation_threshold: checks.OpenFraction = 0.99425
    node_rate: Rate = 0.1426
    repel_rate: checks.Fraction = 1.0
    life_decay: checks.Fraction = 0.36
    relevance_rate: checks.Fraction = 0.067
    neighborhood_decay: checks.Positive = 1.382
    relevance_smoothness: checks.Positive = 0.426
    max_nodes: checks.Count = 200
    input_scaling: Literal["standardize"] | Scaling | None = "standardize"
    learning_rate: checks.Positive = 1e-3

    _may_differ: ClassVar[tuple[str, ...]] = (*_SYMBOLS, "alpha")

    def _build(self, d: int, generator: torch.Generator) -> DCSOMRLNetwork:
        return DCSOMRLNetwork(self, d, generator)

    def _points(self, X: Array) -> Array:
        return self._apply("encode", X)

    @property
    def decoded_centers_(self) -> Array:
        """The decoded centers of the nodes, shape (n_nodes_, d), in the units of the data."""
        return self.inverse_transform(self.centers_)
