from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from somlib.search import best_units as distances
from somlib.search import screen
from somlib.search.best_units import (
    Block,
    Blocks,
    Codebook,
    best_units,
    mean_over_samples,
    squared_distances,
)

CPU = torch.device("cpu")


@st.composite
def problems(draw):
    """Samples and prototypes with many exact and near ties, in either precision."""
    n, K, d = (draw(st.integers(1, top)) for top in (12, 9, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    X, W = rng.normal(size=(n, d)), rng.normal(size=(K, d))
    kind = draw(
        st.sampled_from(
            ["plain", "contracted", "repeated", "integers", "on units", "at the center", "far away"]
        )
    )
    if kind == "contracted":
        W = 1e-5 * W
    if kind == "repeated":
        W = W[rng.integers(0, K, K)]
    if kind == "at the center":  # far from all units alike
        X *= 1e-4
        X[::2] = 0
        W = np.sign(W) if draw(st.booleans()) else W / np.linalg.norm(W, axis=1, keepdims=True)
    if kind == "integers":
        X, W = np.round(X), np.round(W)
    if kind == "on units":
        X = W[rng.integers(0, K, n)]
    if kind == "far away":
        X, W = X + 1000, W + 1000
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    if kind == "at the center":
        dtype = np.float32  # in float64 the literal distances, too, differ by rounding alone
    known = (rng.random((n, d)) < 0.7) | (np.arange(d) == 0) if draw(st.booleans()) else None
    return X.astype(dtype), W.astype(dtype), known


def literal(X, W, known):
    """Return squared distances term by term, in float64."""
    difference = X[:, None].astype(np.float64) - W[None]
    if known is not None:
        difference = difference * known[:, None]
    return (difference**2).sum(-1)


def as_block(X, W, known):
    """Return a problem as `best_units` takes it."""
    if known is None:
        return Block.of(torch.from_numpy(X)), Codebook(torch.from_numpy(W))
    X = torch.from_numpy(np.where(known, X, 0).astype(X.dtype))
    return Block.of(X, torch.from_numpy(known).to(X.dtype)), Codebook(torch.from_numpy(W))


@pytest.fixture(params=["term by term", "by products"])
def way(request, monkeypatch):
    """How all searches of a test are done, however large they are."""
    limit = 10**9 if request.param == "term by term" else 0
    monkeypatch.setattr(distances, "MAX_DIRECT_DIFFERENCES", limit)


def test_the_two_best_units_are_those_of_the_literal_search_lowest_index_first(way):
    check_winners()


@given(problems())
def check_winners(problem):
    units, squared = best_units(*as_block(*problem))
    expected = literal(*problem)
    order = np.argsort(expected, axis=1, kind="stable")
    order = order[:, :2] if expected.shape[1] > 1 else order.repeat(2, 1)
    np.testing.assert_array_equal(units.numpy(), order)
    scale = 1 + np.abs(problem[0]).max() ** 2 * problem[0].shape[1]
    tolerance = 1e-5 * scale if problem[0].dtype == np.float32 else 1e-12 * scale
    np.testing.assert_allclose(
        squared.numpy(), np.take_along_axis(expected, order, 1), atol=tolerance
    )
    assert (squared >= 0).all()


def test_all_distances_agree_and_zero_is_zero(way):
    check_distances()


@given(problems())
def check_distances(problem):
    squared = squared_distances(*as_block(*problem)).numpy()
    expected = literal(*problem)
    np.testing.assert_allclose(squared, expected, rtol=2e-3, atol=1e-12)
    assert squared.dtype == problem[0].dtype
    assert (squared[expected == 0] == 0).all()


def test_winners_are_the_same_term_by_term_and_by_products(monkeypatch):
    rng = np.random.default_rng(0)
    for d in (1, 3, 30):
        X = np.round(4 * rng.normal(size=(200, d))).astype(np.float32)
        block, W = Block.of(torch.from_numpy(X)), torch.from_numpy(X[rng.integers(0, 200, 70)])
        found = []
        for limit in (0, 10**9):
            monkeypatch.setattr(distances, "MAX_DIRECT_DIFFERENCES", limit)
            found.append(best_units(block, Codebook(W)))
        torch.testing.assert_close(*found)  # whole numbers: both are exact
        assert torch.equal(found[0][0], found[1][0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_up_to_the_order_of_the_sum_are_decided_alike_in_both_ways(monkeypatch, dtype):
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(30, generator=generator, dtype=dtype)
    W = torch.stack([w[torch.randperm(30, generator=generator)] for _ in range(40)])
    x = torch.randn(100, 1, generator=generator, dtype=dtype).expand(100, 30).contiguous()
    found = []
    for limit in (0, 10**9):
        monkeypatch.setattr(distances, "MAX_DIRECT_DIFFERENCES", limit)
        found.append(best_units(Block.of(x), Codebook(W)))
    (by_products, _), (term_by_term, _) = found
    assert torch.equal(by_products, term_by_term)


def test_the_winners_among_few_hold_where_their_squared_distances_leave_float32():
    W = 1e25 * torch.tensor([[1.0], [3.0], [2.0]])
    units, squared = best_units(Block.of(W[1:] * 0.9), Codebook(W))
    assert units.tolist() == [[1, 2], [2, 0]]
    assert squared.isinf().all()


def test_few_pairs_of_complete_samples_are_measured_at_once(monkeypatch):
    called = []
    monkeypatch.setattr(distances, "cdist", lambda *args: called.append(args) or cdist(*args))
    monkeypatch.setattr(distances, "MAX_DIRECT_DIFFERENCES", 7 * 5 * 3)
    x, W = torch.rand(8, 3), torch.rand(5, 3)
    kind, few = screen.Screen(None, rounded=False), Block.of(x[:7])
    screened = replace(few, factors=kind.samples(few.x, few.norm))
    for block, codebook, at_once in (
        (few, Codebook(W), True),
        (Block.of(x), Codebook(W), False),
        (Block.of(few.x, torch.ones(7, 3)), Codebook(W), False),
        (screened, Codebook(W, kind), False),
    ):
        called.clear()
        best_units(block, codebook)
        assert bool(called) == at_once


def test_one_unit_is_its_own_second_best(way):
    units, squared = best_units(Block.of(torch.ones(3, 2)), Codebook(torch.zeros(1, 2)))
    assert units.tolist() == [[0, 0]] * 3
    torch.testing.assert_close(squared, torch.full((3, 2), 2.0))


@pytest.mark.parametrize("missing", [False, True])
def test_blocks_cover_every_row_once_and_streamed_data_equal_resident_data(
    tmp_path, monkeypatch, missing
):
    X = np.random.default_rng(0).normal(size=(37, 5)).astype(np.float32)
    if missing:
        X[3, 1] = np.nan
    streamed = np.memmap(tmp_path / "x", X.dtype, "w+", shape=X.shape)
    streamed[:] = X
    monkeypatch.setattr(distances, "BLOCK_ELEMENTS", 40)
    monkeypatch.setattr(distances, "BLOCK_ROWS", 1)
    center = np.full(5, 0.25, np.float32)
    for data in (X, streamed):
        blocks = Blocks(data, center, CPU, missing)
        parts = list(blocks.split(n_units=4))
        assert len(parts) == 5  # 40 // 5 rows a block
        together = torch.cat([block.x for block in parts]).numpy()
        np.testing.assert_array_equal(together, np.nan_to_num(X - center))
        norms = torch.cat([block.norm for block in parts]).numpy()
        np.testing.assert_allclose(norms, np.linalg.norm(together, axis=1), rtol=1e-6)
        if missing:
            assert [block.known.sum().item() for block in parts][:2] == [39, 40]
        else:
            assert all(block.known is None for block in parts)


def test_a_streamed_file_is_never_held_as_a_whole(tmp_path):
    X = np.memmap(tmp_path / "x", np.float32, "w+", shape=(10, 3))
    assert Blocks(X, np.zeros(3, np.float32), CPU)._resident is None


def test_only_blocks_of_few_samples_in_memory_are_kept_for_another_pass(tmp_path, monkeypatch):
    X = np.ones((10, 3), np.float32)
    streamed = np.memmap(tmp_path / "x", X.dtype, "w+", shape=X.shape)
    for data, most, kept in ((X, 30, True), (X, 29, False), (streamed, 30, False)):
        monkeypatch.setattr(distances, "MAX_KEPT", most)
        blocks = Blocks(data, np.zeros(3, np.float32), CPU)
        assert [a is b for a, b in zip(blocks.split(4), blocks.split(4), strict=True)] == [kept]


@pytest.mark.parametrize("weight", [None, np.array([2.0, 0.0, 0.5])])
@pytest.mark.parametrize("missing", [False, True])
def test_samples_are_counted_by_their_weights(missing, weight):
    X = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 6.0]])
    X = X if missing else np.nan_to_num(X)
    (block,) = Blocks(X, np.zeros(2), CPU, missing, weight=weight).split(1)
    times = np.ones((3, 1)) if weight is None else weight[:, None]
    summed, counts = (part.numpy() for part in block.counted)
    np.testing.assert_array_equal(summed, np.nan_to_num(X) * times)
    np.testing.assert_array_equal(counts, ~np.isnan(X) * times if missing else times)


def test_the_search_leaves_its_input_as_it_was(way):
    x, W = torch.rand(50, 6), torch.rand(9, 6)
    block = Block.of(x.clone())
    kept = W.clone()
    best_units(block, Codebook(W))
    squared_distances(block, Codebook(W))
    assert torch.equal(block.x, x)
    assert torch.equal(W, kept)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mean_over_samples_is_that_of_a_literal_loop(dtype, monkeypatch):
    monkeypatch.setattr(distances, "BLOCK_ELEMENTS", 40)
    monkeypatch.setattr(distances, "BLOCK_ROWS", 1)
    rng = np.random.default_rng(0)
    X, W = rng.normal(size=(50, 3)).astype(dtype), rng.normal(size=(7, 3)).astype(dtype)
    before, expected = X.copy(), []
    for x in X.astype(float):
        order = ((x - W) ** 2).sum(1).argsort()
        expected.append((x - W[order[0]]) @ (1, 2, 3) + 10 * order[1])

    def measure(units, apart):
        assert torch.get_num_threads() == 1
        weighted = apart * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        apart.zero_()  # its own, not the samples
        return weighted.sum(1) + 10 * units[:, 1]

    found = [mean_over_samples(X, W, measure) for _ in range(2)]
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-5)
    np.testing.assert_array_equal(X, before)


def test_threads_are_given_back_where_a_measure_fails():
    threads = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        mean_over_samples(np.ones((3, 2)), np.ones((2, 2)), lambda units, apart: 1 / 0)
    assert torch.get_num_threads() == threads
