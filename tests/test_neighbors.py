"""Neighbors and ranks by bounds are those by float64 products, whatever the products' errors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from somlib import metrics
from somlib.evaluation.metrics.distances import Points, row_blocks
from somlib.search import neighbors, screen
from somlib.search.best_units import Block
from somlib.search.neighbors import Neighbors, nearest_of_many
from somlib.spaces import Euclidean

KINDS = {
    "plain": lambda x, rng: x,
    "decaying": lambda x, rng: x * 0.7 ** np.arange(x.shape[1]),
    "far from the origin": lambda x, rng: x + 1e5,
    "repeated": lambda x, rng: x[rng.integers(0, len(x), len(x))],
    "at rounding distance": lambda x, rng: x[rng.integers(0, 3, len(x))] * (1 + 1e-15 * x),
    "closer than float32": lambda x, rng: 1 + 1e-9 * x,
    "a lattice": lambda x, rng: np.round(x),
    "all the same": lambda x, rng: 0 * x + 3,
    "one far away": lambda x, rng: x * np.where(np.arange(len(x)) == 1, 1e6, 1)[:, None],
    "below float32": lambda x, rng: 1e-42 * x,
    "squares below float32": lambda x, rng: 1e-25 * x,
    "squares above float32": lambda x, rng: 1e25 * x,
    "subnormal": lambda x, rng: 1e-310 * x,
}


@st.composite
def problems(draw):
    """Points, and a number of neighbors."""
    n, d = draw(st.integers(3, 60)), draw(st.sampled_from([1, 2, 3, 10, 70, 400]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    X = KINDS[draw(st.sampled_from(sorted(KINDS)))](rng.normal(size=(n, d)), rng)
    return X, draw(st.integers(1, (n - 1) // 2))


def worst(a, b, out=None):
    """Return a @ b, off by as much as sums of d roundings may be, up and down in turns."""
    exact, size = a.double() @ b.double(), a.double().abs() @ b.double().abs()
    sign = 1 - 2 * (torch.arange(exact.numel()).view(exact.shape) % 2)
    found = exact + sign * a.shape[1] * 2.0**-24 * size
    return found.to(a.dtype) if out is None else out.copy_(found)


@pytest.fixture(params=["this processor's", "the worst"])
def multiply(request, monkeypatch):
    """Have products in float32 computed here, or with the largest error that is allowed."""
    if request.param == "the worst":
        true = screen.product  # also of float64

        def bad(a, b, out=None):
            return true(a, b, out) if a.dtype == torch.float64 else worst(a, b, out)

        monkeypatch.setattr(neighbors, "product", bad)
        monkeypatch.setattr(screen, "product", bad)


@pytest.fixture(params=["patient", "impatient"])
def always(request, monkeypatch):
    """Search by bounds however few points there are, and however many pairs are in doubt."""
    for name, value in {"POINTS": 1, "FEATURES": 1, "WANTED": 1}.items():
        monkeypatch.setattr(neighbors, name, value)
    if request.param == "patient":
        monkeypatch.setattr(neighbors, "MOST_PAIRS", 1)


def literal(points):
    """Return the same points, searched by float64 products alone."""
    same = Points(points)
    same._search = lambda wanted: None
    return same


def test_neighbors_and_places_are_those_by_float64_products(multiply, always):
    check_places()


@settings(max_examples=200)
@given(problems())
def check_places(problem):
    X, k = problem
    points, same = Points(X), literal(X)
    for rows in row_blocks(len(X), len(X)):
        squared, near = points.nearest(rows, k)
        squared_too, near_too = same.nearest(rows, k)
        for i, (row, row_too) in enumerate(zip(squared, squared_too, strict=True)):
            last = row_too[k - 1]
            slack = same.slack(slice(i, i + 1), last)[0]
            chosen, chosen_too = row <= last + 2 * slack, row_too <= last + slack
            assert set(near_too[i, chosen_too].tolist()) <= set(near[i, chosen].tolist())
            assert i not in near[i, chosen]
            assert len(set(near[i, row < torch.inf].tolist())) == (row < torch.inf).sum()
        finite = squared < torch.inf
        for found, expected in zip(
            points.places(rows, near, finite), same.places(rows, near, finite), strict=True
        ):
            np.testing.assert_array_equal(found[finite], expected[finite])


def test_metrics_are_the_same(multiply, always):
    check_metrics()


@settings(max_examples=60)
@given(problems(), st.booleans())
def check_metrics(problem, few):
    X, k = problem
    Z = X[:, :2].round() if few else X[:, ::-2]
    pair = Points(X), Points(Z)
    same = literal(X), literal(Z)
    for near, far in ((0, 1), (1, 0)):
        found = metrics.embeddings._rank_score(pair[near], pair[far], [1, k])
        expected = metrics.embeddings._rank_score(same[near], same[far], [1, k])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_the_bound_holds(multiply):
    check_bound()


@settings(max_examples=200)
@given(problems())
def check_bound(problem):
    at = Points(problem[0]).at
    search, block = Neighbors(at), Block.of(at)
    if not search._fits(block):
        return
    true = at.square().sum(1) - 2 * at @ at.T
    length = block.norm[:, None] * (block.norm + search._codebook.longest)
    for rough, off in (search._rough(block, None), search._sorted(block, slice(0, 0))[::2]):
        order = true if rough.dtype == torch.float32 else true.sort(1).values
        assert ((rough.double() - order).abs() <= off + 1e-13 * length).all()


# ---------------------------------------------------------------- the nearest of other points


def by_hand(points, x, k):
    squared = ((x[:, None] - points) ** 2).sum(-1)
    return squared.argsort(axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("kind", ["plain", "decaying", "repeated", "a lattice"])
def test_the_nearest_of_many_are_those_of_a_literal_search(multiply, always, kind, monkeypatch):
    monkeypatch.setattr(neighbors, "MOST_PAIRS", 1)
    monkeypatch.setattr(neighbors, "BLOCK_ELEMENTS", 500)  # several blocks
    rng = np.random.default_rng(0)
    points = KINDS[kind](rng.normal(size=(90, 30)), rng)
    x = np.concatenate([KINDS[kind](rng.normal(size=(40, 30)), rng), points[:10]])
    for k in (1, 7, 90):
        np.testing.assert_array_equal(nearest_of_many(points, x, k), by_hand(points, x, k))


def test_few_points_features_or_samples_are_searched_otherwise(monkeypatch):
    for name, value in {"POINTS": 50, "FEATURES": 10, "WANTED": 0.1, "MOST_PAIRS": 1}.items():
        monkeypatch.setattr(neighbors, name, value)
    X = np.random.default_rng(0).normal(size=(50, 10)) * 0.5 ** np.arange(10)
    assert nearest_of_many(X, X, 5) is not None
    for points, x, k in ((X[1:], X, 4), (X, X[1:], 5), (X[:, 1:], X[:, 1:], 5), (X, X, 6)):
        assert nearest_of_many(points, x, k) is None


@pytest.mark.parametrize("most", [0, 1])
def test_the_vote_is_the_same_whichever_search_pays(most, always, monkeypatch):
    rng = np.random.default_rng(0)
    Z, y = rng.normal(size=(130, 30)).astype(np.float32) + 5, rng.integers(3, size=130)
    near = Euclidean(30).nearest(Z[:90], Z[90:], 7)
    expected = (np.apply_along_axis(lambda c: np.bincount(c).argmax(), 1, y[near]) == y[90:]).mean()
    monkeypatch.setattr(neighbors, "MOST_PAIRS", most)
    found = metrics.knn_accuracy(Z[:90], y[:90], Z[90:], y[90:], 7)
    assert found == pytest.approx(expected, abs=1e-12)


def test_too_many_pairs_in_doubt_end_the_search(monkeypatch):
    at = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (80, 300))).double()
    at -= at.mean(0)
    monkeypatch.setattr(neighbors, "MOST_PAIRS", 1)
    tried = []
    rough = Neighbors._rough
    monkeypatch.setattr(
        Neighbors, "_rough", lambda self, *args: tried.append(0) or rough(self, *args)
    )
    own, wanted = slice(0, 80), torch.ones(80, 1, dtype=torch.bool)
    search = Neighbors(at, 1e-12)
    relative, points = search.nearest(at, 1, own)  # by the screen
    points = points[:, :1]
    assert (relative[:, 0] < torch.inf).all()
    assert search.places(at, own, points, wanted) is not None
    assert len(tried) == 1
    monkeypatch.setattr(neighbors, "MOST_PAIRS", 0)
    for _ in range(2):
        assert search.places(at, own, points, wanted) is None
        assert search.nearest(at, 1, own) is None
    assert len(tried) == 2


def test_what_would_overflow_in_float32_is_not_searched():
    at = torch.eye(5, dtype=torch.float64)
    for x in (1e30 * at, torch.full_like(at, torch.inf)):
        assert Neighbors(at).nearest(x, 1) is None
    assert Neighbors(1e200 * at).nearest(at, 1) is None
