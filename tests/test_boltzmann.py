"""Boltzmann machines against sums over all their states, literal CD-1, and what they begin."""

import math
import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit, logsumexp
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.neural_network import BernoulliRBM
from sklearn.utils import get_tags

import somlib
from somlib.models.autoencoders import (
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    SparseAutoencoder,
)
from somlib.models.boltzmann import RBM, pretrained
from somlib.training import fit_seeds
from tests.helpers import built, noise, watched

rng = np.random.default_rng(42)
X = rng.random((90, 12))
KINDS = ("sigmoid", "linear")
NOT_PROBABILITIES = "takes data in"


def rbm(code="sigmoid", **params):
    return RBM(
        **{"latent_dim": 7, "code": code, "n_iter": 12, "batch_size": 40, "learning_rate": 0.01}
        | params
    )


def digits():
    return load_digits().data / 16


def assert_same(one, other, rtol=0.0):
    assert one.history_.keys() == other.history_.keys()
    assert one.parameters_.keys() == other.parameters_.keys()
    for name, value in (one.history_ | one.parameters_).items():
        theirs = (other.history_ | other.parameters_)[name]
        np.testing.assert_allclose(theirs, value, rtol=rtol, atol=rtol, err_msg=name)


# ---------------------------------------------------------------- energies, state by state


def tiny(code, seed, d=4, m=3):
    """Return a small machine whose parameters matter, and those: W, b of what is seen, c."""
    g = np.random.default_rng(seed)
    W, b, c = g.normal(size=(d, m)), g.normal(size=d), g.normal(size=m)
    model = RBM(m, code, n_iter=1, batch_size=5, random_state=0).fit(g.random((5, d)))
    model.parameters_ = {
        "encoder.layers.0.weight": W,
        "encoder.layers.0.bias": c[None],
        "decoder.biases.0": b[None],
    }
    return model, W, b, c


def free_energy(model, v):
    return model._network("cpu").free_energy(torch.tensor(v)).detach().numpy()


def states(n):
    """Return all rows of n zeros and ones."""
    return np.array(list(product([0.0, 1.0], repeat=n)))


@given(seed=st.integers(0, 10**6))
def test_the_free_energy_is_minus_the_log_of_a_sum_over_all_hidden_states(seed):
    model, W, b, c = tiny("sigmoid", seed)
    for v, F in zip(states(4), free_energy(model, states(4)), strict=True):
        sum_ = sum(math.exp(b @ v + c @ h + v @ W @ h) for h in states(3))
        assert pytest.approx(-math.log(sum_), abs=1e-12) == F


@pytest.mark.parametrize("seed", range(3))
def test_with_real_hidden_units_it_is_minus_the_log_of_an_integral(seed):
    model, W, b, c = tiny("linear", seed)
    for v, F in zip(states(4), free_energy(model, states(4)), strict=True):
        log_integrals = 0
        for j in range(3):  # no unit knows of the others: one integral for each
            a = c[j] + v @ W[:, j]
            area, _ = quad(lambda h, a=a: math.exp(a * h - h * h / 2), a - 12, a + 12)
            log_integrals += math.log(area)
        up_to = 3 * math.log(2 * math.pi) / 2
        assert pytest.approx(-(b @ v) - log_integrals + up_to, abs=1e-9) == F


@given(seed=st.integers(0, 10**6))
def test_codes_and_decoded_codes_are_conditional_probabilities(seed):
    model, W, b, c = tiny("sigmoid", seed)
    joint = np.array([[b @ v + c @ h + v @ W @ h for h in states(3)] for v in states(4)])
    p = np.exp(joint - logsumexp(joint))
    of_h = p / p.sum(1, keepdims=True)  # p(h|v)
    np.testing.assert_allclose(model.transform(states(4)), of_h @ states(3), atol=1e-12)
    of_v = p / p.sum(0)
    np.testing.assert_allclose(model.inverse_transform(states(3)), of_v.T @ states(4), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_gaussian_hidden_units_have_their_mean_as_code(seed):
    model, W, b, c = tiny("linear", seed)
    np.testing.assert_allclose(model.transform(states(4)), states(4) @ W + c, atol=1e-12)
    Z = rng.normal(size=(6, 3))
    np.testing.assert_allclose(model.inverse_transform(Z), expit(Z @ W.T + b), atol=1e-12)


def test_codes_and_free_energies_are_those_of_scikit_learn():
    model = rbm(random_state=0).fit(X)
    W, c, b = (value.squeeze() for value in model.parameters_.values())
    theirs = BernoulliRBM(7)
    theirs.components_, theirs.intercept_hidden_, theirs.intercept_visible_ = W.T, c, b
    np.testing.assert_allclose(model.transform(X), theirs.transform(X), atol=1e-13)
    np.testing.assert_allclose(free_energy(model, X), theirs._free_energy(X), atol=1e-12)


# ---------------------------------------------------------------- contrastive divergence


def literal_cd_1(code, weights, v, drawn):
    """Return the descent of ⟨v h⟩ of the data less that of the reconstruction, and what is told."""
    W, c, b = weights.values()
    B, m = len(v), len(c[0])

    def hidden(v):
        a = v @ W + c
        return 1 / (1 + np.exp(-a)) if code == "sigmoid" else a

    def free_energy(v):
        a = v @ W + c
        terms = np.log(1 + np.exp(a)) if code == "sigmoid" else a**2 / 2
        return -(v @ b[0]) - terms.sum(1)

    h = np.zeros((B, m))
    for i, j in np.ndindex(B, m):
        p = hidden(v)[i, j]
        h[i, j] = float(drawn[i, j] < p) if code == "sigmoid" else p + drawn[i, j]
    v_1 = 1 / (1 + np.exp(-(h @ W.T + b)))
    h_0, h_1 = hidden(v), hidden(v_1)
    data = {"W": v.T @ h_0 / B, "c": h_0.mean(0), "b": v.mean(0)}
    model = {"W": v_1.T @ h_1 / B, "c": h_1.mean(0), "b": v_1.mean(0)}
    descent = [-(data[name] - model[name]) for name in ("W", "c", "b")]
    told = {
        "loss": (free_energy(v) - free_energy(v_1)).mean(),
        "reconstruction": ((v - v_1) ** 2).mean(),
    }
    return descent, told


@pytest.mark.parametrize("code", KINDS)
def test_each_step_is_contrastive_divergence_as_it_is_written(code):
    model = watched(RBM)(**rbm(code).get_params())
    for s, trained in enumerate(fit_seeds(model, X, [4, 7])):
        weights = {name: value.copy() for name, value in model.first[s].items()}
        learned = [torch.from_numpy(value) for value in weights.values()]  # the same memory
        adam = torch.optim.Adam(learned, lr=0.01, eps=1e-7)
        seen = []
        for i, rows in enumerate(model.batches):
            blocks = np.random.default_rng([[4, 7][s], 2, i // 2])
            method = blocks.random if code == "sigmoid" else blocks.standard_normal
            drawn = method((2, 40, 7))[i % 2]
            descent, told = literal_cd_1(code, weights, X[rows[s]], drawn)
            for value, gradient in zip(learned, descent, strict=True):
                value.grad = torch.from_numpy(gradient).reshape(value.shape)
            adam.step()
            seen.append(told)
        assert [len(rows[s]) for rows in model.batches] == 4 * [40, 40, 10]
        for name in ("loss", "reconstruction"):
            expected = [told[name] for told in seen]
            np.testing.assert_allclose(trained.history_[name], expected, rtol=1e-10, atol=1e-13)
        for name, value in weights.items():
            np.testing.assert_allclose(trained.parameters_[name], value, atol=1e-11, err_msg=name)
            assert np.abs(value - model.first[s][name]).max() > 1e-3, name


@pytest.mark.parametrize("code", KINDS)
def test_the_gradient_of_the_difference_of_free_energies_is_the_usual_rule(code):
    model = rbm(code)
    seeds = (3, 8)
    stack = built(model, 12, seeds)
    with torch.no_grad():
        for value in stack.parameters():
            value += 0.2 * torch.from_numpy(rng.normal(size=value.shape))
    v = torch.from_numpy(X[:33])  # fewer than there are draws for
    drawn_by_seed = noise(stack, model, seeds, 5, v)["random"][:, :33]
    loss = stack.losses(v, drawn_by_seed)["loss"]
    assert loss.shape == (2,)
    gradients = torch.autograd.grad(loss.sum(), list(stack.parameters()))
    for s in range(2):
        weights = {name: value[s].numpy() for name, value in stack.state_dict().items()}
        drawn = drawn_by_seed[s].numpy()
        descent, told = literal_cd_1(code, weights, X[:33], drawn)
        assert loss[s].item() == pytest.approx(told["loss"])
        for gradient, expected in zip(gradients, descent, strict=True):
            np.testing.assert_allclose(gradient[s].squeeze(), expected, atol=1e-13)


def log_likelihood(model, V):
    """Return the mean log p(v) over samples, Z being summed over all that can be seen."""
    log_z = logsumexp(-free_energy(model, states(V.shape[1])))
    return (-free_energy(model, V) - log_z).mean()


def test_training_makes_the_samples_likely():
    parity = states(4)[states(4).sum(1) % 2 == 0]  # 8 of 16: no two features know of each other
    V = np.tile(parity, (25, 1))
    model = RBM(8, n_iter=1500, batch_size=100, learning_rate=0.02, random_state=0)
    first = log_likelihood(clone(model).set_params(n_iter=1).fit(V), V)
    assert first < -4 * math.log(2) + 0.01  # as if every feature were a coin, at best
    assert log_likelihood(model.fit(V), V) > -3.4 * math.log(2)  # 3 log 2 is all there is to know


@pytest.mark.parametrize("code", KINDS)
def test_it_reconstructs_its_training_samples(code):
    V = digits()
    model = RBM(32, code, n_epochs=20, batch_size=100, learning_rate=0.01, random_state=0).fit(V)
    missed = ((model.inverse_transform(model.transform(V)) - V) ** 2).mean()
    assert missed < 0.5 * V.var(0).mean()


def test_its_noise_differs_in_each_iteration_and_seed():
    constant = np.full((40, 6), 0.5)
    history = [
        m.history_["reconstruction"]
        for m in fit_seeds(rbm("linear", learning_rate=1e-12), constant, [0, 1])
    ]
    assert len(set(np.concatenate(history))) == 24


# ---------------------------------------------------------------- seeds, files, interruptions


@pytest.mark.parametrize("code", KINDS)
def test_the_result_of_a_seed_is_independent_of_the_ensemble(code):
    together = fit_seeds(rbm(code), X, [2, 0, 1])
    for seed, model in zip([2, 0, 1], together, strict=True):
        assert_same(rbm(code, random_state=seed).fit(X), model, rtol=1e-9)
    assert not np.allclose(together[0].history_["loss"], together[1].history_["loss"])


@pytest.mark.parametrize("code", KINDS)
def test_an_interrupted_training_resumes_bit_for_bit(tmp_path, code):
    model, kept = rbm(code, n_iter=107), tmp_path / "rbm.checkpoint"

    def stop(i, logs):
        if i > 60:
            raise KeyboardInterrupt

    whole = fit_seeds(model, X, [0, 3])
    with pytest.raises(KeyboardInterrupt):
        fit_seeds(model, X, [0, 3], callbacks=[stop], checkpoint=kept)
    begun = []
    resumed = fit_seeds(
        model, X, [0, 3], checkpoint=kept, callbacks=[lambda i, logs: begun.append(i)]
    )
    assert begun == [106]  # it was stopped at 99
    for one, other in zip(whole, resumed, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("code", KINDS)
def test_a_saved_machine_is_loaded_unchanged(tmp_path, code, dtype):
    model = rbm(code, random_state=1).fit(X.astype(dtype))
    model.save(tmp_path / "rbm.npz")
    back = somlib.load(tmp_path / "rbm.npz")
    assert type(back) is RBM is type(RBM.load(tmp_path / "rbm.npz"))
    assert back.get_params() == model.get_params()
    assert_same(model, back)
    codes = model.transform(X)
    assert codes.dtype == model.inverse_transform(codes).dtype == dtype
    np.testing.assert_array_equal(back.transform(X), codes)
    np.testing.assert_array_equal(back.inverse_transform(codes), model.inverse_transform(codes))
    again = clone(back).set_params(learning_rate=1e-12, n_iter=1).fit(X.astype(dtype), start=back)
    np.testing.assert_allclose(again.transform(X), codes, atol=1e-5)


def test_encoder_and_decoder_share_their_weights():
    model = rbm(random_state=0).fit(X)
    sizes = {name: value.size for name, value in model.parameters_.items()}
    assert sizes == {
        "encoder.layers.0.weight": 12 * 7,
        "encoder.layers.0.bias": 7,
        "decoder.biases.0": 12,
    }


def test_a_step_brings_nothing_to_the_device_and_reads_nothing_as_a_cuda_graph_needs():
    for code in KINDS:
        model = rbm(code)
        network = model._build(12, torch.Generator()).to("meta")  # it computes nothing
        drawn = torch.empty(40, 7, device="meta")
        loss = network.losses(torch.empty(40, 12, device="meta"), drawn)["loss"]
        loss.sum().backward()  # on "meta", a number of any other device would be an error
        assert loss.device.type == "meta"


# ---------------------------------------------------------------- as scikit-learn's, bad input


@pytest.mark.parametrize("model", [RBM(), Autoencoder(likelihood="bernoulli")], ids=repr)
def test_scikit_learn_is_told_that_samples_are_not_to_be_negative(model):
    assert get_tags(model).input_tags.positive_only
    assert not get_tags(Autoencoder()).input_tags.positive_only


def test_features_and_their_names_come_through():
    frame = pd.DataFrame(X, columns=[f"p{i}" for i in range(12)])
    model = rbm(random_state=0).fit(frame)
    assert list(model.feature_names_in_) == list(frame.columns)
    assert list(model.get_feature_names_out()) == [f"rbm{j}" for j in range(7)]
    assert clone(model).get_params() == model.get_params()


def test_more_hidden_units_than_features_are_fine():
    assert RBM(40, n_iter=2, batch_size=40).fit(X).transform(X).shape == (90, 40)


@pytest.mark.parametrize(("change", "message"), [
    ({"code": "relu"}, "code='relu' is unknown; choose one of ['sigmoid', 'linear']"),
    ({"code": "tanh"}, "code='tanh' is unknown; choose one of ['sigmoid', 'linear']"),
    ({"latent_dim": 0}, "latent_dim=0 must be a whole number of at least 1"),
    ({"latent_dim": 2.0}, "latent_dim=2.0 must be a whole number of at least 1"),
    ({"n_iter": 0}, "n_iter=0 must be a whole number of at least 1 or None"),
    ({"n_iter": None, "n_epochs": 0}, "n_epochs=0 must be a whole number of at least 1"),
    ({"batch_size": 91},
     "batch_size=91 is larger than the data set of 90 samples; choose at most 90"),
    ({"learning_rate": 0}, "learning_rate=0 must be a positive number"),
    (
        {"precision": "half"},
        "precision='half' is unknown; choose one of ['highest', 'high', 'medium']",
    ),
], ids=str)  # fmt: skip
def test_a_bad_parameter_is_named_with_what_is_expected(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        rbm(**change).fit(X)


@pytest.mark.parametrize("bad", [-0.25, 1.5])
def test_samples_are_probabilities(bad):
    Y = X.copy()
    Y[3, 3] = bad
    with pytest.raises(ValueError, match=NOT_PROBABILITIES) as raised:
        rbm().fit(Y)
    assert f"{bad}" in str(raised.value)
    with pytest.raises(ValueError, match=NOT_PROBABILITIES):
        rbm().fit(X).transform(Y)
    rbm().fit((X > 0.5).astype(int))  # zeros and ones are


def test_the_remedy_is_one_that_a_machine_has():
    with pytest.raises(ValueError, match=r"takes data in \[0, 1\]; scale them") as raised:
        rbm().fit(2 * X)
    assert "choose likelihood" not in str(raised.value)


# ---------------------------------------------------------------- pre-training


def deep(**params):
    small = {"hidden": (8, 5), "latent_dim": 3, "activation": "sigmoid", "likelihood": "bernoulli"}
    return Autoencoder(**small | {"batch_size": 40, "n_iter": 12} | params)


def literal_machines(model, X, seed, **how):
    """Return machines each of which learns what the one below makes of the data."""
    machines, seen = [], X
    widths = [*model.hidden, model.latent_dim]
    for i, width in enumerate(widths):
        code = model.code if i == len(widths) - 1 else "sigmoid"
        machines.append(RBM(width, code, batch_size=40, random_state=seed, **how).fit(seen))
        seen = machines[-1].transform(seen)
    return machines


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("code", KINDS)
@pytest.mark.parametrize("hidden", [(), (8,), (8, 5)])
def test_it_is_the_machines_one_after_another_and_back_again(hidden, code, tied, dtype):
    how = {"n_iter": 15, "learning_rate": 0.05}
    model = deep(hidden=hidden, code=code, tied=tied)
    data = X.astype(dtype)
    for seed, begun in zip((3, 5), pretrained(model, data, [3, 5], **how), strict=True):
        machines = literal_machines(model, data, seed, **how)
        up = data
        for machine in machines:
            up = machine.transform(up)
        down = up
        for machine in machines[::-1]:
            down = machine.inverse_transform(down)
        enough = 1e-9 if dtype == np.float64 else 1e-4
        np.testing.assert_allclose(begun.transform(data), up, atol=enough)
        np.testing.assert_allclose(begun.inverse_transform(up), down, atol=enough)
        assert begun.transform(data).dtype == dtype
        assert up.std(0).min() > 10 * enough  # there is something to agree about


def test_it_is_a_model_like_the_one_that_was_given_which_stays_as_it_was():
    model = deep(tied=True, learning_rate=0.123)
    before = model.get_params()
    frame = pd.DataFrame(X, columns=[f"p{i}" for i in range(12)])
    first, second = pretrained(model, frame, iter([4, 2]), n_iter=3)
    assert model.get_params() == before
    assert not hasattr(model, "parameters_")
    for seed, begun in ((4, first), (2, second)):
        assert begun.get_params() == before | {"random_state": seed}
        assert (begun.seed_, begun.n_iter_, begun.history_) == (seed, 0, {})
        assert list(begun.feature_names_in_) == list(frame.columns)
    assert not np.allclose(first.transform(frame), second.transform(frame))


def test_pre_training_of_a_seed_is_independent_of_the_ensemble():
    among = pretrained(deep(), X, [0, 1, 2], n_iter=10)
    for seed, begun in enumerate(among):
        (alone,) = pretrained(deep(), X, [seed], n_iter=10)
        np.testing.assert_allclose(begun.transform(X), alone.transform(X), atol=1e-9)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "make", [Autoencoder, DenoisingAutoencoder, SparseAutoencoder, ContractiveAutoencoder]
)
def test_training_starts_from_the_pre_trained_model(make, tied):
    params = deep(tied=tied, code="sigmoid", shuffle=False, n_iter=1).get_params()
    model = make(**params)
    if make is DenoisingAutoencoder:
        model.set_params(noise=0.0)
    starts = pretrained(model, X[:40], [0, 1], n_iter=30, learning_rate=0.05)
    assert [type(start) for start in starts] == [make, make]
    for start, alone, among in zip(
        starts,
        [clone(model).fit(X[:40], start=start) for start in starts],
        fit_seeds(model, X[:40], [0, 1], start=starts),
        strict=True,
    ):
        p = start.inverse_transform(start.transform(X[:40]))
        missed = -(X[:40] * np.log(p) + (1 - X[:40]) * np.log(1 - p)).mean()
        for trained in (alone, among):
            first = trained.history_.get("reconstruction", trained.history_["loss"])[0]
            assert first == pytest.approx(missed, rel=1e-6)


def test_a_saved_start_is_one_too(tmp_path):
    (start,) = pretrained(deep(tied=True), X, [0], n_iter=5)
    start.save(tmp_path / "start.npz")
    back = Autoencoder.load(tmp_path / "start.npz")
    np.testing.assert_array_equal(back.transform(X), start.transform(X))
    assert_same(clone(back).fit(X, start=back), clone(start).fit(X, start=start))


def test_a_deep_net_of_sigmoids_learns_more_from_there():
    V = digits()
    how = {"hidden": (60, 40, 20), "latent_dim": 5, "batch_size": 256, "n_iter": 60}
    model = deep(**how, learning_rate=0.003, random_state=0)
    (start,) = pretrained(model, V, [0], n_epochs=15, learning_rate=0.01)
    begun, from_nothing = clone(model).fit(V, start=start), clone(model).fit(V)
    assert begun.history_["loss"][0] < 0.6 * from_nothing.history_["loss"][0]
    assert begun.history_["loss"][-1] < 0.9 * from_nothing.history_["loss"][-1]


def test_a_pre_trained_model_reconstructs_better_than_the_mean():
    V = digits()
    model = Autoencoder((40, 20), 5, activation="sigmoid", likelihood="bernoulli")
    (start,) = pretrained(model, V, [0], n_epochs=15, learning_rate=0.01)
    missed = ((start.inverse_transform(start.transform(V)) - V) ** 2).mean()
    assert missed < V.var(0).mean()


def test_parameters_of_the_machines_are_passed_on_and_others_are_the_model_s(monkeypatch):
    made = []

    def note(self, n, d):
        made.append(self.get_params())

    monkeypatch.setattr(RBM, "_check", note)
    pretrained(deep(batch_size=31), X, [3], n_epochs=2, learning_rate=0.5)
    assert [(p["latent_dim"], p["code"]) for p in made] == [
        (8, "sigmoid"), (5, "sigmoid"), (3, "linear"),
    ]  # fmt: skip
    for params in made:
        assert params["random_state"] == 3
        assert (params["batch_size"], params["n_epochs"], params["learning_rate"]) == (31, 2, 0.5)
    made.clear()
    pretrained(deep(batch_size=31), X, [3], n_epochs=1, batch_size=30)
    assert {params["batch_size"] for params in made} == {30}


NO_MACHINES = (
    "cannot be pre-trained by Boltzmann machines: choose architecture='mlp' and a linear or "
    "sigmoid code"
)
NO_PROBABILITIES = (
    "likelihood='gaussian': Boltzmann machines model probabilities, which need a decoder "
    "with a sigmoid; choose likelihood='bernoulli'"
)
NO_SIGMOIDS = (
    "the units of a Boltzmann machine have sigmoid activations; choose activation='sigmoid'"
)


@pytest.mark.parametrize(("change", "message"), [
    ({"architecture": "conv", "image_shape": (4, 3)}, NO_MACHINES),
    ({"code": "relu"}, NO_MACHINES),
    ({"code": "tanh"}, NO_MACHINES),
    ({"activation": "relu"}, f"activation='relu': {NO_SIGMOIDS}"),
    ({"activation": "tanh"}, f"activation='tanh': {NO_SIGMOIDS}"),
    ({"activation": "linear"}, f"activation='linear': {NO_SIGMOIDS}"),
    ({"likelihood": "gaussian"}, NO_PROBABILITIES),
], ids=str)  # fmt: skip
def test_a_model_with_other_layers_cannot_be_pre_trained(change, message):
    model = deep(**change)
    whole = f"{model!r} {message}" if message is NO_MACHINES else message
    with pytest.raises(ValueError, match=f"^{re.escape(whole)}$"):
        pretrained(model, X, [0], n_iter=1)


def test_without_hidden_layers_their_activation_does_not_matter():
    (start,) = pretrained(deep(hidden=(), activation="relu"), X, [0], n_iter=1)
    assert start.transform(X).shape == (90, 3)


@pytest.mark.parametrize(("data", "seeds", "how", "message"), [
    (2 * X, [0], {}, NOT_PROBABILITIES),
    (X - 1, [0], {}, NOT_PROBABILITIES),
    (X, [], {}, "seeds=[] is empty; give at least one whole number"),
    (X, [0], {"n_iter": 0}, "n_iter=0 must be a whole number of at least 1 or None"),
    (X, [0], {"batch_size": 91}, "batch_size=91 is larger than the data set of 90 samples"),
])  # fmt: skip
def test_invalid_arguments_of_pre_training_raise_errors(data, seeds, how, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        pretrained(deep(), data, seeds, **{"n_iter": 1} | how)
