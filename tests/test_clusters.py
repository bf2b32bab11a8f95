"""The size of a map and the clusters of its units: planted ones are found, and where it fails."""

import re

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import AgglomerativeClustering
from sklearn.datasets import make_moons
from sklearn.metrics import adjusted_rand_score, davies_bouldin_score, silhouette_score

import somlib
from somlib import SOM, Grid, suggest_grid
from somlib.models.clusters import cluster_units

TOPOLOGIES = pytest.mark.parametrize("topology", ["rect", "hex"])
GRIDS = [
    Grid(5, 6),
    Grid(6, 5, "hex"),
    Grid(4, 6, wrap=True),
    Grid(6, 4, "hex", wrap=(True, False)),
    Grid(1, 20),
]
each_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)


def blobs(seed):
    """Four blobs of very different sizes."""
    rng, sizes = np.random.default_rng(seed), [600, 200, 80, 40]
    centers = np.repeat([[0, 0], [6, 0], [0, 6], [7, 7]], sizes, axis=0)
    order = rng.permutation(sum(sizes))
    X = centers + rng.normal(0, 0.6, centers.shape)
    return X[order], np.repeat(range(4), sizes)[order]


def ring(seed):
    """A ring beside a blob."""
    rng = np.random.default_rng(seed)
    angle, order = rng.uniform(0, 2 * np.pi, 400), rng.permutation(600)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(0, 0.1, (400, 2))
    X = np.concatenate([circle, rng.normal([4, 0], 0.3, (200, 2))])
    return X[order], np.repeat([0, 1], [400, 200])[order]


# ---------------------------------------------------------------- what is found, and what is not


@TOPOLOGIES
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("planted", [blobs, ring])
def test_planted_clusters_and_their_number_are_found(planted, seed, topology):
    X, y = planted(seed)
    som = SOM(Grid(10, 10, topology), random_state=seed).fit(X)
    som.cluster()
    assert adjusted_rand_score(y, som.predict_clusters(X)) > 0.99


@TOPOLOGIES
@pytest.mark.parametrize("seed", range(5))
def test_interleaved_moons_are_not_found_even_when_there_are_known_to_be_two(seed, topology):
    X, y = make_moons(600, noise=0.06, random_state=seed)
    som = SOM(Grid(10, 10, topology), random_state=seed).fit(X)
    for k in (None, 2):
        som.cluster(k)
        assert adjusted_rand_score(y, som.predict_clusters(X)) < 0.6


# ---------------------------------------------------------------- what a cluster is


def some_map(grid, seed=0, dead=0.3):
    rng = np.random.default_rng(seed)
    hits = rng.integers(1, 9, grid.n_units) * (rng.random(grid.n_units) > dead)
    return rng.normal(size=(grid.n_units, 3)), hits


@each_grid
@pytest.mark.parametrize("k", [2, 5, 9])
def test_clusters_are_k_connected_parts_of_the_map_and_each_wins_samples(grid, k):
    for seed in range(5):
        W, hits = some_map(grid, seed)
        labels, scores = cluster_units(W, grid, hits, k)
        assert scores == {"k": [], "silhouette": [], "davies_bouldin": []}
        assert np.unique(labels).tolist() == list(range(k))
        for cluster in range(k):
            inside = np.flatnonzero(labels == cluster)
            assert hits[inside].any()
            part = grid.adjacency()[np.ix_(inside, inside)]
            assert connected_components(part, return_labels=False) == 1


@each_grid
def test_without_dead_units_it_is_ward_of_scikit_learn_along_the_edges(grid):
    W, hits = some_map(grid, dead=0)
    for k in (2, 6):
        ward = AgglomerativeClustering(k, connectivity=grid.adjacency().astype(int)).fit(W)
        assert adjusted_rand_score(ward.labels_, cluster_units(W, grid, hits, k)[0]) == 1


@each_grid
def test_the_number_of_clusters_has_the_highest_silhouette_of_the_winning_units(grid):
    W, hits = some_map(grid)
    labels, scores = cluster_units(W, grid, hits)
    won = hits > 0
    assert scores["k"] == list(range(2, int(won.sum() ** 0.5) + 1))
    for k, silhouette, index in zip(*scores.values(), strict=True):
        tried = cluster_units(W, grid, hits, k)[0][won]
        assert silhouette == pytest.approx(silhouette_score(W[won], tried))
        assert index == pytest.approx(davies_bouldin_score(W[won], tried))
    assert len(np.unique(labels)) == scores["k"][np.argmax(scores["silhouette"])]


def test_a_dead_unit_joins_the_nearest_along_the_map_and_bridges_nothing():
    W = np.array([[0.0], [1.0], [2.0], [4.0], [9.0], [10.0]])
    labels, _ = cluster_units(W, Grid(1, 6), [1, 1, 0, 0, 1, 1], 2)
    assert labels.tolist() == [0, 0, 0, 0, 1, 1]
    # without its two dead units the map has one edge less, and where they lie does not matter
    W[2:4] = [[9.0], [9.0]]
    assert cluster_units(W, Grid(1, 6), [1, 1, 0, 0, 1, 1], 2)[0].tolist() == [0, 0, 1, 1, 1, 1]


def test_an_offset_does_not_change_clusters():
    W, hits = some_map(Grid(5, 6))
    W = W.round(3)
    near, far = (cluster_units(W + offset, Grid(5, 6), hits, 6)[0] for offset in (0, 2.0**30))
    np.testing.assert_array_equal(near, far)


def test_equal_prototypes_are_clustered_too():
    W = np.repeat([[0.0], [1.0]], [6, 6], axis=0)
    labels, scores = cluster_units(W, Grid(3, 4), np.ones(12))
    assert labels.tolist() == [0] * 6 + [1] * 6
    assert scores["silhouette"][0] == 1


# ---------------------------------------------------------------- the method of a map


def test_clusters_belong_to_a_map_are_saved_with_it_and_end_with_its_next_epoch(tmp_path):
    X, _ = blobs(0)
    som = SOM((6, 6), n_epochs=5).fit(X)
    assert som.cluster() is som.cluster_labels_
    scores = som.cluster_scores_
    assert scores["k"][0] == 2
    np.testing.assert_array_equal(som.predict_clusters(X), som.cluster_labels_[som.predict(X)])
    assert som.predict_clusters(X[:1]).shape == (1,)
    som.save(tmp_path / "map.npz")
    back = somlib.load(tmp_path / "map.npz")
    assert back.cluster_scores_ == scores
    np.testing.assert_array_equal(back.predict_clusters(X), som.predict_clusters(X))
    np.testing.assert_array_equal(back.cluster(3), som.cluster(3))
    assert back.cluster_scores_["k"] == []
    for again in (lambda: som.partial_fit(X), lambda: back.fit(X)):
        model = again()
        assert not hasattr(model, "cluster_labels_")
        assert not hasattr(model, "cluster_scores_")
        with pytest.raises(ValueError, match=r"call cluster\(\) before predict_clusters"):
            model.predict_clusters(X)


def test_what_cannot_be_clustered_is_refused_with_a_remedy():
    X, _ = blobs(0)
    with pytest.raises(ValueError, match="not fitted yet"):
        SOM((3, 3)).cluster()
    som = SOM((3, 3), n_epochs=2).fit(X)
    for k, message in (
        (1, "k=1 must be a whole number of at least 2"),
        (2.0, "k=2.0 must be a whole number"),
        (10, "k=10 is more than the 9 units that win a sample; choose fewer"),
    ):
        with pytest.raises(ValueError, match=message):
            som.cluster(k)
        assert not hasattr(som, "cluster_labels_")
    constant = SOM((3, 3), n_epochs=2).fit(np.ones((9, 2)))
    with pytest.raises(ValueError, match="only 1 of the units win a sample, but choosing k takes"):
        constant.cluster()

    def interrupt(epoch, logs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        som.fit(X, callbacks=[interrupt])
    with pytest.raises(ValueError, match="fit was interrupted; complete it"):
        som.cluster()


# ---------------------------------------------------------------- the size of a map

ALL = [
    (topology, wrap)
    for topology in ("rect", "hex")
    for wrap in (False, (True, False), (False, True), True)
]


@pytest.mark.parametrize(("topology", "wrap"), ALL)
def test_a_suggested_grid_has_units_and_sides_by_its_rule(topology, wrap):
    for n in (2, 3, 7, 40, 150, 2000):
        X = np.random.default_rng(n).normal(size=(n, 4)) * [3, 1.5, 0.1, 0.1]
        grid = suggest_grid(X, topology, wrap)
        assert grid == Grid(grid.rows, grid.cols, topology, wrap)
        assert grid.n_units <= max(2, n / 2)
        assert not (topology == "hex" and grid.wrap[0] and grid.rows % 2)
        if n >= 150:
            assert grid.n_units == pytest.approx(5 * n**0.5, rel=0.1)
            height = grid.rows * (3**0.5 / 2 if topology == "hex" else 1)
            spread = np.linalg.svd(X - X.mean(0), compute_uv=False)
            assert height / grid.cols == pytest.approx(spread[1] / spread[0], rel=0.25)


def test_the_repr_of_a_suggested_grid_says_why_and_its_value_does_not(tmp_path):
    X = np.random.default_rng(0).normal(size=(64, 2)) * [2, 1]
    grid = suggest_grid(X)
    assert re.fullmatch(
        r"Grid\(rows=4, cols=8, topology='rect', wrap=\(False, False\), why='5√64 = 40 units, but "
        r"64 samples allow 32, sides as the standard deviations [\d.]+ : [\d.]+ of two principal "
        r"components'\)", repr(grid),
    )  # fmt: skip
    assert grid == Grid(4, 8)
    assert hash(grid) == hash(Grid(4, 8))
    assert "why" not in repr(Grid(4, 8))
    SOM(grid, n_epochs=1).fit(X).save(tmp_path / "map.npz")
    assert somlib.load(tmp_path / "map.npz").grid == grid


def test_data_without_a_second_direction_get_a_chain():
    line = np.linspace(0, 1, 400)[:, None]
    assert (suggest_grid(line).rows, suggest_grid(line).cols) == (1, 100)
    assert suggest_grid(line * [1, 2, 3]).rows == 1
    missing = line * [1, 2]
    missing[200, 0] = np.nan  # near the mean, by which it is replaced
    assert suggest_grid(missing).rows == 1


@pytest.mark.parametrize(("X", "message"), [
    (np.ones((1, 3)), "minimum of 2 is required"),
    (np.ones(5), r"shape \(5,\), expected \(samples, features\)"),
    (np.ones((5, 3)), "all 5 samples of X are equal and have no proportions"),
    ([[np.inf], [1.0]], "infinity"),
])  # fmt: skip
def test_data_that_suggest_no_grid_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        suggest_grid(X)
    with pytest.raises(ValueError, match="topology='tri' is unknown"):
        suggest_grid(np.eye(3), "tri")
