"""Short trainings of every model compared with recorded losses and parameters.

    python -m tests.test_recorded            # how far each model is from its record
    python -m tests.test_recorded --record   # write new records

All in float64 with fixed seeds, by public names only: internal changes must give the same losses
and parameters. A change that is meant to change them needs new records, and its commit message says
so.
"""

import argparse
import functools
import json
import math
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.base import clone

# the only place that knows where things are
from somlib import (
    DCSOMRL,
    DESOM,
    RBM,
    SNE,
    SOAE,
    SOM,
    SOMRL,
    VAE,
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    Euclidean,
    Grid,
    SparseAutoencoder,
    Sphere,
    Torus,
    fit_seeds,
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
)
from somlib.models.boltzmann import pretrained
from somlib.models.soae import gradient_norms

RECORDS = Path(__file__).parent / "recorded"
SEEDS = (22, 29)
TOLERANCE = 1e-9
"""Of each number, relative to itself; and a hundredth of that relative to the largest beside it,
for numbers near 0 are what larger ones left."""

PARAMETER = "parameter "
Numbers = dict[str, np.ndarray]

# ---------------------------------------------------------------- the data


def samples(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Return n samples of d features in [0, 1], around four centers."""
    rng = np.random.default_rng([seed, d])
    centers = np.random.default_rng(d).uniform(0.2, 0.8, (4, d))
    spread = rng.uniform(0.03, 0.15, (4, d))
    kind = rng.integers(4, size=n)
    return (centers[kind] + spread[kind] * rng.standard_normal((n, d))).clip(0, 1)


def with_gaps(X: np.ndarray) -> np.ndarray:
    return np.where(np.random.default_rng(5).random(X.shape) < 0.1, np.nan, X)


WEIGHTS = np.random.default_rng(6).integers(0, 4, 60) / 2 + 0.5

# ---------------------------------------------------------------- the models


@dataclass(frozen=True)
class Case:
    """One model in one setting."""

    model: Any
    d: int = 7
    prepare: Callable[[np.ndarray], np.ndarray] = np.copy  # what is done to the samples first
    fit: Mapping[str, Any] = field(default_factory=dict)
    settings: tuple[Mapping[str, Any], ...] = ({}, {})  # in what the models of a stack differ
    machines: Mapping[str, Any] | None = None  # of the RBMs that training begins with
    more: bool = False  # is there a partial_fit afterwards?
    portable: bool = True  # do processors of other kinds come to the same numbers?


def absolute_and_square(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return a distance that is neither of the two that SOAE knows."""
    return ((x - y).abs() + (x - y) ** 2).sum(-1)


NET: dict[str, Any] = {"hidden": (6,), "latent_dim": 2, "batch_size": 25, "learning_rate": 0.01}
STEPS: dict[str, Any] = NET | {"n_iter": 12}
CONV: dict[str, Any] = STEPS | {"architecture": "conv", "hidden": (2,)}
WIDE: dict[str, Any] = STEPS | {"hidden": (), "latent_dim": 6}
MAP: dict[str, Any] = STEPS | {"grid": (3, 4), "temperature": (3.3, 0.4)}
NODES: dict[str, Any] = {
    "activation_threshold": 0.97,
    "max_nodes": 10,
    "n_iter": 12,
    "batch_size": 25,
    "repel_rate": 0.1,
    "life_decay": 0.3,
}
CODE_NODES: dict[str, Any] = NODES | {
    "hidden": (6,),
    "latent_dim": 3,
    "learning_rate": 0.01,
    "activation_threshold": 0.985,
}
PLACES: dict[str, Any] = {k: v for k, v in STEPS.items() if k != "latent_dim"} | {"n_iter": 10}
EMBEDDED: dict[str, Any] = STEPS | {"pretrain_epochs": 2, "n_iter": 10}
SIGMA: dict[str, Any] = {"sigma": (1.7, 0.6), "n_epochs": 4}

CASES: dict[str, Case] = {
    # Kohonen's map: three modes, on lattices of each kind
    **{
        f"som/{mode} {name}": Case(SOM(grid, mode, **SIGMA | how), d=4)
        for mode, how in (
            ("batch", {}),
            ("online", {"n_epochs": 2}),
            ("sgd", {"batch_size": 25, "learning_rate": (0.05, 0.01)}),
        )
        for name, grid in (
            ("rect", (3, 4)),
            ("hex", Grid(4, 3, topology="hex")),
            ("wrapped", Grid(3, 4, wrap=True)),
            ("wrapped hex", Grid(4, 3, topology="hex", wrap=True)),
        )
    },
    **{
        f"som/{mode} weighted": Case(
            SOM((3, 4), mode, batch_size=25, **SIGMA | {"n_epochs": 2}),
            d=4,
            fit={"sample_weight": WEIGHTS},
        )
        for mode in ("batch", "online", "sgd")
    },
    **{
        f"som/{mode} missing": Case(
            SOM((3, 4), mode, allow_missing=True, **SIGMA | {"n_epochs": 2}),
            d=4,
            prepare=with_gaps,
        )
        for mode in ("batch", "online")
    },
    **{
        f"som/{mode} {neighborhood}": Case(
            SOM((3, 4), mode, neighborhood=neighborhood, **SIGMA | {"n_epochs": 2}), d=4
        )
        for mode in ("batch", "online")
        for neighborhood in ("bubble", "epanechnikov")
    },
    "som/from samples": Case(SOM((3, 4), init="sample", decay="linear", **SIGMA), d=4),
    "som/in the order of the file": Case(
        SOM((3, 4), "online", shuffle=False, learning_rate_decay="linear", **SIGMA), d=4
    ),
    "som/iterations": Case(SOM((3, 4), "sgd", n_iter=7, batch_size=25, sigma=(1.7, 0.6)), d=4),
    **{
        f"som/{mode} and more": Case(SOM((3, 4), mode, **SIGMA | {"n_epochs": 3}), d=4, more=True)
        for mode in ("batch", "online", "sgd")
    },
    # nodes with relevances
    **{
        f"somrl/{life} {repel}": Case(SOMRL(repel=repel, life_rule=life, **NODES), d=5)
        for life in ("batch", "update")
        for repel in ("signed", "literal", None)
    },
    "somrl/full": Case(SOMRL(**NODES | {"max_nodes": 4, "activation_threshold": 0.99}), d=5),
    "somrl/and more": Case(SOMRL(**NODES), d=5, more=True),
    "somrl/apart": Case(
        SOMRL(**NODES), d=5, settings=({"activation_threshold": 0.95, "node_rate": 0.3}, {})
    ),
    **{
        f"dcsomrl/{life} {repel}": Case(DCSOMRL(repel=repel, life_rule=life, **CODE_NODES))
        for life, repel in (
            ("batch", "signed"),
            ("batch", "literal"),
            ("batch", None),
            ("update", "signed"),
        )
    },
    "dcsomrl/scaled": Case(
        DCSOMRL(input_scaling=(0.5, 0.5), **CODE_NODES | {"activation_threshold": 0.995})
    ),
    "dcsomrl/apart": Case(DCSOMRL(**CODE_NODES), settings=({"alpha": 1.0, "life_decay": 0.1}, {})),
    # autoencoders
    "autoencoder/dense": Case(Autoencoder(**NET, n_epochs=4)),
    "autoencoder/two layers": Case(Autoencoder(**STEPS | {"hidden": (6, 4)})),
    "autoencoder/conv": Case(Autoencoder(**CONV), d=16),
    "autoencoder/conv of an odd image": Case(
        Autoencoder(**CONV | {"hidden": (2, 3), "image_shape": (3, 5)}), d=15
    ),
    "autoencoder/bernoulli": Case(Autoencoder(**STEPS, likelihood="bernoulli")),
    "autoencoder/conv bernoulli": Case(Autoencoder(**CONV, likelihood="bernoulli"), d=16),
    "autoencoder/tied": Case(Autoencoder(**STEPS, tied=True)),
    "autoencoder/in the order of the file": Case(Autoencoder(**STEPS, shuffle=False)),
    "autoencoder/apart": Case(Autoencoder(**STEPS), settings=({"learning_rate": 0.005}, {})),
    **{
        f"autoencoder/{activation}": Case(Autoencoder(**STEPS, activation=activation))
        for activation in ("sigmoid", "tanh", "linear")
    },
    **{
        f"autoencoder/code {code}": Case(Autoencoder(**STEPS, code=code))
        for code in ("relu", "sigmoid", "tanh")
    },
    **{
        f"autoencoder/denoising {corruption}": Case(
            DenoisingAutoencoder(**STEPS, corruption=corruption, noise=0.2)
        )
        for corruption in ("gaussian", "masking", "salt-and-pepper")
    },
    "autoencoder/denoising unlimited": Case(DenoisingAutoencoder(**STEPS, clip=None)),
    "autoencoder/sparse kl": Case(SparseAutoencoder(**WIDE, weight=0.1), d=5),
    "autoencoder/sparse l1": Case(SparseAutoencoder(**WIDE, sparsity="l1", weight=0.1), d=5),
    "autoencoder/k-sparse": Case(
        SparseAutoencoder(**WIDE, sparsity="k-sparse", k=(5, 2), code="linear", tied=True),
        d=5,
    ),
    "autoencoder/contractive": Case(ContractiveAutoencoder(**WIDE, weight=0.1), d=5),
    "autoencoder/contractive deep": Case(ContractiveAutoencoder(**STEPS, code="tanh")),
    "autoencoder/contractive conv": Case(ContractiveAutoencoder(**CONV), d=16),
    # Boltzmann machines, and what is begun with them
    **{
        f"rbm/{code}": Case(RBM(4, code, n_epochs=4, batch_size=25, learning_rate=0.02))
        for code in ("sigmoid", "linear")
    },
    "rbm/pretrained": Case(
        Autoencoder(**STEPS, activation="sigmoid", likelihood="bernoulli"),
        machines={"n_epochs": 2, "learning_rate": 0.05},
    ),
    "rbm/pretrained tied": Case(
        Autoencoder(
            **STEPS, activation="sigmoid", likelihood="bernoulli", code="sigmoid", tied=True
        ),
        machines={"n_epochs": 2, "learning_rate": 0.05},
    ),
    # maps on continuous spaces
    **{
        f"soae/{name}": Case(SOAE(space, **PLACES))
        for name, space in (("plane", Euclidean(2)), ("torus", Torus(2)), ("sphere", Sphere(2)))
    },
    **{
        f"soae/{name} gaussian": Case(SOAE(space, **PLACES, neighborhood="gaussian"))
        for name, space in (("plane", Euclidean(2)), ("torus", Torus(2)), ("sphere", Sphere(2)))
    },
    "soae/joint": Case(SOAE(**PLACES, training="joint")),
    "soae/importance": Case(SOAE(**PLACES, importance_sampling=True)),
    "soae/joint importance": Case(
        SOAE(Sphere(2), **PLACES, training="joint", importance_sampling=True)
    ),
    "soae/l1": Case(SOAE(**PLACES, distance="l1", decay="linear")),
    "soae/own distance": Case(SOAE(**PLACES, distance=absolute_and_square)),
    "soae/more steps": Case(SOAE(Sphere(2), **PLACES, encoder_steps=2, decoder_steps=3)),
    "soae/more steps importance": Case(
        SOAE(**PLACES, encoder_steps=2, decoder_steps=3, importance_sampling=True)
    ),
    "soae/conv": Case(SOAE(**PLACES | {"architecture": "conv", "hidden": (2,)}), d=16),
    "soae/apart": Case(
        SOAE(**PLACES), settings=({"sigma": (0.9, 0.2), "learning_rate": 0.005}, {})
    ),
    # variational autoencoders
    "vae/gaussian": Case(VAE(**STEPS)),
    "vae/fixed noise": Case(VAE(**STEPS, noise=0.2, beta=2.0)),
    "vae/bernoulli": Case(VAE(**STEPS, likelihood="bernoulli")),
    "vae/binarize": Case(VAE(**STEPS, likelihood="bernoulli", binarize=True)),
    "vae/linear": Case(VAE(**STEPS | {"hidden": (), "n_iter": None, "n_epochs": 4})),
    "vae/conv": Case(VAE(**CONV), d=16),
    "vae/apart": Case(VAE(**STEPS), settings=({"beta": 0.5}, {"beta": 4.0})),
    "vae/rates apart": Case(VAE(**STEPS), settings=({"beta": 4.0, "learning_rate": 0.005}, {})),
    # maps of codes
    "desom/dense": Case(DESOM(**MAP, gamma=0.1)),
    "desom/conv": Case(DESOM(**MAP | CONV, gamma=0.1), d=16),
    "desom/window": Case(DESOM(**MAP, gamma=0.1, neighborhood="window")),
    "desom/as released": Case(DESOM(**MAP, gamma=0.1, grid_distance="desom-code")),
    "desom/pretrained": Case(DESOM(**MAP, pretrain_epochs=1)),
    "desom/linear decay": Case(
        DESOM(**MAP, gamma=0.1, decay="linear", update_interval=3, shuffle=True)
    ),
    "desom/hex": Case(
        DESOM(
            **MAP | {"grid": Grid(4, 3, topology="hex", wrap=True)},
            gamma=0.1,
            grid_distance="euclidean",
        )
    ),
    # the baselines of clustering
    "clustering/kerasom": Case(
        Kerasom((3, 4), (3.3, 0.4), n_iter=12, batch_size=25, learning_rate=0.02), d=4
    ),
    "clustering/kerasom window": Case(
        Kerasom(
            (3, 4), (3.3, 0.4), neighborhood="window", n_iter=12, batch_size=25, learning_rate=0.02
        ),
        d=4,
    ),
    "clustering/dec": Case(DEC(3, **EMBEDDED, update_interval=4)),
    "clustering/idec": Case(IDEC(3, **EMBEDDED, update_interval=4)),
    "clustering/dcn": Case(DCN(3, gamma=0.1, **EMBEDDED)),
    "clustering/aec": Case(AEC(3, gamma=0.1, **EMBEDDED)),
    "clustering/deep k-means": Case(DeepKMeans(3, gamma=0.1, alpha=0.1, n_alphas=5, **EMBEDDED)),
    "clustering/deep neural maps": Case(
        DeepNeuralMaps((3, 4), 0.1, (3.3, 0.4), **EMBEDDED, update_interval=4)
    ),
    "clustering/vade": Case(VaDE(3, **EMBEDDED)),
    # Its embeddings begin as PyTorch's normal numbers in float32, whose last bits depend on the
    # processor's vector units.
    "clustering/som-vae": Case(SOMVAE((3, 4), **STEPS), portable=False),
    "clustering/som-vae straight": Case(
        SOMVAE((3, 4), straight_through=True, **STEPS), portable=False
    ),
    **{
        f"clustering/minisom {init}": Case(MiniSomMap((3, 4), n_iter=20, init=init), d=4)
        for init in ("sample", "pca", "random")
    },
    "clustering/minisom mixed": Case(
        MiniSomMap((3, 4), n_iter=20, sigma=1.7, decay="linear_decay_to_zero", random_order=True),
        d=4,
    ),
    # neighbor embedding
    **{
        f"sne/{kind}": Case(SNE(kind=kind, perplexity=8, n_iter=12))
        for kind in ("t", "symmetric", "sne")
    },
    "sne/random": Case(SNE(perplexity=8, n_iter=12, init="random")),
}

# ---------------------------------------------------------------- what is asked of a model

_MAP = ("labels_", "transform", "predict")
_CODE = ("transform", "decoded")
_NODES = ("centers_", "relevances_", "distances_", "connections_", "unplaced_", "memberships")
_ERRORS = ("quantization_error_", "topographic_error_")
ASKED: dict[str, tuple[str, ...]] = {
    "SOM": ("weights_", *_ERRORS, *_MAP),
    "SOMRL": (*_NODES, *_MAP),
    "DCSOMRL": (*_NODES, *_MAP, "decoded_centers_"),
    "Autoencoder": (*_CODE, "jacobian"),
    "DenoisingAutoencoder": _CODE,
    "SparseAutoencoder": (*_CODE, "jacobian"),
    "ContractiveAutoencoder": (*_CODE, "jacobian"),
    "RBM": _CODE,
    "SOAE": (*_CODE, "drawn", "score", "gradient_norms"),
    "VAE": (*_CODE, "drawn", "noise_", "posterior", "elbo", "log_likelihood"),
    "DESOM": (*_CODE, "labels_", "predict", "prototypes_", "decoded_prototypes_"),
    "Kerasom": ("weights_", *_MAP),
    "DEC": (*_MAP, "decoded", "centers_"),
    "IDEC": (*_MAP, "decoded", "centers_"),
    "DCN": (*_MAP, "decoded", "centers_"),
    "AEC": (*_MAP, "decoded", "centers_"),
    "DeepKMeans": (*_MAP, "decoded", "centers_"),
    "DeepNeuralMaps": (*_MAP, "decoded", "prototypes_", "decoded_prototypes_"),
    "VaDE": (*_MAP, "decoded", "centers_"),
    "SOMVAE": (*_MAP, "decoded", "prototypes_", "decoded_prototypes_"),
    "MiniSomMap": ("weights_", *_MAP),
    "SNE": ("embedding_", "kl_divergence_"),
}
SPECIAL: dict[str, Callable[[Any, np.ndarray], Any]] = {
    "decoded_prototypes_": lambda model, few: model.decoded_prototypes_[:2],
    "decoded_centers_": lambda model, few: model.decoded_centers_[:2],
    "jacobian": lambda model, few: model.jacobian(few[:1]),
    "decoded": lambda model, few: model.inverse_transform(model.transform(few)),
    "drawn": lambda model, few: model.sample(2, random_state=0),
    "gradient_norms": lambda model, few: gradient_norms(model, few),
    "posterior": lambda model, few: np.stack(model.posterior(few)),
    "elbo": lambda model, few: model.elbo(few, 2, random_state=0),
    "log_likelihood": lambda model, few: model.log_likelihood(few, 3, random_state=0),
}


def learned(model: Any, few: np.ndarray) -> Numbers:
    """Return what a fitted model knows and what it says about a few new samples."""
    found = {f"history {name}": v for name, v in getattr(model, "history_", {}).items()}
    found |= {PARAMETER + name: v for name, v in getattr(model, "parameters_", {}).items()}
    for question in ASKED[type(model).__name__]:
        if question in SPECIAL:
            answer = SPECIAL[question](model, few)
        else:
            answer = getattr(model, question)
            answer = answer(few) if callable(answer) else answer
        found[question] = answer
    return {name: np.asarray(v, dtype=np.float64) for name, v in found.items()}


def run(case: Case) -> Iterator[tuple[str, str, Numbers]]:
    """Yield "alone" or "stacked", the seed, and what was learned.

    The first seed alone and both in a stack; of models that know no stacks, each seed alone.
    """
    X, few = case.prepare(samples(60, case.d)), samples(2, case.d, seed=1)
    stacked = not isinstance(case.model, SOM | SNE | MiniSomMap)
    starts = None
    if case.machines is not None:
        starts = pretrained(case.model, X, SEEDS, **case.machines)
    for s, seed in enumerate(SEEDS[:1] if stacked else SEEDS):
        model = clone(case.model).set_params(**case.settings[s])
        if hasattr(model, "random_state"):
            model.set_params(random_state=seed)
        begin = {} if starts is None else {"start": starts[s]}
        model.fit(X, **case.fit, **begin)
        yield "alone", str(seed), _used(case, model, X, few)
    if stacked:
        models = fit_seeds(case.model, X, SEEDS, settings=case.settings, start=starts)
        for seed, model in zip(SEEDS, models, strict=True):
            yield "stacked", str(seed), _used(case, model, X, few)


def _used(case: Case, model: Any, X: np.ndarray, few: np.ndarray) -> Numbers:
    if case.more:
        model.partial_fit(X[:40])
    return learned(model, few)


# ---------------------------------------------------------------- records


def path_of(family: str) -> Path:
    return RECORDS / f"{family}.npz"


def record(family: str) -> None:
    """Write what the models of a family learn to one file: all numbers, and an index."""
    index: dict[str, dict[str, dict[str, tuple[int, ...]]]] = {}
    numbers: list[np.ndarray] = []
    for name in CASES:
        if name.split("/")[0] != family:
            continue
        index[name] = {}
        for _, seed, found in run(CASES[name]):
            if seed not in index[name]:
                index[name][seed] = {what: values.shape for what, values in found.items()}
                numbers += [values.ravel() for values in found.values()]
    RECORDS.mkdir(exist_ok=True)
    np.savez_compressed(
        path_of(family),
        numbers=np.concatenate(numbers),
        index=np.array(json.dumps(index)),
        processor=np.array(processor()),
    )


def processor() -> str:
    """Return what decides the numbers of models that are not portable."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


@functools.cache
def recorded_by(family: str) -> str:
    with np.load(path_of(family)) as file:
        return str(file["processor"])


@functools.cache
def recorded(family: str) -> dict[str, dict[str, Numbers]]:
    """Return, by case and seed, what `record` wrote."""
    with np.load(path_of(family)) as file:
        numbers, index = file["numbers"], json.loads(str(file["index"]))
    found, at = index, 0
    for by_seed in index.values():
        for shapes in by_seed.values():
            for what, shape in shapes.items():
                size = math.prod(shape)
                shapes[what] = numbers[at : at + size].reshape(shape)
                at += size
    return cast("dict[str, dict[str, Numbers]]", found)


def deviations(found: Numbers, expected: Numbers) -> dict[str, float]:
    """Return how far each quantity is from its record, in units of what `TOLERANCE` allows.

    Parameters are compared by name; those that bear another name or shape now, all in one, sorted.
    """
    found, expected, far = dict(found), dict(expected), {}
    moved = [
        what
        for what in {*found, *expected}
        if what.startswith(PARAMETER)
        and np.shape(found.get(what, 0)) != np.shape(expected.get(what, 0))
    ]
    for numbers in (found, expected):
        parts = [numbers.pop(what).ravel() for what in moved if what in numbers]
        if parts:
            numbers["parameters moved"] = np.sort(np.concatenate(parts))
    for what, values in expected.items():
        far[what] = math.inf
        if what in found and found[what].shape == values.shape:
            scale = np.abs(values) + np.abs(values).max(initial=0) / 100
            apart = np.abs(found[what] - values)
            allowed = TOLERANCE * np.where(scale > 0, scale, 1)
            far[what] = float((apart / allowed).max(initial=0))
    return far


@pytest.mark.filterwarnings("ignore:.*no node was inserted for")
@pytest.mark.parametrize("name", CASES)
def test_losses_and_parameters_are_those_recorded_alone_and_stacked(name):
    family, case = name.split("/")[0], CASES[name]
    if not case.portable and recorded_by(family) != processor():
        pytest.skip(f"recorded on {recorded_by(family)}, this is {processor()}")
    expected = recorded(family)[name]
    for how, seed, found in run(case):
        far = deviations(found, expected[seed])
        wrong = {what: by * TOLERANCE for what, by in far.items() if not by <= 1}
        assert not wrong, f"{name}, seed {seed}, {how}: relative differences {wrong}"


def test_a_parameter_may_change_its_name_and_shape_but_not_its_values():
    W, b = np.arange(6.0).reshape(2, 3), np.ones(2)
    old = {f"{PARAMETER}W": W, f"{PARAMETER}b": b, "history loss": b}
    new = {f"{PARAMETER}weight": W.T, f"{PARAMETER}b": b, "history loss": b, "other": b}
    assert max(deviations(new, old).values()) == 0
    assert max(deviations(new | {f"{PARAMETER}weight": W.T * (1 + 1e-8)}, old).values()) > 1
    assert max(deviations(new | {f"{PARAMETER}b": b + 2e-9}, old).values()) > 1
    assert max(deviations(new | {"history loss": b + 5e-10}, old).values()) < 1
    assert math.isinf(deviations({"history loss": b[:1]}, {"history loss": b})["history loss"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", action="store_true", help="make the records anew")
    parser.add_argument("families", nargs="*", help="those meant, by default all")
    given = parser.parse_args()
    families = given.families or list(dict.fromkeys(name.split("/")[0] for name in CASES))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    warnings.filterwarnings("ignore", message=".*no node was inserted for")
    for family in families:
        if given.record:
            record(family)
        for name, case in CASES.items():
            if name.split("/")[0] == family:
                expected = recorded(family)[name]
                far = [
                    (by, what)
                    for _, seed, found in run(case)
                    for what, by in deviations(found, expected[seed]).items()
                ]
                by, what = max(far)
                print(f"{name:40s} {by * TOLERANCE:8.1e}  {what}")
