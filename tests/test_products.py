"""Products by either library: what they are, what is set for them, and that all is put back."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from somlib import SOM, som
from somlib.search import products as module
from somlib.search.products import by_numpy, one_torch_thread, product, products
from somlib.search.screen import screening


def precisions():
    mkldnn, cudnn = torch.backends.mkldnn, torch.backends.cudnn
    kinds = (mkldnn.matmul, mkldnn.conv, cudnn.conv, torch.backends.cuda.matmul)
    return [kind.fp32_precision for kind in kinds]


@pytest.mark.parametrize(("device", "precision", "exact", "inside"), [
    ("cpu", "highest", False, ["ieee", "ieee", None, None]),
    ("cpu", "highest", True, ["bf16", "ieee", None, None]),  # permitted but unused
    ("cpu", "high", False, ["tf32", "tf32", None, None]),
    ("cpu", "high", True, ["bf16", "tf32", None, None]),
    ("cpu", "medium", False, ["bf16", "bf16", None, None]),
    ("cuda", "highest", True, [None, None, "ieee", "ieee"]),
    ("cuda", "high", True, [None, None, "tf32", "tf32"]),
    ("cuda", "medium", True, [None, None, "tf32", "tf32"]),
])  # fmt: skip
def test_precision_is_set_inside_and_put_back_also_after_an_error(
    monkeypatch, device, precision, exact, inside
):
    monkeypatch.setattr(module, "onednn_is_exact", lambda: exact)
    before = precisions()
    expected = [new or old for new, old in zip(inside, before, strict=True)]
    with products(precision, torch.device(device)):
        assert precisions() == expected
    assert precisions() == before
    with pytest.raises(ZeroDivisionError), products(precision, torch.device(device)):
        _ = 1 / 0
    assert precisions() == before


def test_single_precision_is_what_it_says_on_this_processor():
    generator = torch.Generator().manual_seed(0)
    for S, n, d, m in ((1, 256, 784, 500), (1, 500, 256, 2000), (10, 64, 100, 10)):
        a = torch.randn(S, n, d, generator=generator)
        b = torch.randn(S, d, m, generator=generator)
        with products("highest", torch.device("cpu")):
            found = (a @ b, torch.baddbmm(torch.zeros(S, 1, m), a, b), (b.mT @ a.mT).mT)
        for c in found:  # a rounding error for each term would be √d ε; bfloat16's ε is 2⁻⁸
            assert (c - a.double() @ b.double()).abs().max() < d**0.5 * 4e-6


def test_a_processor_that_rounds_when_it_may_is_found_out(monkeypatch):
    matmul, asked = torch.Tensor.__matmul__, module.onednn_is_exact.__wrapped__
    before = precisions()

    def rounding(a, b):
        if a.dtype == torch.float32 and torch.backends.mkldnn.matmul.fp32_precision == "bf16":
            return matmul(a.bfloat16().float(), b.bfloat16().float())
        return matmul(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    assert asked() is False
    assert precisions() == before


def test_the_number_of_threads_is_given_back_even_after_an_error():
    before = torch.get_num_threads()
    seen = []

    @one_torch_thread
    def work():
        seen.append(torch.get_num_threads())
        raise KeyError

    with pytest.raises(KeyError):
        work()
    assert seen == [1]
    assert torch.get_num_threads() == before


def test_a_function_within_another_gives_back_what_it_found():
    before, seen = torch.get_num_threads(), []

    @one_torch_thread
    def inner():
        seen.append(torch.get_num_threads())

    @one_torch_thread
    def outer():
        inner()
        seen.append(torch.get_num_threads())

    outer()
    assert seen == [1, 1]
    assert torch.get_num_threads() == before


# ---------------------------------------------------------------- by which library


@pytest.fixture
def asked(monkeypatch):
    """Return whom `product` asks, with how many threads, and what that one may round."""
    calls, matmul, numpy = [], torch.matmul, np.matmul

    def by_torch(a, b, out=None):
        leave = torch.backends.mkldnn.matmul.fp32_precision
        calls.append(("torch", torch.get_num_threads(), leave))
        return matmul(a, b, out=out)

    def by_numpy(a, b, out=None):
        calls.append("numpy")
        return numpy(a, b, out=out)

    monkeypatch.setattr(torch, "matmul", by_torch)
    monkeypatch.setattr(np, "matmul", by_numpy)
    monkeypatch.setattr(module, "onednn_is_exact", lambda: True)
    return calls


LARGE, OF_FEW = (600, 400, 200), (30, 20, 10)


def factors(shape, dtype=torch.float32):
    n, d, m = shape
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator)
    return a.to(dtype), b.to(dtype).T  # as prototypes come: transposed, without a copy


@pytest.mark.parametrize("into", [False, True])
@pytest.mark.parametrize("shape", [LARGE, OF_FEW])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("either", [False, True])
def test_a_product_is_the_product(monkeypatch, either, dtype, shape, into):
    if not either:  # as on a processor where oneDNN rounds
        monkeypatch.setattr(module, "onednn_is_exact", lambda: False)
    a, b = factors(shape, dtype)
    out = torch.full((shape[0], shape[2]), torch.nan, dtype=dtype) if into else None
    found = product(a, b, out)
    assert out is None or found.data_ptr() == out.data_ptr()
    off = (found - a.double() @ b.double()).abs()
    lengths = a.double().norm(dim=1)[:, None] * b.double().norm(dim=0)
    # a sixth of what the search for winners allows for: `distances.CONFIDENCE`
    assert (off < shape[1] ** 0.5 * torch.finfo(dtype).eps * lengths).all()


@pytest.mark.parametrize(
    ("shape", "dtype", "exact", "who"),
    [
        (LARGE, torch.float32, True, "torch"),
        (LARGE, torch.float32, False, "numpy"),
        (LARGE, torch.float64, True, "torch"),
        (LARGE, torch.float64, False, "numpy"),
        (OF_FEW, torch.float32, True, "numpy"),
    ],
)
def test_who_multiplies(monkeypatch, asked, shape, dtype, exact, who):
    monkeypatch.setattr(module, "onednn_is_exact", lambda: exact)
    product(*factors(shape, dtype))
    assert [call if call == "numpy" else call[0] for call in asked] == [who]


def test_numpy_is_asked_alone_where_that_is_said(asked):
    @by_numpy()
    def multiply():
        product(*factors(LARGE))

    multiply()
    with pytest.raises(KeyError), by_numpy():
        raise KeyError
    product(*factors(LARGE))
    assert [call if call == "numpy" else call[0] for call in asked] == ["numpy", "torch"]


def test_online_training_leaves_all_products_to_numpy(monkeypatch, asked):
    one_pass, inside = som.online_pass, []

    def watched(*arguments):
        before = len(asked)
        result = one_pass(*arguments)
        inside.extend(asked[before:])
        return result

    monkeypatch.setattr(som, "online_pass", watched)
    monkeypatch.setattr(module, "MAX_NUMPY_MULTIPLICATIONS", 0)
    X = np.random.default_rng(0).random((300, 40), np.float32)
    SOM((5, 6), mode="online", n_epochs=2, random_state=0, device="cpu").fit(X)
    assert set(inside) == {"numpy"}


@pytest.mark.parametrize("screened", [True, False])
def test_batch_training_asks_numpy_for_nothing_after_which_its_threads_spin(monkeypatch, screened):
    sizes = []

    def watched(function):
        def noted(a, b, *rest, **options):
            sizes.append(a.size * b.shape[-1] if a.ndim > 1 else 16 * a.size)
            return function(a, b, *rest, **options)

        return noted

    monkeypatch.setattr(module, "onednn_is_exact", lambda: True)
    for name in ("matmul", "dot", "vdot"):
        monkeypatch.setattr(np, name, watched(getattr(np, name)))
    X = np.random.default_rng(0).random((1100, 300), np.float32)
    with screening(screened):
        SOM((24, 24), n_epochs=2, init="sample", random_state=0, device="cpu").fit(X)
    assert max(sizes, default=0) <= module.MAX_NUMPY_MULTIPLICATIONS


def test_a_large_product_gets_all_threads_also_where_the_rest_has_one(asked):
    before, setting = torch.get_num_threads(), torch.backends.mkldnn.matmul.fp32_precision
    torch.set_num_threads(3)

    @one_torch_thread
    def search():
        product(*factors(LARGE))
        assert torch.get_num_threads() == 1

    try:
        one_torch_thread(search)()
        product(*factors(LARGE))
        assert asked == [("torch", 3, "bf16")] * 2
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert torch.backends.mkldnn.matmul.fp32_precision == setting


def test_threads_and_precision_are_put_back_after_an_error(asked):
    before, setting = torch.get_num_threads(), torch.backends.mkldnn.matmul.fp32_precision
    a, _ = factors(LARGE)
    with pytest.raises(RuntimeError):
        one_torch_thread(product)(a, torch.zeros(399, 1000))
    assert torch.get_num_threads() == before
    assert torch.backends.mkldnn.matmul.fp32_precision == setting


def test_winners_do_not_depend_on_the_library(monkeypatch):
    rng = np.random.default_rng(0)
    X = (1000 + rng.random((600, 40))).astype(np.float32)  # far from the origin, in tight rows
    X[300:] = X[:300]
    som = SOM((12, 15), n_epochs=1, random_state=0, device="cpu").fit(X)
    difference = X[:, None].astype(np.float64) - som.weights_
    expected = (difference**2).sum(-1).argmin(1)
    exact = module.onednn_is_exact()  # not so on processors with units for bfloat16 matrices
    for may in (exact, False):
        monkeypatch.setattr(module, "MAX_NUMPY_MULTIPLICATIONS", 0)
        monkeypatch.setattr(module, "onednn_is_exact", lambda may=may: may)
        np.testing.assert_array_equal(som.predict(X), expected)


# ---------------------------------------------------------------- on other processors

HAS = torch.backends.cpu.get_cpu_capability()
OTHERS = {  # how the libraries are told to compute as on another, and what this one needs for that
    "SSE": (("SSE41", "Nehalem", "COMPATIBLE", "default"), ""),
    "AVX2": (("AVX2", "Haswell", "AVX2", "avx2"), "AVX"),
    "AVX512": (("AVX512_CORE", "SkylakeX", "AVX512", "avx512"), "AVX512"),
}  # the most that this one can, AMX included, is what all other tests are run on
LIBRARIES = ("ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE", "MKL_CBWR", "ATEN_CPU_CAPABILITY")
CHECK = """
import torch
from somlib.search import products
from somlib.search.best_units import Block, Codebook, best_units
exact = products.onednn_is_exact()
X = 3 * torch.randn(600, 40, generator=torch.Generator().manual_seed(0))
X[300:] = X[:300]
W = X[:180] + 1e-3 * torch.randn(180, 40, generator=torch.Generator().manual_seed(1))
W[90:] = W[:90]  # equally near: the lower index wins
distances = (X[:, None].double() - W).square().sum(-1)
for may in {exact, False}:
    products.MAX_NUMPY_MULTIPLICATIONS, products.onednn_is_exact = 0, lambda: may
    off = products.product(X, W.T) - X.double() @ W.double().T
    lengths = X.double().norm(dim=1)[:, None] * W.double().norm(dim=1)
    assert (off.abs() < 40**0.5 * torch.finfo(X.dtype).eps * lengths).all()
    units, _ = best_units(Block.of(X), Codebook(W))
    assert (units == distances.sort(dim=1, stable=True).indices[:, :2]).all()
"""


@pytest.mark.parametrize(("settings", "needs"), OTHERS.values(), ids=OTHERS)
def test_products_and_winners_hold_on_other_processors(settings, needs):
    if platform.machine() not in ("x86_64", "AMD64") or needs not in HAS:
        pytest.skip(f"a processor with {needs or 'SSE'} is needed, not {HAS}")
    done = subprocess.run(
        [sys.executable, "-c", CHECK], capture_output=True, text=True, timeout=300,
        env=os.environ | dict(zip(LIBRARIES, settings, strict=True)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
