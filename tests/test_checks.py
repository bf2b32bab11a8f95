"""Parameters are declared by types and checked before anything runs, everywhere in one form."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pytest
import torch
from sklearn.base import clone

import somlib
from somlib import SOAE, SOM, VAE, Autoencoder, checks, data, fit_seeds, metrics, plots
from somlib.companion import cli
from somlib.spaces import Grid, GridLike, Torus
from somlib.training.schedules import Range

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (checks.Count, [1, np.int64(3)], [0, -1, 2.0, True, "1", None, NAN, 10**400]),
        (checks.CountOrZero, [0, 5], [-1, False]),
        (checks.Positive, [1, 0.5, np.float32(2), Fraction(1, 3)], [0, -1, INF, NAN, "1", True]),
        (checks.NotNegative, [0, 2.5], [-1e-9, INF, 10**400]),
        (checks.Fraction, [0, 1, 0.5], [-0.1, 1.1, NAN]),
        (checks.OpenFraction, [0.5], [0, 1]),
        (float, [-1, 2.5], [NAN, INF, None, "1", 1j]),
        (bool, [True, np.False_], [0, 1, "yes", None]),
        (str, ["a"], [None, 1, b"a"]),
        (checks.Device, ["auto", "cuda:1", torch.device("cpu")], ["tpu", "cuda:", None, 0]),
        (checks.Seed, [None, 0, np.random.default_rng(0)], [-1, 1.5, "seven", True]),
        (checks.Values, [[1], np.eye(2), torch.eye(2)], ["pca", None, 3]),
        (Literal["a", "b"], ["a"], ["c", None, ["a"]]),
        (Literal["a"] | None, ["a", None], ["b", False]),
        (checks.Positive | Literal["auto"], [1, "auto"], ["automatic", 0, None]),
        (tuple[int, float], [(1, 2.0), [1, 2], np.array([1, 2])], [(1,), "ab", (1, "2"), 3]),
        (Sequence[checks.Count], [(), [1, 2], range(1, 3)], ["12", (1, 0), 5, None]),
        (Range, [(2, 1), [1.0, 1.0]], [(1, 2), (1, 0), 3, ("3", "1"), (1, 2, 3), None]),
        (GridLike, [(2, 3), Grid(1, 1)], [(0, 3), 8, "ab", (2, 3, 4), None]),
        (Mapping[str, int], [{}, {"a": 1}], [None, [1]]),
        (Callable[[int], int], [len], [None, 1]),
        (Torus | None, [Torus(2), None], [Grid(2, 2), Torus]),
        (Any, [None, object()], []),
    ],
)
def test_a_declaration_accepts_and_refuses(annotation, good, bad):
    for value in good:
        checks.require("p", value, annotation)
    for value in bad:
        with pytest.raises(ValueError, match=r"^p=.+(must be|is unknown; choose one of|: )"):
            checks.require("p", value, annotation)


def test_a_message_shows_large_values_by_their_shape():
    with pytest.raises(ValueError, match=r"^n=<ndarray of float64, shape \(1000, 2\)> must"):
        checks.require("n", np.ones((1000, 2)), checks.Count)
    with pytest.raises(ValueError, match=r"^n='a{199} \.\.\. must be a whole"):
        checks.require("n", "a" * 10_000, checks.Count)


def test_a_function_with_checked_arguments_is_otherwise_the_same():
    @checks.arguments
    def sample(n: checks.Count, *rest: int, name: str = "a", **more: int) -> int:
        """Return n."""
        return n

    assert sample.__doc__ == "Return n."
    assert sample(2, 0, name="b", other=0) == 2
    for call in (lambda: sample(0), lambda: sample(n=0)):
        with pytest.raises(ValueError, match="n=0 must be a whole number of at least 1"):
            call()
    with pytest.raises(ValueError, match="name=None must be text"):
        sample(1, name=None)
    with pytest.raises(TypeError, match="missing a required argument: 'n'"):
        sample()


def test_parameters_of_any_dataclass_are_checked_in_subclasses_too():
    @dataclass
    class Base:
        n: checks.Count = 1

    @dataclass
    class Derived(Base):
        rate: checks.Positive = 1.0

    checks.parameters(Derived())
    with pytest.raises(ValueError, match="n=0 must be"):
        checks.parameters(Derived(n=0))
    with pytest.raises(ValueError, match="rate=0 must be"):
        checks.parameters(Derived(rate=0))


# ---------------------------------------------------------------- every estimator

ESTIMATORS = [getattr(somlib, name)() for name in somlib.ESTIMATORS]
BAD = {int: [NAN, "many", 1.5], float: [NAN, "fast", None], bool: [None, "yes", 2]}


@pytest.mark.parametrize("model", ESTIMATORS, ids=lambda model: type(model).__name__)
def test_every_parameter_is_declared_and_refused_before_anything_else(model):
    declared = checks.declared(type(model))
    assert set(declared) == set(model.get_params(deep=False))
    checks.parameters(model)
    for name, annotation in declared.items():
        assert checks.rule(annotation).text != "anything", name
        bad = [object(), 1j, *BAD.get(type(getattr(model, name)), [])]
        for value in bad:
            changed = clone(model).set_params(**{name: value})
            with pytest.raises(ValueError, match=rf"^{name}=.+(must be|is unknown|: )"):
                changed.fit(None)  # which is bad too, but later
            assert not hasattr(changed, "n_features_in_")


def test_other_arguments_of_fit_are_checked_first():
    model = Autoencoder((3,), 2, n_iter=1, batch_size=2)
    for use, message in (
        (lambda: model.fit(X, callbacks=None), "callbacks=None must be a sequence"),
        (lambda: SOM((2, 2)).fit(X, callbacks=3), "callbacks=3 must be a sequence"),
        (
            lambda: SOM((2, 2)).fit(X, checkpoint=3),
            "checkpoint=3 must be the path of a file",
        ),
        (lambda: fit_seeds(model, X, 5), "seeds=5 must be a sequence"),
        (lambda: fit_seeds(model, X, [0], settings={}), "settings={} must be a sequence"),
        (lambda: model.fit(X, callbacks=["a"]), r"callbacks=\['a'\] must be a sequence, each"),
        (lambda: model.fit(X, start="a"), "start='a' must be a DeepEstimator or None"),
        (lambda: fit_seeds(model, X, ["a"]), r"seeds=\['a'\] must be a sequence, each entry"),
    ):
        with pytest.raises(ValueError, match=message):
            use()


def test_a_network_that_no_memory_holds_is_refused_before_it_is_built():
    with pytest.raises(MemoryError, match="1 seeds of this network need about"):
        Autoencoder((10**7, 10**7), 2, n_iter=1, batch_size=2).fit(X)


def test_seeds_that_differ_are_checked_alike():
    with pytest.raises(ValueError, match="learning_rate='fast' must be a positive number"):
        fit_seeds(
            Autoencoder((3,), 2, n_iter=1, batch_size=2), np.eye(4), [0, 1],
            settings=[{"learning_rate": 0.1}, {"learning_rate": "fast"}],
        )  # fmt: skip


# ---------------------------------------------------------------- functions and options

X = np.random.default_rng(0).random((20, 3))
GRID = Grid(2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.topographic_error(X, X[:4], "2 × 2"), "grid='2 × 2' must be a Grid"),
        (lambda: metrics.distortion(X, X[:4], GRID, "1"), "sigma='1' must be a positive number"),
        (lambda: metrics.trustworthiness(X, X, 2.5), "n_neighbors=2.5 must be a whole number"),
        (lambda: metrics.trustworthiness(X, X, 2, Torus), "must be a space, with a method dist"),
        (lambda: metrics.knn_accuracy(X, [0] * 20, X, [0] * 20, None), "n_neighbors=None must"),
        (lambda: metrics.dead_units([0], "4"), "n_units='4' must be a whole number"),
        (lambda: metrics.sharpness(X, X, 3), r"image_shape=3 must be \(a whole number"),
        (lambda: plots.hit_map([0], None), "grid=None must be a Grid"),
        (lambda: plots.hit_map([0], GRID, ax=3), "ax=3 must be an Axes or None"),
        (lambda: plots.palette(0), "n=0 must be a whole number of at least 1"),
        (lambda: plots.error_curves(None), "history=None must be a Mapping"),
        (lambda: data.load(None), "unknown data set None"),
        (lambda: data.load("digits").sample(True), "n=True must be a whole number"),
        (lambda: Torus(2).sample(-1, np.random.default_rng(0)), "n=-1 must be a whole number"),
        (lambda: Torus(2).perturb(X[:, :2], 1, 0), "generator=0 must be a Generator"),
        (lambda: GRID.perturb(GRID.coords, -1, np.random.default_rng(0)), "sigma=-1 must be a p"),
        (lambda: SOAE().sample(0), "n=0 must be a whole number"),
        (lambda: VAE().elbo(X, n_draws="1"), "n_draws='1' must be a whole number"),
        (lambda: VAE().sample(random_state=-1), "random_state=-1 must be None, a whole number"),
    ],
)
def test_arguments_of_functions_and_methods_are_checked_first(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("SOM -p device=None", "-p device=None must be 'auto', 'cpu', 'cuda'"),
        ("DESOM -p learning_rate=fast", "-p learning_rate='fast' must be a positive number"),
        ("DESOM -p gamma=None", "-p gamma=None must be a finite number of at least 0"),
        ("SOM -p n_epochs=1e3", "-p n_epochs=1000.0 must be a whole number of at least 1"),
        ("SOM -p mode=offline", "-p mode='offline' is unknown; choose one of"),
        ("SOM -p grid=(0,3)", r"-p grid=\(0, 3\): rows=0 must be a whole number"),
    ],
)
def test_options_are_refused_before_data_are_read(options, message, capsys, tmp_path):
    output = tmp_path / "model.npz"
    arguments = ["fit", *options.split(), "--data", "nothing.npy", "--output", str(output)]
    assert cli.main(arguments) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not output.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.npy", b""),
        ("text.NPY", b"not an array"),
        ("structured.npy", np.zeros(3, [("a", "f8")])),
        ("letters.npy", np.array([["a", "b"]])),
        ("flat.npy", np.zeros(3)),
    ],
)
def test_a_file_that_holds_no_samples_is_named(name, content, capsys, tmp_path):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    output = str(tmp_path / "model.npz")
    assert cli.main(["fit", "SOM", "--data", str(path), "--output", output]) == 2
    assert name in capsys.readouterr().err


def test_an_array_as_checkpoint_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(ValueError, match=r"x\.npy is damaged or was not written by somlib"):
        SOM((2, 2)).fit(X, checkpoint=tmp_path / "x.npy")
    with pytest.raises(ValueError, match="checkpoint=3 must be"):
        Autoencoder((2,), 2, n_iter=1, batch_size=2).fit(X, checkpoint=3)
