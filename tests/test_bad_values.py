"""Every parameter of everything public is given the same list of bad values, and so are options.

Each is refused by a ValueError or TypeError that names the parameter and shows the value, before
any work has begun; or it is a value like others, which `ACCEPTED` lists with the reason.
"""

import argparse
import ast
import inspect
import re
import shutil
import warnings
from functools import cache as once

import matplotlib.pyplot as plt
import minisom
import numpy as np
import pandas as pd
import pytest
from helpers import SMALL, make_project, quiet, require_none, small
from scipy import sparse

import somlib
from somlib import Euclidean, Grid, Sphere, Torus, data, files, fit_seeds, metrics, plots, spaces
from somlib.companion import book, cli, pretraining, report, results, runner, slides
from somlib.models import sne, som
from somlib.models.baselines import dcn, dec, deep_kmeans, vade
from somlib.training import ensembles

# ---------------------------------------------------------------- bad values

X = np.random.default_rng(0).random((24, 6))
HOLE = np.where(np.arange(6) == 2, np.nan, X)
BAD = {
    "None": None,
    "text": "no such",
    "empty text": "",
    "bytes": b"1",
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": -float("inf"),
    "zero": 0,
    "negative": -1,
    "one": 1,
    "fraction": 1.5,
    "huge": 10**400,
    "bool": True,
    "complex": 1j,
    "empty": (),
    "one entry": (1,),
    "seven entries": (1,) * 7,
    "texts": ("a", "b"),
    "huge entries": (10**400, 10**400),
    "ragged": [[1.0], [1.0, 2.0]],
    "matrix": X,
    "dict": {"a": 1},
    "set": {1},
    "object": object(),
    "function": len,
    "class": int,
}
BAD_ARRAYS = {
    "array of text": X.astype(str),
    "array of dates": np.array(["2020-01-01"], "M8[D]"),
    "array of NaN": HOLE,
    "array of infinity": np.where(np.isnan(HOLE), np.inf, HOLE),
    "array of complex": X + 1j,
    "array of None": np.full((24, 6), None),
    "array without rows": X[:0],
    "array without columns": X[:, :0],
    "array of another width": X[:, :5],
    "array of another length": X[:23],
    "array of one axis": X[:, 0],
    "array of three axes": X[None],
    "sparse": sparse.csr_array(X),
}
"""Bad values of parameters that take arrays, besides the others."""

# ---------------------------------------------------------------- what is public

GRID = Grid(2, 3)
LABELS = np.arange(24) % 6
POINTS = X[:, :2]
VALID = {
    "a": LABELS,
    "b": LABELS[::-1],
    "A": X,
    "B": X[::-1],
    "X": X,
    "Z": POINTS,
    "Z_new": POINTS,
    "average": "geometric",
    "clusters": np.arange(6) % 2,
    "columns": ["error"],
    "drawn": X,
    "estimator": small("Autoencoder"),
    "generator": np.random.default_rng(0),
    "grid": GRID,
    "history": {"quantization_error": [2.0, 1.0], "topographic_error": [0.5, 0.1]},
    "image_shape": (2, 3),
    "inside": X[:3],
    "k": 2,
    "labels": LABELS,
    "m": 2,
    "n": 3,
    "n_neighbors": 3,
    "n_units": 6,
    "name": "digits",
    "outside": X[3:6],
    "paths": X.reshape(4, 6, 6),
    "queries": POINTS,
    "reference": X,
    "rows": 2,
    "cols": 3,
    "seeds": [0, 1],
    "sigma": 1.0,
    "snapshots": [X[:6, :2], X[6:12, :2]],
    "som": quiet(small("SOM").fit, X),
    "space": GRID,
    "table": pd.DataFrame({"units": [4, 4, 9], "error": [3.0, 3.2, 2.0]}),
    "values": np.arange(6.0),
    "weights": X[:6],
    "x": "units",
    "x_0": X[:2],
    "x_1": X[2:4],
    "y": LABELS % 3,
    "y_new": LABELS % 3,
}
"""Good arguments by their names, of all functions together."""

OTHERWISE = {
    "plots.map_in_data_space": {"weights": X[:6, :2], "X": POINTS},
    "plots.frames": {"X": POINTS},
    "VAE.direction": {"values": LABELS},
    "SOAE.interpolate": {"a": X[:2], "b": X[2:4]},
    "metrics.dead_units": {"labels": 0 * LABELS},
}
"""Good arguments of a function that takes another kind under that name."""


def parameters(function):
    """Return the names of a function's parameters, without self."""
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(function).parameters.values()
    return [p.name for p in found if p.kind in plain and p.name != "self"]


def needed(where, function):
    """Return good arguments for the parameters that have no default, and for all arrays."""
    own = VALID | OTHERWISE.get(where, {})
    return {
        p.name: own[p.name]
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.name in own
    }


def functions_of(module, names):
    return {f"{module.__name__.rpartition('.')[2]}.{n}": getattr(module, n) for n in names}


def public_functions(module):
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]


# methods of spaces that are left out are called on tensors, many times in each iteration
FUNCTIONS = {
    **functions_of(metrics, metrics.__all__),
    **functions_of(plots, sorted({*public_functions(plots)} - {"one_line", "literal", "style"})),
    **functions_of(spaces, ["Grid", "Euclidean", "Sphere", "Torus"]),
    **{
        f"{type(space).__name__}.{name}": getattr(space, name)
        for space in (GRID, Euclidean(2), Sphere(2), Torus(2))
        for name in ("sample", "mesh", "nearest", "edges", "adjacency", "adjacent", "separate")
        if hasattr(space, name)
    },
    "data.load": data.load,
    "fit_seeds": fit_seeds,
}
ELSEWHERE = {"save", "load", "corrupt"}
"""Methods whose answers are tested with the files, and one that is called in training alone."""


def methods(name):
    """Return the names of an estimator's own methods."""
    cls = getattr(somlib, name)
    return [
        method
        for method in dir(cls)
        if not method.startswith("_")
        and method not in ELSEWHERE
        and inspect.isfunction(getattr(cls, method))
        and getattr(cls, method).__module__.startswith("somlib")
    ]


METHODS = [
    (estimator, method, name)
    for estimator in somlib.ESTIMATORS
    for method in methods(estimator)
    for name in parameters(getattr(getattr(somlib, estimator), method))
    if (estimator, method) != ("SOMRL", "inverse_transform")  # which says that there is none
]

# ---------------------------------------------------------------- accepted values

A_COUNT = {"one": "a count of one"}
A_SWITCH = {"bool": "a switch is True or False"}
A_WEIGHT = {"zero": "a term without weight", "one": "a weight", "fraction": "a weight"}
A_RATE = {"one": "a positive number", "fraction": "a positive number"}
A_SHARE = {"zero": "the end of the range from 0 to 1", "one": "the end of the range from 0 to 1"}
A_NUMBER = dict.fromkeys(("negative", "zero", "one", "fraction"), "a number")
BY_DEFAULT = {"None": "the default, which the documentation explains"}
SAMPLES = {"matrix": "samples", "array of another length": "more samples, or fewer"}
ANY_SAMPLES = SAMPLES | {"array of another width": "more features, or fewer"}
PLACES = {"matrix": "an embedding", "array of another width": "of more dimensions, or fewer"}
CLASSES = {"array of one axis": "classes may be any numbers"}
UNITS = {"one entry": "a unit", "seven entries": "units of seven samples"}

ACCEPTED: dict[str, dict[str, str]] = {
    # parameters of estimators
    **dict.fromkeys(
        [
            *("batch_size", "cols", "decoder_steps", "encoder_steps", "k", "latent_dim", "m"),
            *("max_nodes", "n", "n_alphas", "n_clusters", "n_components", "n_draws", "n_epochs"),
            *("n_iter", "n_neighbors", "n_units", "rate_interval", "rows", "update_interval"),
        ],
        A_COUNT,
    ),
    **dict.fromkeys(
        [
            *("allow_missing", "importance_sampling", "log", "progress", "random_order"),
            *("shared", "shuffle", "straight_through", "tied", "wrap"),
        ],
        A_SWITCH,
    ),
    **dict.fromkeys(["beta", "gamma", "weight"], A_WEIGHT),
    **dict.fromkeys(["learning_rate", "neighborhood_decay", "relevance_smoothness"], A_RATE),
    **dict.fromkeys(["life_decay", "rate_decay", "relevance_rate", "repel_rate"], A_SHARE),
    **dict.fromkeys(["clip", "image_shape", "input_scaling", "repel"], BY_DEFAULT),
    "hidden": {
        "empty": "no hidden layer",
        "one entry": "a hidden layer of one unit",
        "seven entries": "seven hidden layers",
    },
    **{
        f"{name}.n_iter": A_COUNT | {"None": "n_epochs counts instead"}
        for name in somlib.ESTIMATORS
        if getattr(somlib, name)().get_params().get("n_iter", 1) is None
    },
    "node_rate": {"one": "the end of the range from 0 to 1"},
    "perplexity": {"fraction": "a number above 1"},
    "pretrain_epochs": {"zero": "no pre-training"} | A_COUNT,
    "layer_epochs": {"zero": "as many as pretrain_epochs of the configuration"},
    "random_state": BY_DEFAULT | {"zero": "a seed like others", "one": "a seed like others"},
    "DCSOMRL.alpha": A_WEIGHT,
    "DeepKMeans.alpha": A_RATE,
    "DenoisingAutoencoder.noise": A_WEIGHT,
    "MiniSomMap.sigma": A_RATE,
    "SNE.early_exaggeration": A_RATE,
    "SOAE.interpolate.a": {},
    "SOAE.interpolate.b": {},
    "SOAE.space": {},
    "SOAE.distance": {"function": "a function of two tensors", "class": "it can be called"},
    "SOM.learning_rate": BY_DEFAULT,
    "SOM.learning_rate_decay": BY_DEFAULT,
    "SOM.n_iter": {"None": "n_epochs counts instead"},
    "SOM.sigma": BY_DEFAULT,
    "SOMVAE.alpha": A_WEIGHT,
    "VAE.n_epochs": A_COUNT | {"None": "n_iter counts instead"},
    "VAE.n_iter": A_COUNT,
    "VAE.noise": A_RATE,
    # arguments of their methods
    **{
        f"{estimator}.{method}.y": {"all": "ignored, as scikit-learn's pipelines need"}
        for estimator, method, name in METHODS
        if name == "y" and method != "label_units"
    },
    **{f"{e}.{method}.X": ANY_SAMPLES for e, method, _ in METHODS if "fit" in method},
    "X": SAMPLES,
    "callbacks": {"empty": "nothing is called"},
    "checkpoint": BY_DEFAULT | {"text": "a file that is not there yet"},
    "sample_weight": BY_DEFAULT
    | {"one": "all samples count alike", "fraction": "all samples count alike"},
    "start": BY_DEFAULT,
    "DCSOMRL.predict.noise": A_SWITCH,
    "SOM.cluster.k": BY_DEFAULT,
    "SOM.label_units.X": {"matrix": "samples"},
    "SOM.label_units.y": CLASSES,
    "SOMRL.predict.noise": A_SWITCH,
    "VAE.direction.X": {"matrix": "samples"},
    "VAE.direction.values": {"array of one axis": "an attribute of the samples"},
    # arguments of functions
    **dict.fromkeys(["ax", "axes", "class_names", "connectivity", "hue", "names"], BY_DEFAULT),
    **dict.fromkeys(["settings", "space", "text"], BY_DEFAULT),
    **dict.fromkeys(["A", "B", "drawn", "reference"], SAMPLES),
    "a": {"zero": "a unit", "one": "a unit", "one entry": "a unit"},
    "b": {"zero": "a unit", "one": "a unit", "one entry": "a unit"},
    "high": A_NUMBER,
    "label": BY_DEFAULT | {"text": "the caller's own words", "empty text": "a bar without words"},
    "low": A_NUMBER,
    "paths": {"array of three axes": "a path of 24 points"},
    "seeds": UNITS | {"set": "seeds in any iterable"},
    "titles": BY_DEFAULT | {"texts": "two titles for two frames"},
    "y": CLASSES,
    "y_new": CLASSES,
    **{
        f"metrics.{name}.{argument}": PLACES
        for name in (
            *("c_measure", "continuity", "kruskal_shepard_error", "neighborhood_preservation"),
            "trustworthiness",
        )
        for argument in ("X", "Z")
    },
    **{
        f"metrics.{name}.n_neighbors": A_COUNT | UNITS
        for name in ("continuity", "neighborhood_preservation", "trustworthiness")
    },
    "Grid.mesh.n": {"all": "a lattice is its own sheet, whatever n is"},
    "fit_seeds.X": ANY_SAMPLES,
    **{
        f"plots.{name}.clusters": BY_DEFAULT
        for name in (
            *("class_pies", "component_planes", "hit_map", "prototypes", "u_matrix"),
            "unit_values",
        )
    },
    "metrics.clustering_accuracy.labels": CLASSES,
    "metrics.dead_units.labels": UNITS,
    "metrics.distortion.sigma": A_RATE,
    "metrics.nmi.labels": CLASSES,
    "metrics.purity.labels": CLASSES,
    "metrics.quantization_error.weights": SAMPLES,
    "metrics.sharpness.image_shape": {},
    "metrics.summary.y": BY_DEFAULT | CLASSES,
    "spaces.Sphere.m": {},
    "plots.cluster_images.image_shape": {},
    "plots.frames.X": BY_DEFAULT,
    "plots.hit_map.labels": UNITS,
    "plots.map_in_data_space.X": BY_DEFAULT,
    "plots.projection.labels": UNITS,
    "plots.projection.y": BY_DEFAULT | CLASSES,
    "plots.prototypes.image_shape": {},
}
"""By parameter, or by function and parameter: names of values, each with the reason. The entry of a
function stands instead of that of the parameter."""

NOUNS = {
    "data.load.name": "name|data set",
    "plots.seeds.hue": "hue|columns",
    "plots.seeds.x": "x|columns",
    "--only": "notebook",
    "MODEL": "model",
}
"""What messages call a parameter or an option whose values are names of something."""


# ---------------------------------------------------------------- answers


class Begun(Exception):  # noqa: N818 - it is an answer
    """Work has begun: the arguments were taken."""


def begin(*_args, **_options):
    raise Begun


@pytest.fixture(autouse=True)
def _no_work(monkeypatch):
    """Stop all work where it begins: at the first iteration, or the figure."""
    monkeypatch.setattr(som, "run_loop", begin)
    monkeypatch.setattr(som.SOM, "_epoch", begin)
    monkeypatch.setattr(ensembles, "run_loop", begin)
    for module in (dec, dcn, deep_kmeans):
        monkeypatch.setattr(module, "kmeans", lambda Z, K, generator: (Z[:K], Z[:, 0].long()))
    monkeypatch.setattr(vade.VaDENetwork, "initialize", lambda *_: None)
    monkeypatch.setattr(sne, "gradient", begin)
    monkeypatch.setattr(minisom.MiniSom, "train", begin)
    monkeypatch.setattr(plt, "subplots", begin)


DISAGREE = ("array of another length", "array of another width", "matrix")
"""Values that are good alone: a message may name the argument with which they disagree."""


def shows(message, value):
    """Return whether a message says what it has found: a value, or an array's shape or dtype."""
    words = [repr(value)[:40], str(value)[:40] or "''", "NaN", "infinity", "sparse", "too large"]
    words += ["non-zero"] if isinstance(value, int) and not value else []
    if isinstance(value, str | bytes | tuple | list | set | dict):
        words += [f"{len(value)} {noun}" for noun in ("dicts", "entries", "labels", "models")]
        words += ["equal length"]
        words += ["empty"] if not value else [repr(list(value))]
    if not isinstance(value, list):
        array = np.asarray(value)
        words += [str(array.dtype), str(array.shape), *map(str, array.shape)]
        words += [repr(entry)[:40] for entry in np.ravel(array)[:1].tolist()]
    return any(re.search(rf"(?<!\w){re.escape(word)}", message) for word in words)


def answer(noun, kind, value, call):
    """Return "accepted", "" for a refusal in the usual form, or what is wrong with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except Begun:
            return "accepted"
        except (ValueError, TypeError) as error:
            message = str(error)
            named = re.search(rf"\b({noun})\b", message) or kind in DISAGREE
            if named and shows(message, value):
                return ""
            lacks = "value" if named else "name"
            return f"without the {lacks}: {type(error).__name__}: {message[:150]}"
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:150]}"
    return "accepted"


def wrong_answers(where, name, call):
    """Return the bad values of one parameter whose answers are neither refusals nor listed."""
    accepted = ACCEPTED.get(f"{where}.{name}", ACCEPTED.get(name, {}))
    wrong = {}
    arrays = isinstance(VALID.get(name), np.ndarray)
    for kind, value in (BAD | BAD_ARRAYS if arrays else BAD).items():
        noun = NOUNS.get(f"{where}.{name}", name)
        found = answer(noun, kind, value, lambda value=value: call(value))
        expected = "accepted" if kind in accepted or "all" in accepted else ""
        if found != expected:
            wrong[kind] = found or "refused, but listed as accepted"
    return wrong


# ---------------------------------------------------------------- tests


def learned(model):
    described = ("n_features_in_", "feature_names_in_")  # the data, not what was learned
    return [n for n in vars(model) if n.endswith("_") and n[0] != "_" and n not in described]


@pytest.mark.parametrize(
    ("estimator", "name"),
    [(e, name) for e in somlib.ESTIMATORS for name in parameters(getattr(somlib, e))],
)
def test_parameters_of_estimators(estimator, name):
    def fit(value):
        model = small(estimator, **{name: value})
        try:
            model.fit(X)
        except Begun:
            raise
        except Exception:
            assert learned(model) == [], "learned before the refusal"
            raise

    require_none(wrong_answers(estimator, name, fit))


@pytest.mark.parametrize(
    ("estimator", "method", "name"), [used for used in METHODS if "fit" in used[1]]
)
def test_arguments_of_fits(estimator, method, name):
    def call(value):
        model = small(estimator)
        getattr(model, method)(**{"X": X} | {name: value})

    require_none(wrong_answers(f"{estimator}.{method}", name, call))


@once
def fitted(name):
    """Return a model on which every method can be called, in any order."""
    model = quiet(small(name).fit, X)
    if hasattr(model, "cluster"):
        model.cluster()
    if hasattr(model, "label_units"):
        model.label_units(X, LABELS)
    return model


@pytest.fixture(scope="module", autouse=True)
def _fitted():
    """Train all models before trainings are stopped."""
    for name in somlib.ESTIMATORS:
        fitted(name)


@pytest.mark.parametrize(
    ("estimator", "method", "name"), [used for used in METHODS if "fit" not in used[1]]
)
def test_arguments_of_methods(estimator, method, name):
    where, function = f"{estimator}.{method}", getattr(fitted(estimator), method)
    given = needed(where, function)
    require_none(wrong_answers(where, name, lambda value: function(**given | {name: value})))


@pytest.mark.parametrize(
    ("where", "name"),
    [(where, name) for where, function in FUNCTIONS.items() for name in parameters(function)],
)
def test_arguments_of_functions(where, name):
    function = FUNCTIONS[where]
    given = needed(where, function)
    require_none(wrong_answers(where, name, lambda value: function(**given | {name: value})))


def test_what_is_listed_as_accepted_has_a_reason_and_is_public():
    known = {(where, name) for where, f in FUNCTIONS.items() for name in parameters(f)}
    known |= {(f"{estimator}.{method}", name) for estimator, method, name in METHODS}
    known |= {(e, name) for e in somlib.ESTIMATORS for name in parameters(getattr(somlib, e))}
    names = {name for _, name in known} | {f"{where}.{name}" for where, name in known}
    assert set(ACCEPTED) <= names
    assert {noun for noun in NOUNS if "." in noun} <= names
    for listed, kinds in ACCEPTED.items():
        assert set(kinds) <= {"all", *BAD, *BAD_ARRAYS}, listed
        assert all(len(reason) > 5 for reason in kinds.values()), listed


# ---------------------------------------------------------------- options of the command line

TEXTS = {
    "empty": "",
    "space": " ",
    "text": "no such",
    "None": "None",
    "NaN": "nan",
    "infinity": "1e999",
    "zero": "0",
    "negative": "-1",
    "fraction": "1.5",
    "huge": "9" * 400,
    "bool": "True",
    "empty tuple": "()",
    "seven": "(1, 1, 1, 1, 1, 1, 1)",
    "texts": "('a', 'b')",
    "unfinished": "[1, 2",
    "code": "__import__('os').getcwd()",
    "two lines": "a\nb",
    "other letters": "ü",
    "folder": "./",
    "data": "x.npy",
}
COMMANDS = {
    "reproduce": [],
    "report": [],
    "handout": [],
    "slides": [],
    "book": [],
    "pretrain": [],
    "results export": ["carried"],
    "results import": ["carried"],
    "fit": ["SOM", "--data", "x.npy", "--output", "map.npz"],
}
FILES = dict.fromkeys(
    [kind for kind in TEXTS if kind not in ("empty", "huge", "folder", "data")],
    "a name like others",
)
HERE = {"empty": "the default", "folder": "this folder"}
ACCEPTED_TEXTS = {
    "reproduce --output": FILES | HERE,
    "report --output": FILES | HERE,
    "handout --output": FILES | HERE,
    "slides --output": FILES | HERE,
    "book --output": FILES | HERE,
    "pretrain --output": FILES | HERE,
    "results export --output": HERE,
    "results import --output": FILES | HERE,
    "results export FOLDER": FILES | {"folder": "this folder"},
    "results export --limit": {"fraction": "a number of megabytes"},
    "fit --checkpoint": {kind: reason for kind, reason in FILES.items() if kind != "space"},
    "fit --data": {"data": "the file that is there"},
}
"""By command and option: names of texts, each with the reason."""


def options():
    def of(parser, *words):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word, inner in action.choices.items():
                    yield from of(inner, *words, word)
            elif words and action.dest != "help":
                yield " ".join(words), action

    return list(of(cli._parser()))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Go to a project of one notebook, in which nothing is run."""
    make_project(tmp_path, _01_toy=())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOMLIB_OUTPUT", raising=False)
    monkeypatch.setattr(runner, "Runner", begin)
    monkeypatch.setattr(report, "index", begin)
    results.export(tmp_path / "carried", None)
    monkeypatch.setattr(results, "export", begin)
    monkeypatch.setattr(results, "devices", begin)  # after an import
    monkeypatch.setattr(files, "replacing", begin)
    monkeypatch.setattr(slides, "copy_scripts", begin)
    monkeypatch.setattr(book, "missing", begin)
    monkeypatch.setattr(pretraining, "part", lambda notebook: notebook)
    executed = tmp_path / "runs" / "quick"
    executed.mkdir(parents=True)
    shutil.copy(tmp_path / "notebooks" / "01_toy.ipynb", executed)
    cached = tmp_path / "runs" / "cache"
    cached.mkdir(exist_ok=True)
    (cached / "fit-0.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(report, "records", lambda folder: [folder])
    np.save("x.npy", X)
    return tmp_path


def literal(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def outcome(arguments, name, text, capsys):
    """Return "accepted", "" for a refusal that names the option and shows the text, or else."""
    try:
        code = cli.main(arguments)
    except Begun:
        capsys.readouterr()
        return "accepted"
    except SystemExit as end:
        code = end.code
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:150]}"
    said = capsys.readouterr().err
    shown = any(part[:40] in said for part in (text, repr(text)[1:-1]))
    shown |= shows(said, literal(text))
    if code == 2 and re.search(name, said) and shown and "Traceback" not in said:
        return ""
    return f"exit {code}: {said[-150:]}"


@pytest.mark.parametrize(
    ("command", "action"), options(), ids=lambda value: getattr(value, "dest", value)
)
def test_options(project, command, action, capsys):
    option = action.option_strings[-1] if action.option_strings else action.metavar
    accepted, wrong = ACCEPTED_TEXTS.get(f"{command} {option}", {}), {}
    for kind, text in TEXTS.items():
        given = list(COMMANDS[command])
        if not action.option_strings:
            given[0] = text
        elif action.nargs == 0:
            given += [f"{option}={text}"]
        else:
            given += [option, text] if not text.startswith("-") else [f"{option}={text}"]
        noun = NOUNS.get(option, option)
        found = outcome([*command.split(), *given], noun, text, capsys)
        if found != ("accepted" if kind in accepted else ""):
            wrong[kind] = found or "refused, but listed as accepted"
    require_none(wrong)


@pytest.mark.parametrize("model", somlib.TRAINED)
def test_parameters_on_the_command_line_are_refused_where_they_are_in_python(
    project, model, capsys
):
    wrong = {}
    small_map = {"grid": (2, 3)} if "grid" in SMALL[model] else {}
    plain = {k: v for k, v in SMALL[model].items() if isinstance(v, int | tuple)}
    own = [f"-p{k}={v}" for k, v in (plain | small_map).items()]
    for name in parameters(getattr(somlib, model)):
        for kind in ("empty", "text", "None", "NaN", "negative", "huge", "seven", "unfinished"):
            text = TEXTS[kind]
            given = [model, "--data", "x.npy", "--output", "map.npz", *own, f"-p{name}={text}"]
            found = outcome(["fit", *given], name, text, capsys)
            value = literal(text)
            expected = answer(
                name, kind, value, lambda n=name, v=value: small(model, **{n: v}).fit(X)
            )
            if found != "" and (found != "accepted" or expected == ""):
                wrong[name, kind] = found
    require_none(wrong)
