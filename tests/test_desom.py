"""DESOM against a literal transcription of its training, formula by formula and as a whole."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import somlib
from somlib import desom as desom_module
from somlib.models.desom import (
    DESOM,
    grid_distances,
    nearest_units,
    neighborhood_weights,
    som_loss,
    train_desom,
)
from somlib.spaces import Grid
from somlib.training import fit_seeds
from tests.helpers import built, watched

rng = np.random.default_rng(42)
X = rng.random((53, 9))
SMALL = {"hidden": (8, 6), "latent_dim": 3, "batch_size": 20}


def desom(grid=(2, 3), n_iter=12, **params):
    return DESOM(grid, n_iter=n_iter, **SMALL | {"gamma": 0.1, "learning_rate": 0.01} | params)


# ---------------------------------------------------------------- the formulas, literally


def literal_position(grid, k):
    row, col = k // grid.cols, k % grid.cols
    if grid.topology == "hex":
        return row * math.sqrt(3) / 2, col + 0.5 * (row % 2)
    return float(row), float(col)


def literal_apart(grid, a, b):
    """Return how far apart two units are down and right, the shorter way round."""
    apart = []
    for p, q, period in zip(
        literal_position(grid, a), literal_position(grid, b), grid.periods, strict=True
    ):
        way = abs(p - q)
        apart.append(min(way, period - way) if period else way)
    return apart


def literal_hops(grid):
    """Return the least number of steps between units, by walking."""
    steps = np.full((grid.n_units, grid.n_units), -1)
    for a in range(grid.n_units):
        front, steps[a, a] = [a], 0
        while front:
            unit = front.pop(0)
            for other in range(grid.n_units):
                near = abs(math.hypot(*literal_apart(grid, unit, other)) - 1) < 1e-9
                if near and steps[a, other] < 0:
                    steps[a, other] = steps[a, unit] + 1
                    front.append(other)
    return steps


def literal_delta(grid, kind):
    K = grid.n_units
    if kind == "hops":
        return literal_hops(grid)
    delta = np.empty((K, K))
    for a in range(K):
        for b in range(K):
            down, right = literal_apart(grid, a, b)
            if kind == "desom-code":  # the difference of rows as the released code takes it
                down = abs(a - b) // grid.cols
            delta[a, b] = {
                "manhattan": down + right,
                "desom-code": down + right,
                "euclidean": math.hypot(down, right),
                "chebyshev": max(down, right),
            }[kind]
    return delta


def literal_temperature(i, n, start, end, decay, update_interval):
    i = i - i % update_interval
    if decay == "exponential":
        return start * (end / start) ** (i / (n - 1))
    return start + (end - start) * i / (n - 1)  # also a constant one, whose end is its start


def literal_weight(delta, T, kind):
    if kind == "window":
        return 1.0 if delta <= T else 0.0
    return math.exp(-(delta**2) / T**2)


def literal_losses(weights, x, delta, T, kind):
    """Return both losses of a batch, sample by sample, unit by unit, layer by layer."""

    def through(part, h):
        depth = sum(name.startswith(part) and name.endswith("weight") for name in weights)
        for layer in range(depth):
            W, b = (weights[f"{part}.layers.{layer}.{kind}"] for kind in ("weight", "bias"))
            h = h @ W + b[0]
            if layer < depth - 1:
                h = torch.relu(h)
        return h

    L_r = L_som = torch.zeros((), dtype=torch.float64)
    m = weights["prototypes"]
    for sample in x:
        z = through("encoder", sample)
        L_r = L_r + ((through("decoder", z) - sample) ** 2).sum()
        d2 = [((z - m[k]) ** 2).sum() for k in range(len(m))]
        chi = min(range(len(m)), key=lambda k: d2[k].item())
        for k in range(len(m)):
            L_som = L_som + literal_weight(delta[chi, k], T, kind) * d2[k]
    return L_r / x.numel(), L_som / len(x)


def literal_training(weights, model):
    """Train as the slides say, in file order, with Adam by hand; return losses and temperatures."""
    weights = {k: torch.from_numpy(v.copy()).requires_grad_(True) for k, v in weights.items()}
    moments = {k: [np.zeros(v.shape), np.zeros(v.shape)] for k, v in weights.items()}
    delta = literal_delta(model.grid_, model.grid_distance)
    batches = np.split(X, range(model.batch_size, len(X), model.batch_size))
    history = []
    for i in range(model.n_iter):
        T = literal_temperature(
            i, model.n_iter, *model.temperature, model.decay, model.update_interval
        )
        x = torch.from_numpy(batches[i % len(batches)])
        L_r, L_som = literal_losses(weights, x, delta, T, model.neighborhood)
        loss = L_r + model.gamma * L_som
        history.append([loss.item(), L_r.item(), L_som.item(), T])
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for (name, value), gradient in zip(weights.items(), gradients, strict=True):
            g, (first, second), t = gradient.numpy(), moments[name], i + 1
            first[:] = 0.9 * first + 0.1 * g
            second[:] = 0.999 * second + 0.001 * g**2
            step = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-7)
            value.data -= model.learning_rate * torch.from_numpy(step)
    return {k: v.detach().numpy() for k, v in weights.items()}, np.array(history).T


HISTORY = ("loss", "reconstruction", "som", "temperature")
VARIANTS = {
    "as published": {},
    "the released code's distance": {"grid_distance": "desom-code", "grid": (3, 3)},
    "window": {"neighborhood": "window", "temperature": (2.0, 0.5)},
    "hexagons that wrap": {"grid": Grid(4, 2, "hex", wrap=True), "grid_distance": "hops"},
    "a ring, linear": {"grid": Grid(1, 7, wrap=(False, True)), "decay": "linear"},
    "constant, Euclidean": {
        "temperature": (1.5, 1.5), "decay": "constant", "grid_distance": "euclidean"
    },
    "T changes now and then": {"update_interval": 5, "grid_distance": "chebyshev"},
}  # fmt: skip


@pytest.mark.parametrize("seeds", [[3], [1, 3, 5]], ids=["alone", "in a stack"])
@pytest.mark.parametrize("name", VARIANTS)
def test_training_is_its_literal_transcription(name, seeds):
    params = {"temperature": (10.0, 0.1), **VARIANTS[name]}
    model = watched(DESOM)(**desom().get_params() | params)
    assert len(X) % model.batch_size == 13  # the last batch of an epoch is smaller
    trained = fit_seeds(model, X, seeds)
    for s, ours in enumerate(trained):
        first = model.first[s]
        weights, history = literal_training(first, model)
        assert weights.keys() == ours.parameters_.keys()
        for name_, value in weights.items():
            np.testing.assert_allclose(ours.parameters_[name_], value, rtol=0, atol=1e-12)
            moved = np.abs(value - first[name_]).max()
            assert moved > 1e-3
        for loss, values in zip(HISTORY, history, strict=True):
            np.testing.assert_allclose(ours.history_[loss], values, rtol=1e-12)
        np.testing.assert_array_equal(ours.prototypes_, ours.parameters_["prototypes"])


def test_initial_prototypes_are_codes_of_different_samples():
    model = watched(DESOM)(**desom((5, 10), n_iter=1, hidden=(40,)).get_params())
    trained = fit_seeds(model, X, [0, 1])
    used = []
    for s in range(2):
        W = model.first[s]
        hidden = X @ W["encoder.layers.0.weight"] + W["encoder.layers.0.bias"]
        codes = np.maximum(hidden, 0) @ W["encoder.layers.1.weight"]
        far = np.abs(W["prototypes"][:, None] - codes).max(2)
        assert (far.min(1) < 1e-12).all()
        used.append(far.argmin(1))
        assert len(set(used[-1])) == 50
        assert (np.diff(used[-1]) < 0).any()  # drawn, not the first K in their order
    assert (used[0] != used[1]).any()
    assert trained[0].prototypes_.shape == (50, 3)


# ---------------------------------------------------------------- δ, w, T


GRIDS = [
    Grid(3, 5),
    Grid(1, 6),
    Grid(5, 3, "hex"),
    Grid(4, 5, "hex", wrap=True),
    Grid(3, 7, wrap=(False, True)),
    Grid(6, 5, wrap=(True, False)),
]


@pytest.mark.parametrize("kind", ["manhattan", "euclidean", "chebyshev", "hops"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_distances_on_the_map_are_their_definition(grid, kind):
    np.testing.assert_allclose(grid_distances(grid, kind), literal_delta(grid, kind), atol=1e-12)


@pytest.mark.parametrize("grid", [Grid(8, 8), Grid(3, 5), Grid(5, 3), Grid(10, 1), Grid(1, 4)])
def test_the_released_code_takes_an_anti_diagonal_for_a_row(grid):
    theirs = grid_distances(grid, "desom-code")
    np.testing.assert_array_equal(theirs, literal_delta(grid, "desom-code"))
    manhattan = grid_distances(grid)
    assert (theirs <= manhattan).all()  # rounding down loses a row at most
    assert (manhattan - theirs <= 1).all()
    wrong = (theirs != manhattan).mean()
    if (grid.rows, grid.cols) == (8, 8):
        assert wrong == pytest.approx(0.38, abs=0.005)
        assert (theirs[1, 8], manhattan[1, 8]) == (1, 2)  # (0, 1) and (1, 0)
    if 1 in (grid.rows, grid.cols):
        assert wrong == 0


@pytest.mark.parametrize("grid", [Grid(3, 4, "hex"), Grid(3, 4, wrap=(False, True))])
def test_the_released_codes_distance_is_an_error_on_other_grids(grid):
    with pytest.raises(ValueError, match="grid_distance='desom-code' exists on plain rectangular"):
        grid_distances(grid, "desom-code")
    with pytest.raises(ValueError, match="choose 'manhattan' or 'hops'"):
        desom(grid, grid_distance="desom-code").fit(X)


def test_weights_are_a_gaussian_without_the_factor_two_or_a_window_with_its_edge():
    delta = torch.tensor([[0.0, 1.0, 2.0, 3.0]], dtype=torch.float64)
    for T in (0.5, 1.0, 2.0, 10.0):
        for kind in ("gaussian", "window"):
            literal = [[literal_weight(d, T, kind) for d in delta[0].tolist()]]
            found = neighborhood_weights(delta, torch.tensor(T, dtype=torch.float64), kind)
            np.testing.assert_allclose(found, literal, rtol=1e-14)
            assert found.dtype == torch.float64
    at_T = neighborhood_weights(delta, torch.tensor(2.0, dtype=torch.float64))[0, 2]
    assert at_T.item() == pytest.approx(math.exp(-1))


@pytest.mark.parametrize("update_interval", [1, 4, 100])
@pytest.mark.parametrize(("decay", "ends", "middle"), [
    ("exponential", (10.0, 0.1), 1.0),
    ("linear", (10.0, 0.1), 5.05),
    ("constant", (2.0, 2.0), 2.0),
])  # fmt: skip
def test_temperature_goes_from_start_to_end(decay, ends, middle, update_interval):
    model = desom(n_iter=21, temperature=ends, decay=decay, update_interval=update_interval).fit(X)
    T = model.history_["temperature"]
    literal = [literal_temperature(i, 21, *ends, decay, update_interval) for i in range(21)]
    np.testing.assert_allclose(T, literal, rtol=1e-14)
    assert len(set(np.round(T, 9))) == (1 if decay == "constant" else -(-21 // update_interval))
    assert T[0] == ends[0]
    if update_interval == 1:
        assert (T[-1], T[10]) == (ends[1], pytest.approx(middle))


def test_one_iteration_has_the_first_temperature():
    np.testing.assert_array_equal(desom(n_iter=1).fit(X).history_["temperature"], [10.0])


# ---------------------------------------------------------------- the loss and its gradient


def codes(S, B, K, L, seed=0):
    """Return codes, prototypes and map distances, in float64 and with nothing equal to nothing."""
    g = torch.Generator().manual_seed(seed)
    z, m = (torch.randn(S, n, L, dtype=torch.float64, generator=g) for n in (B, K))
    return z, m, torch.from_numpy(Grid(K, 1).distances)


@pytest.mark.parametrize("kind", ["gaussian", "window"])
@given(
    S=st.integers(1, 3), B=st.integers(1, 6), K=st.integers(1, 7), L=st.integers(1, 4),
    T=st.floats(0.1, 10.0),
)  # fmt: skip
def test_som_loss_is_a_mean_over_samples_of_a_sum_over_units_and_dimensions(kind, S, B, K, L, T):
    z, m, delta = codes(S, B, K, L)
    found = som_loss(z, m, delta, torch.tensor(T, dtype=torch.float64), kind)
    assert found.shape == (S,)
    for s in range(S):
        total = 0.0
        for i in range(B):
            d2 = [sum((z[s, i, n] - m[s, k, n]).item() ** 2 for n in range(L)) for k in range(K)]
            chi = min(range(K), key=d2.__getitem__)
            total += sum(literal_weight(delta[chi, k].item(), T, kind) * d2[k] for k in range(K))
        assert found[s].item() == pytest.approx(total / B, rel=1e-12)


@pytest.mark.parametrize("kind", ["gaussian", "window"])
@pytest.mark.parametrize("S", [1, 3])
def test_its_gradient_is_that_of_finite_differences(S, kind):
    z, m, delta = codes(S, 5, 6, 3)
    T = torch.tensor(1.7, dtype=torch.float64)
    nearest = torch.cdist(z, m).sort(-1).values
    assert (nearest[..., 1] - nearest[..., 0]).min() > 1e-3  # the winners stay the winners
    z.requires_grad_(True), m.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda z, m: som_loss(z, m, delta, T, kind), (z, m))


def test_no_gradient_goes_through_the_weights():
    z, m, delta = codes(2, 5, 6, 3)
    delta, T = (
        delta.requires_grad_(True),
        torch.tensor(1.7, dtype=torch.float64).requires_grad_(True),
    )
    z.requires_grad_(True), m.requires_grad_(True)
    som_loss(z, m, delta, T).sum().backward()
    assert T.grad is None
    assert delta.grad is None
    with torch.no_grad():
        d2 = torch.cdist(z, m) ** 2
        w = torch.exp(-(delta**2) / T**2)[d2.argmin(-1)]
        difference = z[:, :, None] - m[:, None]
        torch.testing.assert_close(z.grad, 2 / 5 * (w[..., None] * difference).sum(2))
        torch.testing.assert_close(m.grad, -2 / 5 * (w[..., None] * difference).sum(1))


def gradients(loss, params, architecture="mlp"):
    """Return which parts of the network get gradient from one of the losses."""
    model = desom(**params, architecture=architecture, image_shape=(3, 3))
    x = torch.from_numpy(X)
    stack = built(model, 9, range(2), x)
    losses = stack.losses(x, temperature=torch.tensor(2.0))
    found = torch.autograd.grad(losses[loss].sum(), stack.parameters(), allow_unused=True)
    parts = {}
    for (name, _), gradient in zip(stack.named_parameters(), found, strict=True):
        parts.setdefault(name.split(".")[0], []).append(
            gradient is not None and bool(gradient.any())
        )
    assert all(len(set(reached)) == 1 for reached in parts.values())
    return {part for part, reached in parts.items() if reached[0]}


@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_each_loss_term_has_gradients_for_its_parameters(architecture):
    everything = {"encoder", "decoder", "prototypes"}
    assert gradients("reconstruction", {}, architecture) == {"encoder", "decoder"}
    assert gradients("som", {}, architecture) == {"encoder", "prototypes"}
    assert gradients("loss", {}, architecture) == everything
    assert gradients("loss", {"gamma": 0}, architecture) == {"encoder", "decoder"}


def test_without_its_som_loss_it_is_the_autoencoder():
    model = watched(DESOM)(**desom(gamma=0).get_params())
    (trained,) = fit_seeds(model, X, [4])
    (plain,) = fit_seeds(
        somlib.Autoencoder(**SMALL, n_iter=12, learning_rate=0.01, shuffle=False), X, [4]
    )
    np.testing.assert_array_equal(trained.prototypes_, model.first[0]["prototypes"])
    np.testing.assert_array_equal(trained.transform(X), plain.transform(X))
    np.testing.assert_array_equal(trained.history_["reconstruction"], plain.history_["loss"])


# ---------------------------------------------------------------- using the map


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (4, 5)])
def test_a_sample_belongs_to_the_prototype_nearest_to_its_code(grid, dtype, monkeypatch):
    monkeypatch.setattr(desom_module, "ROWS_AT_ONCE", 10)  # several blocks and a rest
    model = desom(grid, n_iter=40, gamma=1.0, random_state=0).fit(X.astype(dtype))
    apart = np.array([
        [((z - m) ** 2).sum() for m in model.prototypes_.astype(float)]
        for z in model.transform(X.astype(dtype)).astype(float)
    ])  # fmt: skip
    np.testing.assert_array_equal(model.predict(X.astype(dtype)), apart.argmin(1))
    np.testing.assert_array_equal(model.labels_, apart.argmin(1))
    second = np.argsort(apart, axis=1, kind="stable")[:, min(1, apart.shape[1] - 1)]
    codes = model.transform(X.astype(dtype))
    np.testing.assert_array_equal(nearest_units(codes, model.prototypes_)[:, 1], second)
    assert model.labels_.dtype == np.int64
    if grid == (4, 5):
        assert len(set(model.labels_)) > 3


def test_ties_go_to_the_lowest_index():
    Z = np.array([[0.0, 0.0], [1.0, 1.0]])
    prototypes = np.array([[2.0, 2.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_array_equal(nearest_units(Z, prototypes), [[1, 2], [1, 2]])


def test_decoded_prototypes_are_the_prototypes_decoded():
    model = desom((3, 3), n_iter=20).fit(X)
    assert model.prototypes_.shape == (9, 3)
    assert model.decoded_prototypes_.shape == (9, 9)
    np.testing.assert_array_equal(
        model.decoded_prototypes_, model.inverse_transform(model.prototypes_)
    )


def test_its_map_is_topologically_ordered():
    t = np.linspace(0, 1, 200)[:, None]
    arc = np.concatenate([np.cos(2.5 * t), np.sin(2.5 * t), t, t**2], 1)  # one hidden number
    model = DESOM(
        (1, 6), (16,), 2, gamma=0.1, n_iter=600, batch_size=100, learning_rate=5e-3,
        shuffle=True, temperature=(4.0, 0.3),
    )  # fmt: skip
    in_order = 0
    for trained in fit_seeds(model, arc, range(6)):
        along = [t[trained.labels_ == k].mean() for k in set(trained.labels_.tolist())]
        in_order += len(along) == 6 and len(set(np.sign(np.diff(along)))) == 1
        drawn = trained.decoded_prototypes_[trained.labels_]
        assert ((drawn - arc) ** 2).mean() < 0.06 * arc.var(0).mean()
    assert in_order >= 4  # a map may fold, but seldom does


def test_its_history_is_one_entry_for_each_iteration():
    model = desom(n_iter=7).fit(X)
    assert tuple(model.history_) == HISTORY
    assert {len(values) for values in model.history_.values()} == {7}
    assert model.n_iter_ == 7
    np.testing.assert_allclose(
        model.history_["loss"], model.history_["reconstruction"] + 0.1 * model.history_["som"]
    )


# ---------------------------------------------------------------- as a scikit-learn estimator


def test_as_a_scikit_learn_estimator():
    grid = Grid(3, 2, "hex")
    model = DESOM(grid, hidden=(6,), gamma=0.5)
    assert clone(model).get_params() == model.get_params()
    assert clone(model).grid_ == model.grid_ == grid
    assert DESOM((3, 2)).grid_ == DESOM([3, 2]).grid_ == Grid(3, 2)
    pipe = make_pipeline(MinMaxScaler(), desom(random_state=0))
    np.testing.assert_array_equal(pipe.fit_predict(X), pipe.predict(X))
    assert pipe.transform(X).shape == (len(X), 3)
    assert list(pipe.get_feature_names_out()) == ["desom0", "desom1", "desom2"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_of_the_samples_is_kept(dtype):
    model = desom().fit(X.astype(dtype))
    everything = (model.prototypes_, model.decoded_prototypes_, model.transform(X.astype(dtype)))
    assert {array.dtype for array in everything} == {np.dtype(dtype)}


@pytest.mark.parametrize("params", [
    {"grid": (2, 3)},
    {"grid": Grid(4, 2, "hex", wrap=(True, False)), "grid_distance": "hops", "hidden": [5]},
    {"grid": [3, 2], "architecture": "conv", "image_shape": (3, 3), "random_state": 3},
])  # fmt: skip
def test_a_saved_map_is_loaded_unchanged(tmp_path, params):
    frame = pd.DataFrame(X, columns=list("abcdefghi"))
    model = desom(**params).fit(frame)
    model.save(tmp_path / "map.npz")
    back = DESOM.load(tmp_path / "map.npz")
    assert type(somlib.load(tmp_path / "map.npz")) is DESOM
    assert back.grid_ == model.grid_
    assert back.grid == model.grid
    assert type(back.grid) is type(model.grid)
    assert str(back) == str(model)
    frame += 0.01
    np.testing.assert_array_equal(back.predict(frame), model.predict(frame))
    np.testing.assert_array_equal(back.transform(frame), model.transform(frame))
    np.testing.assert_array_equal(back.decoded_prototypes_, model.decoded_prototypes_)
    np.testing.assert_array_equal(back.labels_, model.labels_)
    for name in HISTORY:
        np.testing.assert_array_equal(back.history_[name], model.history_[name])
    assert clone(back).fit(frame, start=back).n_iter_ == 12


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(("params", "message"), [
    ({"grid": (6, 9)}, "a map of 54 units is larger than the data set of 53 samples, .* smaller"),
    ({"grid": (0, 3)}, r"grid=\(0, 3\): rows=0 must be a whole number of at least 1"),
    ({"grid": 5}, r"grid=5: .*; give \(rows, cols\) or a Grid"),
    ({"gamma": -1e-3}, "gamma=-0.001 must be a finite number of at least 0"),
    ({"gamma": float("nan")}, "gamma=nan must be a finite number of at least 0"),
    ({"gamma": float("inf")}, "gamma=inf must be a finite number of at least 0"),
    ({"temperature": (0.1, 10.0)}, r"temperature=\(0.1, 10.0\): .* ends at 10.0 above its start"),
    ({"temperature": (2.0, 2.0)}, r"temperature=\(2.0, 2.0\) never decreases; .* decay='constant'"),
    ({"temperature": (2.0, 0.0)}, r"temperature=\(2.0, 0.0\): .* must be a positive, finite"),
    ({"temperature": 2.0}, r"temperature=2.0: "),
    ({"decay": "constant"}, "decay='constant' cannot go from 10.0 to 0.1; give the same"),
    ({"decay": "cosine"}, r"decay='cosine' is unknown; choose one of \['exponential', 'linear'"),
    ({"neighborhood": "bubble"}, r"neighborhood='bubble' is unknown; choose .* 'window'\]"),
    ({"grid_distance": "cosine"}, r"grid_distance='cosine' is unknown; choose .* 'desom-code'\]"),
    ({"update_interval": 0}, "update_interval=0 must be a whole number of at least 1"),
    ({"pretrain_epochs": -1}, "pretrain_epochs=-1 must be a whole number of at least 0"),
    ({"batch_size": 54}, "batch_size=54 is larger than the data set of 53 samples"),
    ({"latent_dim": 10}, "latent_dim=10 is more than the 9 features of X"),
])  # fmt: skip
def test_invalid_arguments_of_fit_raise_errors(params, message):
    with pytest.raises(ValueError, match=message):
        desom().set_params(**params).fit(X)
    with pytest.raises(ValueError, match=message):
        fit_seeds(desom().set_params(**params), X, range(3))


def test_a_map_as_large_as_the_data_set_is_fine():
    model = desom((1, 53), n_iter=1, hidden=(40,), learning_rate=1e-30, random_state=0).fit(X)
    assert sorted(model.labels_) == list(range(53))  # each sample's code is one of the prototypes


def test_y_is_ignored_whatever_its_length():
    for y in (None, np.arange(len(X)), np.arange(3)):
        trained = desom(random_state=0).fit(X, y)
        np.testing.assert_array_equal(trained.labels_, desom(random_state=0).fit(X).labels_)


# ---------------------------------------------------------------- the procedure, literally


def test_the_procedure_of_the_slides_is_what_fit_does():
    x = torch.from_numpy(X)
    model = desom(n_iter=30, gamma=0.3, batch_size=len(X), random_state=4)
    network = built(model, 9, [4], x)
    train_desom(network, x, n_iter=30, batch_size=len(X))
    model.set_params(learning_rate=1e-3).fit(X)
    for name, value in network.state_dict().items():
        np.testing.assert_allclose(model.parameters_[name], value, rtol=0, atol=1e-12)
