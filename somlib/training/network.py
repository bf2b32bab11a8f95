"""The interface between the training loop and a model, and stacked networks of many seeds.

A model is an `nn.Module` written for one seed. To train several seeds in one pass, `stacked`
gives its parameters and buffers a leading axis of seeds. Layers (see `layers`) and formulas count
axes from the end, as `x.square().sum(-1)` does, so the same code computes one seed, (B, d), or all
of them, (S, B, d). No operation mixes seeds: the result of a seed does not depend on the others.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from somlib.training import processes

Array = NDArray[np.floating]
Losses = dict[str, Tensor]
"""Each loss of a batch by name; "loss" is the one to minimize. Shape (), stacked (S,)."""


@dataclass(frozen=True)
class Noise:
    """Random numbers that a model needs at each iteration; see `Network.noise`.

    Parameters
    ----------
    shape : tuple of int
        Of one seed's numbers for one iteration. The last axis but one is that of the samples of
        the batch; the loop passes those of the batch's, or the process's, samples.
    kind : {"normal", "uniform"}, default="normal"
        Standard normal, or uniform in [0, 1).
    stream : int, default=2
        Number of the stream: different streams of one seed are independent; 1 is the order of the
        samples.
    block : int, default=64
        Number of iterations whose numbers are generated together.
    dtype : torch.dtype, optional
        By default that of the data.
    """

    shape: tuple[int, ...]
    kind: Literal["normal", "uniform"] = "normal"
    stream: int = 2
    block: int = 64
    dtype: torch.dtype | None = None


class Network(nn.Module):
    """A model for the training loop: an `nn.Module` with six members.

    An iteration of the loop is

        rows = network.prepare(X, i, ...)                    # or the next batch in order
        for losses, parameters in network.updates(X[rows], rows, ...):
            one step of Adam on losses["loss"] for these parameters

    where `...` are keyword arguments: the entries of `schedules` and `noise` at iteration i. A
    model defines `losses` and overrides other members as needed. The estimator of the model (see
    `estimator.DeepEstimator`) builds one network per seed.

    A hyperparameter that differs between the models of a stack (a weight, a rate) is a
    non-persistent buffer, made by `hyperparameter`; one that is the same is a plain attribute.
    """

    training_buffers: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Buffers that only training needs, with their axes ("n": all samples): they are saved in
    checkpoints, not in fitted models."""

    def initialize(self, X: Tensor, generator: torch.Generator) -> None:
        """Initialize what depends on the data, such as prototypes; called once per seed."""

    def schedules(self, n_iter: int) -> dict[str, Array]:
        """Return scheduled values by name, each an array of n_iter values.

        "learning_rate" is Adam's, and is not passed to `updates`.
        """
        return {}

    def noise(self, batch_size: int) -> dict[str, Noise]:
        """Return by name the random numbers of each iteration."""
        return {}

    def prepare(self, X: Tensor, i: int, **arguments: Tensor) -> Tensor | None:
        """Update what depends on all samples X before iteration i, without gradients.

        Returns
        -------
        tensor of shape (B,) or (S, B), or None
            Indices of the samples of the iteration; None for the next ones in order.
        """
        return None

    def losses(self, *args: Any, **arguments: Any) -> Losses:
        """Return the losses of a batch: `losses(x, name=...)`, x of shape (B, d) or (S, B, d)."""
        raise NotImplementedError

    def updates(
        self, x: Tensor, rows: Tensor, **arguments: Tensor
    ) -> Iterator[tuple[Losses, Iterable[Tensor]]]:
        """Yield the losses of each step of an iteration, and the parameters that it updates.

        By default one step for all parameters. Code after a `yield` runs after the update. In an
        iteration of several batches, step k belongs to batch k, and all later steps to the last.
        """
        yield self.losses(x, **arguments), self.parameters()


def hyperparameter(value: float, shape: tuple[int, ...] = ()) -> Tensor:
    """Return a number as a buffer, in float64, so that it is rounded once, to the data's dtype.

    It is on the CPU also if the network is built on PyTorch's device "meta".
    """
    return torch.full(shape, float(value), dtype=torch.float64, device="cpu")


N = TypeVar("N", bound=nn.Module)


def stacked(networks: Sequence[N]) -> N:
    """Return one network for all: each parameter and buffer with a leading axis of seeds.

    The first network is modified and returned; a single one is returned unchanged. A non-persistent
    buffer with the same values in all of them (such as grid distances) does not get the axis.

    Examples
    --------
    >>> one = stacked([nn.Linear(3, 2) for _ in range(5)])
    >>> tuple(one.weight.shape)
    (5, 2, 3)
    """
    first = networks[0]
    if len(networks) == 1:
        return first
    for modules in zip(*(network.modules() for network in networks), strict=True):
        one: nn.Module = modules[0]
        for name, parameter in one._parameters.items():
            if parameter is not None:
                all_of_them = torch.stack([m._parameters[name].detach() for m in modules])
                one._parameters[name] = nn.Parameter(all_of_them, parameter.requires_grad)
        for name, buffer in one._buffers.items():
            values = [m._buffers[name] for m in modules]
            shared = name in one._non_persistent_buffers_set and all(
                torch.equal(value, values[0]) for value in values[1:] if buffer is not None
            )
            if buffer is not None and not shared:
                one._buffers[name] = torch.stack(values)
    return first


def member_state(network: Network, s: int, n_seeds: int) -> dict[str, Array]:
    """Return the parameters and buffers of seed number s for a fitted model, as arrays."""
    return {
        name: (value[s] if n_seeds > 1 else value).numpy(force=True).copy()
        for name, value in network.state_dict().items()
        if name not in network.training_buffers
    }


def load_state(network: nn.Module, state: Mapping[str, Tensor], *, assign: bool = False) -> None:
    """Load saved parameters and buffers into a network.

    Parameters must have the saved shape; buffers are resized to it.
    """
    for key, saved in state.items():
        path, _, name = key.rpartition(".")
        buffers = network.get_submodule(path)._buffers  # also those that are None
        if name in buffers and getattr(buffers[name], "shape", None) != saved.shape:
            device = next(iter(network.state_dict().values())).device
            buffers[name] = torch.empty_like(saved, device=device)
    network.load_state_dict(state, assign=assign)


class NoiseSource:
    """Random numbers of all iterations, as a function of seed and iteration.

    Resuming needs no generator state, and a seed has the same numbers alone or with others, on any
    device.

    Parameters
    ----------
    kinds : mapping of str to Noise
    seeds : sequence of S int
    like : tensor
        Its dtype and device are those of the numbers.
    """

    def __init__(self, kinds: Mapping[str, Noise], seeds: Sequence[int], like: Tensor) -> None:
        self.kinds, self.seeds, self.like = dict(kinds), list(seeds), like
        self._blocks: dict[str, tuple[int, Tensor]] = {}

    def __call__(self, i: int) -> dict[str, Tensor]:
        """Return the numbers of iteration i by name, of shape `Noise.shape`, stacked (S, ...)."""
        return {name: self._of(name, kind, i) for name, kind in self.kinds.items()}

    def _of(self, name: str, kind: Noise, i: int) -> Tensor:
        block, at = divmod(i, kind.block)
        current, numbers = self._blocks.get(name, (-1, self.like))
        if current != block:
            numbers = self._generate(kind, block)
            self._blocks[name] = block, numbers
        return numbers[at] if len(self.seeds) > 1 else numbers[at, 0]

    def _generate(self, kind: Noise, block: int) -> Tensor:
        rngs = [np.random.default_rng([seed, kind.stream, block]) for seed in self.seeds]
        shape = (kind.block, *kind.shape)
        per_seed = [
            rng.standard_normal(shape) if kind.kind == "normal" else rng.random(shape)
            for rng in rngs
        ]
        own = np.stack(per_seed, 1)
        if len(kind.shape) > 1:
            own = own[..., processes.stripe(), :]
        dtype = self.like.dtype if kind.dtype is None else kind.dtype
        if self.like.device.type == "mps":  # which has no float64
            dtype = self.like.dtype
        return torch.from_numpy(own).to(device=self.like.device, dtype=dtype)
