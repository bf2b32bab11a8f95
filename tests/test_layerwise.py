"""Layer-wise pre-training by denoising autoencoders, written out; RBMs: see test_boltzmann."""

import numpy as np
import pytest

from somlib.models.autoencoders import Autoencoder, DenoisingAutoencoder
from somlib.models.baselines import DEC, SOMVAE
from somlib.models.layerwise import stacked_denoising

X = np.random.default_rng(3).random((60, 7))
HOW = {"n_epochs": 3, "batch_size": 16, "device": "cpu"}
DEEP = Autoencoder((5, 6), 2, **HOW)


@pytest.mark.parametrize("tied", [False, True])
def test_it_is_one_denoising_autoencoder_after_another(tied):
    deep = Autoencoder((5, 6), 2, tied=tied, **HOW)
    (start,) = stacked_denoising(deep, X, [4], n_epochs=2, noise=0.3)
    inputs = X
    for n, (width, code) in enumerate([(5, "relu"), (6, "relu"), (2, "linear")]):
        how = HOW | {"n_epochs": 2, "tied": tied, "random_state": 4}
        layer = DenoisingAutoencoder((), width, code=code, corruption="masking", noise=0.3, **how)
        learned, own = layer.fit(inputs).parameters_, start.parameters_
        assert own[f"encoder.layers.{n}.weight"] == pytest.approx(
            learned["encoder.layers.0.weight"]
        )
        assert own[f"encoder.layers.{n}.bias"] == pytest.approx(learned["encoder.layers.0.bias"])
        if tied:
            assert own[f"decoder.biases.{2 - n}"] == pytest.approx(learned["decoder.biases.0"])
        else:
            for part in ("weight", "bias"):
                back = learned[f"decoder.layers.0.{part}"]
                assert own[f"decoder.layers.{2 - n}.{part}"] == pytest.approx(back)
        inputs = layer.transform(inputs)
    assert start.transform(X) == pytest.approx(inputs)
    assert start.n_iter_ == 0
    assert not hasattr(deep, "parameters_")


def test_a_seed_is_independent_of_the_ensemble():
    among = stacked_denoising(DEEP, X, [0, 1, 2], n_epochs=2)
    (alone,) = stacked_denoising(DEEP, X, [1], n_epochs=2)
    for name, value in alone.parameters_.items():
        assert among[1].parameters_[name] == pytest.approx(value, abs=1e-9)


def test_noise_changes_what_is_learned():
    (noisy,), (clean,) = (stacked_denoising(DEEP, X, [0], 2, noise) for noise in (0.5, 0.0))
    assert not np.allclose(noisy.transform(X), clean.transform(X))


def test_deep_clustering_starts_from_stacked_layers_trained_together():
    how = {"hidden": (5, 6), "latent_dim": 2, "batch_size": 16, "device": "cpu"}
    own = DEC(3, n_iter=4, pretrain_epochs=3, layer_epochs=2, random_state=4, **how).fit(X)
    (start,) = stacked_denoising(DEEP, X, [4], n_epochs=2)
    trained = Autoencoder((5, 6), 2, **HOW, random_state=4).fit(X, start=start)
    given = DEC(3, n_iter=4, random_state=4, **how).fit(X, start=trained)
    for name, value in given.parameters_.items():
        assert own.parameters_[name] == pytest.approx(value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (DEC(3, layer_epochs=2, pretrain_epochs=0), "layer_epochs=2 with pretrain_epochs=0"),
        (DEC(3, layer_epochs=-1), "layer_epochs=-1"),
        (SOMVAE((1, 2), layer_epochs=2), "choose pretrain_epochs of at least 1"),
    ],
)
def test_bad_parameters_are_named(model, message):
    with pytest.raises(ValueError, match=message):
        model.set_params(hidden=(4,), latent_dim=2, batch_size=8, n_iter=2).fit(X)
