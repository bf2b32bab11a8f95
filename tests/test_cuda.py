"""What only a GPU can show: that it computes what the processor does, step by step and again."""

import numpy as np
import pytest
import torch
from helpers import quiet, small
from sklearn.metrics import pairwise_distances

import somlib
from somlib import SOM, Grid, fit_seeds, metrics
from somlib.search.best_units import Block, Codebook, best_units
from somlib.training.step import CapturedStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")

rng = np.random.default_rng(0)
X = rng.random((24, 6), np.float32)
LONG = {"n_iter": 12}  # more than the steps before a graph is captured, and whole epochs
TRAINED = sorted(name for name in somlib.TRAINED if name != "SOM")


def learned(model):
    """Return what a model has learned, as arrays of floating-point numbers."""
    found = {k: v for k, v in vars(model).items() if k.endswith("_") and k[0] != "_"}
    found |= found.pop("parameters_", {})
    arrays = {k: np.asarray(v) for k, v in found.items() if isinstance(v, np.ndarray | float)}
    return {k: v for k, v in arrays.items() if v.dtype.kind == "f"}


def require_alike(one, other, **tolerances):
    one, other = learned(one), learned(other)
    assert one
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, err_msg=name, **tolerances)


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_on_the_gpu_is_that_on_the_processor(name):
    on_cpu, on_gpu = (quiet(small(name, device=d, **LONG).fit, X) for d in ("cpu", "cuda"))
    require_alike(on_cpu, on_gpu, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("name", TRAINED)
def test_seeds_together_are_the_seeds_alone(name):
    model = small(name, device="cuda", **LONG)
    together = quiet(fit_seeds, model, X, range(3))
    for seed, one in enumerate(together):
        alone = quiet(small(name, device="cuda", random_state=seed, **LONG).fit, X)
        require_alike(alone, one, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("name", TRAINED)
def test_a_captured_step_is_the_step_itself(name, monkeypatch):
    captured = quiet(small(name, device="cuda", **LONG).fit, X)
    monkeypatch.setattr(CapturedStep, "WARM_UP_STEPS", 10**9)
    require_alike(quiet(small(name, device="cuda", **LONG).fit, X), captured, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", TRAINED)
def test_an_interrupted_training_ends_as_an_undisturbed_one(name, tmp_path):
    whole = quiet(small(name, device="cuda", **LONG).fit, X)

    def stop(i, logs):
        raise KeyboardInterrupt

    file = tmp_path / "training.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        quiet(small(name, device="cuda", **LONG).fit, X, checkpoint=file, callbacks=[stop])
    resumed = quiet(small(name, device="cuda", **LONG).fit, X, checkpoint=file)
    require_alike(whole, resumed, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_rounded_products_give_nearly_the_same_map(precision):
    exact, rounded = (
        small("DESOM", device="cuda", precision=p, **LONG).fit(X) for p in ("highest", precision)
    )
    require_alike(exact, rounded, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("mode", ["batch", "online", "sgd"])
def test_a_map_on_the_gpu_is_that_on_the_processor(mode):
    samples = rng.normal(size=(500, 20))
    one, other = (
        SOM(Grid(5, 4), mode, n_epochs=3, random_state=0, device=device).fit(samples)
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(other.weights_, one.weights_, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(other.labels_, one.labels_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d", "n_units"), [(3000, 50, 2500), (40_000, 784, 400), (64, 1, 9)])
def test_the_nearest_units_are_the_nearest(dtype, n, d, n_units):
    samples = rng.normal(size=(n, d)).astype(dtype)
    W = samples[rng.integers(n, size=n_units)] + rng.normal(size=(n_units, d)).astype(dtype) / 9
    W[1] = W[0]  # a tie
    x, prototypes = (torch.from_numpy(array).cuda() for array in (samples, W))
    units, squared = best_units(Block.of(x), Codebook(prototypes))
    some = slice(0, 3000)
    truth = pairwise_distances(samples[some].astype(float), W.astype(float))
    order = truth.argsort(1, kind="stable")[:, :2]
    np.testing.assert_array_equal(units[some].cpu(), order)
    best = np.take_along_axis(truth, order, 1)
    np.testing.assert_allclose(squared[some].cpu(), best**2, rtol=1e-3, atol=1e-5)


def test_a_model_of_the_gpu_can_be_saved_and_measured(tmp_path):
    model = small("DESOM", device="cuda", **LONG).fit(X)
    model.save(tmp_path / "map.npz")
    there = somlib.load(tmp_path / "map.npz")
    np.testing.assert_allclose(there.transform(X), model.transform(X), atol=1e-6)
    Z = there.transform(X)
    assert 0 <= metrics.topographic_error(Z, there.prototypes_, there.grid_) <= 1
