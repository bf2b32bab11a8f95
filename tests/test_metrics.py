"""Each metric against its formula written as loops, its peers, and what must hold of any input."""

import itertools
import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import in_words
from hypothesis import given, settings
from hypothesis import strategies as st
from minisom import MiniSom
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter, laplace
from sklearn import manifold
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier

from somlib import metrics
from somlib.spaces import Euclidean, Grid, Sphere, Torus

GRIDS = [
    Grid(3, 5),
    Grid(4, 3, topology="hex"),
    Grid(4, 5, wrap=True),
    Grid(4, 5, topology="hex", wrap=(True, False)),
    Grid(1, 7),
    Grid(1, 1),
]
grids = pytest.mark.parametrize("grid", GRIDS, ids=str)


def some_map(grid, n=60, d=3, seed=0):
    """Samples, and prototypes that are samples moved a little: neither ordered nor far away."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, X[: grid.n_units] + 0.1 * rng.normal(size=(grid.n_units, d))


def two_best(x, weights):
    """(Distance, unit) of the two nearest prototypes; the lower index of equals first."""
    near = sorted((math.dist(x, m), k) for k, m in enumerate(weights))
    return near[0], near[min(1, len(near) - 1)]


# ---------------------------------------------------------------- map and data


@grids
def test_map_metrics_equal_their_formulas(grid):
    X, weights = some_map(grid)
    adjacent, apart = grid.adjacency(), grid.distances
    steps = np.where(adjacent, np.linalg.norm(weights[:, None] - weights, axis=2), np.inf)
    np.fill_diagonal(steps, 0)
    for k in range(len(steps)):  # Floyd and Warshall
        steps = np.minimum(steps, steps[:, k, None] + steps[k])
    qe = te = loss = both = 0.0
    for x in X:
        (distance, c), (_, second) = two_best(x, weights)
        qe += distance
        te += c != second and not adjacent[c, second]
        both += distance + steps[c, second]
        for k, m in enumerate(weights):
            loss += math.exp(-(apart[c, k] ** 2) / (2 * 0.8**2)) * math.dist(x, m) ** 2
    n = len(X)
    assert metrics.quantization_error(X, weights) == pytest.approx(qe / n, rel=1e-12)
    assert metrics.topographic_error(X, weights, grid) == te / n
    assert metrics.distortion(X, weights, grid, 0.8) == pytest.approx(loss / n, rel=1e-12)
    assert metrics.combined_error(X, weights, grid) == pytest.approx(both / n, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_a_sample_on_its_prototype_has_no_error(dtype, offset):
    weights = (np.random.default_rng(0).normal(size=(20, 50)) + offset).astype(dtype)
    assert metrics.quantization_error(weights[::-1], weights) == 0
    # the neighborhood has all but gone
    assert metrics.distortion(weights, weights, Grid(4, 5), sigma=0.01) == 0


def test_distortion_is_sound_far_from_the_origin():
    X, weights = some_map(Grid(4, 5))
    near = metrics.distortion(X, weights, Grid(4, 5), 1.0)
    assert metrics.distortion(X + 1e6, weights + 1e6, Grid(4, 5), 1.0) == pytest.approx(near, 1e-8)


def test_distortion_goes_to_the_squared_error_as_sigma_goes_to_0():
    X, weights = some_map(Grid(4, 5))
    squared = np.mean([two_best(x, weights)[0][0] ** 2 for x in X])
    assert metrics.distortion(X, weights, Grid(4, 5), 1e-3) == pytest.approx(squared)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_more_neighbors_mean_no_more_topographic_error(rows, cols, seed):
    grid = Grid(rows, cols)
    X, weights = some_map(grid, n=30, seed=seed)
    eight = metrics.topographic_error(X, weights, grid, connectivity=8)
    four = metrics.topographic_error(X, weights, grid, connectivity=4)
    assert 0 <= eight <= four <= 1
    assert four == metrics.topographic_error(X, weights, grid)
    ways = [metrics.combined_error(X, weights, grid, connectivity=c) for c in (8, 4)]
    assert metrics.quantization_error(X, weights) <= ways[0] <= ways[1] * (1 + 1e-12)


def test_combined_error_walks_over_equal_prototypes_for_nothing():
    weights = [[0.0], [5.0], [5.0], [1.0]]
    # 0 and 3 are the best two of 0.4; the way leads 0, 1, 2, 3
    assert metrics.combined_error([[0.4]], weights, Grid(1, 4)) == pytest.approx(0.4 + 5 + 0 + 4)


def minisom(grid, weights, on_map):
    """MiniSom with these weights: `on_map` turns (rows, cols, d) into its own arrangement."""
    arranged = on_map(weights.reshape(grid.rows, grid.cols, -1))
    name = {"rect": "rectangular", "hex": "hexagonal"}[grid.topology]
    som = MiniSom(*arranged.shape, topology=name, random_seed=0)
    som._weights = arranged.copy()
    return som


@pytest.mark.parametrize(
    ("grid", "connectivity", "on_map"),
    [
        (Grid(4, 6), 8, lambda w: w),  # MiniSom counts corners as neighbors
        # its hexagonal rows run along the second axis, and it is the last, third last, ... that
        # are shifted to the left: ours, upside down and transposed
        (Grid(4, 5, topology="hex"), 6, lambda w: w[::-1].swapaxes(0, 1)),
        (Grid(5, 3, topology="hex"), 6, lambda w: w[::-1].swapaxes(0, 1)),
    ],
    ids=in_words,
)
def test_agrees_with_minisom(grid, connectivity, on_map):
    rng = np.random.default_rng(1)
    X = rng.random((400, 2))
    # a map in rough order, so that the errors are neither 0 nor 1
    weights = grid.coords / grid.coords.max(0) + rng.normal(0, 0.15, (grid.n_units, 2))
    peer = minisom(grid, weights, on_map)
    te = metrics.topographic_error(X, weights, grid, connectivity)
    assert 0.05 < te < 0.95
    assert te == pytest.approx(peer.topographic_error(X), abs=1e-12)
    assert metrics.quantization_error(X, weights) == pytest.approx(peer.quantization_error(X))


# ---------------------------------------------------------------- topographic product


def expected_log(j, where, log_distance):
    """For l = 1, 2, ...: E log_distance(j, l-th nearest by `where`), any order of ties alike."""
    others = [k for k in range(len(where)) if k != j]
    by_distance = itertools.groupby(
        sorted(others, key=lambda k: where[j, k]), key=lambda k: round(where[j, k], 9)
    )
    for _, group in by_distance:
        tied = list(group)
        for _ in tied:
            yield sum(log_distance[j, k] for k in tied) / len(tied)


def literal_topographic_product(weights, grid):
    with np.errstate(divide="ignore"):
        V = np.linalg.norm(weights[:, None] - weights, axis=2)
        A = grid.distances
        log_v, log_a = np.log(V), np.log(A)
    K, total = len(weights), 0.0
    for j in range(K):
        log_q = [
            va - vv + aa - av
            for va, vv, aa, av in zip(
                expected_log(j, A, log_v),
                expected_log(j, V, log_v),
                expected_log(j, A, log_a),
                expected_log(j, V, log_a),
                strict=True,
            )
        ]
        total += sum(sum(log_q[:k]) / (2 * k) for k in range(1, K))
    return total / (K * (K - 1))


@pytest.mark.parametrize("grid", GRIDS[:-1], ids=str)
def test_topographic_product_equals_its_formula(grid):
    weights = some_map(grid)[1]
    expected = literal_topographic_product(weights, grid)
    assert metrics.topographic_product(weights, grid) == pytest.approx(expected, rel=1e-9)
    # a lattice in data space too has ties
    weights = grid.coords[::-1] * [1.0, 2.0]
    expected = literal_topographic_product(weights, grid)
    assert metrics.topographic_product(weights, grid) == pytest.approx(expected, abs=1e-9)


def test_topographic_product_is_the_mean_over_all_ways_of_breaking_ties():
    """On a triangle of data whose map is a chain, by Bauer and Pawelzik's own formula."""
    grid, weights = Grid(1, 3), np.array([[0.0, 0.0], [1.0, 0.2], [0.3, 3.0]])
    V, A = np.linalg.norm(weights[:, None] - weights, axis=2), grid.distances
    orders = {0: [[1, 2]], 1: [[0, 2], [2, 0]], 2: [[1, 0]]}  # the middle unit has a tie
    total = 0.0
    for j, ways in orders.items():
        v = sorted((k for k in range(3) if k != j), key=lambda k: V[j, k])
        for a in ways:
            q = [V[j, a[i]] / V[j, v[i]] * A[j, a[i]] / A[j, v[i]] for i in range(2)]
            total += (math.log(q[0]) / 2 + math.log(q[0] * q[1]) / 4) / len(ways)
    assert metrics.topographic_product(weights, grid) == pytest.approx(total / (3 * 2))


def test_the_sign_of_the_topographic_product_tells_the_dimension():
    square, chain = Grid(5, 5), Grid(1, 25)
    snake = square.mesh().copy()
    snake[1::2] = snake[1::2, ::-1]
    assert metrics.topographic_product(snake.reshape(25, 2), chain) < -0.02  # a line in a plane
    line = np.linspace(0, 1, 25)[:, None]
    rolled = line.reshape(5, 5).copy()
    rolled[1::2] = rolled[1::2, ::-1]
    assert metrics.topographic_product(rolled.reshape(25, 1), square) > 0.02  # a sheet on a line
    for grid in (square, chain):
        assert metrics.topographic_product(grid.coords, grid) == pytest.approx(0, abs=1e-12)


def test_topographic_product_of_very_small_maps_is_0():
    assert metrics.topographic_product([[1.0]], Grid(1, 1)) == 0
    assert metrics.topographic_product([[1.0], [3.0]], Grid(1, 2)) == 0


# ---------------------------------------------------------------- trustworthiness, continuity


@pytest.mark.parametrize(("n", "ks"), [(40, [1, 5, 19]), (150, [3, 10, 60])])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_scikit_learn_where_nothing_is_tied(n, ks, dtype):
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, 6)).astype(dtype)
    Z = (X[:, :2] + 0.5 * rng.normal(size=(n, 2))).astype(dtype)
    for ours, (a, b) in ((metrics.trustworthiness, (X, Z)), (metrics.continuity, (Z, X))):
        peer = [manifold.trustworthiness(a, b, n_neighbors=k) for k in ks]
        np.testing.assert_allclose(ours(X, Z, n_neighbors=ks), peer, rtol=0, atol=1e-10)
        one = ours(X, Z, n_neighbors=ks[1])
        assert isinstance(one, float)
        assert one == pytest.approx(peer[1], abs=1e-10)


def literal_expectation(near, far, k):
    """The mean over all pairs of orders of the samples, one of which breaks the ties in each space.

    Membership and rank are then independent, so the mean of their product is that of their means.
    """
    n = len(near)
    orders = list(itertools.permutations(range(n)))
    total = 0.0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        chosen, excess = np.zeros(n), np.zeros(n)
        for order in orders:
            by_near = sorted(others, key=lambda j: (near[i, j], order[j]))
            by_far = sorted(others, key=lambda j: (far[i, j], order[j]))
            chosen[by_near[:k]] += 1 / len(orders)
            for rank, j in enumerate(by_far, start=1):
                excess[j] += max(0, rank - k) / len(orders)
        total += (chosen * excess).sum()
    return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * total


@pytest.mark.parametrize("k", [1, 2])
def test_ties_are_worth_their_expected_value(k):
    X = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [2.0]])
    units = np.array([0, 0, 1, 1, 1, 2])
    grid = Grid(2, 2, topology="hex")  # rows are √3/2 apart: equal distances, unequal digits
    Z = grid.coords[units]
    in_x, in_z = abs(X - X.T), grid.distances[units[:, None], units].round(9)
    trust, cont = literal_expectation(in_z, in_x, k), literal_expectation(in_x, in_z, k)
    assert 0 < trust < 1
    for space in (None, grid):
        assert metrics.trustworthiness(X, Z, k, space=space) == pytest.approx(trust, abs=1e-12)
        assert metrics.continuity(X, Z, k, space=space) == pytest.approx(cont, abs=1e-12)


def score(data, embedding, k):
    """Return the trustworthiness for two matrices that sort neighbors without ties."""
    n = len(data)
    ranks = data.argsort(1).argsort(1) + 1
    excess = np.maximum(0, np.take_along_axis(ranks, embedding.argsort(1)[:, :k], 1) - k)
    return 1 - 2 * excess.sum() / (n * k * (2 * n - 3 * k - 1))


def test_ties_are_worth_the_mean_over_random_orders_of_their_own_not_over_jittered_samples():
    rng, n, k = np.random.default_rng(3), 40, 5
    X = rng.integers(0, 4, (n, 3)).astype(float)
    Z = Grid(3, 4).coords[((X[:, 0] * 3 + X[:, 1] % 3) % 12).astype(int)]
    near, far = (((P[:, None] - P) ** 2).sum(-1) + 1e9 * np.eye(n) for P in (X, Z))
    value = metrics.trustworthiness(X, Z, k)

    def apart(values):
        return (np.mean(values) - value) / (np.std(values) / len(values) ** 0.5)

    own, shared = [], []
    for _ in range(500):
        ties = [1e-3 * rng.random((n, n)) for _ in range(2)]
        own.append(score(near + ties[0], far + ties[1], k))
        order = 1e-3 * rng.permutation(n) / n  # as a stable sort has it: both spaces alike
        shared.append(score(near + order, far + order, k))
    assert abs(apart(own)) < 4
    assert apart(shared) > 10
    # x = 0 has neighbors at −1, −1 and 1. Jitter moves its distances to the first two together, so
    # the third comes first more often than once in three times
    x = np.array([0.0, -1, -1, 1]) + 1e-3 * rng.standard_normal((2000, 4))
    assert (abs(x[:, 1:] - x[:, :1]).argmin(1) == 2).mean() > 0.38


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_order_of_the_samples_does_not_matter(dtype):
    X = load_digits().data[:300].astype(dtype) / 15  # many equal distances, and not exact ones
    rng = np.random.default_rng(0)
    grid = Grid(4, 5, topology="hex")
    Z = grid.coords[rng.integers(0, 20, 300)]
    order = rng.permutation(300)
    for metric in (metrics.trustworthiness, metrics.continuity):
        curve = metric(X, Z, n_neighbors=[1, 5, 20])
        np.testing.assert_allclose(metric(X[order], Z[order], [1, 5, 20]), curve, atol=1e-12)


@given(st.integers(5, 30), st.integers(1, 3), st.booleans(), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_what_holds_of_any_embedding(n, levels, ties, seed):
    rng = np.random.default_rng(seed)
    X, Z = rng.normal(size=(n, 3)), rng.normal(size=(n, 2))
    if ties:
        X, Z = rng.integers(0, levels + 1, (n, 3)), rng.integers(0, levels + 1, (n, 2))
    ks = np.arange(1, (n + 1) // 2)
    trust, cont = metrics.trustworthiness(X, Z, ks), metrics.continuity(X, Z, ks)
    for curve in (trust, cont):
        assert ((curve > -1e-12) & (curve < 1 + 1e-12)).all()
    np.testing.assert_allclose(metrics.trustworthiness(Z, X, ks), cont, atol=1e-12)
    # neither moving, scaling nor turning changes who is near
    turned = 3 * Z[:, ::-1] + 100
    np.testing.assert_allclose(metrics.trustworthiness(X, turned, ks), trust, atol=1e-9)


def test_a_copy_is_perfect_and_a_shuffled_one_is_worth_a_half():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 4))
    assert metrics.trustworthiness(X, 2 * X + 1, [1, 10, 100]).tolist() == [1, 1, 1]
    assert metrics.continuity(X, X, 10) == 1
    assert metrics.trustworthiness(X, rng.permutation(X), 10) == pytest.approx(0.5, abs=0.02)


def test_the_distance_of_a_space_counts():
    ring = Grid(1, 40, wrap=(False, True))
    angle = 2 * np.pi * np.arange(40) / 40 + 0.01 * np.random.default_rng(0).normal(size=40)
    X = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    around, cut = (metrics.trustworthiness(X, ring.coords, 4, space=s) for s in (ring, None))
    assert cut < around
    assert around > 0.99

    class Doubled:  # any object that measures will do, and only the order of distances matters
        def distance(self, a, b):
            return 2 * ring.distance(a, b).numpy()

    assert metrics.trustworthiness(X, ring.coords, 4, space=Doubled()) == around
    flat = metrics.continuity(X, ring.coords, 4, space=Grid(1, 40))
    assert flat == pytest.approx(metrics.continuity(X, ring.coords, 4), abs=1e-12)


SPACES = [Torus(1), Torus(3), Sphere(2), Sphere(4), Grid(4, 5, "hex", wrap=(True, False))]
spaces = pytest.mark.parametrize("space", SPACES, ids=str)


def copies(space):
    """By how much the shift of a point of a torus or grid changes nothing."""
    if isinstance(space, Torus):
        return [2 * np.pi * np.array(k) for k in itertools.product((-1, 0, 1), repeat=space.m)]
    return [np.array([up * space.periods[0], 0]) for up in (-1, 0, 1)]


def literal_apart(space, a, b):
    if isinstance(space, Sphere):
        return math.acos(np.clip(a @ b, -1, 1))
    return min(math.dist(a + shift, b) for shift in copies(space))


def literal_rank_score(near, far, k):
    """One minus the scaled excess of ranks; nothing is tied."""
    n, excess = len(near), 0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        rank = {j: r for r, j in enumerate(sorted(others, key=far[i].__getitem__), start=1)}
        for j in sorted(others, key=near[i].__getitem__)[:k]:
            excess += max(0, rank[j] - k)
    return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * excess


@spaces
def test_neighbors_in_a_latent_space_are_those_by_its_own_distance(space):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    Z = space.sample(60, rng)
    if isinstance(space, Grid):
        Z = Z + rng.uniform(-0.1, 0.1, Z.shape)  # no ties
    in_x = np.linalg.norm(X[:, None] - X, axis=2)
    in_z = np.array([[literal_apart(space, a, b) for b in Z] for a in Z])
    for k in (1, 6, 20):
        trust = metrics.trustworthiness(X, Z, k, space=space)
        assert trust == pytest.approx(literal_rank_score(in_z, in_x, k), abs=1e-12)
        cont = metrics.continuity(X, Z, k, space=space)
        assert cont == pytest.approx(literal_rank_score(in_x, in_z, k), abs=1e-12)
        # scikit-learn takes distances for the space of the ranks
        np.fill_diagonal(in_z, 0)
        peer = manifold.trustworthiness(in_z, X, n_neighbors=k, metric="precomputed")
        assert cont == pytest.approx(peer, abs=1e-12)


@pytest.mark.parametrize("space", [Torus(2), Sphere(3)], ids=str)
def test_a_space_embedded_without_stretching_keeps_its_neighbors(space):
    Z = space.sample(200, np.random.default_rng(0))
    X = space.embed(Z)  # chords grow with arcs: on the sphere exactly, on the torus nearly
    least = 1 if isinstance(space, Sphere) else 0.995
    for metric in (metrics.trustworthiness, metrics.continuity):
        own, flat = metric(X, Z, [1, 5], space=space), metric(X, Z, [1, 5])
        assert (own >= least - 1e-12).all()
        if isinstance(space, Torus):
            assert (flat < own).all()  # the angles alone do not know that −π is π
            turned = Z + 2 * np.pi * np.random.default_rng(1).integers(-1, 2, Z.shape)
            np.testing.assert_allclose(metric(X, turned, [1, 5], space=space), own, atol=1e-12)
        else:
            np.testing.assert_allclose(metric(X, 3 * Z, [1, 5], space=space), own, atol=1e-12)
    flat_space = metrics.trustworthiness(X, Z, [1, 5], space=Euclidean(Z.shape[1]))
    np.testing.assert_allclose(flat_space, metrics.trustworthiness(X, Z, [1, 5]), atol=1e-12)


@spaces
def test_the_blocks_of_a_space_do_not_show(space, monkeypatch):
    rng = np.random.default_rng(0)
    X, Z = rng.normal(size=(60, 4)), space.sample(60, rng)
    whole = [metrics.trustworthiness(X, Z, 5, space), metrics.continuity(X, Z, 5, space)]
    monkeypatch.setattr(metrics.distances, "BLOCK_ELEMENTS", 100)
    parts = [metrics.trustworthiness(X, Z, 5, space), metrics.continuity(X, Z, 5, space)]
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


# ---------------------------------------------------------------- classes of neighbors


def some_classes(n=150, m=2, n_classes=4, seed=0):
    """Overlapping clusters, so that votes differ and are often tied."""
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n)
    return y[:, None] * 0.8 + rng.normal(size=(n, m)), y


def literal_knn(space, Z, y, Z_new, y_new, k):
    right = 0
    for z, c in zip(Z_new, y_new, strict=True):
        order = sorted(range(len(Z)), key=lambda i, z=z: literal_apart(space, z, Z[i]))
        votes = Counter(y[i] for i in order[:k])
        right += c == min(v for v in votes if votes[v] == max(votes.values()))
    return right / len(Z_new)


@given(st.integers(1, 150), st.integers(1, 20), st.integers(2, 9), st.integers(0, 10**6))
@settings(max_examples=40)
def test_knn_agrees_with_scikit_learn(k, m, n_classes, seed):
    Z, y = some_classes(m=m, n_classes=n_classes, seed=seed)
    Z_new, y_new = some_classes(n=60, m=m, n_classes=n_classes, seed=seed + 1)
    peer = KNeighborsClassifier(n_neighbors=k).fit(Z, y).score(Z_new, y_new)
    assert metrics.knn_accuracy(Z, y, Z_new, y_new, k) == pytest.approx(peer, abs=1e-12)


def test_the_lowest_of_the_classes_with_most_votes_wins():
    Z, y = [[0.0], [1.0], [2.0], [3.0]], ["owl", "cat", "owl", "cat"]
    assert metrics.knn_accuracy(Z, y, [[1.5]], ["cat"], 4) == 1  # two of each
    assert metrics.knn_accuracy(Z, y, [[1.5]], ["owl"], 4) == 0
    assert metrics.knn_accuracy(Z, y, [[0.9]], ["owl"], 3) == 1  # outvoted
    assert metrics.knn_accuracy(Z, y, [[0.9]], ["cat"], 1) == 1


@spaces
@pytest.mark.parametrize("k", [1, 4, 9, 80])
def test_the_neighbors_that_vote_are_those_of_the_space(space, k):
    rng = np.random.default_rng(3)
    Z, Z_new = space.sample(80, rng), space.sample(40, rng)
    if isinstance(space, Grid):
        Z, Z_new = (z + rng.uniform(-0.1, 0.1, z.shape) for z in (Z, Z_new))
    pole = Z[0]
    y, y_new = (  # rings around a point, and noise
        (np.array([literal_apart(space, z, pole) for z in at]) * 1.5).astype(int)
        + rng.integers(2, size=len(at))
        for at in (Z, Z_new)
    )
    found = metrics.knn_accuracy(Z, y, Z_new, y_new, k, space=space)
    assert found == pytest.approx(literal_knn(space, Z, y, Z_new, y_new, k), abs=1e-12)
    assert 0 < found < 1


def test_a_class_that_lies_across_the_cut_is_one_class_on_the_torus():
    Z = np.array([[3.0], [3.1], [-2.6], [-2.5], [0.0]])
    y = [0, 0, 1, 1, 2]
    for space, seen in ((Torus(1), 0), (None, 1), (Euclidean(1), 1)):
        assert metrics.knn_accuracy(Z, y, [[-3.1]], [seen], 3, space=space) == 1


def test_classes_may_be_text_tensors_or_unheard_of():
    Z, y = some_classes()
    names = np.array(["ant", "bee", "cow", "dog"])
    expected = metrics.knn_accuracy(Z[:100], y[:100], Z[100:], y[100:], 5)
    assert isinstance(expected, float)
    named = metrics.knn_accuracy(Z[:100], names[y[:100]], Z[100:], names[y[100:]].tolist(), 5)
    tensors = [torch.from_numpy(a) for a in (Z[:100], y[:100], Z[100:], y[100:])]
    assert expected == named == metrics.knn_accuracy(*tensors, n_neighbors=5)
    assert metrics.knn_accuracy(Z, y, Z, y, 1) == 1
    assert metrics.knn_accuracy(Z, y, Z, y + 10, 1) == 0
    assert 0.3 < expected < 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own account")
def test_memory_is_bounded():
    """One n × n matrix of float64 would take 1152 MB; a fresh process shows its true peak.

    Far apart, because what the threads of a product take for themselves differs by machine.

    VmHWM and not ru_maxrss, which a process inherits from the one that started it.
    """
    code = """if True:
        import re
        from pathlib import Path
        import numpy as np
        from somlib import metrics
        def peak():
            status = Path("/proc/self/status").read_text()
            return int(re.search(r"VmHWM:\\s*(\\d+)", status)[1]) / 1024
        X = np.random.default_rng(0).random((12_000, 20))
        metrics.trustworthiness(X[:100], X[:100, :2])
        before = peak()
        metrics.trustworthiness(X, X[:, :2].round(1), n_neighbors=[5, 50])
        metrics.c_measure(X, X[:, :2])
        print(peak() - before)
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < float(run.stdout) < 600, run.stdout


# ---------------------------------------------------------------- clusters and classes

labelings = st.integers(1, 30).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n)] * 2)
)


def literal_nmi(y, labels, average):
    n = len(y)

    def share(*pairs):
        return sum(all(a[i] == v for a, v in pairs) for i in range(n)) / n

    def entropy(a):
        return -sum(share((a, v)) * math.log(share((a, v))) for v in set(a))

    mutual = 0.0
    for c, k in itertools.product(set(y), set(labels)):
        if p := share((y, c), (labels, k)):
            mutual += p * math.log(p / (share((y, c)) * share((labels, k))))
    h = entropy(y), entropy(labels)
    if max(h) == 0:
        return 1.0
    mean = math.sqrt(h[0] * h[1]) if average == "geometric" else sum(h) / 2
    return mutual / mean if mean else 0.0


@given(labelings, st.permutations(range(5)))
@settings(max_examples=60, deadline=None)
def test_cluster_metrics_equal_their_formulas(pair, names):
    y, labels = pair
    n = len(y)
    renamed = [names[k] for k in labels]
    right = [
        max(sum(y[i] == c for i in range(n) if labels[i] == k) for c in range(5))
        for k in set(labels)
    ]
    best = max(
        sum(y[i] == naming[labels[i]] for i in range(n))
        for naming in itertools.permutations(range(5))
    )
    purity, accuracy = metrics.purity(y, labels), metrics.clustering_accuracy(y, labels)
    assert purity == pytest.approx(sum(right) / n)
    assert accuracy == pytest.approx(best / n)
    assert 0 < accuracy <= purity <= 1
    assert metrics.purity(y, renamed) == purity
    assert metrics.clustering_accuracy(y, renamed) == accuracy
    for average in ("geometric", "arithmetic"):
        nmi = metrics.nmi(y, labels, average)
        assert nmi == pytest.approx(literal_nmi(y, labels, average), abs=1e-9)
        assert nmi == pytest.approx(metrics.nmi(labels, y, average), abs=1e-12)
        assert nmi == pytest.approx(metrics.nmi(y, renamed, average), abs=1e-12)
        assert nmi == pytest.approx(
            normalized_mutual_info_score(y, labels, average_method=average), abs=1e-12
        )
    assert metrics.nmi(y, labels, "geometric") >= metrics.nmi(y, labels, "arithmetic") - 1e-12


def test_clusters_that_are_the_classes_are_perfect_under_any_names():
    y, labels = ["cat", "dog", "cat", "owl"], torch.tensor([7, 3, 7, 1])
    assert metrics.purity(y, labels) == metrics.clustering_accuracy(y, labels) == 1
    assert metrics.nmi(y, labels, "geometric") == pytest.approx(1)


def literal_class_scatter(y, labels, grid, connectivity):
    adjacent, groups = grid.adjacency(connectivity), 0
    for c in set(y):
        left = {k for k, v in zip(labels, y, strict=True) if v == c}
        while left:
            groups, reached = groups + 1, [left.pop()]
            while reached:
                k = reached.pop()
                touching = {j for j in left if adjacent[k, j]}
                left -= touching
                reached += touching
    return groups / len(set(y))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("eight", [False, True])
def test_class_scatter_counts_connected_groups(grid, eight):
    rng = np.random.default_rng(0)
    y = rng.choice(["ant", "bee", "cow"], 12).tolist()
    labels = rng.integers(0, grid.n_units, 12).tolist()
    connectivity = 8 if eight and grid.topology == "rect" else None
    expected = literal_class_scatter(y, labels, grid, connectivity)
    assert metrics.class_scatter(y, labels, grid, connectivity) == pytest.approx(expected)
    assert expected >= 1


def test_dead_units_are_those_that_win_nothing():
    assert metrics.dead_units(np.array([3, 3, 0]), 5) == 3
    assert metrics.dead_units(torch.arange(5), 5) == 0


# ---------------------------------------------------------------- images


def some_images(n=20, rows=6, cols=9, seed=0):
    return np.random.default_rng(seed).random((n, rows * cols))


def literal_edges(X, rows, cols):
    """The mean variance of the Laplacian and the mean length of the gradient, dark outside."""
    variances, lengths = [], []
    for x in X:
        padded = [[0.0] * (cols + 2) for _ in range(rows + 2)]
        for i, j in itertools.product(range(rows), range(cols)):
            padded[i + 1][j + 1] = x[i * cols + j]
        response = []
        for i, j in itertools.product(range(1, rows + 1), range(1, cols + 1)):
            up, down = padded[i - 1][j], padded[i + 1][j]
            left, right = padded[i][j - 1], padded[i][j + 1]
            response.append(up + down + left + right - 4 * padded[i][j])
            lengths.append(math.hypot((down - up) / 2, (right - left) / 2))
        mean = sum(response) / len(response)
        variances.append(sum((r - mean) ** 2 for r in response) / len(response))
    return sum(variances) / len(X), sum(lengths) / len(lengths)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (1, 54), (54, 1), (2, 27)])
def test_sharpness_equals_its_formula_and_scipy(shape):
    X, reference = some_images() ** 2, some_images(n=7, seed=1)
    found = metrics.sharpness(X, reference, shape)
    of, than = literal_edges(X, *shape), literal_edges(reference, *shape)
    assert found == {
        "laplacian": pytest.approx(of[0] / than[0], rel=1e-12),
        "gradient": pytest.approx(of[1] / than[1], rel=1e-12),
    }
    peer = [
        np.mean([laplace(x.reshape(shape), mode="constant").var() for x in images])
        for images in (X, reference)
    ]
    assert found["laplacian"] == pytest.approx(peer[0] / peer[1], rel=1e-12)
    assert all(isinstance(value, float) for value in found.values())


@given(st.floats(0.01, 100), st.integers(0, 10**6))
def test_sharpness_counts_contrast_by_its_square_or_itself(contrast, seed):
    X = some_images(seed=seed)
    assert metrics.sharpness(X, X, (6, 9)) == {"laplacian": 1, "gradient": 1}
    found = metrics.sharpness(contrast * X, X, (6, 9))
    assert found["laplacian"] == pytest.approx(contrast**2, rel=1e-9)
    assert found["gradient"] == pytest.approx(contrast, rel=1e-9)
    mirrored = X.reshape(-1, 6, 9)[:, ::-1, ::-1].reshape(X.shape)
    assert metrics.sharpness(mirrored, X, (6, 9)) == pytest.approx(
        {"laplacian": 1, "gradient": 1}, rel=1e-12
    )


def test_the_more_blurred_an_image_the_less_sharp_and_the_more_noisy_the_sharper():
    X = load_digits().data[:200] / 16

    def blurred(width):
        return gaussian_filter(X.reshape(-1, 8, 8), (0, width, width)).reshape(-1, 64)

    ways = [metrics.sharpness(blurred(width), X, (8, 8)) for width in (0.3, 0.5, 0.7, 1, 2)]
    noisy = X + np.random.default_rng(0).normal(0, 0.3, X.shape)
    ways = [metrics.sharpness(noisy, X, (8, 8)), metrics.sharpness(X, X, (8, 8)), *ways]
    for name in ("laplacian", "gradient"):
        values = [way[name] for way in ways]
        assert values[1] == 1
        assert all(more > less for more, less in itertools.pairwise(values)), (name, values)
    assert ways[-1]["laplacian"] < 0.05
    mean = metrics.sharpness(X.mean(0, keepdims=True), X, (8, 8))
    assert mean["laplacian"] < 0.5  # an average of images is a blurred one


def test_images_may_be_tensors_and_whole_numbers():
    X = np.random.default_rng(0).integers(0, 256, (9, 54), dtype=np.uint8)
    expected = metrics.sharpness(X.astype(float), some_images(), (6, 9))
    for kind in (np.asarray, torch.from_numpy, np.float32):
        found = metrics.sharpness(kind(X), some_images(), (6, 9))
        assert found == pytest.approx(expected, rel=1e-6)


# ---------------------------------------------------------------- bad input

X, W, GRID = np.ones((6, 2)), np.arange(1.0, 9.0).reshape(4, 2), Grid(2, 2)
NAN = np.array([[0.0, np.nan], [1.0, 1.0]])


TWINS = W[[0, 1, 2, 1]]


@pytest.mark.parametrize(
    ("metric", "arguments", "message"),
    [
        ("quantization_error", (X, W[:, :1]), "X has 2 features, but weights have 1"),
        ("quantization_error", (X[0], W), "X has shape (2,), expected (samples, features)"),
        ("quantization_error", (X[:0], W), "X has 0 sample(s) (shape=(0, 2))"),
        ("quantization_error", (X, W[:0]), "weights has 0 sample(s)"),
        ("quantization_error", (NAN, W), "X contains "),
        ("quantization_error", ([[np.inf, -np.inf]], W), "X contains "),
        ("quantization_error", (X, W * np.inf), "weights contains "),
        ("quantization_error", ([["a", "b"]], W), "X has dtype <U1, which is not a number"),
        ("topographic_error", (X, W, Grid(2, 3)), "weights has 4 rows, but a 2 × 3 grid has 6"),
        ("topographic_error", (X, W, GRID, 6), "connectivity=6 does not exist on a 'rect'"),
        ("distortion", (X, W, Grid(1, 3), 1.0), "weights has 4 rows, but a 1 × 3 grid has 3"),
        ("distortion", (X, W, GRID, 0), "sigma=0 must be a positive number"),
        ("distortion", (X, W, GRID, np.nan), "sigma=nan must be a positive number"),
        ("combined_error", (X, W, Grid(1, 3)), "weights has 4 rows"),
        ("combined_error", (X, W, GRID, 5), "connectivity=5 does not exist"),
        ("topographic_product", (W, Grid(1, 3)), "weights has 4 rows"),
        ("topographic_product", (TWINS, GRID), "units 1 and 3 have equal weights"),
        ("trustworthiness", (X, W), "X has 6 rows, but Z 4; give every sample"),
        ("continuity", (X, W), "X has 6 rows, but Z 4; give every sample"),
        ("trustworthiness", (NAN, NAN), "X contains NaN"),
        ("continuity", (X, X * np.nan), "Z contains NaN"),
        ("trustworthiness", (X, X, 3), "n_neighbors=3 must be whole numbers of at least 1 and bel"),
        ("continuity", (X, X, [1, 0]), "n_neighbors=[1, 0] must be"),
        ("trustworthiness", (X, X, 1.5), "n_neighbors=1.5 must be"),
        ("trustworthiness", (X, X, []), "n_neighbors=[] must be"),
        (
            "trustworthiness",
            (X, X, 2, Torus(3)),
            "(6, 1, 2) do not lie in Torus(m=3)",
        ),
        ("continuity", (X, 0 * X, 2, Sphere(2)), "a zero vector has no direction"),
        (
            "knn_accuracy",
            (X, [0] * 5, X, [0] * 6),
            "y has 5 labels for 6 samples",
        ),
        ("knn_accuracy", (X, [0] * 6, X, [0] * 7), "y_new has 7 labels for 6 samples"),
        ("knn_accuracy", (NAN, [0, 1], W, [0] * 4), "Z contains NaN in row 0"),
        ("knn_accuracy", (W, [0] * 4, NAN, [0, 1]), "Z_new contains NaN in row 0"),
        ("knn_accuracy", (W, [0, 1, np.nan, 0], W, [0] * 4), "y has no label in row"),
        ("knn_accuracy", (W, [0] * 4, W, []), "y_new has shape (0,); expected (n,)"),
        (
            "knn_accuracy",
            (W[0], [0, 1], W, [0] * 4),
            "Z has shape (2,), expected (samples",
        ),
        ("knn_accuracy", (W, [0] * 4, X, [0] * 6, 5), "=5 must be a whole number from 1 to the 4"),
        ("knn_accuracy", (W, [0] * 4, X, [0] * 6, 0), "=0 must be a whole number of at least 1"),
        (
            "knn_accuracy",
            (W, [0] * 4, X, [0] * 6, 2.0),
            "=2.0 must be a whole number of at",
        ),
        ("knn_accuracy", (W, [0] * 4, X, [0] * 6), "=10 must be a whole number from 1 to the 4"),
        ("knn_accuracy", (W, [0] * 4, X[:, :1], [0] * 6, 1), "Z has 2 columns and Z_new has 1"),
        ("knn_accuracy", (W, [0] * 4, X, [0] * 6, 1, Sphere(3)), "do not lie in Sphere(m=3)"),
        ("knn_accuracy", (W, [0] * 4, 0 * X, [0] * 6, 1, Sphere(2)), "zero vector has no direct"),
        ("sharpness", (X, X, (2, 2)), "images of 2 × 2 have 4 pixels, but X has 2; give image_sh"),
        ("sharpness", (X, np.ones((3, 4)), (1, 2)), "have 2 pixels, but reference has 4; give"),
        ("sharpness", (X, 0 * X, (1, 2)), "the reference images have no contrast at all"),
        ("sharpness", (X, X[:, :1], (1, 1)), "images of 1 × 1 have 1 pixels, but X has 2"),
        ("sharpness", (NAN, X, (1, 2)), "X contains NaN"),
        ("sharpness", (X, NAN, (1, 2)), "reference contains NaN"),
        (
            "sharpness",
            (X.reshape(3, 2, 2), X, (2, 2)),
            "X has shape (3, 2, 2), expected (samp",
        ),
        ("purity", ([0, 1], [0]), "y has 2 labels for 1 samples"),
        ("purity", ([], []), "labels has shape (0,); expected (n,)"),
        ("purity", ([[0]], [0]), "y has shape (1, 1); expected (n,)"),
        ("purity", ([0.0, np.nan], [0, 1]), "y has no label in row"),
        ("clustering_accuracy", (["a", None], [0, 1]), "y has no label in row"),
        ("nmi", ([0, 1], [0, 1], "max"), "average='max' is unknown; choose one of ['geometric', "),
        ("nmi", ([0, 1], [0], "geometric"), "y has 2 labels for 1 samples"),
        ("class_scatter", ([0, 1], [0, 4], GRID), "labels contain 4, but the 4 units are 0 to 3"),
        ("class_scatter", ([0, 1], [0], GRID), "y has 2 labels for 1 samples"),
        ("dead_units", ([-1, 0], 4), "labels contain -1, but the 4 units are 0 to 3"),
        ("dead_units", (["a"], 4), "labels have shape (1,) and dtype <U1"),
    ],
)
def test_bad_input_is_named(metric, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(metrics, metric)(*arguments)


def test_nmi_has_no_default_average():
    with pytest.raises(TypeError, match="average"):
        metrics.nmi([0, 1], [0, 1])


# ---------------------------------------------------------------- pictures


def test_variance_lost_is_one_minus_the_share_of_variance_that_is_left():
    X = np.random.default_rng(0).normal(size=(40, 5))
    middle = X.mean(0)
    for kept in (0.0, 0.3, 1.0, 1.5):
        drawn = middle + kept * (X - middle)
        assert metrics.variance_lost(X, drawn) == pytest.approx(1 - kept**2)
    assert metrics.variance_lost(X, X[::-1] + 3) == pytest.approx(0)  # neither order nor place


def test_the_frechet_distance_of_gaussians_in_one_dimension_is_the_known_one():
    rng = np.random.default_rng(0)
    A, B = rng.normal(1, 2, (500, 1)), rng.normal(-1, 0.5, (300, 1))
    known = (A.mean() - B.mean()) ** 2 + (A.std(ddof=1) - B.std(ddof=1)) ** 2
    assert metrics.frechet_distance(A, B) == pytest.approx(known)


def test_the_frechet_distance_is_that_with_a_matrix_square_root():
    rng = np.random.default_rng(1)
    A, B = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4)), rng.normal(size=(50, 4)) + 1
    C_A, C_B = np.cov(A.T), np.cov(B.T)
    cross = sqrtm(C_A @ C_B).real
    known = ((A.mean(0) - B.mean(0)) ** 2).sum() + np.trace(C_A + C_B - 2 * cross)
    assert metrics.frechet_distance(A, B) == pytest.approx(known)
    assert metrics.frechet_distance(B, A) == pytest.approx(known)


@pytest.mark.parametrize("scale", [1e-150, 1e-75, 1e-30, 1.0, 1e30, 1e75, 1e150])
@pytest.mark.parametrize("rows", [4, 50])  # fewer than features: both covariances are singular
def test_the_frechet_distance_holds_at_every_scale_with_singular_covariances_too(scale, rows):
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(rows, 6)), 2 * rng.normal(size=(rows + 1, 6)) + 1
    A[:, 2], B[:, 2], B[:, 3] = 1, 5, 0  # constant features
    one = metrics.frechet_distance(A, B)
    assert one > 16
    assert metrics.frechet_distance(scale * A, scale * B) == pytest.approx(scale * one * scale)
    assert metrics.frechet_distance(scale * A, scale * A) <= 1e-13 * scale * scale
    moved = metrics.frechet_distance(scale * A, scale * (A + 2))
    assert moved == pytest.approx(24 * scale * scale)


def test_the_frechet_distance_bears_features_that_are_always_zero():
    A = np.random.default_rng(0).normal(size=(30, 3)) * [1, 0, 1]
    assert metrics.frechet_distance(A, A) == pytest.approx(0, abs=1e-12)
    assert metrics.frechet_distance(A, A + np.array([0, 2, 0])) == pytest.approx(4)


def test_the_length_of_a_path_is_measured_in_ways_straight_ahead():
    t = np.linspace(0, 1, 9)[:, None]
    straight = t * [3.0, 4.0]
    half_turn = np.hstack(
        [
            np.cos(np.pi * np.linspace(0, 1, 1001)[:, None]),
            np.sin(np.pi * np.linspace(0, 1, 1001)[:, None]),
        ]
    )
    assert metrics.path_length_ratio(straight[None]) == pytest.approx(1)
    assert metrics.path_length_ratio(half_turn[None]) == pytest.approx(np.pi / 2, rel=1e-5)
    there_and_back = np.vstack([straight, straight[::-1]])[None]
    both = np.concatenate([there_and_back, np.repeat(straight, 2, 0)[None]])
    assert metrics.path_length_ratio(both) == pytest.approx(1)  # the first leads nowhere


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.variance_lost(np.ones((3, 2)), np.eye(2)), "all the same"),
        (lambda: metrics.variance_lost(np.eye(3), np.eye(2)), "X has 3 columns and drawn has 2"),
        (lambda: metrics.frechet_distance(np.eye(3), np.eye(2)), "A has 3 columns and B has 2"),
        (lambda: metrics.frechet_distance(np.eye(3)[:1], np.eye(3)), "A has 1 and B 3 rows"),
        (lambda: metrics.path_length_ratio(np.zeros((2, 1, 3))), "at least two points"),
        (lambda: metrics.path_length_ratio(np.zeros((2, 4, 3))), "end where they begin"),
        (lambda: metrics.path_length_ratio(np.zeros((4, 3))), "paths"),
        (lambda: metrics.frechet_distance(np.full((3, 2), np.nan), np.eye(2)), "A"),
    ],
)
def test_pictures_that_cannot_be_measured_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
