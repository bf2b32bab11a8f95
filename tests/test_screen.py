"""The screen before the search: its bounds hold, and winners are the same with and without it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from somlib import SOM, data
from somlib.search import best_units as search
from somlib.search import products, screen
from somlib.search.best_units import Block, Blocks, Codebook, best_units
from somlib.search.screen import Screen, directions, of_prototypes, screening

CPU = torch.device("cpu")
KINDS = {
    "plain": lambda x, w, rng: (x, w),
    "far away": lambda x, w, rng: (x + 1e9, w + 1e9),
    "far away and tiny": lambda x, w, rng: (1e-30 * (x + 1e3), 1e-30 * (w + 1e3)),
    "near the smallest number": lambda x, w, rng: (1e-22 * x, 1e-17 * w),
    "subnormal": lambda x, w, rng: (1e-40 * x, 1e-40 * w),
    "very long": lambda x, w, rng: (1e14 * x, 1e14 * w),
    "of all lengths": lambda x, w, rng: (
        x * 10.0 ** rng.integers(-12, 12, (len(x), 1)), w * 10.0 ** rng.integers(-9, 9, (len(w), 1))
    ),
    "contracted": lambda x, w, rng: (x, 1e-4 * w),
    "repeated": lambda x, w, rng: (x, w[rng.integers(0, len(w), len(w))]),
    "a rounding apart": lambda x, w, rng: (x, w[:1] * (1 + 1e-7 * rng.integers(-2, 3, w.shape))),
    "on units": lambda x, w, rng: (w[rng.integers(0, len(w), len(x))], w),
    "integers": lambda x, w, rng: (np.round(2 * x), np.round(2 * w)),
    # halfway between two numbers of bfloat16, so that all is lost in one direction
    "rounded the wrong way": lambda x, w, rng: (
        np.full_like(x, 1 + 2**-8 - 2**-20), np.sign(w[:, :1]) * (3 + 3 * 2**-8 * np.abs(w))
    ),
    "beside the directions": lambda x, w, rng: (x * (np.arange(x.shape[1]) > 1), w),
}  # fmt: skip


@st.composite
def problems(draw):
    """Samples, prototypes and a screen for them."""
    n, K = draw(st.integers(1, 12)), draw(st.integers(1, 30))
    d = draw(st.sampled_from([1, 2, 3, 7, 40, 300, 10_000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spectrum = np.arange(1, d + 1) ** -draw(st.sampled_from([0.0, 1.0, 3.0]))
    X, W = spectrum * rng.normal(size=(n, d)), spectrum * rng.normal(size=(K, d))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    X, W = KINDS[draw(st.sampled_from(sorted(KINDS)))](X, W, rng)
    if dtype == np.float64 and draw(st.booleans()):  # beyond what factors in float32 can hold
        X, W = 1e40 * X, 1e40 * W
    center = X.mean(0)
    X, W = (torch.from_numpy((x - center).astype(dtype)) for x in (X, W))
    q = draw(st.sampled_from([None, 1, 5]))
    U = None if q is None or q > d else directions(draw(st.sampled_from([X, W])), q)
    return X, W, Screen(U, rounded=draw(st.booleans()))


def adversary(a, b, out):
    """Multiply as badly as the proof allows: as coarse as matrix units, and never too low."""
    terms = a.double() @ b.double(), a.double().abs() @ b.double().abs()
    return out.copy_(terms[0] + a.shape[1] * 2.0**-23 * terms[1])


@pytest.fixture(params=["this processor's", "an adversary's", "an adversary's, too long"])
def multiply(request, monkeypatch):
    """Have the products of screens computed here, or with the largest error that is allowed."""
    if request.param != "this processor's":
        side = 1 if "long" in request.param else -1
        monkeypatch.setattr(screen, "rounded_product", adversary)
        true = screen.product

        def bad(a, b, out=None):
            if out is not None:
                return adversary(a, b, out)
            if a.dtype == torch.float64:  # coordinates of prototypes
                return true(a, b)
            # those of samples: what is left of them then appears to be too much, or too little
            long, error = a.double() @ b.double(), a.double().abs() @ b.double().abs()
            return (long + side * long.sign() * a.shape[1] * 2.0**-23 * error).float()

        monkeypatch.setattr(screen, "product", bad)


NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")


@pytest.fixture(params=["cpu", "as on a GPU", pytest.param("cuda", marks=NEEDS_GPU)])
def device(request, monkeypatch):
    """Where a search computes; "as on a GPU" is the CPU with the operations that a GPU has."""
    if request.param != "as on a GPU":
        return request.param
    monkeypatch.setattr(search, "_on_gpu", lambda x: True)
    monkeypatch.setattr(search, "GROUP", 4)  # so that few units are several groups
    return "cpu"


def block_of(X, kind):
    norm = torch.linalg.vector_norm(X, dim=1)
    return Block(slice(0, len(X)), X, None, norm, kind.samples(X, norm))


def moved(problem, device):
    X, W, kind = problem
    U = None if kind.U is None else kind.U.to(device)
    return X.to(device), W.to(device), Screen(U, kind.rounded)


@settings(max_examples=300)
@given(problems())
def check_bounds(device, problem):
    X, W, kind = moved(problem, device)
    block, codebook = block_of(X, kind), Codebook(W, kind)
    if float(block.norm.max()) + codebook.longest > search.LONGEST:
        return
    out = torch.empty(len(X), codebook.factors.shape[1], device=device)
    bounds = kind.bounds(block.factors, codebook.factors, out).double().numpy(force=True)
    bounds = bounds[:, : len(W)]
    x, w = (array.double().numpy(force=True) for array in (X, W))
    true = (w**2).sum(1) - 2 * x @ w.T
    lengths = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(w, axis=1) + (w**2).sum(1)
    lost = codebook.lost(block.norm.double()).numpy(force=True)[:, None]
    allowed = true + 1e-10 * lengths + lost  # rounding in float64 of the truth itself
    assert not (np.isfinite(bounds) & (bounds > allowed)).any()


@settings(max_examples=300)
@given(problems(), st.booleans())
def check_winners(device, problem, patient):
    X, W, kind = moved(problem, device)
    block, codebook = block_of(X, kind), Codebook(W, kind)
    before, search.MOST_PAIRS = search.MOST_PAIRS, np.inf if patient else search.MOST_PAIRS
    try:
        units, squared = (found.cpu() for found in best_units(block, codebook))
    finally:
        search.MOST_PAIRS = before
    x, w = (array.double().numpy(force=True) for array in (X, W))
    true = ((x[:, None] - w) ** 2).sum(-1)
    found = np.take_along_axis(true, units.numpy(), 1)
    best = np.sort(true, 1)[:, [0, min(1, len(W) - 1)]]
    np.testing.assert_allclose(found, best, rtol=1e-11)
    # of equal prototypes, those of the lowest index
    first = [[int((w == row).all(1).argmax()) for row in w[pair]] for pair in units.numpy()]
    for pair, lowest in zip(units.tolist(), first, strict=True):
        same = np.flatnonzero((w == w[pair[1]]).all(1))
        assert pair[0] == lowest[0]
        if len(W) > 1:
            assert pair[1] == min(set(same.tolist()) - {pair[0]})
    assert (squared >= 0).all()


def test_bounds_are_never_too_high(multiply, device):
    check_bounds(device)


@pytest.mark.parametrize("rest", [0.0, 0.01, 0.03, 0.1, 1.0])
def test_bounds_hold_where_no_inequality_of_the_proof_has_room(multiply, rest):
    """Pairs whose coordinates are parallel, or opposed, and whose remainders are parallel."""
    d = 10_000
    rng = np.random.default_rng(0)
    U = torch.linalg.qr(torch.from_numpy(rng.normal(size=(d, 2))))[0]
    inside = torch.from_numpy(rng.normal(size=(9, 2))) @ U.T
    outside = torch.from_numpy(rng.normal(size=d))
    outside = rest * torch.nn.functional.normalize(outside - U @ (U.T @ outside), dim=0)
    kind = Screen(U, rounded=False)
    X = (torch.nn.functional.normalize(inside, dim=1) + outside).float()
    W = (torch.nn.functional.normalize(torch.cat([inside, -inside]), dim=1) + outside).float()
    W = 1e-3 * W
    norm, squared = X.norm(dim=1), W.double().square().sum(1)
    out = torch.empty(len(X), len(W))
    bounds = kind.bounds(kind.samples(X, norm), kind.units(W, squared), out)
    true = squared - 2 * X.double() @ W.double().T
    assert (bounds <= true).all()
    assert (bounds > true - 0.2 * 1e-3 * (1 + rest) ** 2).all()  # not so low as to be of no use


def test_winners_are_those_of_the_literal_search(multiply, device):
    check_winners(device)


# ---------------------------------------------------------------- in training


def decaying(n=1200, d=60):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 6)) @ rng.normal(size=(6, d)) + 0.05 * rng.normal(size=(n, d))
    X[n // 2 :: 7] = X[: len(X[n // 2 :: 7])]
    return X.astype(np.float32)


def winners_of_each_epoch(X, wanted, device):
    """Return the units of all passes of a training, and the map."""
    seen, note = [], search.best_units
    som = SOM((13, 17), n_epochs=6, random_state=0, device=device)
    weight = np.arange(len(X)) % 3 + 0.5

    def noted(*arguments):
        units, squared = note(*arguments)
        seen.append(units.cpu().clone())
        return units, squared

    with screening(wanted), pytest.MonkeyPatch.context() as patch:
        for module in ("somlib.models.kohonen", "somlib.models.som"):
            patch.setattr(f"{module}.best_units", noted)
        som.fit(X, sample_weight=weight)
    return torch.cat(seen), som


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("block", [37, 500, 10_000])
@pytest.mark.parametrize("where", ["float32", "float64", "memmap"])
def test_a_whole_training_has_the_same_winners_in_every_epoch(
    tmp_path, monkeypatch, where, block, rounded, device
):
    X = decaying()
    if where == "memmap":
        np.save(tmp_path / "x.npy", X)
        X = np.load(tmp_path / "x.npy", mmap_mode="r")
    X = X.astype(np.float64) if where == "float64" else X
    monkeypatch.setattr(search, "BLOCK_ROWS", block)
    monkeypatch.setattr(search, "BLOCK_ELEMENTS", 1)
    monkeypatch.setattr(search, "GPU_BLOCK_ELEMENTS", 1)
    monkeypatch.setattr(screen, "rounds_faster", lambda *shape: rounded)
    used, screened = [], search._screened
    plain, without = winners_of_each_epoch(X, False, device)

    def watched(*arguments):
        used.append(screened(*arguments))
        return used[-1]

    monkeypatch.setattr(search, "_screened", watched)
    found, som = winners_of_each_epoch(X, True, device)
    assert any(table is not None for table in used)
    assert torch.equal(found, plain)
    np.testing.assert_array_equal(som.labels_, without.labels_)
    np.testing.assert_allclose(som.weights_, without.weights_, rtol=1e-6, atol=1e-6)


def smooth(side=12, d=300, factor=1.0):
    """Prototypes of a contracted map: averages over wide neighborhoods."""
    rng = np.random.default_rng(0)
    at = np.stack(np.meshgrid(*[np.arange(side)] * 2), -1).reshape(-1, 2)
    h = np.exp(-((at[:, None] - at) ** 2).sum(-1) / (2 * (side / 2) ** 2))
    W = (h / h.sum(1, keepdims=True)) @ rng.normal(size=(side**2, d))
    return torch.from_numpy((factor * W).astype(np.float32))


def test_smooth_prototypes_have_few_directions_of_their_own():
    W = smooth()
    own = of_prototypes(W, 32)
    assert own is not None
    assert own.U.shape == (300, 16)
    assert not own.rounded
    left = W.double() - W.double() @ own.U @ own.U.T
    assert left.norm() < 2 * screen.LEFT_OUT * (W - W.mean(0)).norm()
    assert of_prototypes(W, 16) is None  # no fewer than there are
    noise = torch.randn(144, 300, generator=torch.Generator().manual_seed(0))
    assert of_prototypes(noise, 100) is None
    assert of_prototypes(torch.ones(5, 300), 32).U.shape == (300, 16)


@pytest.mark.parametrize("factor", [0.0, 1e-42, 1e-25, 1.0, 1e15])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_own_directions_leave_winners_as_they_are(factor, offset, multiply, monkeypatch):
    rng = np.random.default_rng(1)
    W = smooth() + offset
    X = torch.from_numpy(rng.normal(size=(200, 300)).astype(np.float32))
    X[:50] = W[rng.integers(0, len(W), 50)]
    X, W = X * factor, W * factor
    W[7], W[140] = W[100], W[3]
    used, screened = [], search._screened

    def watched(block, codebook, slack):
        table = screened(block, codebook, slack)
        used.append(table is not None and codebook.screen.U.shape[1] == 16)
        return table

    monkeypatch.setattr(search, "_screened", watched)
    block = block_of(X, Screen(directions(X, 40), rounded=False))
    found = best_units(block, Codebook(W, Screen(directions(X, 40), rounded=False)))
    expected = best_units(Block.of(X), Codebook(W))
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=0)
    assert used[0] or factor != 1.0


def test_early_epochs_are_screened_by_the_prototypes_own_directions(monkeypatch):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(900, 300)) * np.arange(1, 301) ** -0.7).astype(np.float32)
    kinds, screened = [], search._screened

    def watched(block, codebook, slack):
        table = screened(block, codebook, slack)
        kinds.append("all" if table is None else codebook.screen.U.shape[1])
        return table

    expected = winners_of_each_epoch(X, False, CPU)[0]
    monkeypatch.setattr(search, "_screened", watched)
    found = winners_of_each_epoch(X, True, CPU)[0]
    assert torch.equal(found, expected)
    assert kinds[1] == 16  # the map of the widest neighborhood
    assert kinds[-1] == 32  # the data's


def test_a_screen_that_leaves_too_many_units_is_dropped(device):
    X = torch.from_numpy(np.random.default_rng(0).normal(size=(300, 80)).astype(np.float32))
    X = X.to(device)
    kind = Screen(directions(X, 2), rounded=False)  # of noise, two directions tell nothing
    block, codebook = block_of(X, kind), Codebook(X[:150] + 0.5, kind)
    expected = (X[:, None] - codebook.W).double().square().sum(2).sort(dim=1).indices[:, :2]
    for _ in range(2):
        assert torch.equal(best_units(block, codebook)[0], expected)
        assert codebook.screen is None


def test_own_directions_that_leave_too_many_units_give_way_to_those_of_the_data(monkeypatch):
    rng = np.random.default_rng(0)
    X = torch.from_numpy(rng.normal(size=(300, 6)) @ rng.normal(size=(6, 300))).float()
    W = X[:150] + 0.5
    kind, bad = (Screen(directions(x, q), False) for x, q in ((X, 6), (torch.eye(300), 1)))
    monkeypatch.setattr(screen, "of_prototypes", lambda W, most: bad)
    codebook = Codebook(W, kind)
    assert codebook.screen is bad
    found = best_units(block_of(X, kind), codebook)[0]
    assert codebook.screen is kind
    assert torch.equal(found, best_units(Block.of(X), Codebook(W))[0])


def test_a_map_of_digits_is_the_same_with_and_without(device):
    X = data.load("digits").X
    trained = [winners_of_each_epoch(X, wanted, device) for wanted in (True, False)]
    for a, b in zip(*trained, strict=True):
        assert (
            torch.equal(a, b)
            if isinstance(a, torch.Tensor)
            else np.allclose(a.weights_, b.weights_)
        )


# ---------------------------------------------------------------- whether there is one


def test_on_a_gpu_a_screen_rounds_and_keeps_all_features(monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr(screen, "rounds_faster", lambda *shape: True)
    assert screen.chosen(None, 60_000, 784, 2500, 10, gpu) == Screen(None, rounded=True)
    assert screen.chosen(None, 600_000, 784, 400, 10, gpu) is None
    assert screen.chosen(None, 1000, 784, 2500, 10, gpu) is None
    assert screen.chosen(None, 60_000, 784, 2500, 10, torch.device("mps")) is None
    monkeypatch.setattr(screen, "rounds_faster", lambda *shape: False)
    assert screen.chosen(None, 60_000, 784, 2500, 10, gpu) is None
    with screening(True):
        assert screen.chosen(None, 240, 4, 100, 1, gpu) == Screen(None, rounded=True)


def test_a_screen_is_chosen_where_it_saves_work_and_as_it_is_forced():
    def few(d=784):
        return torch.randn(50, d, generator=torch.Generator().manual_seed(0))

    def unasked():
        raise AssertionError

    assert screen.chosen(few, 60_000, 784, 2500, 10, CPU) is not None
    # measuring what is left would cost as much, or finding coordinates for a single search
    for n, d, K, passes in ((60_000, 784, 50, 10), (60_000, 784, 250, 1), (240, 4, 100, 10)):
        assert screen.chosen(unasked, n, d, K, passes, CPU) is None
    with screening(False):
        assert screen.chosen(unasked, 60_000, 784, 2500, 10, CPU) is None
    with screening(True):
        kind = screen.chosen(unasked, 240, 4, 100, 10, CPU)
    assert kind is not None
    assert kind.U is None  # four features are few enough


def test_blocks_in_memory_keep_the_factors_of_their_samples(tmp_path):
    X = decaying(100)
    np.save(tmp_path / "x.npy", X)
    center = X.mean(0)
    for samples in (X, np.load(tmp_path / "x.npy", mmap_mode="r")):
        with screening(True):
            blocks = Blocks(samples, center, CPU, n_units=20)
        assert blocks.screen is not None
        for block in blocks.split(20):
            if samples is not X:
                assert block.factors is None
                continue
            torch.testing.assert_close(
                block.factors, blocks.screen.samples(block.x, block.norm), rtol=1e-5, atol=1e-6
            )
    assert Blocks(X, center, CPU, missing=True, n_units=20).screen is None


def test_rounding_is_used_only_where_it_was_measured_to_be_faster(monkeypatch):
    products._rounds_faster.cache_clear()
    assert not products.rounds_faster(784, 2500, CPU) or not products.onednn_is_exact()
    calls = []

    def slow(a, b, out=None):
        calls.append(a.shape)
        return sum(a @ b for _ in range(200))

    monkeypatch.setattr(products, "onednn_is_exact", lambda: False)
    monkeypatch.setattr(products, "product", slow)
    monkeypatch.setattr(products, "rounded_product", lambda a, b, out=None: a)
    try:
        for _ in range(2):
            assert products.rounds_faster(300, 400, CPU)
            assert products.rounds_faster(260, 500, CPU)  # of the same class
        assert len(calls) == 4
        monkeypatch.setattr(products, "product", lambda a, b, out=None: a)
        monkeypatch.setattr(products, "rounded_product", slow)
        assert not products.rounds_faster(300, 100, CPU)
    finally:
        products._rounds_faster.cache_clear()


def test_a_rounded_product_loses_nothing_of_what_bfloat16_holds(device):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*shape, generator=generator) for shape in ((70, 300), (300, 90)))
    a, b = (factor.bfloat16().float().to(device) for factor in (a, b))
    before = torch.backends.mkldnn.matmul.fp32_precision
    found, terms = products.rounded_product(a, b).double(), a.abs().double() @ b.abs().double()
    assert ((found - a.double() @ b.double()).abs() <= 300 * 2.0**-23 * terms).all()
    assert torch.backends.mkldnn.matmul.fp32_precision == before
