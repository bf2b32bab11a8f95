"""Data-parallel training: each process has a share of the samples, and sums are reduced.

`torchrun` starts them, on one machine or on many; `group` joins them. With one process, and
outside of `group`, all functions return their input, so models need no special case. Files and
random numbers are read by the first process and broadcast; everything else is summed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # later, its default arguments would hold on to the group
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T")

TIMEOUT = timedelta(minutes=5)
"""Timeout for a process that does not respond; longer than reading data may take. A process that
ends is detected at once, because its connections are closed."""


class ProcessLostError(RuntimeError):
    """Another process of the group has ended or does not respond."""


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Join the other processes inside a `with`: on "cpu" by gloo, on "cuda" by NCCL.

    With "cuda" each process uses the GPU of its local rank. Callbacks get the same logs in all
    processes and must return the same value. A `ValueError` names a device that is not possible.

    Examples
    --------
    >>> with group(torch.device("cpu")):  # started without torchrun
    ...     size()
    1
    """
    if (n := int(os.environ.get("WORLD_SIZE", "1"))) == 1:
        yield
        return
    backend = "gloo"
    if str(device) == "cuda":
        local, available = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= available:
            raise ValueError(
                f"process {local} of this machine has no GPU, because there are {available}; "
                f"start --nproc-per-node={available}, or use device='cpu'"
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    elif device.type != "cpu":
        raise ValueError(
            f"device={str(device)!r} does not support {n} processes; use 'cpu' or 'cuda'"
        )
    with _others():
        dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _others() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ProcessLostError(
            f"another process of the training has ended or does not respond ({error}); all stop"
        ) from error


def size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0; only 0 writes files and shows progress."""
    return dist.get_rank() if dist.is_initialized() else 0


def part(n: int) -> slice:
    """Return which of n samples belong to this process: consecutive ones, for reading files."""
    if n < size():
        raise ValueError(f"{n} samples for {size()} processes; start at most {n}")
    return slice(n * rank() // size(), n * (rank() + 1) // size())


def stripe() -> slice:
    """Return which samples of a batch, of any size, belong to this process: every size()-th."""
    return slice(rank(), None, size())


def local_rows(rows: Tensor, batch_size: int) -> tuple[Tensor, list[float]]:
    """Return this process's samples of each batch of an iteration, and their shares.

    A process without samples in a small last batch takes the first sample, with share 0, so that
    all processes take the same number of steps.
    """
    if size() == 1:
        return rows, [1.0]
    own: list[Tensor] = []
    shares: list[float] = []
    for batch in torch.split(rows, batch_size, -1):
        mine = batch[..., stripe()]
        shares.append(mine.shape[-1] / batch.shape[-1])
        own.append(mine if mine.shape[-1] else batch[..., :1])
    return torch.cat(own, -1), shares


def from_first(make: Callable[[], T]) -> T:
    """Call `make` in the first process; return its result, or raise its error, in every process."""
    if size() == 1:
        return make()
    result: list[Any] = [None, None]
    if rank() == 0:
        try:
            result[0] = make()
        except Exception as error:  # else the others would wait
            result[1] = error
    with _others():
        dist.broadcast_object_list(result, device=torch.device("cpu"))
    if result[1] is not None:
        raise result[1]
    return result[0]  # type: ignore[no-any-return]


def total(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return each tensor's sum over the processes, by one reduction."""
    if size() == 1:
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    with _others():
        dist.all_reduce(flat)
    sums = torch.split(flat, [tensor.numel() for tensor in tensors])
    return tuple(s.view_as(tensor) for s, tensor in zip(sums, tensors, strict=True))


def average(values: NDArray[Any], weights: NDArray[Any] | None) -> float:
    """Return `np.average` over the samples of all processes."""
    if size() == 1:
        if weights is None:
            return float(values.sum() / len(values))
        return float(np.average(values, weights=weights))
    times = np.ones(len(values)) if weights is None else weights.astype(float)
    (both,) = total(torch.tensor([values @ times, times.sum()], dtype=torch.float64))
    return float(both[0] / both[1])


def joined(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values of all processes, concatenated in the order of `part`."""
    if size() == 1:
        return values
    parts: list[Any] = [None] * size()
    with _others():
        dist.all_gather_object(parts, values)
    return np.concatenate(parts)
