"""The plain autoencoder against a literal training step, and as a scikit-learn estimator."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

import somlib
from somlib.autoencoders import Autoencoder, DenoisingAutoencoder, reconstruction_error
from somlib.storage import load
from somlib.training import Draws, fit_seeds

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


class Recorded(Autoencoder):
    """Keeps the first weights of its stack and the samples of each iteration."""

    first: dict
    batches: list

    def _initialise(self, stack, X, generators):
        type(self).first = {k: v.clone().numpy() for k, v in stack.state_dict().items()}
        type(self).batches = []

    def _losses(self, stack, x, rows, values):
        self.batches.append(rows.numpy())
        return super()._losses(stack, x, rows, values)


@pytest.mark.parametrize("shuffle", [True, False])
def test_training_is_adam_on_the_mean_squared_error(shuffle):
    model = Recorded(**SMALL, n_epochs=4, learning_rate=0.01, shuffle=shuffle)
    stack = fit_seeds(model, X, [4, 7])
    assert [b.shape[-1] for b in Recorded.batches] == 4 * [40, 40, 10]
    for s, trained in enumerate(stack):
        weights = {k: torch.from_numpy(v[s]).clone() for k, v in Recorded.first.items()}
        for value in weights.values():
            value.requires_grad_(True)
        adam = torch.optim.Adam(weights.values(), lr=0.01, eps=1e-7)
        losses = []
        for rows in Recorded.batches:
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
    centred = X @ np.diag([5, 3] + [0.1] * 10)
    centred = centred - centred.mean(0)
    model = Autoencoder((), 2, n_epochs=400, batch_size=90, learning_rate=0.02, random_state=0)
    model.fit(centred)
    left = np.linalg.svd(centred, compute_uv=False)[2:]
    assert model.history_["loss"][-1] == pytest.approx((left**2).sum() / centred.size, rel=0.01)


# ---------------------------------------------------------------- using


def test_codes_and_decoded_codes_are_what_the_layers_make(monkeypatch):
    monkeypatch.setattr("somlib.training.ROWS_AT_ONCE", 17)  # several blocks and a rest
    model = Autoencoder(**SMALL, n_epochs=2, random_state=0).fit(X)
    codes = model.transform(X)
    np.testing.assert_allclose(codes, forward(model.parameters_, "encoder", X), atol=1e-14)
    decoded = model.inverse_transform(codes)
    np.testing.assert_allclose(decoded, forward(model.parameters_, "decoder", codes), atol=1e-14)
    np.testing.assert_array_equal(model.fit_transform(X), codes)  # random_state repeats the fit


def test_tensors_lists_and_samples_that_cannot_be_written_to_are_taken():
    model = Autoencoder(**SMALL, n_epochs=2, random_state=0).fit(X)
    locked = X.copy()
    locked.flags.writeable = False
    np.testing.assert_array_equal(clone(model).fit(locked).transform(locked), model.transform(X))
    np.testing.assert_array_equal(model.transform(torch.from_numpy(X)), model.transform(X))
    codes = model.transform(X)
    codes.flags.writeable = False
    assert model.inverse_transform(codes).shape == X.shape
    assert clone(model).fit(torch.from_numpy(X)).transform(X).dtype == np.float64
    assert clone(model).fit(X.tolist()).transform(X).dtype == np.float32


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
    """Return the mean squared error of samples drawn again."""
    return ((model.inverse_transform(model.transform(X)) - X) ** 2).mean()


# nothing that scikit-learn expects of an estimator is left out: no expected failures
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_accepts_it_as_an_estimator():
    model = Autoencoder((4,), 1, n_epochs=2, batch_size=1, random_state=0)
    results = check_estimator(model)
    assert sum(result["status"] == "passed" for result in results) > 40


@pytest.mark.parametrize("params", [
    {"hidden": (7, 5), "latent_dim": 2},
    {"hidden": [3], "latent_dim": 4, "architecture": "conv", "image_shape": (4, 3)},
    {"hidden": (), "latent_dim": 1, "n_iter": 5, "random_state": np.random.default_rng(0)},
])  # fmt: skip
def test_a_saved_autoencoder_comes_back_whole(tmp_path, params):
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
def test_a_denoising_autoencoder_draws_the_whole_sample_from_a_damaged_one(how):
    model = denoising(shuffle=False, n_iter=1, random_state=3, **how)
    stack = model._build(12, [torch.Generator().manual_seed(3)]).double()
    method = "standard_normal" if model.corruption == "gaussian" else "random"
    draws = Draws([torch.Generator().manual_seed(3)], (40, 12), method, at_once=2)
    x = X[:40]
    drawn = draws.turn_to(0, torch.tensor(x))[0].numpy()
    damaged = literal_damage(x, drawn, model.corruption, model.noise, model.clip)
    assert not np.allclose(damaged, x)
    drawn_again = stack.decoder(stack.encoder(torch.tensor(damaged)[None]))[0].detach().numpy()
    model.fit(X)
    assert model.history_["loss"][0] == pytest.approx(((drawn_again - x) ** 2).mean())


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


def test_it_mends_what_it_has_learned_to_mend():
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
        ({"noise": -0.1}, "noise=-0.1 must be a number of at least 0"),
        ({"noise": float("nan")}, "noise=nan must be a number"),
        ({"corruption": "masking", "noise": 1.1}, "at most 1, a share of features"),
        ({"clip": (1.0, 0.0)}, r"clip=\(1.0, 0.0\) must be \(lowest, highest\) or None"),
        ({"clip": 3}, "clip=3 must be"),
    ],
)
def test_bad_damage_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        denoising(**change).fit(X)


def test_scikit_learn_accepts_the_denoising_autoencoder():
    model = DenoisingAutoencoder((3,), 1, n_iter=5, batch_size=1, random_state=0)
    assert clone(model).get_params() == model.get_params()
    checked = check_estimator(model, on_fail=None, on_skip=None)
    assert [c["check_name"] for c in checked if c["status"] == "failed"] == []
