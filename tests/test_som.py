"""The map against literal transcriptions of its algorithms, its promises, and bad input."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import somlib
from somlib.models.som import SOM, pca_sheet
from somlib.search import best_units as distances
from somlib.spaces import Euclidean, Grid, Sphere, Torus
from somlib.training import loop
from somlib.training import saving as storage
from somlib.training.schedules import Schedule

GRIDS = [
    Grid(4, 5),
    Grid(5, 3, "hex"),
    Grid(4, 6, "hex", wrap=True),
    Grid(3, 7, wrap=(False, True)),
]
MODES = ["batch", "online", "sgd"]
rng = np.random.default_rng(42)
X = rng.random((150, 4))
SIGMA = (2.5, 0.4)


def start(grid):
    return np.random.default_rng(7).random((grid.n_units, X.shape[1]))


def width(sigma, i, n):
    return sigma[0] * (sigma[1] / sigma[0]) ** (i / (n - 1))


KERNELS = {
    "gaussian": lambda d, s: np.exp(-(d**2) / (2 * s**2)),
    "bubble": lambda d, s: 1.0 * (d <= s),
    "epanechnikov": lambda d, s: max(0.0, 1 - d**2 / s**2),
}


# ---------------------------------------------------------------- literal transcriptions


def literal_online(X, m, grid, n_epochs, sigma, alpha, kernel="gaussian", times=None):
    """Algorithm 1 of the SOAE paper, with loops: equations (1), (2), (3)."""
    m, n = m.copy(), n_epochs * len(X)
    for t in range(n):
        x = X[t % len(X)]
        known = ~np.isnan(x)
        c = min(range(len(m)), key=lambda i: ((x - m[i])[known] ** 2).sum())
        for _ in range(1 if times is None else times[t % len(X)]):
            for i in range(len(m)):
                h = KERNELS[kernel](grid.distances[c, i], width(sigma, t, n))
                m[i][known] += width(alpha, t, n) * h * (x - m[i])[known]
    return m


def literal_batch(X, m, grid, n_epochs, sigma, kernel="gaussian"):
    """The batch map, with loops, feature by feature: m_i = sum_x h x / sum_x h, h = h(c(x), i)."""
    for epoch in range(n_epochs):
        s = width(sigma, epoch, n_epochs)
        above, below = np.zeros_like(m), np.zeros_like(m)
        for x in X:
            known = ~np.isnan(x)
            c = min(range(len(m)), key=lambda i: ((x - m[i])[known] ** 2).sum())
            for i in range(len(m)):
                h = KERNELS[kernel](grid.distances[c, i], s)
                above[i][known] += h * x[known]
                below[i][known] += h
        m = np.where(below > 0, above / np.where(below > 0, below, 1), m)
    return m


def literal_sgd(X, m, grid, n_iter, batch_size, sigma, rate):
    """The kerasom: autograd through the loss of the DESOM slides, with T = sqrt(2) sigma."""
    m = torch.tensor(m, requires_grad=True)
    adam = torch.optim.Adam([m], lr=rate, eps=1e-7)
    delta = torch.from_numpy(grid.distances)
    batches = torch.split(torch.from_numpy(X), batch_size)
    for i in range(n_iter):
        x = batches[i % len(batches)]
        T = 2**0.5 * width(sigma, i, n_iter)
        d2 = ((x[:, None] - m[None]) ** 2).sum(2)
        w = torch.exp(-(delta[d2.argmin(1)] ** 2) / T**2)
        loss = (w * d2).sum(1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return m.detach().numpy()


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
def test_online_training_is_algorithm_1(grid, kernel):
    alpha = (0.5, 0.02)
    som = SOM(
        grid, "online", 2, SIGMA, alpha, neighborhood=kernel, init=start(grid), shuffle=False
    ).fit(X)
    expected = literal_online(X, start(grid), grid, 2, SIGMA, alpha, kernel)
    np.testing.assert_allclose(som.weights_, expected, atol=1e-10)


@pytest.fixture(params=["block by block", "sorted"])
def summed(request, monkeypatch):
    """How batch training adds the samples of each unit, however many they are."""
    limit = 0 if request.param == "sorted" else 10**9
    monkeypatch.setattr("somlib.models.kohonen.MAX_ADDED_BY_BLOCK", limit)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
def test_batch_training_is_the_batch_formula(grid, kernel, summed):
    som = SOM(grid, "batch", 5, SIGMA, neighborhood=kernel, init=start(grid)).fit(X)
    expected = literal_batch(X, start(grid), grid, 5, SIGMA, kernel)
    np.testing.assert_allclose(som.weights_, expected, atol=1e-10)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_sgd_training_is_autograd_on_the_loss_of_the_slides(grid):
    som = SOM(
        grid,
        "sgd",
        sigma=SIGMA,
        learning_rate=(0.01, 0.01),
        init=start(grid),
        shuffle=False,
        batch_size=40,
        n_iter=10,
    ).fit(X)
    expected = literal_sgd(X, start(grid), grid, 10, 40, SIGMA, 0.01)
    np.testing.assert_allclose(som.weights_, expected, atol=1e-10)
    assert som.n_epochs_ == 3  # 4 batches an epoch, ended early
    assert som.history_["sigma"][0] == SIGMA[0]


@pytest.mark.parametrize("mode", ["batch", "online"])
@pytest.mark.parametrize("grid", GRIDS[:3], ids=str)
def test_missing_values_are_ignored_in_distances_and_updates(mode, grid):
    gaps = X.copy()
    gaps[rng.random(X.shape) < 0.25] = np.nan
    gaps = gaps[~np.isnan(gaps).all(1)]
    som = SOM(grid, mode, 3, SIGMA, init=start(grid), shuffle=False, allow_missing=True)
    if mode == "online":
        som.set_params(learning_rate=(0.5, 0.02))
        expected = literal_online(gaps, start(grid), grid, 3, SIGMA, (0.5, 0.02))
    else:
        expected = literal_batch(gaps, start(grid), grid, 3, SIGMA)
    np.testing.assert_allclose(som.fit(gaps).weights_, expected, atol=1e-10)
    distances_ = som.transform(gaps)
    literal = np.sqrt(np.nansum((gaps[:, None] - som.weights_) ** 2, -1))
    np.testing.assert_allclose(distances_, literal, atol=1e-7)
    np.testing.assert_array_equal(som.predict(gaps), literal.argmin(1))


def test_a_sample_of_weight_w_is_presented_w_times_in_a_row():
    times, grid = rng.integers(0, 4, len(X)), GRIDS[1]
    online = SOM(grid, "online", 1, SIGMA, (0.5, 0.02), init=start(grid), shuffle=False)
    expected = literal_online(X, start(grid), grid, 1, SIGMA, (0.5, 0.02), times=times)
    np.testing.assert_allclose(online.fit(X, sample_weight=times).weights_, expected, atol=1e-10)


def test_a_weight_of_w_is_worth_w_copies_in_a_batch(summed):
    times, som = rng.integers(0, 4, len(X)), SOM((3, 4), "batch", 3, init=start(Grid(3, 4)))
    repeated = clone(som).fit(np.repeat(X, times, axis=0))
    weighted = som.fit(X, sample_weight=times)
    np.testing.assert_allclose(weighted.weights_, repeated.weights_, atol=1e-10)
    assert weighted.quantization_error_ == pytest.approx(repeated.quantization_error_)


def test_weights_of_one_change_nothing_and_weighted_sgd_is_repetition_within_a_batch():
    for mode in MODES:
        one = SOM((3, 4), mode, 3, random_state=1).fit(X, sample_weight=np.ones(len(X)))
        np.testing.assert_allclose(
            one.weights_, SOM((3, 4), mode, 3, random_state=1).fit(X).weights_, atol=1e-12
        )
    few, times = X[:20], rng.integers(0, 4, 20)
    weighted = SOM((3, 4), "sgd", 3, init=start(Grid(3, 4)), shuffle=False)
    repeated = clone(weighted).fit(np.repeat(few, times, axis=0))
    np.testing.assert_allclose(
        weighted.fit(few, sample_weight=times).weights_, repeated.weights_, atol=1e-10
    )


# ---------------------------------------------------------------- what a map promises


def test_an_offset_a_billion_times_the_spread_does_not_change_the_bmus():
    far = X + 1e9
    som = SOM((5, 5), n_epochs=3).fit(far)
    literal = ((far[:, None] - som.weights_[None]) ** 2).sum(-1).argmin(1)
    np.testing.assert_array_equal(som.predict(far), literal)
    assert len(np.unique(som.labels_)) > 15


def test_ties_go_to_the_lowest_index():
    init = np.repeat(rng.random((1, 4)), 6, axis=0)
    som = SOM((2, 3), n_epochs=1, sigma=(1e-3, 1e-3), init=init).fit(X)
    np.testing.assert_array_equal(som.weights_[1:], init[1:])  # units without samples stay
    np.testing.assert_allclose(som.weights_[0], X.mean(0))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid", [Grid(6, 9), Grid(6, 9, "hex")], ids=["rect", "hex"])
def test_a_map_of_a_square_unfolds(mode, grid):
    square = rng.random((600, 2))
    rate = {"online": (0.5, 0.01), "sgd": (0.03, 0.03), "batch": None}[mode]
    som = SOM(grid, mode, 30, (4, 0.7), rate, batch_size=64, random_state=0).fit(square)
    assert som.quantization_error_ < 0.075  # 54 perfectly spread units: about 0.052
    assert som.topographic_error_ < 0.15


def test_pca_initialization_has_the_variance_of_the_data_along_two_axes():
    cloud = rng.normal(size=(5000, 3)) * [1000.0, 1.0, 0.01] + [5.0, 0.0, 100.0]
    for grid in (Grid(5, 12), Grid(12, 5, "hex")):
        sheet = pca_sheet(cloud, grid)
        np.testing.assert_allclose(sheet.mean(0), cloud.mean(0), atol=0.1 * cloud.std(0).max())
        np.testing.assert_allclose(sheet.std(0)[:2], cloud.std(0)[:2], rtol=0.1)
        assert sheet.std(0)[2] < 0.01
        along = sheet[:, 0].reshape(grid.rows, grid.cols)
        longer = 1 if grid.cols > grid.rows else 0
        assert np.ptp(along, axis=longer).min() > 10 * np.ptp(along, axis=1 - longer).max()


@pytest.mark.parametrize("mode", MODES)
def test_history_holds_errors_and_schedules_of_each_epoch(mode):
    from somlib.evaluation.metrics import quantization_error, topographic_error

    som = SOM((4, 5), mode, 6, SIGMA, random_state=0).fit(X)
    assert {len(values) for values in som.history_.values()} == {6}
    assert som.history_["sigma"][0] == SIGMA[0]
    if mode == "batch":
        assert som.history_["sigma"][-1] == SIGMA[1]
        first = SOM((4, 5)).fit(X, callbacks=[lambda i, logs: True])
        assert first.n_epochs_ == 1
        sheet = pca_sheet(X, Grid(4, 5))
        assert som.history_["quantization_error"][0] == pytest.approx(quantization_error(X, sheet))
    assert som.quantization_error_ == pytest.approx(quantization_error(X, som.weights_), rel=1e-6)
    assert som.topographic_error_ == topographic_error(X, som.weights_, som.grid_)
    assert som.history_["quantization_error"][-1] < som.history_["quantization_error"][1] * 1.05


@pytest.mark.parametrize("mode", MODES)
def test_results_depend_on_the_seed_and_no_global_state_changes(mode):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first, again, other = (
        SOM((4, 4), mode, 3, init="sample", random_state=s).fit(X).weights_ for s in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-6
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    generator = SOM((4, 4), mode, 3, init="sample", random_state=np.random.default_rng(1)).fit(X)
    assert generator.weights_.shape == (16, 4)


@pytest.mark.parametrize("mode", MODES)
def test_partial_fits_add_up_to_a_fit(mode):
    whole = SOM((4, 5), mode, 4, random_state=0).fit(X)
    parts = SOM((4, 5), mode, 4, random_state=0)
    for _ in range(4):
        parts.partial_fit(X)
    np.testing.assert_array_equal(parts.weights_, whole.weights_)
    assert parts.history_ == whole.history_
    parts.partial_fit(X[:50])  # goes on at the end of the schedules
    assert parts.history_["sigma"][-1] == 0.5
    assert parts.n_epochs_ == 5


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupted_training_resumes_bit_for_bit(tmp_path, mode):
    file = tmp_path / "map.checkpoint"

    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    som = SOM((4, 5), mode, 6, random_state=0)
    undisturbed = clone(som).fit(X)
    with pytest.raises(KeyboardInterrupt):
        som.fit(X, callbacks=[interrupt], checkpoint=file)
    assert som.n_epochs_ == 3
    assert som.predict(X).shape == (len(X),)  # usable as it is
    epochs = []
    resumed = clone(som).fit(X, callbacks=[lambda i, logs: epochs.append(i)], checkpoint=file)
    assert epochs == [3, 4, 5]
    np.testing.assert_array_equal(resumed.weights_, undisturbed.weights_)
    assert resumed.history_ == undisturbed.history_


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    file = tmp_path / "map.checkpoint"
    som = SOM((4, 5), n_epochs=2)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(loop, "CHECKPOINT_SECONDS", 0)
    som.fit(X, checkpoint=file)
    monkey.undo()
    for other, data in ((SOM((4, 5), n_epochs=3), X), (som, X + 1)):
        with pytest.raises(ValueError, match=r"map\.checkpoint was made with other data"):
            other.fit(data, checkpoint=file)
    with pytest.raises(ValueError, match=r"random_state=.*give a whole number"):
        SOM((4, 5), random_state=np.random.default_rng(0)).fit(X, checkpoint=tmp_path / "new")
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="is damaged or was not written by somlib"):
        som.fit(X, checkpoint=file)


@pytest.mark.parametrize("true", [True, np.True_])
def test_a_callback_that_returns_true_ends_the_training(true):
    som = SOM((4, 4), n_epochs=10).fit(X, callbacks=[lambda i, logs: i == 3 and true])
    assert som.n_epochs_ == 4
    assert len(som.history_["sigma"]) == 4
    assert hasattr(som, "labels_")


def test_the_progress_bar_counts_epochs(capsys):
    SOM((3, 3), n_epochs=2, progress=True).fit(X)
    assert "SOM 3×3" in capsys.readouterr().err
    SOM((3, 3), n_epochs=2).fit(X)
    assert capsys.readouterr() == ("", "")


def test_float32_stays_float32_and_float64_stays_float64():
    for dtype in (np.float32, np.float64):
        som = SOM((3, 4)).fit(X.astype(dtype))
        assert som.weights_.dtype == som.transform(X.astype(dtype)).dtype == dtype
    assert SOM((3, 4)).fit(np.arange(40).reshape(20, 2)).weights_.dtype == np.float64


def test_streamed_files_are_read_in_blocks_by_every_method(tmp_path, monkeypatch):
    file = np.memmap(tmp_path / "x", np.float32, "w+", shape=(400, 4))
    file[:] = rng.random((400, 4))
    largest = []
    load = distances.Blocks._load

    def spy(self, where):
        rows = load(self, where)
        largest.append(len(rows))
        return rows

    monkeypatch.setattr(distances.Blocks, "_load", spy)
    monkeypatch.setattr(distances, "BLOCK_ELEMENTS", 600)
    monkeypatch.setattr(distances, "BLOCK_ROWS", 1)
    for mode in MODES:
        som = SOM((2, 3), mode, 2, batch_size=50).fit(file)
        som.partial_fit(file)
        for method in (som.predict, som.transform, som.score):
            method(file)
    assert 0 < max(largest) <= 100


def test_the_initialization_does_not_depend_on_periodic_data():
    cloud = rng.random((3000, 2))
    paired = np.repeat(cloud, 2, axis=0)
    paired[1::2] = 0.5  # every second sample is the same
    mixed = rng.permutation(paired)
    in_step, shuffled = (SOM((6, 6)).fit(data).quantization_error_ for data in (paired, mixed))
    assert in_step == pytest.approx(shuffled, rel=0.05)


def test_a_new_fit_removes_results_of_the_last_one():
    som = SOM((4, 4), n_epochs=3).fit(X)
    som.label_units(X, X[:, 0] > 0.5)

    def interrupt(epoch, logs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        som.set_params(grid=(3, 3)).fit(X[:40], callbacks=[interrupt])
    assert not hasattr(som, "labels_")
    with pytest.raises(ValueError, match="call label_units"):
        som.predict_labels(X)


def test_a_failed_fit_does_not_change_the_last_map():
    som = SOM((4, 4), n_epochs=3).fit(X)
    before = som.weights_
    wrong = ({"sigma": (0, 0)}, {"mode": "sgd", "learning_rate": (1, 2)}, {"n_epochs": 0})
    for params in wrong:
        with pytest.raises(ValueError, match=r"must|above"):
            clone(som).set_params(**params).fit(X)
        with pytest.raises(ValueError, match=r"must|above"):
            som.set_params(grid=(2, 2), **params).fit(X)
        som.set_params(**SOM((4, 4), n_epochs=3).get_params())
    assert som.weights_ is before
    assert som.grid_ == Grid(4, 4)
    unfitted = SOM(n_epochs=0)
    with pytest.raises(ValueError, match="n_epochs=0"):
        unfitted.fit(X)
    with pytest.raises(ValueError, match="not fitted"):
        unfitted.predict(X)


# ---------------------------------------------------------------- labels, scikit-learn, files


def test_units_take_the_class_they_win_most_and_empty_ones_that_of_the_nearest_prototype():
    init = np.array([[0.0], [1.0], [5.0], [9.0]])
    som = SOM((1, 4), n_epochs=1, sigma=(1e-3, 1e-3), init=init)
    som.fit([[0.0], [1.0], [9.0], [9.1]])
    som.weights_ = init
    labels = som.label_units([[0.0], [0.1], [0.2], [9.0]], ["b", "a", "b", "c"])
    assert labels.tolist() == ["b", "b", "c", "c"]
    assert som.predict_labels([[-1.0], [5.2], [100.0]]).tolist() == ["b", "c", "c"]


def test_labels_need_as_many_as_samples_and_come_before_predictions():
    som = SOM((2, 2)).fit(X)
    with pytest.raises(ValueError, match="y has 3 labels for 150 samples"):
        som.label_units(X, [1, 2, 3])
    with pytest.raises(ValueError, match="call label_units"):
        som.predict_labels(X)


def test_a_map_works_in_pipelines_searches_and_clones():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SOM(n_epochs=5)),
        {"som__grid": [(2, 2), Grid(6, 5, "hex")], "som__mode": ["batch", "online"]},
        cv=2,
    ).fit(X)
    assert search.best_params_["som__grid"] == Grid(6, 5, "hex")
    names = search.best_estimator_[-1].get_feature_names_out()
    assert list(names[:2]) == ["som0", "som1"]
    assert SOM((3, 3)).fit_predict(X).shape == (len(X),)


def test_more_units_score_better():
    small, large = (SOM(grid, n_epochs=10).fit(X).score(X) for grid in ((2, 2), (8, 8)))
    assert small < large < 0


@pytest.mark.parametrize("params", [
    {"grid": (3, 4)},
    {"grid": Grid(4, 3, "hex", wrap=(True, False)), "mode": "online", "init": "sample"},
    {"grid": (2, 2), "init": X[:4], "mode": "sgd", "random_state": 3},
])  # fmt: skip
def test_a_saved_map_is_loaded_unchanged(tmp_path, params):
    import pandas as pd

    som = SOM(**params, n_epochs=2).fit(pd.DataFrame(X, columns=list("abcd")))
    som.label_units(pd.DataFrame(X, columns=list("abcd")), np.where(X[:, 0] > 0.5, "hi", "lo"))
    som.save(tmp_path / "map.npz")
    back = somlib.load(tmp_path / "map.npz")
    assert isinstance(back, SOM)
    assert back.grid_ == som.grid_
    assert back.history_ == som.history_
    assert str(back) == str(som)
    assert list(back.feature_names_in_) == list("abcd")
    frame = pd.DataFrame(X + 0.01, columns=list("abcd"))
    np.testing.assert_array_equal(back.transform(frame), som.transform(frame))
    np.testing.assert_array_equal(back.predict_labels(frame), som.predict_labels(frame))
    assert list(back.get_feature_names_out()[:1]) == ["som0"]
    assert back.set_output(transform="pandas").transform(frame).shape == (len(X), som.grid_.n_units)
    np.testing.assert_array_equal(back.partial_fit(frame).weights_, som.partial_fit(frame).weights_)
    assert isinstance(SOM.load(tmp_path / "map.npz"), SOM)


@pytest.mark.parametrize(
    "space",
    [
        Grid(3, 4, "hex", wrap=(False, True)),
        Euclidean(2),
        Euclidean(2, low=(-1.0, 1e-7), high=(np.float64(2) / 3, 0.1)),
        Torus(3),
        Sphere(np.int64(2)),
    ],
    ids=str,
)
def test_a_saved_space_is_loaded_unchanged(tmp_path, space):
    content = {
        "space": space,
        "among": [(space, 1.5), None],
        "z": space.sample(3, np.random.default_rng(0)),
    }
    facts, arrays = storage.encode(content)
    storage.write_arrays(tmp_path / "content.npz", arrays, facts)
    arrays, facts = storage.read_arrays(tmp_path / "content.npz")
    back = storage.decode(facts, arrays)
    assert back["space"] == space
    assert type(back["space"]) is type(space)
    assert hash(back["space"]) == hash(space)
    assert back["among"] == content["among"]
    np.testing.assert_array_equal(back["z"], content["z"])
    np.testing.assert_array_equal(back["space"].mesh(4), space.mesh(4))


def test_errors_of_saving_and_loading_name_the_cause(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        SOM().save(tmp_path / "map.npz")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        somlib.load(tmp_path / "nothing.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="damaged or was not written by somlib"):
        somlib.load(tmp_path / "other.npz")
    storage.write_arrays(tmp_path / "evil.npz", {}, {"class": "os:system"})
    with pytest.raises(ValueError, match="holds no model saved by somlib"):
        somlib.load(tmp_path / "evil.npz")
    good = tmp_path / "map.npz"
    SOM((2, 2)).fit(X).save(good)
    good.write_bytes(good.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"map\.npz is damaged"):
        somlib.load(good)


# ---------------------------------------------------------------- bad input

BAD = X.copy()
BAD[3, 2] = np.nan
ENDLESS = X.copy()
ENDLESS[5, 1] = np.inf


@pytest.mark.parametrize(
    ("params", "data", "message"),
    [
        ({}, BAD, "NaN in row 3, column 2.*allow_missing=True"),
        ({}, ENDLESS, "infinity in row 5, column 1.*drop the row, or fill in a value$"),
        ({"allow_missing": True}, ENDLESS, "infinity in row 5, column 1"),
        ({"allow_missing": True}, np.where(np.arange(150)[:, None] == 4, np.nan, X),
         r"no known value in row 4 \(all NaN\): drop the row"),
        ({"allow_missing": True}, np.where(np.arange(4) == 1, np.nan, X),
         "no known value in column 1.*drop the column"),
        ({"allow_missing": True, "mode": "sgd"}, X, "choose another mode or impute"),
        ({}, X[:, 0], r"X has shape \(150,\).*Reshape your data"),
        ({}, np.empty((0, 4)), "0 sample.*minimum of 2 is required"),
        ({}, np.empty((9, 0)), "0 feature.*minimum of 1 is required"),
        ({}, X[:1], "1 sample.*minimum of 2 is required"),
        ({}, np.array([["a", "b"], ["c", "d"]], dtype=object), "'a', which is not a number"),
        ({"sigma": ("3", "1")}, X, "start is '3', but must be a positive, finite number"),
        ({"sigma": (3, None)}, X, "end is None, but must be a positive"),
        ({"learning_rate_decay": "linear"}, X, "learning_rate_decay='linear' has no effect"),
        ({}, X + 1j, "Complex data not supported"),
        ({"init": "sample", "grid": (13, 12)}, X, "156 different samples.*there are 150.*smaller"),
        ({"init": "random"}, X, "init='random' must be 'pca', 'sample' or an array"),
        ({"init": X[:3]}, X, r"init has shape \(3, 4\).*\(64, 4\)"),
        ({"sigma": (0.0, 0.0)}, X, r"sigma=\(0.0, 0.0\): .*must be a positive"),
        ({"sigma": (1.0, 2.0)}, X, r"sigma=\(1.0, 2.0\): the schedule ends at 2.0 above"),
        ({"sigma": 3.0}, X, "sigma=3.0: expected a pair"),
        ({"mode": "online", "learning_rate": (0.1, 0.5)}, X, "learning_rate=.*above its start"),
        ({"mode": "online", "learning_rate": (1.5, 0.5)}, X, "learning_rate=.*at most 1"),
        ({"learning_rate": (0.5, 0.1)}, X, "no effect with mode='batch'.*omit it"),
        ({"decay": "cosine"}, X, "decay='cosine' is unknown; choose one of"),
        ({"mode": "offline"}, X, "mode='offline' is unknown; choose one of"),
        ({"neighborhood": "mexican"}, X, "neighborhood='mexican' is unknown; choose one of"),
        ({"n_epochs": 0}, X, "n_epochs=0 must be a whole number of at least 1"),
        ({"n_epochs": 2.5}, X, "n_epochs=2.5 must be a whole number"),
        ({"batch_size": -1, "mode": "sgd"}, X, "batch_size=-1 must be"),
        ({"n_iter": 100}, X, "n_iter=100 counts the iterations of mode='sgd'"),
        ({"grid": 8}, X, "grid=8: expected a pair"),
        ({"grid": (0, 3)}, X, "grid=.*rows=0 must be a whole number"),
        ({"random_state": "seven"}, X, "random_state='seven' must be None, a whole number"),
        ({"device": "tpu"}, X, "device='tpu' must be 'auto', 'cpu', 'cuda'"),
    ],
)  # fmt: skip
def test_invalid_input_raises_an_error_with_a_remedy(params, data, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        SOM(**params).fit(data)


def test_invalid_input_to_a_fitted_map_raises_an_error():
    som = SOM((2, 3)).fit(X)
    for method in (som.predict, som.transform, som.score):
        with pytest.raises(ValueError, match="X has 3 features, but SOM is expecting 4"):
            method(X[:, :3])
        with pytest.raises(ValueError, match="NaN in row 3, column 2"):
            method(BAD)
    with pytest.raises(ValueError, match="at least one non-zero"):
        som.fit(X, sample_weight=np.zeros(len(X)))
    with pytest.raises(ValueError, match=r"sample_weight is negative, -1\.0, in row 0"):
        som.fit(X, sample_weight=-np.ones(len(X)))


def test_an_absent_device_is_an_error_and_never_a_fallback(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cuda", "cuda:1", "mps"):
        for mode in MODES:
            with pytest.raises(RuntimeError, match=f"device='{device}' was asked for.*use device="):
                SOM(mode=mode, device=device).fit(X)


def test_the_default_widths_suit_the_map():
    for grid, start_width in (((4, 10), 5.0), ((1, 1), 1.0)):
        som = SOM(grid, n_epochs=3).fit(X)
        assert som.history_["sigma"] == [Schedule(start_width, 0.5)(i, 3) for i in range(3)]


@pytest.mark.parametrize("mode", MODES)
def test_a_map_of_one_unit_is_the_mean_and_has_no_topographic_error(mode):
    rate = {"batch": None, "online": (0.5, 0.001), "sgd": (0.1, 0.1)}[mode]
    som = SOM((1, 1), mode, 30, learning_rate=rate).fit(X)
    np.testing.assert_allclose(som.weights_[0], X.mean(0), atol=0.02)
    assert som.topographic_error_ == 0
    assert set(som.labels_) == {0}
