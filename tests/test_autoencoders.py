"""The autoencoders against literal training steps and closed forms, and as scikit-learn's."""

import math
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from scipy.stats import bernoulli, entropy
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import somlib
from somlib.models.autoencoders import (
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    SparseAutoencoder,
    bernoulli_divergence,
    contraction,
    cross_entropy,
    jacobian,
    keep_largest,
    principal_components,
    reconstruction_error,
)
from somlib.training import fit_seeds
from somlib.training.saving import load
from tests.helpers import built, watched

rng = np.random.default_rng(42)
X = rng.random((90, 12))
SMALL = {"hidden": (7, 5), "latent_dim": 2, "batch_size": 40}


# ---------------------------------------------------------------- the loss


def test_reconstruction_error_is_a_mean_over_samples_and_features_for_each_seed():
    x, decoded = rng.random((4, 3)), rng.random((2, 4, 3))
    expected = [
        sum((x[i, f] - decoded[s, i, f]) ** 2 for i in range(4) for f in range(3)) / (4 * 3)
        for s in range(2)
    ]
    for shared in (x, np.stack([x, x])):
        found = reconstruction_error(torch.from_numpy(shared), torch.from_numpy(decoded))
        np.testing.assert_allclose(found, expected, rtol=1e-14)


# ---------------------------------------------------------------- training


def forward(weights, part, h):
    """Return what the layers of one part of the network make of samples, layer by layer."""
    depth = sum(name.startswith(part) and name.endswith("weight") for name in weights)
    for layer in range(depth):
        W, b = (weights[f"{part}.layers.{layer}.{kind}"] for kind in ("weight", "bias"))
        h = h @ W + b
        if layer < depth - 1:
            h = h * (h > 0)
    return h


@pytest.mark.parametrize("shuffle", [True, False])
def test_training_is_adam_on_the_mean_squared_error(shuffle):
    model = watched(Autoencoder)(**SMALL, n_epochs=4, learning_rate=0.01, shuffle=shuffle)
    stack = fit_seeds(model, X, [4, 7])
    assert [b.shape[-1] for b in model.batches] == 4 * [40, 40, 10]
    for s, trained in enumerate(stack):
        weights = {k: torch.from_numpy(v).clone() for k, v in model.first[s].items()}
        for value in weights.values():
            value.requires_grad_(True)
        adam = torch.optim.Adam(weights.values(), lr=0.01, eps=1e-7)
        losses = []
        for rows in model.batches:
            x = torch.from_numpy(X[rows[s] if shuffle else rows])
            decoded = forward(weights, "decoder", forward(weights, "encoder", x))
            loss = torch.nn.functional.mse_loss(decoded, x)
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.item())
        np.testing.assert_allclose(trained.history_["loss"], losses, rtol=1e-12)
        for name, value in weights.items():
            np.testing.assert_allclose(trained.parameters_[name], value.detach(), atol=1e-12)


@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_it_learns_what_a_code_can_hold(architecture):
    t = np.linspace(0, 2 * np.pi, 100, endpoint=False)[:, None]
    waves = 0.5 + 0.4 * np.sin(t + np.linspace(0, np.pi, 16))  # a circle among 4 × 4 images
    model = Autoencoder(
        (16, 8), 2, architecture, n_iter=300, batch_size=50, learning_rate=1e-2, random_state=0
    ).fit(waves)
    assert missed(model, waves) < 0.05 * waves.var(0).mean()
    assert model.history_["loss"][-1] < 0.05 * model.history_["loss"][0]


def test_a_linear_autoencoder_finds_what_principal_components_keep():
    centered = X @ np.diag([5, 3] + [0.1] * 10)
    centered = centered - centered.mean(0)
    model = Autoencoder((), 2, n_epochs=400, batch_size=90, learning_rate=0.02, random_state=0)
    model.fit(centered)
    left = np.linalg.svd(centered, compute_uv=False)[2:]
    assert model.history_["loss"][-1] == pytest.approx((left**2).sum() / centered.size, rel=0.01)


# ---------------------------------------------------------------- using


def test_codes_and_decoded_codes_are_what_the_layers_make(monkeypatch):
    monkeypatch.setattr("somlib.training.ROWS_AT_ONCE", 17)  # several blocks and a rest
    model = Autoencoder(**SMALL, n_epochs=2, random_state=0).fit(X)
    codes = model.transform(X)
    np.testing.assert_allclose(codes, forward(model.parameters_, "encoder", X), atol=1e-14)
    decoded = model.inverse_transform(codes)
    np.testing.assert_allclose(decoded, forward(model.parameters_, "decoder", codes), atol=1e-14)
    np.testing.assert_array_equal(model.fit_transform(X), codes)  # random_state repeats the fit


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_of_the_samples_is_kept(dtype):
    model = Autoencoder(**SMALL, n_epochs=1).fit(X.astype(dtype))
    assert {value.dtype for value in model.parameters_.values()} == {np.dtype(dtype)}
    codes = model.transform(X.astype(dtype))
    assert codes.dtype == model.inverse_transform(codes).dtype == dtype


def test_as_a_scikit_learn_estimator():
    model = Autoencoder(hidden=(6,), n_iter=9)
    assert clone(model).get_params() == model.get_params()
    assert model.get_params()["n_iter"] == 9
    pipe = make_pipeline(MinMaxScaler(), Autoencoder(**SMALL, n_epochs=2, random_state=0))
    search = GridSearchCV(
        pipe, {"autoencoder__latent_dim": [1, 3]}, cv=2, scoring=lambda pipe, X: -missed(pipe, X)
    ).fit(X)
    best = search.best_estimator_
    names = [f"autoencoder{i}" for i in range(search.best_params_["autoencoder__latent_dim"])]
    assert list(best.get_feature_names_out()) == names
    assert best[-1].seed_ == 0
    frame = pipe.set_output(transform="pandas").fit_transform(X)
    assert list(frame.columns) == ["autoencoder0", "autoencoder1"]


def missed(model, X):
    """Return the mean squared reconstruction error of samples."""
    return ((model.inverse_transform(model.transform(X)) - X) ** 2).mean()


@pytest.mark.parametrize("params", [
    {"hidden": (7, 5), "latent_dim": 2},
    {"hidden": [3], "latent_dim": 4, "architecture": "conv", "image_shape": (4, 3)},
    {"hidden": (), "latent_dim": 1, "n_iter": 5, "random_state": np.random.default_rng(0)},
])  # fmt: skip
def test_a_saved_autoencoder_is_loaded_unchanged(tmp_path, params):
    frame = pd.DataFrame(X, columns=[f"p{i}" for i in range(12)])
    model = Autoencoder(**params, n_epochs=2, batch_size=40).fit(frame)
    model.save(tmp_path / "model.npz")
    back = Autoencoder.load(tmp_path / "model.npz")
    assert type(load(tmp_path / "model.npz")) is type(back) is Autoencoder
    assert (back.seed_, back.n_iter_) == (model.seed_, model.n_iter_)
    np.testing.assert_array_equal(back.transform(frame), model.transform(frame))
    codes = model.transform(frame)
    np.testing.assert_array_equal(back.inverse_transform(codes), model.inverse_transform(codes))
    np.testing.assert_array_equal(back.history_["loss"], model.history_["loss"])
    assert back.hidden == model.hidden
    assert list(back.feature_names_in_) == list(frame.columns)
    if "random_state" not in params:  # and it can start another
        assert clone(back).fit(frame, start=back).n_iter_ == back.n_iter_


def test_a_model_of_another_class_is_not_taken_for_this_one(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        Autoencoder().save(tmp_path / "model.npz")
    somlib.SOM((2, 2), n_epochs=1).fit(X).save(tmp_path / "map.npz")
    with pytest.raises(TypeError, match=r"map\.npz holds a SOM, not a Autoencoder"):
        Autoencoder.load(tmp_path / "map.npz")


# ---------------------------------------------------------------- denoising


def denoising(**params):
    return DenoisingAutoencoder(**SMALL | {"n_iter": 6, "learning_rate": 0.01} | params)


def literal_damage(x, drawn, corruption, noise, clip):
    damaged = x.copy()
    for i, j in np.ndindex(x.shape):
        if corruption == "gaussian":
            damaged[i, j] += noise * drawn[i, j]
            if clip is not None:
                damaged[i, j] = min(max(damaged[i, j], clip[0]), clip[1])
        elif corruption == "masking" and drawn[i, j] < noise:
            damaged[i, j] = 0
        elif corruption == "salt-and-pepper":
            if drawn[i, j] < noise / 2:
                damaged[i, j] = 0
            elif drawn[i, j] > 1 - noise / 2:
                damaged[i, j] = 1
    return damaged


@pytest.mark.parametrize(
    "how",
    [
        {"corruption": "gaussian", "noise": 0.3},
        {"corruption": "gaussian", "noise": 0.3, "clip": None},
        {"corruption": "masking", "noise": 0.4},
        {"corruption": "salt-and-pepper", "noise": 0.4},
    ],
)
def test_a_denoising_autoencoder_reconstructs_the_clean_sample_from_a_corrupted_one(how):
    model = denoising(shuffle=False, n_iter=1, random_state=3, **how)
    network = built(model, 12, [3])
    rng_of_block, x = np.random.default_rng([3, 2, 0]), X[:40]
    normal = model.corruption == "gaussian"
    drawn = (rng_of_block.standard_normal if normal else rng_of_block.random)((2, 40, 12))[0]
    damaged = literal_damage(x, drawn, model.corruption, model.noise, model.clip)
    assert not np.allclose(damaged, x)
    reconstruction = network.decode(network.encode(torch.tensor(damaged))).detach().numpy()
    model.fit(X)
    assert model.history_["loss"][0] == pytest.approx(((reconstruction - x) ** 2).mean())


def test_half_of_the_replaced_features_are_salt_and_half_pepper():
    model, rng = denoising(corruption="salt-and-pepper", noise=0.2), np.random.default_rng(0)
    damaged = model.corrupt(torch.full((200, 100), 0.5), torch.from_numpy(rng.random((200, 100))))
    assert float((damaged == 0).double().mean()) == pytest.approx(0.1, abs=0.01)
    assert float((damaged == 1).double().mean()) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("corruption", ["gaussian", "masking", "salt-and-pepper"])
def test_without_noise_it_is_the_plain_autoencoder(corruption):
    plain = Autoencoder(**SMALL, n_iter=6, learning_rate=0.01, random_state=0).fit(X)
    without = denoising(corruption=corruption, noise=0.0, random_state=0).fit(X)
    np.testing.assert_array_equal(without.history_["loss"], plain.history_["loss"])


def test_it_denoises_the_corruption_of_its_training():
    digits = load_digits().data / 16
    how = {"hidden": (64,), "latent_dim": 32, "n_iter": 400, "batch_size": 128, "random_state": 0}
    mending = DenoisingAutoencoder(corruption="masking", noise=0.3, **how).fit(digits)
    plain = Autoencoder(**how).fit(digits)
    holes = digits * (np.random.default_rng(1).random(digits.shape) > 0.3)
    errors = [
        ((m.inverse_transform(m.transform(holes)) - digits) ** 2).mean() for m in (mending, plain)
    ]
    assert errors[0] < 0.7 * errors[1]


def test_seeds_and_resuming_of_a_denoising_autoencoder(tmp_path):
    together = fit_seeds(denoising(), X, [0, 1])
    for seed, model in enumerate(together):
        alone = denoising(random_state=seed).fit(X)
        np.testing.assert_allclose(model.history_["loss"], alone.history_["loss"], rtol=1e-9)
    model, kept = denoising(n_iter=110, random_state=0), tmp_path / "ae.checkpoint"

    def stop(i, logs):
        if i > 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clone(model).fit(X, callbacks=[stop], checkpoint=kept)
    resumed, whole = clone(model).fit(X, checkpoint=kept), clone(model).fit(X)
    np.testing.assert_array_equal(resumed.history_["loss"], whole.history_["loss"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corruption": "rain"}, "corruption='rain' is unknown"),
        ({"noise": -0.1}, "noise=-0.1 must be a finite number of at least 0"),
        ({"noise": float("nan")}, "noise=nan must be a finite number"),
        (
            {"corruption": "masking", "noise": 1.1},
            "from 0 to 1: with .* it is the fraction",
        ),
        ({"clip": (1.0, 0.0)}, r"clip=\(1.0, 0.0\) must be \(lowest, highest\) or None"),
        ({"clip": 3}, "clip=3 must be"),
    ],
)
def test_an_invalid_corruption_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        denoising(**change).fit(X)


# ---------------------------------------------------------------- formulas of the lectures

ACTIVATIONS = {
    "relu": lambda u: u * (u > 0),
    "sigmoid": lambda u: 1 / (1 + torch.exp(-u)),
    "tanh": lambda u: 1 - 2 / (torch.exp(2 * u) + 1),
    "linear": lambda u: u,
}
SLOPES = {
    "relu": lambda u: (u > 0).double(),
    "sigmoid": lambda u: torch.exp(-u) / (1 + torch.exp(-u)) ** 2,
    "tanh": lambda u: 4 / (torch.exp(u) + torch.exp(-u)) ** 2,
    "linear": torch.ones_like,
}


def test_cross_entropy_is_a_mean_over_samples_and_features_for_each_seed():
    x, logits = rng.random((4, 3)), rng.normal(size=(2, 4, 3))
    p = 1 / (1 + np.exp(-logits))
    expected = [
        -sum(
            x[i, f] * math.log(p[s, i, f]) + (1 - x[i, f]) * math.log(1 - p[s, i, f])
            for i in range(4)
            for f in range(3)
        )
        / (4 * 3)
        for s in range(2)
    ]
    for shared in (x, np.stack([x, x])):
        found = cross_entropy(torch.from_numpy(shared), torch.from_numpy(logits))
        np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_cross_entropy_of_ones_and_zeros_is_minus_their_log_likelihood():
    x, logits = (rng.random((5, 3)) > 0.5).astype(float), rng.normal(size=(1, 5, 3))
    log_p = bernoulli.logpmf(x, 1 / (1 + np.exp(-logits[0])))
    found = cross_entropy(torch.from_numpy(x), torch.from_numpy(logits))
    assert found.item() == pytest.approx(-log_p.mean())


def test_cross_entropy_stays_finite_where_the_decoder_is_sure():
    x, logits = torch.tensor([[0.0, 1.0]]), torch.tensor([[[1e4, -1e4]]])
    assert cross_entropy(x, logits).item() == pytest.approx(1e4)  # and not infinite
    assert cross_entropy(x, -logits).item() == 0


shares = st.floats(0.001, 0.999)


@given(rho=shares, active=st.lists(shares, min_size=1, max_size=5))
def test_kl_sparsity_is_the_divergence_of_two_coins_summed_over_units(rho, active):
    divergence = bernoulli_divergence(rho, torch.tensor([active], dtype=torch.float64)).item()
    of_each = [entropy([rho, 1 - rho], [q, 1 - q]) for q in active]
    assert divergence == pytest.approx(sum(of_each), rel=1e-9, abs=1e-12)
    assert divergence >= -1e-15


def test_kl_sparsity_is_least_where_units_are_as_active_as_wanted():
    active = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)[:, None]
    assert float(active[bernoulli_divergence(0.2, active).argmin()]) == pytest.approx(0.2)
    wanted = torch.full((1, 4), 0.2, dtype=torch.float64, requires_grad=True)
    divergence = bernoulli_divergence(0.2, wanted)
    divergence.sum().backward()
    assert divergence.item() == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(wanted.grad, 0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_sparsity_is_finite_where_a_unit_is_always_or_never_active(dtype):
    for active in (0.0, 1.0):
        divergence = bernoulli_divergence(0.1, torch.tensor([[active]], dtype=dtype)).item()
        assert 1 < divergence < 13


# integers, so that there are ties, which any k may win
codes = st.lists(
    st.lists(st.integers(-3, 3), min_size=6, max_size=6), min_size=1, max_size=4
).map(lambda rows: torch.tensor(rows, dtype=torch.float64))  # fmt: skip


@given(z=codes, k=st.integers(1, 6), room=st.integers(0, 3))
def test_the_k_largest_are_kept_and_learn_and_all_others_are_zero(z, k, room):
    z.requires_grad_(True)
    kept = keep_largest(z, k)
    (kept * torch.arange(1.0, 7)).sum().backward()
    for row, out, gradient in zip(z, kept, z.grad, strict=True):
        learning = gradient != 0
        assert learning.sum() == k
        assert gradient[learning].tolist() == torch.arange(1.0, 7)[learning].tolist()
        assert torch.equal(out, torch.where(learning, row, 0.0))
        assert sorted(row[learning].tolist()) == sorted(row.tolist())[-k:]
    bounded = keep_largest(z, torch.tensor(float(k)), min(k + room, 6))
    assert torch.equal(bounded.sort(-1).values, kept.sort(-1).values)


# ---------------------------------------------------------------- training, literally

SPARSE = {"hidden": (), "latent_dim": 14}


def literal_layers(weights, part):
    """Return the weights and biases of the encoder or the decoder, which may be the former's."""
    depth = sum(re.fullmatch(r"encoder\.layers\.\d+\.weight", name) is not None for name in weights)
    if part == "decoder" and "decoder.biases.0" in weights:
        return [
            (weights[f"encoder.layers.{depth - 1 - i}.weight"].T, weights[f"decoder.biases.{i}"][0])
            for i in range(depth)
        ]
    return [
        (weights[f"{part}.layers.{i}.weight"], weights[f"{part}.layers.{i}.bias"][0])
        for i in range(depth)
    ]


def literal_pass(weights, part, h, inside, output):
    """Return what one part of the network makes of samples, and how that moves with each."""
    layers = literal_layers(weights, part)
    J = torch.eye(h.shape[1], dtype=h.dtype).expand(len(h), -1, -1)
    for i, (W, b) in enumerate(layers):
        kind = output if i == len(layers) - 1 else inside
        u = h @ W + b
        h = ACTIVATIONS[kind](u)
        J = SLOPES[kind](u)[:, :, None] * (W.T @ J)  # the chain rule, forwards
    return h, J


def literal_error(model, x, decoded):
    if model.likelihood == "gaussian":
        return ((x - decoded) ** 2).sum() / x.numel()
    p = 1 / (1 + torch.exp(-decoded))
    return -(x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum() / x.numel()


def literal_k(model, i):
    """Return how many values are kept in iteration i."""
    if isinstance(model.k, int):
        return model.k
    first, last = model.k
    half = model.n_iter // 2
    return last if i >= half else round(first + (last - first) * i / half)


def literal_losses(model, weights, x, i):
    """Return what the history holds of iteration i, as the lectures and papers have it."""
    z, J = literal_pass(weights, "encoder", x, model.activation, model.code)
    sparsity = getattr(model, "sparsity", None)
    if sparsity == "k-sparse":
        k = literal_k(model, i)
        active = torch.zeros_like(z)
        for row, values in zip(active, z.tolist(), strict=True):
            row[sorted(range(len(values)), key=values.__getitem__)[-k:]] = 1
        z = torch.where(active == 1, z, 0.0)
    drawn, _ = literal_pass(weights, "decoder", z, model.activation, "linear")
    error = literal_error(model, x, drawn)
    if sparsity == "k-sparse":
        return {"loss": error, "reconstruction": error, "k": torch.tensor(float(k))}
    if sparsity == "kl":
        rho, term = model.rho, 0
        for active in sum(z) / len(z):
            term += rho * torch.log(rho / active) + (1 - rho) * torch.log((1 - rho) / (1 - active))
        return {"loss": error + model.weight * term, "reconstruction": error, "sparsity": term}
    if sparsity == "l1":
        term = sum(sum(abs(value) for value in row) for row in z) / len(z)
        return {"loss": error + model.weight * term, "reconstruction": error, "sparsity": term}
    if isinstance(model, ContractiveAutoencoder):
        term = (J**2).sum() / len(x)
        return {"loss": error + model.weight * term, "reconstruction": error, "contraction": term}
    return {"loss": error}


LITERAL = {
    "bernoulli": Autoencoder(**SMALL, likelihood="bernoulli"),
    "tied": Autoencoder(**SMALL, tied=True),
    "tied, one layer": Autoencoder((), 3, tied=True, code="tanh"),
    "sigmoids": Autoencoder(**SMALL, activation="sigmoid", code="sigmoid", likelihood="bernoulli"),
    "tanh": Autoencoder(**SMALL, activation="tanh", code="relu", tied=True),
    "linear": Autoencoder(**SMALL, activation="linear"),
    "kl": SparseAutoencoder(**SPARSE, weight=0.1, rho=0.2),
    "kl, deep, bernoulli": SparseAutoencoder((7,), 14, weight=0.3, likelihood="bernoulli"),
    "l1": SparseAutoencoder(**SPARSE, sparsity="l1", weight=0.1, code="linear", tied=True),
    "l1, deep": SparseAutoencoder((7, 9), 14, sparsity="l1", code="tanh", activation="sigmoid"),
    "k-sparse": SparseAutoencoder(**SPARSE, sparsity="k-sparse", k=3, code="linear", tied=True),
    "k-sparse, shrinking": SparseAutoencoder(**SPARSE, sparsity="k-sparse", k=(13, 2)),
    "k-sparse, deep": SparseAutoencoder((7,), 5, sparsity="k-sparse", k=(4, 1), code="tanh"),
    "contractive": ContractiveAutoencoder(**SPARSE, weight=0.2),
    "contractive, tied": ContractiveAutoencoder((), 5, tied=True, likelihood="bernoulli"),
    "contractive, tanh": ContractiveAutoencoder((), 5, code="tanh", weight=0.2),
    "contractive, linear": ContractiveAutoencoder((), 5, code="linear", weight=0.2),
    "contractive, relu": ContractiveAutoencoder((), 5, code="relu", weight=0.2),
    "contractive, deep": ContractiveAutoencoder((8, 7), 14, activation="sigmoid", weight=0.2),
    "contractive, deep, tied": ContractiveAutoencoder((7,), 5, activation="tanh", tied=True),
    "contractive, deep, relu": ContractiveAutoencoder((7,), 5, code="linear", weight=0.2),
}


@pytest.mark.parametrize("name", LITERAL)
def test_each_step_is_adam_on_the_loss_as_it_is_written(name):
    model = LITERAL[name]
    model = watched(type(model))(**model.get_params())
    model.set_params(n_iter=8, batch_size=40, learning_rate=0.01)
    for s, trained in enumerate(fit_seeds(model, X, [4, 7])):
        weights = {k: torch.from_numpy(v).clone() for k, v in model.first[s].items()}
        for value in weights.values():
            value.requires_grad_(True)
        adam = torch.optim.Adam(weights.values(), lr=0.01, eps=1e-7)
        seen = []
        for i, rows in enumerate(model.batches):
            losses = literal_losses(model, weights, torch.from_numpy(X[rows[s]]), i)
            adam.zero_grad()
            losses["loss"].backward()
            adam.step()
            seen.append({what: value.item() for what, value in losses.items()})
        assert trained.history_.keys() == seen[0].keys()
        for what, values in trained.history_.items():
            expected = [of_one[what] for of_one in seen]
            np.testing.assert_allclose(values, expected, rtol=1e-10, err_msg=what)
        assert trained.parameters_.keys() == weights.keys()
        for what, value in weights.items():
            found = trained.parameters_[what]
            np.testing.assert_allclose(found, value.detach(), atol=1e-10, err_msg=what)
            assert np.abs(found - model.first[s][what]).max() > 1e-3, what


# ---------------------------------------------------------------- likelihood


def test_with_a_bernoulli_likelihood_decoded_codes_are_probabilities_and_the_loss_is_theirs():
    sure = Autoencoder(**SMALL | {"batch_size": 90}, n_iter=41, learning_rate=0.05, random_state=0)
    sure.set_params(likelihood="bernoulli")
    sharp = (X > 0.5).astype(float)
    before = clone(sure).set_params(n_iter=40).fit(sharp)
    p = before.inverse_transform(before.transform(sharp))
    assert p.shape == X.shape
    assert 0 <= p.min() < 0.2 < 0.8 < p.max() <= 1
    log_p = bernoulli.logpmf(sharp, p).mean()
    assert sure.fit(sharp).history_["loss"][-1] == pytest.approx(-log_p)  # after 40 steps
    wild = before.inverse_transform(1e6 * rng.normal(size=(50, 2)))
    assert (wild >= 0).all()
    assert (wild <= 1).all()
    assert before.inverse_transform(np.zeros((1, 2))).dtype == np.float64


@pytest.mark.parametrize(
    "model",
    [
        Autoencoder(**SMALL, likelihood="bernoulli"),
        DenoisingAutoencoder(**SMALL, likelihood="bernoulli"),
        SparseAutoencoder(**SMALL, likelihood="bernoulli"),
        ContractiveAutoencoder(**SMALL, likelihood="bernoulli"),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize(("bad", "range_"), [(-0.25, r"[-0.25, 0.9"), (1.5, "1.5]")])
def test_a_bernoulli_likelihood_takes_probabilities_only(model, bad, range_):
    Y = X.copy()
    Y[3, 3] = bad
    message = (
        " takes data in [0, 1]; scale them, for example with MinMaxScaler(clip=True) "
        "of scikit-learn, or "
        "choose likelihood='gaussian'"
    )
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        clone(model).fit(Y)
    assert range_ in str(raised.value)
    fitted = clone(model).set_params(n_iter=2).fit(X)
    for use in (fitted.transform, fitted.jacobian):
        with pytest.raises(ValueError, match=re.escape(message)):
            use(Y)
    clone(model).set_params(likelihood="gaussian", n_iter=2).fit(Y)  # where nothing is the matter


def test_what_scikit_learn_has_scaled_to_0_and_1_are_probabilities():
    scaled = MinMaxScaler().fit_transform(np.random.default_rng(1).normal(size=(500, 50)))
    assert 0 < scaled.max() - 1 < 1e-15  # by rounding
    Autoencoder((), 2, n_iter=1, likelihood="bernoulli").fit(scaled)


# ---------------------------------------------------------------- tied weights


@pytest.mark.parametrize("hidden", [(), (7,), (7, 5)])
def test_tied_the_decoder_is_the_encoder_transposed_before_and_after_training(hidden):
    model = Autoencoder(hidden, 2, tied=True, batch_size=40, learning_rate=0.01, random_state=5)
    sizes = [12, *hidden, 2]
    fitted = [clone(model).set_params(n_iter=n).fit(X) for n in (1, 9)]
    network = built(model, 12, [5])
    Z, moved = rng.normal(size=(6, 2)), []
    for parameters, decode in [
        ({k: v.numpy() for k, v in network.state_dict().items()}, None),
        *((one.parameters_, one.inverse_transform) for one in fitted),
    ]:
        weights = {k: torch.from_numpy(v) for k, v in parameters.items()}
        assert [k for k in weights if k.endswith("weight")] == [
            f"encoder.layers.{i}.weight" for i in range(len(sizes) - 1)
        ]
        expected, _ = literal_pass(weights, "decoder", torch.from_numpy(Z), "relu", "linear")
        found = network.decode(torch.from_numpy(Z)).detach() if decode is None else decode(Z)
        np.testing.assert_allclose(found, expected, atol=1e-14)
        moved.append(parameters["encoder.layers.0.weight"])
    assert not np.allclose(moved[1], moved[2])  # 1 and 9 steps: it is about learned weights
    counted = sum(value.size for value in fitted[1].parameters_.values())
    biases = 2 * sum(sizes) - 12 - 2
    assert counted == sum(a * b for a, b in pairwise(sizes)) + biases
    free = clone(model).set_params(tied=False, n_iter=1).fit(X)
    weights = sum(v.size for k, v in free.parameters_.items() if k.endswith("weight"))
    assert weights == 2 * (counted - biases)


def test_tied_and_untied_have_the_same_initial_encoder():
    model = Autoencoder(**SMALL, n_iter=1, learning_rate=1e-12, random_state=3)
    tied, free = clone(model).set_params(tied=True).fit(X), model.fit(X)
    np.testing.assert_allclose(tied.transform(X), free.transform(X), atol=1e-9)


@pytest.mark.parametrize("there", [True, False])
def test_a_start_with_other_tying_raises_an_error(there):
    start = Autoencoder(**SMALL, n_iter=1, tied=there).fit(X)
    with pytest.raises(ValueError, match=r"^start does not fit: decoder\..* has none; give a"):
        Autoencoder(**SMALL, n_iter=1, tied=not there).fit(X, start=start)
    again = Autoencoder(**SMALL, n_iter=1, learning_rate=1e-12, tied=there).fit(X, start=start)
    np.testing.assert_allclose(again.transform(X), start.transform(X), atol=1e-9)


# ---------------------------------------------------------------- sparse codes


def digits():
    return load_digits().data / 16


def test_mean_activation_approaches_the_target():
    how = {"weight": 0.1, "n_iter": 300, "learning_rate": 0.01, "random_state": 0}
    for rho in (0.1, 0.3):
        Z = SparseAutoencoder((), 80, rho=rho, **how).fit(digits()).transform(digits())
        np.testing.assert_allclose(Z.mean(0), rho, atol=0.05)


def test_a_heavier_l1_term_leaves_fewer_units_to_each_sample():
    how = {"code": "relu", "sparsity": "l1", "n_iter": 200, "random_state": 0}
    share = [
        (SparseAutoencoder((), 80, weight=w, **how).fit(digits()).transform(digits()) > 1e-3).mean()
        for w in (0.0, 1e-3, 1e-2)
    ]
    assert share[0] > 1.2 * share[1] > 3 * share[2] > 0


@pytest.mark.parametrize(("k", "kept"), [(3, 3), ((12, 2), 2)])
@pytest.mark.parametrize("hidden", [(), (7,)])
def test_of_a_k_sparse_code_the_k_largest_values_are_left(k, kept, hidden):
    model = SparseAutoencoder(hidden, 14, sparsity="k-sparse", k=k, n_iter=10, batch_size=40)
    model.set_params(code="linear", random_state=0).fit(X)
    weights = {name: torch.from_numpy(value) for name, value in model.parameters_.items()}
    whole, _ = literal_pass(weights, "encoder", torch.from_numpy(X), "relu", "linear")
    codes = model.transform(X)
    for code, row in zip(codes, whole.numpy(), strict=True):
        active = np.argsort(row)[-kept:]
        np.testing.assert_allclose(code[active], row[active], atol=1e-14)
        assert set(np.flatnonzero(code)) == set(active)


def test_k_decreases_linearly_during_the_first_half_of_training():
    model = SparseAutoencoder((), 14, sparsity="k-sparse", k=(13, 3), n_iter=20, batch_size=40)
    expected = [13, 12, 11, 10, 9, 8, 7, 6, 5, 4] + 10 * [3]
    assert model.fit(X).history_["k"].tolist() == expected
    assert model.set_params(k=5).fit(X).history_["k"].tolist() == 20 * [5]
    assert "k" not in model.set_params(sparsity="l1").fit(X).history_
    single = model.set_params(sparsity="k-sparse", k=(13, 3), n_iter=1).fit(X)
    assert (single.transform(X) != 0).sum(1).tolist() == 90 * [3]


def test_only_active_units_learn():
    model = SparseAutoencoder((), 14, sparsity="k-sparse", k=1, n_iter=1, batch_size=90)
    model.set_params(code="linear", learning_rate=0.01, random_state=2)
    first = built(model, 12, [2]).state_dict()
    trained = model.fit(X).parameters_
    start, learned = first["encoder.layers.0.weight"].numpy(), trained["encoder.layers.0.weight"]
    best = set((X @ start).argmax(1))
    assert 0 < len(best) < 14
    assert set(np.flatnonzero((start != learned).any(0))) == best


def test_fewer_active_units_reconstruct_worse():
    how = {"code": "linear", "sparsity": "k-sparse", "n_iter": 200, "tied": True}
    errors = [
        missed(SparseAutoencoder((), 60, k=k, random_state=0, **how).fit(digits()), digits())
        for k in (2, 8, 60)
    ]
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


# ---------------------------------------------------------------- contraction and Jacobians


def stirred(model, d=12, S=2):
    """Return the stack that a model would train, in float64, with biases that matter."""
    stack = built(model, d, range(S))
    g = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for value in stack.parameters():
            value += 0.3 * torch.rand(value.shape, generator=g, dtype=value.dtype) - 0.15
    return stack


def finite_differences(f, x, h=1e-6):
    """Return (f(x + h e_i) − f(x − h e_i)) / 2h for each feature i, as the last axis."""
    steps = h * np.eye(x.shape[-1])
    return np.stack([(f(x + step) - f(x - step)) / (2 * h) for step in steps], -1)


MAPPINGS = {
    f"{hidden} {inside} {code}": Autoencoder(hidden, 5, activation=inside, code=code)
    for hidden, inside in [((), "relu"), *(((7, 6), inside) for inside in ACTIVATIONS)]
    for code in ACTIVATIONS
} | {
    f"conv {code}": Autoencoder((3, 4), 5, "conv", (4, 3), code=code) for code in ACTIVATIONS
}  # fmt: skip


@pytest.mark.parametrize("name", MAPPINGS)
def test_the_jacobian_is_the_slope_of_the_code_and_the_penalty_its_square(name):
    model = MAPPINGS[name]
    stack = stirred(model)
    x = torch.from_numpy(rng.random((2, 6, 12)))
    found = jacobian(stack.encoder, x)
    assert found.shape == (2, 6, 5, 12)
    with torch.no_grad():
        slopes = finite_differences(lambda x: stack.encoder(torch.from_numpy(x)).numpy(), x.numpy())
    np.testing.assert_allclose(found.detach(), slopes, atol=1e-8)
    assert not (slopes == 0).all()
    for s in range(2):  # and as PyTorch takes it, one sample at a time
        for i in range(6):
            one = torch.autograd.functional.jacobian(
                lambda row, s=s: stack.encoder(row.expand(2, 1, -1))[s, 0], x[s, i]
            )
            torch.testing.assert_close(found[s, i], one, rtol=0, atol=1e-13)
    penalty = contraction(stack.encoder, x)
    np.testing.assert_allclose(
        penalty.detach(),
        [sum(np.linalg.norm(J, "fro") ** 2 for J in of_seed) / 6 for of_seed in slopes],
        rtol=1e-6,
    )


@pytest.mark.parametrize("code", ACTIVATIONS)
def test_the_closed_form_of_one_layer_is_the_differentiated_one_and_so_is_its_gradient(code):
    stack = stirred(ContractiveAutoencoder((), 5, code=code))
    x = torch.from_numpy(rng.random((2, 6, 12)))
    closed, general = contraction(stack.encoder, x, code), contraction(stack.encoder, x)
    torch.testing.assert_close(closed, general, rtol=1e-12, atol=0)
    W, b = (value[0].detach() for value in stack.encoder.parameters())
    u = x[0] @ W + b
    literal = sum(  # Rifai et al., equation 7
        float(SLOPES[code](u)[i, j] ** 2 * sum(W[f, j] ** 2 for f in range(12)))
        for i in range(6)
        for j in range(5)
    )
    assert closed[0].item() == pytest.approx(literal / 6)
    learned = list(stack.encoder.parameters())
    gradients = [
        torch.autograd.grad(p.sum(), learned, allow_unused=True, materialize_grads=True)
        for p in (closed, general)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)
    assert gradients[0][0].any()


@pytest.mark.parametrize("name", [n for n in MAPPINGS if n.startswith(("(7, 6) s", "conv"))])
def test_a_penalty_s_gradient_is_its_slope(name):
    stack = stirred(MAPPINGS[name], S=1)
    x = torch.from_numpy(rng.random((4, 12)))
    weight = next(stack.encoder.parameters())
    (gradient,) = torch.autograd.grad(contraction(stack.encoder, x).sum(), weight)
    direction = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)).double()
    around = []
    for h in (1e-6, -1e-6):
        with torch.no_grad():
            weight += h * direction
        around.append(contraction(stack.encoder, x).item())
        with torch.no_grad():
            weight -= h * direction
    slope = (around[0] - around[1]) / 2e-6
    assert abs(slope) > 1e-4
    assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-5)


def test_the_penalty_in_the_history_is_that_of_a_convolutional_encoder_too():
    model = ContractiveAutoencoder((3,), 4, "conv", (4, 3), n_iter=1, batch_size=90, weight=0.3)
    model.set_params(random_state=2, shuffle=False).fit(X)
    network = built(model, 12, [2])
    with torch.no_grad():
        slopes = finite_differences(lambda x: network.encode(torch.from_numpy(x)).numpy(), X)
    history = {name: values[0] for name, values in model.history_.items()}
    assert history["contraction"] == pytest.approx((slopes**2).sum() / 90, rel=1e-6)
    total = history["reconstruction"] + 0.3 * history["contraction"]
    assert history["loss"] == pytest.approx(total)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "model",
    [
        Autoencoder(**SMALL, activation="tanh"),
        Autoencoder((3,), 4, "conv", (4, 3)),
        SparseAutoencoder((), 14),
        ContractiveAutoencoder((), 14),
    ],
    ids=lambda model: type(model).__name__ + model.architecture,
)
def test_the_jacobian_of_a_fitted_model_is_that_of_finite_differences(model, dtype, monkeypatch):
    monkeypatch.setattr(
        "somlib.models.autoencoders._JACOBIAN_BLOCK", 17
    )  # several blocks and a rest
    fitted = clone(model).set_params(n_iter=3, batch_size=40, random_state=0).fit(X.astype(dtype))
    J = fitted.jacobian(X[:40])
    assert J.shape == (40, fitted.latent_dim, 12)
    assert J.dtype == dtype
    wide = fitted if dtype == np.float64 else clone(fitted).fit(X)  # float32 differs by rounding
    slopes = finite_differences(wide.transform, X[:40])
    np.testing.assert_allclose(J, slopes, atol=1e-7 if dtype == np.float64 else 1e-4)


def test_a_k_sparse_code_s_jacobian_is_zero_where_a_unit_is_silent():
    model = SparseAutoencoder((), 14, sparsity="k-sparse", k=3, n_iter=3, batch_size=40)
    model.set_params(code="linear", random_state=0).fit(X)
    slopes = finite_differences(model.transform, X[:9], h=1e-7)
    assert ((slopes != 0).any(-1).sum(-1) == 3).all()
    np.testing.assert_allclose(model.jacobian(X[:9]), slopes, atol=1e-7)


def test_a_larger_penalty_reduces_the_jacobian():
    how = {"n_iter": 200, "random_state": 0}
    moved = [
        np.square(
            ContractiveAutoencoder((), 40, weight=w, **how).fit(digits()).jacobian(digits()[:50])
        ).sum((1, 2)).mean()
        for w in (0.0, 1e-2, 1e-1)
    ]  # fmt: skip
    assert moved[0] > 2 * moved[1] > 4 * moved[2]


def test_without_its_weight_it_is_the_plain_autoencoder():
    how = SMALL | {"n_iter": 6, "learning_rate": 0.01, "random_state": 0, "code": "sigmoid"}
    plain = Autoencoder(**how).fit(X)
    for other in (
        ContractiveAutoencoder(weight=0.0, **how),
        SparseAutoencoder(weight=0.0, **how),
        SparseAutoencoder(sparsity="k-sparse", k=2, **how),  # all of them
    ):
        history = other.fit(X).history_
        np.testing.assert_allclose(history["loss"], plain.history_["loss"], rtol=1e-12)
        np.testing.assert_array_equal(history["loss"], history["reconstruction"])


# ---------------------------------------------------------------- principal components

_basis = np.linalg.qr(np.random.default_rng(5).normal(size=(6, 6)))[0]
STRETCHED = np.random.default_rng(6).normal(size=(150, 6)) * [3, 2, 1.3, 0.4, 0.2, 0.1]
STRETCHED = STRETCHED @ _basis + np.arange(6)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("m", [1, 2, 3])
def test_a_linear_autoencoder_trained_on_all_samples_has_found_the_principal_components(m, tied):
    model = Autoencoder((), m, n_iter=1000, batch_size=150, learning_rate=0.1, tied=tied)
    model.set_params(random_state=m).fit(STRETCHED)
    found, exact = principal_components(model, STRETCHED), PCA(m).fit(STRETCHED).components_
    assert found.shape == (m, 6)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found @ found.T, np.eye(m), atol=1e-12)
    assert np.degrees(subspace_angles(found.T, exact.T)).max() <= 1
    assert np.abs((found * exact).sum(1)).min() >= 0.99  # one by one, in their order


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "model",
    [
        Autoencoder((), 3),
        Autoencoder((), 3, tied=True),
        DenoisingAutoencoder((), 3),
        ContractiveAutoencoder((), 3, code="linear"),
        SparseAutoencoder((), 3, code="linear", sparsity="l1"),
    ],
    ids=repr,
)
def test_they_are_those_of_what_is_decoded_however_short_the_training(model, dtype):
    data = STRETCHED.astype(dtype)
    model = clone(model).set_params(n_iter=3, batch_size=150, random_state=0).fit(data)
    exact = PCA(3).fit(model.inverse_transform(model.transform(data)).astype(float)).components_
    cosines = np.abs((principal_components(model, data) * exact).sum(1))
    np.testing.assert_allclose(cosines, 1, atol=1e-9 if dtype == np.float64 else 1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_any_basis_of_the_principal_subspace_gives_them_back(seed):
    pca = PCA(3).fit(STRETCHED)
    model = Autoencoder((), 3, n_iter=1, batch_size=150, random_state=0).fit(STRETCHED)
    mixed = np.random.default_rng(seed).normal(size=(3, 3))
    model.parameters_ = {
        "encoder.layers.0.weight": pca.components_.T @ mixed,
        "encoder.layers.0.bias": np.random.default_rng(seed).normal(size=(1, 3)),
        "decoder.layers.0.weight": np.linalg.inv(mixed) @ pca.components_,
        "decoder.layers.0.bias": pca.mean_[None],
    }
    found = principal_components(model, STRETCHED)
    np.testing.assert_allclose(np.abs(found @ pca.components_.T), np.eye(3), atol=1e-9)


@pytest.mark.parametrize(
    "model",
    [
        Autoencoder((4,), 2),
        Autoencoder((), 2, code="relu"),
        ContractiveAutoencoder((), 2),
        Autoencoder((), 2, likelihood="bernoulli"),
        SparseAutoencoder((), 2, sparsity="k-sparse", k=1, code="linear"),
    ],
    ids=repr,
)
def test_a_model_that_is_not_linear_has_no_principal_components(model):
    model = clone(model).set_params(n_iter=2, batch_size=40).fit(X)
    message = (
        f"{model!r} is not linear; only Autoencoder(hidden=(), code='linear', "
        "likelihood='gaussian') has principal components"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        principal_components(model, X)


def test_nor_has_one_that_is_not_fitted():
    with pytest.raises(NotFittedError):
        principal_components(Autoencoder((), 2), X)


# ---------------------------------------------------------------- seeds, files, interruptions

KINDS = {
    "bernoulli": LITERAL["bernoulli"],
    "tied": LITERAL["tied"],
    "kl": LITERAL["kl"],
    "l1": LITERAL["l1, deep"],
    "k-sparse": LITERAL["k-sparse, shrinking"],
    "convolutional sparse": SparseAutoencoder((3,), 20, "conv", (4, 3), sparsity="k-sparse", k=4),
    "contractive": LITERAL["contractive"],
    "tied contractive": LITERAL["contractive, deep, tied"],
    "convolutional contractive": ContractiveAutoencoder((3,), 20, "conv", (4, 3)),
}


def kind(name, **params):
    params = {"n_iter": 12, "batch_size": 40, "learning_rate": 0.01} | params
    return clone(KINDS[name]).set_params(**params)


def assert_same(one, other, rtol=0.0):
    assert one.history_.keys() == other.history_.keys()
    assert one.parameters_.keys() == other.parameters_.keys()
    for name, value in (one.history_ | one.parameters_).items():
        theirs = (other.history_ | other.parameters_)[name]
        np.testing.assert_allclose(theirs, value, rtol=rtol, atol=rtol, err_msg=name)


@pytest.mark.parametrize("name", KINDS)
def test_the_result_of_a_seed_is_independent_of_the_ensemble(name):
    together = fit_seeds(kind(name), X, [2, 0, 1])
    for seed, model in zip([2, 0, 1], together, strict=True):
        assert_same(kind(name, random_state=seed).fit(X), model, rtol=1e-9)
    assert not np.allclose(together[0].history_["loss"], together[1].history_["loss"])


@pytest.mark.parametrize("name", KINDS)
def test_an_interrupted_training_resumes_bit_for_bit(tmp_path, name):
    model, kept = kind(name, n_iter=60), tmp_path / "ae.checkpoint"

    def stop(i, logs):
        raise KeyboardInterrupt

    whole = fit_seeds(model, X, [0, 3])
    with pytest.raises(KeyboardInterrupt):
        fit_seeds(model, X, [0, 3], callbacks=[stop], checkpoint=kept)
    begun = []
    resumed = fit_seeds(
        model, X, [0, 3], checkpoint=kept, callbacks=[lambda i, logs: begun.append(i)]
    )
    assert begun == [59]  # it was stopped at 49
    for one, other in zip(whole, resumed, strict=True):
        assert_same(one, other)
        np.testing.assert_array_equal(one.transform(X), other.transform(X))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", KINDS)
def test_a_saved_model_is_loaded_unchanged(tmp_path, name, dtype):
    data = X.astype(dtype)
    model = kind(name, random_state=1).fit(data)
    assert {value.dtype for value in model.parameters_.values()} == {np.dtype(dtype)}
    model.save(tmp_path / "ae.npz")
    back = somlib.load(tmp_path / "ae.npz")
    assert type(back) is type(model)
    assert back.get_params() == model.get_params()
    assert_same(model, back)
    codes = model.transform(data)
    np.testing.assert_array_equal(back.transform(data), codes)
    np.testing.assert_array_equal(back.inverse_transform(codes), model.inverse_transform(codes))
    np.testing.assert_array_equal(back.jacobian(data[:3]), model.jacobian(data[:3]))
    again = clone(back).set_params(learning_rate=1e-12, n_iter=1).fit(data, start=back)
    np.testing.assert_allclose(again.transform(data), codes, rtol=0, atol=1e-5)


class Moves(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes what is copied from one device to another."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        if isinstance(out, torch.Tensor):
            given = {arg.device for arg in args if isinstance(arg, torch.Tensor)}
            if given - {out.device}:
                self.seen.append(str(func))
        return out


@pytest.mark.parametrize("name", [*KINDS, "denoising"])
def test_a_step_brings_nothing_to_the_device_and_reads_nothing_as_a_cuda_graph_needs(name):
    model = denoising() if name == "denoising" else kind(name)
    stack = built(model, 12, range(2), dtype=torch.float32).to(
        "meta"
    )  # a device that computes nothing
    shapes = {k: (2, *noise.shape) for k, noise in stack.noise(40).items()}
    shapes |= dict.fromkeys(stack.schedules(1), ())
    arguments = {k: torch.empty(shape, device="meta") for k, shape in shapes.items()}
    with Moves() as moves:
        x = torch.empty(2, 40, 12, device="meta")
        stack.losses(x, **arguments)["loss"].sum().backward()
    assert moves.seen == []


# ---------------------------------------------------------------- as scikit-learn's, bad input


KNOWN = "['relu', 'sigmoid', 'tanh', 'linear']"
A_COUNT = "a whole number of at least 1"
NOT_A_COUNT = f"must be {A_COUNT}"
K_SPARSE = {"sparsity": "k-sparse", "latent_dim": 8}


@pytest.mark.parametrize("make", [Autoencoder, DenoisingAutoencoder, ContractiveAutoencoder])
@pytest.mark.parametrize(("change", "message"), [
    ({"likelihood": "poisson"},
     "likelihood='poisson' is unknown; choose one of ['gaussian', 'bernoulli']"),
    ({"activation": "softplus"}, f"activation='softplus' is unknown; choose one of {KNOWN}"),
    ({"code": None}, f"code=None is unknown; choose one of {KNOWN}"),
    ({"tied": True, "architecture": "conv", "image_shape": (4, 3)},
     "tied=True needs dense layers, but architecture='conv' has "
     "convolutions; choose architecture='mlp' or tied=False"),
], ids=str)  # fmt: skip
def test_bad_parameters_that_all_have_are_named(make, change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make(**SMALL | {"n_iter": 2} | change).fit(X)


@pytest.mark.parametrize(("change", "message"), [
    ({"sparsity": "l2"}, "sparsity='l2' is unknown; choose one of ['kl', 'l1', 'k-sparse']"),
    ({"weight": -0.1}, "weight=-0.1 must be a finite number of at least 0"),
    ({"weight": float("nan")}, "weight=nan must be a finite number of at least 0"),
    ({"weight": float("inf")}, "weight=inf must be a finite number of at least 0"),
    ({"code": "tanh"}, "sparsity='kl' compares probabilities, which code='tanh' does not give; "
     "choose code='sigmoid', or sparsity='l1'"),
    ({"rho": 0}, "rho=0 must be a number between 0 and 1, both excluded"),
    ({"rho": 1.0}, "rho=1.0 must be a number between 0 and 1, both excluded"),
    ({"rho": float("nan")}, "rho=nan must be a number between 0 and 1, both excluded"),
    *(
        (K_SPARSE | {"k": k}, f"k={k} {NOT_A_COUNT} or ({A_COUNT}, {A_COUNT})")
        for k in (0, 2.0, True, (4, 0), (4, 3, 2), (4,))
    ),
    (K_SPARSE | {"k": 9}, "k=9 is more than latent_dim=8; choose at most that many"),
    (K_SPARSE | {"k": (9, 2)}, "k=(9, 2) is more than latent_dim=8; choose at most that many"),
    (K_SPARSE | {"k": (2, 9)}, "k=(2, 9) is more than latent_dim=8; choose at most that many"),
    ({"likelihood": "poisson"},
     "likelihood='poisson' is unknown; choose one of ['gaussian', 'bernoulli']"),
], ids=str)  # fmt: skip
def test_a_bad_sparsity_is_named(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SparseAutoencoder(**SMALL | {"n_iter": 2} | change).fit(X)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf")])
def test_a_bad_weight_of_the_contraction_is_named(weight):
    with pytest.raises(
        ValueError, match=f"^weight={weight!r} must be a finite number of at least 0$"
    ):
        ContractiveAutoencoder(**SMALL, weight=weight, n_iter=2).fit(X)


@pytest.mark.parametrize("make", [DenoisingAutoencoder, SparseAutoencoder, ContractiveAutoencoder])
def test_a_code_may_be_wider_than_a_sample_where_something_else_forbids_to_copy(make):
    assert make((), 13, n_iter=2, batch_size=40).fit(X).transform(X).shape == (90, 13)


@pytest.mark.parametrize("tied", [False, True])
def test_but_not_in_the_plain_autoencoder(tied):
    message = (
        "latent_dim=13 is more than the 12 features of X, so the code would not compress; "
        "choose at most 12"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        Autoencoder((), 13, n_iter=2, batch_size=40, tied=tied).fit(X)
    Autoencoder((20,), 12, n_iter=2, batch_size=40, tied=tied).fit(X)
