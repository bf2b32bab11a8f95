"""One iteration: losses, gradients, Adam; on a GPU captured once and replayed."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor

from somlib.training import processes
from somlib.training.adam import Adam
from somlib.training.network import Losses, Network


class Step:
    """The steps of one iteration, for one network or for all seeds of a stack.

    The gradient of the sum of all losses is, for each seed, that of its own loss.

    Parameters
    ----------
    network : Network
    rates : sequence of S floats
        Learning rate of each seed.
    """

    def __init__(self, network: Network, rates: Sequence[float]) -> None:
        self.network = network
        like = next(iter(network.state_dict().values()))
        # Adam has one learning rate; if they differ, each model's step is scaled from the largest
        shares = torch.tensor(rates, dtype=like.dtype, device=like.device) / max(rates)
        self._shares = shares if len(set(rates)) > 1 else None
        self._highest = max(rates)
        fused = like.device.type in ("cpu", "cuda")
        self.adam = Adam(network.parameters(), self._highest, fused=fused)

    def __call__(
        self,
        x: Tensor,
        rows: Tensor,
        arguments: dict[str, Tensor],
        shares: Sequence[float] = (1.0,),
    ) -> Losses:
        """Take the steps of an iteration; return the losses before each.

        `shares` holds the fraction of each batch of the iteration that belongs to this process.
        """
        seen: Losses = {}
        own = {name: value for name, value in arguments.items() if name != "learning_rate"}
        scale = self._shares
        if "learning_rate" in arguments:
            scale = arguments["learning_rate"].reshape(-1) / self._highest
        for k, (losses, moved) in enumerate(self.network.updates(x, rows, **own)):
            parameters = [p for p in moved if p.requires_grad]
            if parameters:  # a model may also learn without gradients
                self.adam.zero_grad()  # parameters without gradient are not updated
                losses["loss"].sum().backward(inputs=parameters)  # type: ignore[no-untyped-call]
            losses = {name: loss.detach() for name, loss in losses.items()}
            if processes.size() > 1:
                losses = _averaged(losses, parameters, shares[min(k, len(shares) - 1)])
            if parameters:
                self._optimizer_step(parameters, scale)
            seen |= losses
        return seen

    def _optimizer_step(self, parameters: Sequence[Tensor], scale: Tensor | None) -> None:
        """Take Adam's step, multiplied by `scale`, of all seeds or of each."""
        if scale is None:
            self.adam.step()
            return
        before = [p.detach().clone() for p in parameters]
        self.adam.step()
        with torch.no_grad():
            for p, start in zip(parameters, before, strict=True):
                torch.lerp(start, p, scale.reshape(-1, *[1] * (p.ndim - 1)), out=p)


def _averaged(losses: Losses, parameters: Sequence[Tensor], share: float) -> Losses:
    """Return the losses of the whole batch, and set the parameters' gradients to its gradient."""
    with_gradient = [p for p in parameters if p.grad is not None]
    own = [*losses.values(), *(cast("Tensor", p.grad) for p in with_gradient)]
    means = processes.total(*(share * tensor for tensor in own))
    for p, gradient in zip(with_gradient, means[len(losses) :], strict=True):
        p.grad = gradient
    return dict(zip(losses, means, strict=False))


class CapturedStep:
    """A step captured once as a CUDA graph and then replayed.

    A step of these networks launches about a hundred kernels of a few microseconds each: launching
    them from Python takes longer than running them. The first steps are not captured, because
    libraries choose their kernels in them; neither is the smaller last batch of an epoch.
    """

    WARM_UP_STEPS = 3

    def __init__(self, step: Callable[..., Losses], batch_size: int) -> None:
        self.step, self.batch_size, self.seen = step, batch_size, 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(
        self,
        x: Tensor,
        rows: Tensor,
        arguments: dict[str, Tensor],
        shares: Sequence[float] = (1.0,),
    ) -> Losses:
        """Take the steps of an iteration; return the losses before each."""
        if rows.shape[-1] != self.batch_size:
            return self.step(x, rows, arguments)
        if self.seen < self.WARM_UP_STEPS:
            self.seen += 1
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                losses = self.step(x, rows, arguments)
            torch.cuda.current_stream().wait_stream(side)
            return losses
        if self.graph is None:
            self.inputs = (x.clone(), rows.clone(), {k: v.clone() for k, v in arguments.items()})
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.losses = self.step(*self.inputs)
        self.inputs[0].copy_(x)
        self.inputs[1].copy_(rows)
        for name, value in arguments.items():
            self.inputs[2][name].copy_(value)
        self.graph.replay()
        return {name: loss.clone() for name, loss in self.losses.items()}


@contextmanager
def deferred_interrupts() -> Iterator[list[int]]:
    """Defer Ctrl-C to the end of a `with`; its list is not empty if an interrupt is pending."""
    waiting: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if handler is not signal.default_int_handler or not main:
        yield waiting  # another handler is set, or this is not the main thread
        return
    signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    try:
        yield waiting
    finally:
        signal.signal(signal.SIGINT, handler)
    if waiting:
        signal.raise_signal(signal.SIGINT)
