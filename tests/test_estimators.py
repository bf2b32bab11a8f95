"""What every model must do: scikit-learn's checks, any device, any processor's products."""

import functools
import inspect
import pkgutil
import warnings
from importlib import import_module
from types import MappingProxyType

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import somlib
from somlib import SOM
from somlib.models.autoencoders import (
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    SparseAutoencoder,
)
from somlib.models.baselines import (
    AEC,
    DCN,
    DEC,
    IDEC,
    SOMVAE,
    DeepKMeans,
    DeepNeuralMaps,
    Kerasom,
    MiniSomMap,
    VaDE,
    dcn,
    dec,
    deep_kmeans,
)
from somlib.models.baselines.centers import EmbeddedClustering, EmbeddedMap
from somlib.models.baselines.vade import VaDENetwork
from somlib.models.boltzmann import RBM
from somlib.models.desom import DESOM
from somlib.models.sne import SNE
from somlib.models.soae import SOAE
from somlib.models.somrl import DCSOMRL, SOMRL
from somlib.models.vae import VAE
from somlib.search import products
from somlib.spaces import Euclidean, Sphere, Torus
from somlib.training import DeepEstimator, ensembles
from somlib.training.loop import Checkpoint
from somlib.training.network import stacked


def all_of(module):
    """Return the estimators that a package or module defines."""
    names = [module.__name__]
    prefix = f"{module.__name__}."
    names += [m.name for m in pkgutil.walk_packages(module.__path__, prefix)]
    found = [vars(import_module(name)).values() for name in names]
    return {
        c for c in {v for values in found for v in values if inspect.isclass(v)}
        if issubclass(c, BaseEstimator) and c.__module__.startswith(module.__name__)
        and not c.__name__.startswith("_")
    } - {DeepEstimator, EmbeddedClustering, EmbeddedMap}  # fmt: skip


# ---------------------------------------------------------------- scikit-learn's checks


class AnyRange:
    """Takes any data, so that scikit-learn's come as far as what is behind their range."""

    _in_unit_range = False

    def _valid(self, X, *, reset):
        checked = DeepEstimator._valid(self, X, reset=reset)
        return 0.5 + np.arctan(checked) / checked.dtype.type(np.pi)  # tells 100 from 101, too


class AnyRBM(AnyRange, RBM):
    likelihood = "gaussian"


class AnySOMRL(AnyRange, SOMRL):
    pass


class AnyVaDE(AnyRange, VaDE):
    pass


# what scikit-learn expects of an estimator and this one does not do, with the reason
GAPS = {
    "check_clustering": "labels are numbers of units, and a unit that wins no sample leaves a gap"
}
ORDER = {
    "check_sample_weight_equivalence_on_dense_data": "a weighted sample is seen at another moment "
    "than its repetitions"
}
SPACE = {
    "check_parameters_default_constructible": "a space is a default as frozen as a tuple is, but "
    "scikit-learn's list of such types is closed"
}
TRAINED = {"n_iter": 3, "batch_size": 1, "random_state": 0}
EMBEDDED = {"hidden": (3,), "latent_dim": 1, "pretrain_epochs": 0, **TRAINED}
CHECKED = [
    (Autoencoder((3,), 1, **TRAINED), {}),
    (Autoencoder((), 1, tied=True, activation="tanh", code="sigmoid", **TRAINED), {}),
    (DenoisingAutoencoder((3,), 1, **TRAINED), {}),
    (SparseAutoencoder((3,), 4, **TRAINED), {}),
    (SparseAutoencoder((), 4, sparsity="k-sparse", k=(3, 2), code="linear", **TRAINED), {}),
    (ContractiveAutoencoder((), 4, **TRAINED), {}),
    (AnyRBM(3, **TRAINED), {}),
    (AnyRBM(3, "linear", **TRAINED), {}),
    (VAE(1, (3,), **TRAINED), {}),
    (SOAE(Torus(1), (4,), **TRAINED), SPACE),
    (SOAE(Euclidean(1), (4,), importance_sampling=True, decoder_steps=2, **TRAINED), SPACE),
    (SOAE(Sphere(2), (4,), **TRAINED), SPACE),
    # maps of two units leave none without samples
    (DESOM((1, 2), (4,), 1, **TRAINED), {}),
    (DESOM((1, 2), (4,), 1, pretrain_epochs=1, decay="linear", shuffle=True, **TRAINED), {}),
    (AnySOMRL(0.9, n_iter=5, batch_size=2, random_state=0), {}),
    (DCSOMRL(1, (4,), **TRAINED), {}),
    (Kerasom((1, 2), **TRAINED), {}),
    (DEC(2, **EMBEDDED), {}),
    (IDEC(2, **EMBEDDED), {}),
    (DCN(2, **EMBEDDED), {}),
    (AEC(2, **EMBEDDED), {}),
    (DeepKMeans(2, **EMBEDDED), {}),
    (DeepNeuralMaps((1, 2), **EMBEDDED), GAPS),
    (AnyVaDE(2, **EMBEDDED | {"hidden": (16,)}), {}),
    (SOMVAE((1, 2), **EMBEDDED), {}),
    (MiniSomMap((1, 2), n_iter=5), {}),
    (SNE(perplexity=2, n_iter=20), {}),
    (SNE("symmetric", perplexity=2, n_iter=20), {}),
    (SOM((1, 2), n_epochs=10, random_state=0), {}),
    (SOM((3, 3), n_epochs=10, random_state=0), GAPS),
    (SOM((3, 3), "online", n_epochs=10, random_state=0), GAPS | ORDER),
    (SOM((3, 3), "sgd", n_epochs=10, learning_rate=(0.1, 0.1), random_state=0), GAPS),
]


def test_every_estimator_of_the_package_is_tested():
    found = {type(model) for model, _ in CHECKED}
    assert {c.__mro__[2] if issubclass(c, AnyRange) else c for c in found} == all_of(somlib)


@pytest.mark.parametrize(("model", "expected"), CHECKED, ids=lambda value: repr(value)[:60])
def test_scikit_learns_checks_pass_or_fail_for_a_known_reason(model, expected):
    results = check_estimator(model, expected_failed_checks=expected, on_skip=None, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert failed == {}
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(expected)
    assert sum(r["status"] == "passed" for r in results) >= 38


# there is no tag for "in [0, 1]", and scikit-learn's samples are normally distributed
@pytest.mark.parametrize(("model", "message"), [
    (RBM(3, **TRAINED), "takes data in"),
    (Autoencoder((3,), 1, likelihood="bernoulli", **TRAINED), "takes data in"),
    (VAE(1, (3,), likelihood="bernoulli", **TRAINED), "takes data in"),
    (SOMRL(0.9, **TRAINED), r"MinMaxScaler\(clip=True\)"),
    (VaDE(2, **EMBEDDED), "takes data in"),
], ids=lambda value: repr(value)[:40])  # fmt: skip
def test_data_outside_the_range_are_all_that_else_fails_scikit_learns_checks(model, message):
    assert get_tags(model).input_tags.positive_only
    X = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(ValueError, match=message):
        clone(model).fit(X - X.min())
    results = check_estimator(model, on_skip=None, on_fail=None)
    failed = {
        r["check_name"]: f"{r['exception']} {r['exception'].__cause__}"
        for r in results if r["status"] == "failed"
    }  # fmt: skip
    told = message.replace("\\", "")
    assert failed
    assert {name: text for name, text in failed.items() if told not in text} == {}


# ---------------------------------------------------------------- any device, any processor

DEEP = {"hidden": (5,), "latent_dim": 3, "n_iter": 4, "batch_size": 8, "device": "cpu"}
SMALL = DEEP | {"pretrain_epochs": 0}
CONV = {"architecture": "conv", "image_shape": (4, 4)}
ALONE = {"n_iter": 4, "batch_size": 8, "device": "cpu"}
MODELS = [
    Autoencoder(**DEEP),
    Autoencoder(**DEEP, tied=True, activation="tanh", likelihood="bernoulli"),
    Autoencoder(**DEEP, **CONV, shuffle=False),
    DenoisingAutoencoder(**DEEP),
    DenoisingAutoencoder(**DEEP, corruption="masking", noise=0.3),
    SparseAutoencoder(**DEEP),
    SparseAutoencoder(**DEEP, sparsity="l1", code="linear"),
    SparseAutoencoder(**DEEP, sparsity="k-sparse", k=(3, 2), code="linear"),
    ContractiveAutoencoder(**DEEP),
    RBM(3, **ALONE),
    RBM(3, "linear", **ALONE),
    VAE(**DEEP, noise=0.1),  # else it asks the data for their variance
    VAE(**DEEP, noise=0.1, binarize=True, likelihood="bernoulli"),
    *(
        SOAE(space, hidden=(5,), importance_sampling=sampling, **ALONE)
        for space in (Euclidean(2), Torus(2), Sphere(3)) for sampling in (False, True)
    ),
    DESOM((2, 3), **SMALL),
    DESOM((2, 3), **SMALL, **CONV, shuffle=True),
    SOMRL(0.9, **ALONE),
    DCSOMRL(**DEEP, input_scaling=(0.1, 0.3)),  # else it asks the data for their mean
    Kerasom((2, 3), **ALONE),
    DEC(3, **SMALL),
    IDEC(3, **SMALL),
    DCN(3, **SMALL),
    AEC(3, **SMALL),
    DeepKMeans(3, **SMALL),
    DeepNeuralMaps((2, 3), **SMALL),
    VaDE(3, **SMALL),
    SOMVAE((2, 3), **SMALL),
    SOMVAE((2, 3), **SMALL, straight_through=True),
]  # fmt: skip
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: repr(model)[:70])
SAMPLES = np.random.default_rng(0).random((24, 16), np.float32)


def test_every_deep_model_is_tested():
    deep = {c for c in all_of(somlib) if issubclass(c, DeepEstimator)}
    assert {type(model) for model in MODELS} == deep


def on_another_device(model, plant=lambda stack: None):
    """Do an iteration of two seeds on a second device, as far as no value is looked at.

    The device is "meta", and its tensors are fake ones, which are as strict as a GPU's: a tensor
    on the CPU beside one that is not is an error.
    """
    models = [clone(model).set_params(random_state=seed) for seed in (0, 1)]
    n, d = SAMPLES.shape
    n_iter, meta = model._check_common(n, d), torch.device("meta")
    X = torch.from_numpy(SAMPLES).to(meta)
    alone = model._build(d, torch.Generator()).to(X)
    together = [m._build(d, torch.Generator().manual_seed(s)) for s, m in enumerate(models)]
    for network in together:  # buffers that an initialization makes, such as targets
        with torch.no_grad():
            network.initialize(torch.from_numpy(SAMPLES), torch.Generator())
    schedules = ensembles._joined([network.schedules(n_iter) for network in together])
    network = stacked(together).to(X)
    task = ensembles._Task(models, SAMPLES, [0, 1], n_iter, meta, None, Checkpoint(None))
    for name in ("delta", "share"):  # made from the grid, whose numbers a fake tensor has not
        getattr(network, name, None)
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.no_grad():
            alone.initialize(X, torch.Generator())
        training = ensembles.Training(task, network, schedules)
        # Adam reads the number of its steps
        training.adam_step._optimizer_step = lambda parameters, scale: None
        plant(network)
        losses = training.iteration(0)
        assert {loss.device.type for loss in losses.values()} == {"meta"}
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        assert {gradient.device.type for gradient in gradients} <= {"meta"}


@pytest.fixture
def without_values(monkeypatch):
    """Leave out what looks at values, which these tensors have not."""

    def kmeans(Z, K, generator):  # scikit-learn's, on codes fetched by numpy(force)
        return Z.new_zeros(K, Z.shape[-1]), Z.new_zeros(len(Z), dtype=torch.long)

    for module in (dec, dcn, deep_kmeans):
        monkeypatch.setattr(module, "kmeans", kmeans)
    # so is the mixture of Gaussians that VaDE begins with
    monkeypatch.setattr(VaDENetwork, "initialize", lambda *arguments: None)


@each_model
def test_an_iteration_needs_no_tensor_on_another_device(without_values, model):
    on_another_device(model)


@pytest.mark.parametrize("model", [MODELS[0], DESOM((2, 3), **SMALL), SOMRL(0.9, **ALONE)])
def test_a_tensor_on_another_device_is_detected(model):
    def plant(stack):
        name, part = [*stack.named_parameters(), *stack.named_buffers()][0]
        owner = stack.get_submodule(name.rpartition(".")[0])
        left = torch.zeros(part.shape)
        kind = owner._parameters if isinstance(part, torch.nn.Parameter) else owner._buffers
        kind[name.rpartition(".")[2]] = left

    with pytest.raises(RuntimeError, match="same device"):
        on_another_device(model, plant)


class MatrixUnits(TorchDispatchMode):
    """A processor with units for bfloat16 matrices: rounds the factors wherever it may.

    `rounded` counts the products of float32 for which it did.
    """

    FACTORS = MappingProxyType({"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1})  # which arguments

    def __init__(self):
        super().__init__()
        self.rounded = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        at = self.FACTORS.get(func.overloadpacket.__name__)
        may = torch.backends.mkldnn.matmul.fp32_precision == "bf16"
        if at is not None and may and args[at].dtype == torch.float32:
            self.rounded += 1
            args = list(args)
            args[at : at + 2] = [factor.bfloat16().float() for factor in args[at : at + 2]]
        return func(*args, **kwargs or {})


@pytest.fixture
def matrix_units(monkeypatch):
    """Compute on such a processor; the processor has not been measured yet."""
    asked = functools.cache(products.onednn_is_exact.__wrapped__)
    monkeypatch.setattr(products, "onednn_is_exact", asked)
    with MatrixUnits() as units:
        yield units


def test_units_that_round_are_detected_and_not_used(monkeypatch, matrix_units):
    monkeypatch.setattr(products, "MAX_NUMPY_MULTIPLICATIONS", 0)
    rng = np.random.default_rng(0)
    X = (1000 + rng.random((300, 40))).astype(np.float32)
    som = SOM((12, 15), n_epochs=2, random_state=0, device="cpu").fit(X)
    assert products.onednn_is_exact() is False
    matrix_units.rounded = 0
    difference = X[:, None].astype(np.float64) - som.weights_
    np.testing.assert_array_equal(som.predict(X), (difference**2).sum(-1).argmin(1))
    SOM((3, 4), "sgd", n_epochs=1, learning_rate=(0.1, 0.1), device="cpu").fit(X[:60])
    SOM((3, 4), "online", n_epochs=1, device="cpu").fit(X[:60])
    assert matrix_units.rounded == 0


@each_model
def test_only_medium_precision_rounds_products(matrix_units, model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of maps that have no room
        exact = clone(model).set_params(random_state=0)
        products.onednn_is_exact()
        matrix_units.rounded = 0
        exact.fit(SAMPLES)
        exact.transform(SAMPLES)
        assert matrix_units.rounded == 0
        fast = clone(model).set_params(random_state=0, precision="medium").fit(SAMPLES)
    assert matrix_units.rounded > 0
    # before the first step; some go far from there
    assert fast.history_["loss"][0] == pytest.approx(exact.history_["loss"][0], rel=0.05)
