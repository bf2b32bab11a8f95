"""Matrix products, by the fastest of the libraries that PyTorch and NumPy bring along.

Which one that is depends on the processor. For the same float32 product (10 000 × 784 by 784 × 400)
on the same two cores of an AMD processor, Intel's MKL, to which PyTorch gives it unasked, NumPy's
OpenBLAS, and oneDNN, which lies beside MKL in the same PyTorch, needed 80, 64 and 32 ms.
"""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, ParamSpec, TypeVar

import numpy as np
import torch

Precision = Literal["highest", "high", "medium"]
"""PyTorch's words for the precision of float32 products; see `products`."""

MAX_NUMPY_MULTIPLICATIONS = 2**18
"""Multiplications up to which NumPy's library computes in one thread. After larger ones its threads
wait for some 25 ms by spinning, and take the cores from PyTorch's."""

P = ParamSpec("P")
R = TypeVar("R")

_threads_outside: ContextVar[int] = ContextVar("threads_outside", default=0)
_numpy_alone: ContextVar[bool] = ContextVar("numpy_alone", default=False)


@contextmanager
def products(precision: Precision, device: torch.device) -> Iterator[None]:
    """Choose how matrix products are computed inside a `with`.

    The values have the meaning of `torch.set_float32_matmul_precision`, and hold for convolutions
    too. "highest" computes in float32. "high" may round the factors to TensorFloat-32, where the
    device has it. "medium" may round them to bfloat16 on processors that have units for it (AMX),
    and to TensorFloat-32 on CUDA. Sums, weights, losses and Adam stay in float32; float64 products
    are not changed.
    """
    settings: list[Any]
    if device.type == "cuda":
        settings, medium = [torch.backends.cuda.matmul, torch.backends.cudnn.conv], "tf32"  # type: ignore[attr-defined]
    else:
        settings, medium = [torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv], "bf16"  # type: ignore[attr-defined]
    kind = {"highest": "ieee", "high": "tf32", "medium": medium}[precision]
    kinds = [kind, kind]
    if device.type == "cpu" and onednn_is_exact():
        kinds[0] = "bf16"  # permitted but unused by this processor; it makes PyTorch call oneDNN
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting, value in zip(settings, kinds, strict=True):
            setting.fp32_precision = value
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value


@functools.cache
def onednn_is_exact() -> bool:
    """Return whether this processor's products are those of float32 even where they may be rounded.

    PyTorch gives float32 products to Intel's MKL, which on other makers' processors reaches less
    than half of what oneDNN, beside it in the same PyTorch, does. To permit bfloat16 is the only
    way to have oneDNN called, and processors without units for bfloat16 matrices compute in
    float32 all the same. Whether this one does is measured, once, on every kind of product that
    training needs.
    """
    generator = torch.Generator().manual_seed(0)
    setting: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = setting.fp32_precision
    try:
        setting.fp32_precision = "bf16"
        for n, d, m in ((256, 500, 600), (64, 784, 10), (1024, 16, 33)):
            a = torch.rand(2, n, d, generator=generator) - 0.5
            b = torch.rand(2, d, m, generator=generator) - 0.5
            truth = a.double() @ b.double()
            enough = 1e-5 * truth.abs().max()  # bfloat16 is off by 4e-3, TensorFloat-32 by 5e-4
            others = a.mT.contiguous().mT @ b, a @ b.mT.contiguous().mT, a[:1] @ b[0]
            if any((p - truth[: len(p)]).abs().max() > enough for p in (a @ b, *others)):
                return False
        return True
    finally:
        setting.fp32_precision = before


def one_torch_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Let PyTorch compute in one thread while the function runs, but for what `product` does.

    PyTorch's threads go on spinning for some milliseconds after each operation, and would fight for
    the cores with those of NumPy's library, where that has the products. What is left to PyTorch
    beside large products is too small to need more than one.
    """

    @functools.wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        threads, already = torch.get_num_threads(), _threads_outside.get()
        if already and threads == 1:  # called by another such function
            return function(*args, **kwargs)
        outside = _threads_outside.set(already or threads)
        torch.set_num_threads(1)
        try:
            return function(*args, **kwargs)
        finally:
            torch.set_num_threads(threads)
            _threads_outside.reset(outside)

    return alone


@contextmanager
def all_threads(always: bool = False) -> Iterator[None]:
    """Give PyTorch inside a `with` the threads that it has outside of `one_torch_thread`.

    Only where large products are PyTorch's own: NumPy's threads would stand beside them. `always`
    is for such a product itself.
    """
    threads = torch.get_num_threads()
    if always or onednn_is_exact():
        torch.set_num_threads(_threads_outside.get() or threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def by_numpy() -> Iterator[None]:
    """Let `product` ask NumPy alone inside a `with`, or in a function that this decorates.

    For work in which NumPy's own products stand between: the threads of two libraries would fight
    for the cores, which makes it several times slower.
    """
    before = _numpy_alone.set(True)
    try:
        yield
    finally:
        _numpy_alone.reset(before)


def product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return a @ b of two matrices, in `out` where given.

    On the CPU by oneDNN where that is exact, and else by NumPy, whose product was a fifth faster
    than the one that PyTorch chooses by itself, where it was measured (see `make bench`). Where
    PyTorch has the products of float32 it has those of float64, too, although NumPy is as fast, for
    the sake of the threads (`MAX_NUMPY_MULTIPLICATIONS`).
    """
    if a.device.type != "cpu":
        return torch.matmul(a, b, out=out)
    large = (
        a.shape[0] * a.shape[1] * b.shape[1] > MAX_NUMPY_MULTIPLICATIONS and not _numpy_alone.get()
    )
    if not (large and onednn_is_exact()):
        to = None if out is None else out.numpy()
        return torch.from_numpy(np.matmul(a.numpy(), b.numpy(), out=to))
    return _by_torch(a, b, out, "highest")


def rounded_product(
    a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Return a @ b of float32 matrices, all of whose entries bfloat16 can hold, in `out` if given.

    Matrix units may compute it, a processor's for bfloat16 or a GPU's for TensorFloat-32. They lose
    nothing by rounding then, and sum in float32.
    """
    return _by_torch(a, b, out, "medium")


def rounds_faster(d: int, n_units: int, device: torch.device) -> bool:
    """Return whether products with K × d prototypes are faster where factors may be rounded.

    Only on processors with matrix units for bfloat16, and on most GPUs. Measured once per process
    for each power of two of d and of K, in some milliseconds.
    """
    if device.type == "cpu" and onednn_is_exact():
        return False
    return _rounds_faster(min(d, 1024).bit_length(), min(n_units, 1024).bit_length(), device)


@functools.cache
def _rounds_faster(log_d: int, log_units: int, device: torch.device) -> bool:
    n = 64 if device.type == "cpu" else 8192  # enough to keep all of a GPU at work
    a = torch.ones(n, 2**log_d, device=device)
    b = torch.ones(2**log_d, 2**log_units, device=device)
    seconds = {product: np.inf, rounded_product: np.inf}
    for _ in range(4):  # the first of each is slower
        for multiply in seconds:
            begin = time.perf_counter()
            multiply(a, b)[-1, -1].item()  # which waits for a GPU
            seconds[multiply] = min(seconds[multiply], time.perf_counter() - begin)
    return seconds[rounded_product] < 0.8 * seconds[product]


def _by_torch(
    a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None, precision: Precision
) -> torch.Tensor:
    """Return a @ b by PyTorch, with all threads."""
    with all_threads(always=True), products(precision, a.device):
        return torch.matmul(a, b, out=out)
