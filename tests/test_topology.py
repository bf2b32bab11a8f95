"""Four measures of topology against literal forms, the table of all measures, and cluster means."""

import itertools
import math
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import in_words

from somlib import SOM, Grid, metrics
from somlib.spaces import Torus

GRIDS = [
    Grid(3, 5),
    Grid(4, 3, "hex"),
    Grid(4, 5, wrap=True),
    Grid(4, 5, "hex", wrap=(True, False)),
    Grid(1, 7),
]
each_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)


def some_map(grid, n=40, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    weights = X[: grid.n_units] + 0.3 * rng.normal(size=(grid.n_units, 3))
    apart = np.linalg.norm(X[:, None] - weights, axis=2)
    return X, weights, apart.argsort(1)[:, :2]


# ---------------------------------------------------------------- distances


def pairs_of_distances(X, places, distance):
    """Return the distances of all pairs i < j in the data and on the map."""
    pairs = list(itertools.combinations(range(len(X)), 2))
    return [math.dist(X[i], X[j]) for i, j in pairs], [
        distance(places[i], places[j]) for i, j in pairs
    ]


@each_grid
@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
def test_measures_of_distances_equal_their_formulas_and_those_of_somperf(grid, metric):
    X, _, best = some_map(grid)
    Z, n = grid.coords[best[:, 0]], len(X)
    space = SimpleNamespace(distance=lambda a, b: grid.distance(a, b, metric))
    in_x, in_z = pairs_of_distances(X, Z, lambda a, b: float(space.distance(a, b)))
    c = sum(a * b for a, b in zip(in_x, in_z, strict=True))  # SOMperf's, by Manhattan distances
    assert metrics.c_measure(X, Z, space) * n * (n - 1) / 2 == pytest.approx(c, rel=1e-12)
    error = sum((a / max(in_x) - b / max(in_z)) ** 2 for a, b in zip(in_x, in_z, strict=True))
    expected = 2 * error / (n**2 - n)
    assert metrics.kruskal_shepard_error(X, Z, space) == pytest.approx(expected, rel=1e-9)


def test_a_faithful_embedding_has_no_kruskal_shepard_error_and_a_torus_its_own_distances():
    X = np.random.default_rng(0).normal(size=(50, 4))
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    assert metrics.kruskal_shepard_error(X, 3 * X @ rotation + 1) == pytest.approx(0, abs=1e-12)
    on_circle = metrics.c_measure([[0.0], [0.0], [1.0]], [[0.1], [6.2], [3.0]], Torus(1))
    assert on_circle == pytest.approx((2.9 + 2 * np.pi - 3.2) / 3)


def test_distances_out_of_order_have_a_lower_c_measure():
    rng = np.random.default_rng(0)
    X = rng.random((80, 2))
    assert metrics.c_measure(X, X) > metrics.c_measure(X, rng.permutation(X))


# ---------------------------------------------------------------- neighbors


def literal_preservation(in_x, in_z, k):
    """Return the mean over all orders of the samples, one for each space, that break ties."""
    n = len(in_x)
    orders = list(itertools.permutations(range(n)))

    def chances(apart, i):
        chosen = np.zeros(n)
        for order in orders:
            others = [j for j in range(n) if j != i]
            chosen[sorted(others, key=lambda j: (apart[i, j], order[j]))[:k]] += 1 / len(orders)
        return chosen

    return sum(chances(in_x, i) @ chances(in_z, i) for i in range(n)) / (n * k)


@pytest.mark.parametrize("k", [1, 2])
def test_neighborhood_preservation_is_the_expected_share_of_neighbors_kept(k):
    X = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [2.0]])
    units, grid = np.array([0, 0, 1, 1, 1, 2]), Grid(2, 2, "hex")
    in_z = grid.distances[units[:, None], units].round(9)
    expected = literal_preservation(abs(X - X.T), in_z, k)
    found = metrics.neighborhood_preservation(X, grid.coords[units], k, grid)
    assert found == pytest.approx(expected, abs=1e-12)


def test_without_ties_it_counts_common_neighbors_for_each_k():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 5))
    Z = X[:, :2] + 0.3 * rng.normal(size=(120, 2))
    orders = [np.linalg.norm(P[:, None] - P, axis=2).argsort(1)[:, 1:] for P in (X, Z)]
    expected = [
        np.mean([len({*a[:k]} & {*b[:k]}) / k for a, b in zip(*orders, strict=True)])
        for k in (1, 7, 50)
    ]
    found = metrics.neighborhood_preservation(X, Z, [1, 7, 50])
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert metrics.neighborhood_preservation(X, X, 7) == 1


def test_blocks_do_not_show(monkeypatch):
    X, weights, best = some_map(Grid(4, 5))
    Z = Grid(4, 5).coords[best[:, 0]]

    def everything():
        return [
            metrics.c_measure(X, Z),
            metrics.kruskal_shepard_error(X, Z, Grid(4, 5)),
            *metrics.neighborhood_preservation(X, Z, [2, 9]),
            metrics.topographic_function(X, weights, Grid(4, 5)),
        ]

    whole = everything()
    monkeypatch.setattr(metrics.distances, "BLOCK_ELEMENTS", 100)
    monkeypatch.setattr("somlib.search.best_units.BLOCK_ELEMENTS", 100)
    monkeypatch.setattr("somlib.search.best_units.BLOCK_ROWS", 3)
    np.testing.assert_allclose(everything(), whole, rtol=1e-12)


@pytest.mark.parametrize("e", [-400, 300])
def test_no_scale_overflows(e):
    X, _, best = some_map(Grid(3, 5))
    grid, Z = Grid(3, 5), Grid(3, 5).coords[best[:, 0]]
    large = np.ldexp(X, e)
    assert metrics.c_measure(large, Z, grid) == np.ldexp(metrics.c_measure(X, Z, grid), e)
    assert metrics.c_measure(Z, large) == pytest.approx(np.ldexp(metrics.c_measure(Z, X), e))
    error = metrics.kruskal_shepard_error(X, Z, grid)
    assert metrics.kruskal_shepard_error(large, Z, grid) == pytest.approx(error)


# ---------------------------------------------------------------- topographic function


@each_grid
def test_the_topographic_function_equals_its_formula_and_somperf_up_to_its_normalization(grid):
    X, weights, best = some_map(grid)
    K = grid.n_units
    joined = np.zeros((K, K), dtype=int)
    for c, second in best:
        joined[c, second] = joined[second, c] = 1
    metric = "chebyshev" if grid.topology == "rect" else "hops"
    values = []
    for k in (1, 2, 3):
        found = 0
        for i, j in itertools.product(range(K), range(K)):
            found += (
                joined[i, j] and grid.distance(grid.coords[i], grid.coords[j], metric) > k + 1e-9
            )
        values.append(metrics.topographic_function(X, weights, grid, k))
        assert values[-1] == pytest.approx(found / K)  # SOMperf: found / (K (K − 9))
    assert values == sorted(values, reverse=True)
    assert values[0] > 0


def test_the_topographic_function_of_a_flat_sheet_is_0_and_of_a_folded_chain_is_not():
    X = np.random.default_rng(0).random((2000, 2)) * 4
    sheet, chain = Grid(5, 5), Grid(1, 25)
    assert metrics.topographic_function(X, sheet.coords, sheet) == 0
    snake = sheet.mesh().copy()
    snake[1::2] = snake[1::2, ::-1]
    assert metrics.topographic_function(X, snake.reshape(25, 2), chain) > 1
    assert metrics.topographic_function(X, [[0.0, 0.0]], Grid(1, 1)) == 0


# ---------------------------------------------------------------- the table

DATA = np.random.default_rng(0).random((90, 4))
CLASSES = np.where(DATA[:, 0] > 0.5, "a", "b")


@pytest.mark.parametrize(
    "grid",
    [Grid(4, 5), Grid(4, 3, "hex", wrap=(True, False)), Grid(1, 9), Grid(12, 12)],
    ids=in_words,
)
def test_the_table_holds_all_measures_by_name(grid):
    som = SOM(grid, n_epochs=5).fit(DATA)
    table = metrics.summary(som, DATA, CLASSES)
    units = som.predict(DATA)
    Z = grid.coords[units]
    value = table["value"]
    eight = "8" if grid.topology == "rect" else "6"
    assert set(table["better"]) == {"lower", "higher", "near 0"}
    near = "4" if grid.topology == "rect" else "6"
    assert value["quantization error"] == metrics.quantization_error(DATA, som.weights_)
    assert value[f"topographic error, {near} neighbors"] == som.topographic_error_
    assert value[f"topographic error, {eight} neighbors"] <= som.topographic_error_
    assert value[f"combined error, {near} neighbors"] >= value["quantization error"]
    name = f"topographic function at 1, {eight} neighbors"
    assert value[name] == metrics.topographic_function(DATA, som.weights_, grid)
    for measure in ("trustworthiness", "continuity", "neighborhood preservation"):
        function = getattr(metrics, measure.replace(" ", "_"))
        assert value[f"{measure}, k = 5"] == function(DATA, Z, 5, grid)
    assert value["C measure"] == metrics.c_measure(DATA, Z, grid)
    assert value["Kruskal–Shepard error"] == metrics.kruskal_shepard_error(DATA, Z, grid)
    assert value[f"dead units, of {grid.n_units}"] == grid.n_units - len(set(units))
    assert value["purity"] == metrics.purity(CLASSES, units)
    assert value["NMI, geometric"] == metrics.nmi(CLASSES, units, "geometric")
    assert "purity" not in metrics.summary(som, DATA).index
    assert np.isfinite(value).all()


def test_equal_prototypes_leave_one_measure_undefined_and_the_table_complete():
    som = SOM((2, 3), n_epochs=1).fit(DATA)
    som.weights_[5] = som.weights_[0]
    table = metrics.summary(som, DATA)
    assert table.index[table["value"].isna()].tolist() == ["topographic product"]


def test_a_table_that_cannot_be_measured_is_refused():
    som = SOM((3, 3), n_epochs=2).fit(DATA)
    for X, y, message in (
        (DATA[:1], None, "n_neighbors=5 must be .* below half the number of samples, 1/2"),
        (DATA[:, :2], None, "X has 2 features, but SOM is expecting 4"),
        (np.ones((20, 4)), None, "all rows of X are equal"),
        (DATA, CLASSES[:9], "y has 9 labels for 90 samples"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.summary(som, X, y)
    with pytest.raises(ValueError, match="not fitted yet"):
        metrics.summary(SOM(), DATA)


# ---------------------------------------------------------------- what distinguishes clusters


def test_cluster_means_and_differences_are_those_of_prototypes_repeated_by_hits():
    rng = np.random.default_rng(0)
    W, labels = rng.normal(size=(12, 5)), rng.integers(0, 12, 300)
    W[:, 3] = 0.1  # constant
    clusters = np.arange(12) % 3
    repeated, cluster = W[labels], clusters[labels]
    inside, outside = metrics.cluster_means(W, labels, clusters)
    table = metrics.cluster_differences(W, labels, clusters, list("abcde"))
    assert table.index.tolist() == list("abcde")
    assert table.columns.tolist() == [0, 1, 2]
    for g in range(3):
        here, elsewhere = repeated[cluster == g].mean(0), repeated[cluster != g].mean(0)
        np.testing.assert_allclose(inside[g], here)
        np.testing.assert_allclose(outside[g], elsewhere)
        deviation = repeated.std(0)
        varied = [0, 1, 2, 4]
        expected = ((here - elsewhere) / np.where(deviation > 1e-9, deviation, 1))[varied]
        np.testing.assert_allclose(table[g].to_numpy()[varied], expected)
        assert table.loc["d", g] == 0
    large = metrics.cluster_differences(np.ldexp(W, 900), labels, clusters, list("abcde"))
    pd.testing.assert_frame_equal(large, table)


@pytest.mark.parametrize(("arguments", "message"), [
    (([[0.0], [1.0]], [0, 1], [0, 1, 1]), "clusters has 3 entries for 2 units; pass som"),
    (([[0.0], [1.0]], [0, 1], [0, None]), "clusters has no label in row 1"),
    (([[0.0], [1.0]], [0, 0], [0, 1]), "cluster 0 wins all of the 2 samples"),
    (([[0.0], [1.0], [2.0]], [0, 2], [0, 1, 2]), "cluster 1 wins none of the 2 samples"),
    (([[0.0], [1.0]], [0, 2], [0, 1]), "labels contain 2, but the 2 units are 0 to 1"),
    (([[0.0], [np.nan]], [0, 1], [0, 1]), "weights contains NaN"),
    (([[0.0], [1.0]], [0, 1], [0, 1], ["a", "b"]), "names has 2 entries for 1 features"),
])  # fmt: skip
def test_clusters_that_cannot_be_compared_are_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        metrics.cluster_differences(*arguments)


ONE = [[1.0]]
SAME = np.ones((9, 2))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: metrics.c_measure(ONE, ONE), "X has 1 row; distances between samples take at least"),
    (lambda: metrics.c_measure(SAME, SAME[:3]), "X has 9 rows, but Z 3"),
    (lambda: metrics.kruskal_shepard_error(SAME, np.arange(9.0)[:, None]), "all rows of X are eq"),
    (lambda: metrics.kruskal_shepard_error(np.arange(9.0)[:, None], SAME), "all rows of Z are eq"),
    (lambda: metrics.neighborhood_preservation(SAME, SAME, 5), "n_neighbors=5 must be"),
    (lambda: metrics.topographic_function(SAME, SAME, Grid(3, 3), 0), "k=0 must be a whole number"),
    (lambda: metrics.topographic_function(SAME, SAME, Grid(2, 3)), "weights has 9 rows"),
])  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
