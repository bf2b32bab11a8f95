"""The VAE against closed forms: Monte Carlo, a literal training, probabilistic PCA."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bernoulli, norm
from sklearn.base import clone
from sklearn.decomposition import PCA

import somlib
from somlib.models.vae import (
    LOG_VARIANCE_LIMIT,
    VAE,
    bernoulli_log_density,
    divergence,
    gaussian_log_density,
)
from somlib.training import fit_seeds
from tests.helpers import built, noise

rng = np.random.default_rng(7)
X = rng.random((60, 9))
SMALL = {"hidden": (8, 6), "batch_size": 20, "n_iter": 12, "learning_rate": 0.01}


def vae(**params):
    return VAE(**SMALL | params)


# ---------------------------------------------------------------- the formulas


@given(st.floats(-3, 3), st.floats(-3, 2))
def test_the_divergence_is_the_mean_of_the_log_ratio(mean, log_variance):
    z = mean + math.exp(log_variance / 2) * norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    q, p = norm(mean, math.exp(log_variance / 2)), norm()
    ratio = (q.logpdf(z) - p.logpdf(z)).mean()  # by quadrature with equal weights
    both = torch.tensor([[mean], [log_variance]], dtype=torch.float64)
    assert float(divergence(*both)) == pytest.approx(ratio, abs=2e-3 * (1 + abs(ratio)))


def test_the_divergence_is_zero_for_the_prior_alone_and_sums_over_dimensions():
    zero = torch.zeros(4)
    assert float(divergence(zero, zero)) == 0
    assert float(divergence(torch.tensor([1.0, 2.0]), torch.zeros(2))) == pytest.approx(2.5)
    assert (divergence(torch.randn(100, 3), torch.randn(100, 3)) > 0).all()


def test_log_densities_are_those_of_scipy():
    x, mean, log_variance = rng.normal(size=(3, 5, 4))
    ours = gaussian_log_density(*map(torch.tensor, (x, mean, log_variance)))
    theirs = norm(mean, np.exp(log_variance / 2)).logpdf(x).sum(-1)
    np.testing.assert_allclose(ours, theirs)
    ones, logits = rng.integers(2, size=(5, 4)), rng.normal(size=(5, 4))
    ours = bernoulli_log_density(torch.tensor(ones, dtype=torch.float64), torch.tensor(logits))
    np.testing.assert_allclose(ours, bernoulli(1 / (1 + np.exp(-logits))).logpmf(ones).sum(-1))


def test_a_bernoulli_with_extreme_logits_has_a_finite_log_density():
    logits = torch.tensor([[500.0, -500.0]])
    assert float(bernoulli_log_density(torch.tensor([[1.0, 0.0]]), logits)) == 0
    assert float(bernoulli_log_density(torch.tensor([[0.0, 1.0]]), logits)) == -1000


# ---------------------------------------------------------------- training, literally


def literal_losses(model, x, layers, epsilon, log_noise):
    """Return loss, reconstruction and divergence of a batch, sample by sample."""
    encoder, decoder = layers
    total = {"reconstruction": 0.0, "divergence": 0.0}
    for x_n, e in zip(x, epsilon, strict=True):
        h = x_n
        for n, (W, b) in enumerate(encoder):
            h = h @ W + b
            h = h.relu() if n < len(encoder) - 1 else h
        m = model.latent_dim
        mu, sigma2 = h[:m], h[m:].exp()
        h = mu + sigma2.sqrt() * e
        for n, (W, b) in enumerate(decoder):
            h = h @ W + b
            h = h.relu() if n < len(decoder) - 1 else h
        if model.likelihood == "bernoulli":
            p = h.sigmoid()
            log_p = (x_n * p.log() + (1 - x_n) * (1 - p).log()).sum()
        else:
            s2 = log_noise.exp()
            log_p = (-((x_n - h) ** 2) / (2 * s2) - 0.5 * (2 * math.pi * s2).log()).sum()
        total["reconstruction"] -= log_p / len(x)
        kl = sum((mu[j] ** 2 + sigma2[j] - sigma2[j].log() - 1) / 2 for j in range(m))
        total["divergence"] += kl / len(x)
    total["loss"] = total["reconstruction"] + model.beta * total["divergence"]
    return total


def network(model, d, seed):
    """Return (W, b) of encoder and decoder as the model begins, as leaves."""
    stack = built(model, d, [seed])
    return [
        [
            (layer.weight.detach().requires_grad_(), layer.bias[0].detach().requires_grad_())
            for layer in part.layers
        ]
        for part in (stack.encoder, stack.decoder)
    ]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"noise": 0.5, "beta": 2.0},
        {"likelihood": "bernoulli", "beta": 0.0},
        {"likelihood": "bernoulli", "latent_dim": 3},
        {"hidden": ()},
    ],
)
def test_training_is_adam_on_the_bound(change):
    model = vae(n_iter=4, shuffle=False, random_state=5, **change).fit(X)
    layers = network(model, 9, 5)
    start = math.log(X.var(0).mean()) if model.noise == "learned" else 2 * math.log(model.noise)
    log_noise = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    leaves = [tensor for part in layers for pair in part for tensor in pair]
    if model.likelihood == "gaussian" and model.noise == "learned":
        leaves.append(log_noise)
    adam = torch.optim.Adam(leaves, lr=model.learning_rate, eps=1e-7)
    for i in range(4):
        x = torch.tensor(X[20 * (i % 3) : 20 * (i % 3) + 20])
        losses = literal_losses(
            model, x, layers, noise(built(model, 9, [5]), model, [5], i, x)["epsilon"], log_noise
        )
        for name, loss in losses.items():
            assert model.history_[name][i] == pytest.approx(loss.item(), rel=1e-9)
        adam.zero_grad()
        losses["loss"].backward()
        adam.step()
    for part, name in zip(layers, ("encoder", "decoder"), strict=True):
        for n, (W, _) in enumerate(part):
            ours = model.parameters_[f"{name}.layers.{n}.weight"]
            np.testing.assert_allclose(ours, W.detach(), rtol=1e-7, atol=1e-12)
    if leaves[-1] is log_noise:
        assert model.noise_ == pytest.approx(math.exp(log_noise.item() / 2))


def test_a_linear_vae_with_learned_noise_is_probabilistic_pca():
    rng = np.random.default_rng(0)
    W = rng.normal(size=(2, 6))
    Y = (rng.normal(size=(1000, 2)) * [2, 1]) @ W + 0.5 * rng.normal(size=(1000, 6)) + 1
    linear = VAE(hidden=(), n_iter=3000, batch_size=250, learning_rate=0.005, random_state=0)
    linear.fit(Y)
    exact = PCA(2).fit(Y)
    assert linear.noise_**2 == pytest.approx(exact.noise_variance_, rel=0.03)
    bound = linear.elbo(Y, 200, random_state=0).mean()
    tighter = linear.log_likelihood(Y, 200, random_state=0).mean()
    assert bound < tighter < exact.score(Y) + 0.002  # no model exceeds the optimum
    assert bound == pytest.approx(exact.score(Y), abs=0.03)
    spanned = np.linalg.svd(linear.parameters_["decoder.layers.0.weight"], full_matrices=False)[2]
    assert np.linalg.svd(spanned @ exact.components_.T)[1].min() > 0.995  # the same plane


def test_samples_are_binarized_in_each_iteration_with_their_values_as_probabilities():
    half = np.full((40, 9), 0.5)
    model = vae(likelihood="bernoulli", binarize=True, batch_size=40, n_iter=30, random_state=0)
    model.fit(half)
    assert 9 * math.log(2) - 0.6 < model.history_["reconstruction"].mean() < 9 * math.log(2) + 0.6
    sharp = (X > 0.5).astype(float)  # ones and zeros stay what they are
    drawn = vae(likelihood="bernoulli", binarize=True, random_state=0).fit(sharp)
    as_is = vae(likelihood="bernoulli", random_state=0).fit(sharp)
    np.testing.assert_array_equal(drawn.history_["loss"], as_is.history_["loss"])


def test_beta_trades_divergence_for_reconstruction():
    losses, flat = {}, rng.normal(size=(60, 2)) @ rng.normal(size=(2, 9))
    for beta in (0.1, 1.0, 10.0):
        history = vae(beta=beta, n_iter=300, noise=0.5, random_state=0).fit(flat).history_
        losses[beta] = [history[name][-30:].mean() for name in ("reconstruction", "divergence")]
    reconstruction, kl = np.transpose(list(losses.values()))
    assert (np.diff(reconstruction) > 0).all()
    assert (np.diff(kl) < 0).all()


# ---------------------------------------------------------------- bounds


def test_bounds_are_the_mean_and_the_log_mean_of_the_weights():
    model = vae(noise=0.4, random_state=0).fit(X)
    mean, sd = model.posterior(X[:5])
    epsilon = np.random.RandomState(3).standard_normal((5, 7, 2))
    z = mean[:, None] + sd[:, None] * epsilon
    drawn = model.inverse_transform(z.reshape(-1, 2)).reshape(5, 7, 9)
    log_w = norm(drawn, 0.4).logpdf(X[:5, None]).sum(-1)
    log_w += norm().logpdf(z).sum(-1) - norm(mean[:, None], sd[:, None]).logpdf(z).sum(-1)
    np.testing.assert_allclose(model.elbo(X[:5], 7, random_state=3), log_w.mean(1))
    np.testing.assert_allclose(
        model.log_likelihood(X[:5], 7, random_state=3), np.log(np.exp(log_w).mean(1))
    )


def test_the_bound_is_the_loss_in_the_mean():
    model = vae(random_state=0, n_iter=50).fit(X)
    mean, sd = map(torch.tensor, model.posterior(X))
    bound = model.elbo(X, 4000, random_state=0)
    z = (mean[:, None] + sd[:, None] * torch.randn(60, 4000, 2, dtype=torch.float64)).numpy()
    drawn = model.inverse_transform(z.reshape(-1, 2)).reshape(60, 4000, 9)
    log_p = norm(drawn, model.noise_).logpdf(X[:, None]).sum(-1).mean(1)
    np.testing.assert_allclose(bound, log_p - divergence(mean, 2 * sd.log()).numpy(), atol=0.3)


def test_more_draws_tighten_the_bound():
    model = vae(noise=0.1, n_iter=100, random_state=0).fit(X)
    bounds = [model.log_likelihood(X, k, random_state=0).mean() for k in (1, 10, 100, 1000)]
    assert (np.diff(bounds) > 0).all()


def test_bounds_do_not_depend_on_the_block_size(monkeypatch):
    model = vae(random_state=0).fit(X)
    whole = model.elbo(X, 4, random_state=1)
    monkeypatch.setattr("somlib.models.vae.ROWS_AT_ONCE", 28)
    np.testing.assert_allclose(model.elbo(X, 4, random_state=1), whole)


# ---------------------------------------------------------------- codes


def test_the_code_is_the_posterior_mean_and_is_decoded():
    model = vae(random_state=0).fit(X)
    mean, sd = model.posterior(X)
    np.testing.assert_array_equal(model.transform(X), mean)
    assert (sd > 0).all()
    assert model.inverse_transform(mean).shape == X.shape
    assert vae(likelihood="bernoulli").fit(X).inverse_transform(mean).max() < 1


def test_samples_are_decoded_codes_of_the_prior():
    model = vae(random_state=0).fit(X)
    z = np.random.RandomState(4).standard_normal((3, 2))
    np.testing.assert_allclose(model.sample(3, random_state=4), model.inverse_transform(z))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.sample(0), "n=0 must be a whole number of at least 1"),
        (lambda model: model.sample(2.5), "n=2.5 must be a whole number of at least 1"),
        (lambda model: model.interpolate(X[:2], X[2:4], n=0), "n=0 must be a whole number"),
        (lambda model: model.interpolate(X[:2], X[:1]), "x_0 has 2 samples, x_1 1; give as many"),
    ],
)
def test_invalid_arguments_of_sampling_raise_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(vae(random_state=0).fit(X))


def test_an_interpolation_starts_and_ends_at_the_reconstructions():
    model = vae(random_state=0).fit(X)
    way = model.interpolate(X[:4], X[4:8], n=5)
    assert way.shape == (4, 5, 9)
    for end, rows in ((0, X[:4]), (-1, X[4:8])):
        np.testing.assert_allclose(way[:, end], model.inverse_transform(model.transform(rows)))
    middle = (model.transform(X[:4]) + model.transform(X[4:8])) / 2
    np.testing.assert_allclose(way[:, 2], model.inverse_transform(middle))


def test_a_direction_is_the_slope_of_the_codes_over_the_attribute():
    model = vae(random_state=0).fit(X)
    values, Z = X[:, 0] * 3 + 1, model.transform(X)
    slopes = [np.polyfit(values, z, 1)[0] for z in Z.T]
    np.testing.assert_allclose(model.direction(X, values), slopes)
    yes = (X[:, 0] > 0.5).astype(float)
    np.testing.assert_allclose(model.direction(X, yes), Z[yes == 1].mean(0) - Z[yes == 0].mean(0))


# ---------------------------------------------------------------- seeds, files, devices


@pytest.mark.parametrize("change", [{}, {"likelihood": "bernoulli", "binarize": True}])
def test_the_result_of_a_seed_is_independent_of_the_ensemble(change):
    together = fit_seeds(vae(**change), X, range(3))
    for seed, model in enumerate(together):
        alone = vae(random_state=seed, **change).fit(X)
        for name, value in alone.history_.items():
            np.testing.assert_allclose(model.history_[name], value, rtol=1e-9, err_msg=name)
    assert not np.allclose(together[0].history_["loss"], together[1].history_["loss"])


def test_models_of_a_stack_may_differ_in_beta():
    betas = (0.5, 1.0, 4.0)
    together = fit_seeds(vae(), X, [1, 1, 1], settings=[{"beta": beta} for beta in betas])
    for beta, model in zip(betas, together, strict=True):
        alone = vae(beta=beta, random_state=1).fit(X)
        np.testing.assert_allclose(model.history_["loss"], alone.history_["loss"], rtol=1e-9)


@pytest.mark.parametrize("change", [{}, {"likelihood": "bernoulli", "binarize": True}])
def test_an_interrupted_training_resumes_bit_for_bit(tmp_path, change):
    model = vae(n_iter=110, random_state=0, **change)
    whole, kept = clone(model).fit(X), tmp_path / "vae.checkpoint"

    def stop(i, logs):
        if i > 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clone(model).fit(X, callbacks=[stop], checkpoint=kept)
    resumed = clone(model).fit(X, checkpoint=kept)
    for name, value in whole.history_.items():
        np.testing.assert_array_equal(resumed.history_[name], value)
    np.testing.assert_array_equal(resumed.transform(X), whole.transform(X))


@pytest.mark.parametrize(
    "model",
    [
        vae(random_state=0),
        vae(likelihood="bernoulli", latent_dim=3, noise=0.3),
        vae(architecture="conv", image_shape=(3, 3), hidden=(4,), random_state=0),
    ],
)
def test_a_saved_model_is_loaded_unchanged(tmp_path, model):
    model.fit(X.astype(np.float32)).save(tmp_path / "vae.npz")
    back = somlib.load(tmp_path / "vae.npz")
    assert repr(back) == repr(model)
    np.testing.assert_array_equal(back.transform(X), model.transform(X))
    np.testing.assert_array_equal(back.sample(2, 0), model.sample(2, 0))
    assert back.elbo(X, random_state=0).tolist() == model.elbo(X, random_state=0).tolist()


def test_float64_is_computed_in_float64_and_everything_else_in_float32():
    assert vae(random_state=0).fit(X).transform(X).dtype == np.float64
    assert vae(random_state=0).fit(X.astype(np.float32)).transform(X).dtype == np.float32
    assert vae(random_state=0).fit((X * 9).astype(int)).transform(X).dtype == np.float32


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": -1.0}, "beta=-1.0 must be a finite number of at least 0"),
        ({"beta": float("nan")}, "beta=nan must be a finite number of at least 0"),
        ({"likelihood": "poisson"}, "choose one of ['gaussian', 'bernoulli']"),
        ({"noise": 0.0}, "noise=0.0 must be a positive number or 'learned'"),
        ({"noise": "unknown"}, "noise='unknown' must be a positive number or 'learned'"),
        ({"noise": float("inf")}, "noise=inf must be a positive number"),
        ({"binarize": True}, "it needs likelihood='bernoulli'"),
        ({"latent_dim": 10}, "latent_dim=10 is more than the 9 features of X"),
        ({"latent_dim": 0}, "latent_dim=0 must be a whole number of at least 1"),
        ({"batch_size": 61}, "batch_size=61 is larger than the data set of 60 samples"),
        ({"learning_rate": 0}, "learning_rate=0 must be a positive number"),
        ({"device": "nonsense"}, "nonsense"),
    ],
)
def test_a_bad_parameter_is_named_with_what_is_expected(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        vae(**change).fit(X)


def test_a_bad_beta_in_a_stack_is_found():
    with pytest.raises(ValueError, match="beta=-2"):
        fit_seeds(vae(), X, [0, 1], settings=[{"beta": 1.0}, {"beta": -2.0}])


@pytest.mark.parametrize("bad", [-0.01, 1.5])
def test_bernoulli_takes_probabilities_only(bad):
    Y = X.copy()
    Y[3, 3] = bad
    with pytest.raises(ValueError, match=r"takes data in"):
        vae(likelihood="bernoulli").fit(Y)
    model = vae(likelihood="bernoulli").fit(X)
    with pytest.raises(ValueError, match="takes data in"):
        model.transform(Y)


def test_exploding_log_variances_are_clamped_and_reported():
    with pytest.warns(
        UserWarning, match=rf"clamped to ±{LOG_VARIANCE_LIMIT} in \d+ of 12 iterations"
    ):
        model = vae(random_state=0).fit(X * 1e4)
    assert all(np.isfinite(value).all() for value in model.history_.values())
    assert (model.posterior(X * 1e4)[1] <= math.exp(LOG_VARIANCE_LIMIT / 2) * (1 + 1e-9)).all()


def test_a_usual_training_clamps_nothing_and_warns_of_nothing():
    assert not vae(random_state=0).fit(X).history_["clamped"].any()


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_a_bad_number_of_draws_is_named(k):
    model = vae().fit(X)
    for bound in (model.elbo, model.log_likelihood):
        with pytest.raises(ValueError, match="must be a whole number of at least 1"):
            bound(X, k)


def test_a_direction_needs_an_attribute_that_differs():
    model = vae().fit(X)
    for values in (np.ones(60), np.ones(3), np.full(60, np.nan)):
        with pytest.raises(ValueError, match=r"expected 60 numbers|contains"):
            model.direction(X, values)


def test_constant_data_train():
    model = vae(random_state=0).fit(np.full((30, 9), 0.5))
    assert np.isfinite(model.history_["loss"]).all()
