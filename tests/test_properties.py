"""What may not change a result: one table of all estimators and metrics by properties.

A field of the table is `HOLDS`, or says in words why the property does not apply. `Fields` has no
defaults, so no field can be forgotten; nor can a row, see the first test. Memory layout, container
and block size may not change a bit, all else not more than 1e-6 of the result in float64.
"""

import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import cache as once
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import quiet, require_none, small
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

import somlib
from somlib import Grid, fit_seeds, metrics

HOLDS = "holds"
BOUNDED = "the result depends on the unit, but is finite or refused"
ROUNDED = "up to rounding, for products of matrices round by the number of their rows"


@dataclass(frozen=True, kw_only=True)
class Fields:
    """What a row says of each property."""

    order: str  # of the samples
    shift: str  # of all samples by one vector
    unit: str  # of measurement
    duplicates: str  # each sample twice, or with the weight that says so
    names: str  # of classes and clusters; the numbers of the units
    layout: str  # of the memory, and the container
    missing: str  # values, however they are marked
    threads: str  # their number, and other trainings beside
    blocks: str  # their size
    features: str  # their order
    seeds: str  # alone and stacked


PROPERTIES = [field.name for field in fields(Fields)]


@dataclass(frozen=True, kw_only=True)
class Row:
    """How a result is computed, and which of its arguments belong together.

    `run` gets the arguments and returns arrays by name: "points" are (K, d), "samples..." have a
    row for each sample, all others are as they are. Groups are tuples of names of arguments: those
    with a row per sample, whose rows are the same samples; those whose columns are the same
    features; those whose values are the same names. `power` says how the others grow with the
    unit.
    """

    says: Fields
    run: Callable[..., dict[str, Any]]
    arguments: Callable[[int], dict[str, Any]]
    samples: tuple[tuple[str, ...], ...] = ()
    spaces: tuple[tuple[str, ...], ...] = ()
    renamed: Callable[[dict[str, Any]], dict[str, Any]] = dict
    power: int = 0
    model: Any = None


# ---------------------------------------------------------------- estimators


def trained(model):
    """Return a function that trains a copy of a model on X and returns what it has learned."""

    def run(X, y=None, **options):
        fitted = quiet(clone(model).fit, X, y, **options)
        parts = getattr(fitted, "parameters_", {}) | getattr(fitted, "history_", {})
        if hasattr(fitted, "weights_"):
            parts = {"points": fitted.weights_}
        for name in ("labels_", "embedding_"):
            if hasattr(fitted, name):
                parts[f"samples: {name}"] = getattr(fitted, name)
        for method in ("transform", "predict"):
            if hasattr(fitted, method):
                parts[f"samples: {method}"] = quiet(getattr(fitted, method), X)
        if "points" in parts:  # distances, which have the unit of the data
            parts["unit: samples"] = parts.pop("samples: transform")
        return parts

    return run


def some_samples(n=32, d=6):
    """Return samples whose values all types of floats can hold: multiples of 1/16."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 17, (n, d)) / 16
    y = np.array(["ant", "bee", "cow"])[rng.integers(0, 3, n)]
    return {"X": X, "y": y}


ONE_BY_ONE = "samples are presented one by one"
BY_BATCH = "each batch takes a step"
VALUES = "a network sees values, not differences: scale the data first"
FEATURES = "each feature has initial weights of its own"
NO_WEIGHTS = "fit takes no weights, and batches hold other samples if there are copies"
ALONE = "a seed is trained alone: fit_seeds refuses"
ADAM = "Adam's steps have one length, whatever the unit"
UNIT_RANGE = "samples must lie in [0, 1]"

NETWORK = Fields(
    order=BY_BATCH,
    shift=VALUES,
    unit=BOUNDED,
    duplicates=NO_WEIGHTS,
    names=HOLDS,
    layout=HOLDS,
    missing=HOLDS,
    threads=HOLDS,
    blocks=ROUNDED,
    features=FEATURES,
    seeds=HOLDS,
)
PROBABILITIES = replace(NETWORK, shift=UNIT_RANGE)
MAP = Fields(
    order=HOLDS,
    shift=HOLDS,
    unit=HOLDS,
    duplicates=HOLDS,
    names=HOLDS,
    layout=HOLDS,
    missing=HOLDS,
    threads=HOLDS,
    blocks=HOLDS,
    features=HOLDS,
    seeds=ALONE,
)

ESTIMATORS = {
    "AEC": NETWORK,
    "Autoencoder": NETWORK,
    "ContractiveAutoencoder": NETWORK,
    "DCN": NETWORK,
    "DCSOMRL": replace(NETWORK, shift="the mean is taken from the data only up to rounding"),
    "DEC": NETWORK,
    "DESOM": NETWORK,
    "DeepKMeans": NETWORK,
    "DeepNeuralMaps": NETWORK,
    "DenoisingAutoencoder": NETWORK,
    "IDEC": NETWORK,
    "Kerasom": replace(NETWORK, shift=HOLDS, features=HOLDS),
    "MiniSomMap": replace(MAP, order=ONE_BY_ONE, duplicates="MiniSom knows no weights"),
    "RBM": PROBABILITIES,
    "SNE": replace(
        MAP,
        order=HOLDS,
        duplicates="a copy is a point of its own and takes room",
        blocks="all pairs are computed at once",
    ),
    "SOAE": NETWORK,
    "SOM": MAP,
    "SOMRL": replace(PROBABILITIES, order=ONE_BY_ONE, features=HOLDS),
    "SOMVAE": NETWORK,
    "SparseAutoencoder": NETWORK,
    "VAE": NETWORK,
    "VaDE": PROBABILITIES,
}
VARIANTS = {
    "SOM online": (
        replace(
            MAP,
            order=ONE_BY_ONE,
            duplicates="a copy is a later step of the schedules, and may have another BMU",
        ),
        small("SOM", mode="online", shuffle=False),
    ),
    "SOM sgd": (
        replace(MAP, order=BY_BATCH, unit=BOUNDED),
        small("SOM", mode="sgd", shuffle=False),
    ),
    "SOM from samples": (
        replace(MAP, order="the start is a choice among numbered samples"),
        small("SOM", init="sample"),
    ),
    "SOM from an array": (
        replace(
            MAP,
            order=HOLDS,
            shift="the start stays where it is",
            unit=BOUNDED,
            features="the start has an order of features",
        ),
        small("SOM", init=some_samples()["X"][:6], neighborhood="bubble"),
    ),
}

# ---------------------------------------------------------------- metrics

GRID = Grid(2, 3)


def turned(arguments):
    """Number the units from the other end: the map upside down."""
    return arguments | {
        name: value[::-1] if name == "weights" else GRID.n_units - 1 - value
        for name, value in arguments.items()
        if name in ("weights", "labels")
    }


NAMES = np.array(["x", "xx", "y", "yy", "z", "zz"])


def renamed(*arguments, names=NAMES):
    """Return a function that gives classes or clusters other names."""

    def rename(given):
        return given | {name: names[given[name]] for name in arguments}

    return rename


def with_weights(n=32):
    X = some_samples(n)["X"]
    return {"X": X, "weights": X[: GRID.n_units] + np.arange(6) / 32}


def embedded(n=32):
    X = some_samples(n)["X"]
    return {"X": X, "Z": X[:, :3] * X[:, 3:]}


def asked(n=32):
    X, y = some_samples(n)["X"], np.arange(n) % 3
    return {"Z": X, "y": y, "Z_new": X[: n // 2] * X[0], "y_new": y[: n // 2]}


def clusters(n=32):
    rng = np.random.default_rng(1)
    return {"y": rng.integers(0, 3, n), "labels": rng.integers(0, 5, n)}


def two_sets(first, second):
    def arguments(n=32):
        X = some_samples(n)["X"]
        return {first: X, second: X[::-1] ** 2}

    return arguments


def paths(n=32):
    return {"paths": some_samples(4 * n)["X"].reshape(n, 4, 6)}


NO_LABELS = "takes no labels"
NO_DATA = "takes labels, no data"
NOT_RANDOM = "nothing is random"
WHOLE = "there are no blocks: all at once"

METRIC = replace(MAP, names=NO_LABELS, seeds=NOT_RANDOM)
OF_MAP = {
    "says": replace(METRIC, names=HOLDS),
    "arguments": with_weights,
    "samples": (("X",),),
    "spaces": (("X", "weights"),),
    "renamed": turned,
}
OF_EMBEDDING = {
    "says": replace(METRIC, duplicates="copies are neighbors of each other: all ranks change"),
    "arguments": embedded,
    "samples": (("X", "Z"),),
    "spaces": (("X",), ("Z",)),
}
OF_CLUSTERS = {
    "says": replace(
        METRIC, shift=NO_DATA, unit=NO_DATA, features=NO_DATA, names=HOLDS, blocks=WHOLE
    ),
    "arguments": clusters,
    "samples": (("y", "labels"),),
    "renamed": renamed("y", "labels", names=NAMES[::-1]),
}
ON_GRID = OF_CLUSTERS | {"renamed": turned}
OF_IMAGES = replace(METRIC, blocks=WHOLE)

CLUSTERS = np.array([0, 0, 1, 1, 2, 2])
OF_FEATURES = {
    "says": replace(
        METRIC,
        names="clusters are numbered",
        blocks=WHOLE,
        features="there is a value for each feature",
    ),
    "arguments": lambda n: {
        "weights": with_weights(n)["weights"],
        "labels": np.arange(n) * 7 % 6,
    },
    "samples": (("labels",),),
    "spaces": (("weights",),),
}
PAIRS = "the two copies are a pair, too"
SUMMARY = "each of its lines is a row of this table"

METRICS = {
    "c_measure": (
        {},
        OF_EMBEDDING | {"says": replace(METRIC, duplicates=PAIRS), "power": 2},
    ),
    "cluster_differences": ({"clusters": CLUSTERS}, OF_FEATURES),
    "cluster_means": (
        {"clusters": CLUSTERS},
        OF_FEATURES
        | {"says": replace(OF_FEATURES["says"], shift="means shift with the data"), "power": 1},
    ),
    "kruskal_shepard_error": ({}, OF_EMBEDDING | {"says": replace(METRIC, duplicates=PAIRS)}),
    "neighborhood_preservation": ({}, OF_EMBEDDING),
    "summary": (
        {},
        {"says": Fields(**dict.fromkeys(PROPERTIES, SUMMARY)), "arguments": some_samples},
    ),
    "topographic_function": ({"grid": GRID}, OF_MAP),
    "class_scatter": ({"grid": GRID}, ON_GRID),
    "clustering_accuracy": ({}, OF_CLUSTERS),
    "combined_error": ({"grid": GRID}, OF_MAP | {"power": 1}),
    "continuity": ({}, OF_EMBEDDING),
    "dead_units": (
        {"n_units": GRID.n_units},
        ON_GRID
        | {"arguments": lambda n: {"labels": clusters(n)["labels"]}, "samples": (("labels",),)},
    ),
    "distortion": ({"grid": GRID, "sigma": 0.8}, OF_MAP | {"power": 2}),
    "frechet_distance": (
        {},
        {
            "says": replace(OF_IMAGES, duplicates="covariances are divided by n − 1"),
            "arguments": two_sets("A", "B"),
            "samples": (("A",), ("B",)),
            "spaces": (("A", "B"),),
            "power": 2,
        },
    ),
    "knn_accuracy": (
        {"n_neighbors": 5},
        {
            "says": replace(METRIC, names=HOLDS, duplicates="copies of those that vote vote too"),
            "arguments": asked,
            "samples": (("Z", "y"), ("Z_new", "y_new")),
            "spaces": (("Z", "Z_new"),),
            "renamed": renamed("y", "y_new"),  # in the same order, which decides ties
        },
    ),
    "nmi": ({"average": "geometric"}, OF_CLUSTERS),
    "path_length_ratio": (
        {},
        {
            "says": OF_IMAGES,
            "arguments": paths,
            "samples": (("paths",),),
            "spaces": (("paths",),),
        },
    ),
    "purity": ({}, OF_CLUSTERS),
    "quantization_error": ({}, OF_MAP | {"power": 1}),
    "sharpness": (
        {"image_shape": (2, 3)},
        {
            "says": replace(
                OF_IMAGES,
                shift="outside an image it is dark",
                features="a feature is a pixel, which has neighbors",
            ),
            "arguments": two_sets("X", "reference"),
            "samples": (("X",), ("reference",)),
            "spaces": (("X", "reference"),),
        },
    ),
    "topographic_error": ({"grid": GRID}, OF_MAP),
    "topographic_product": (
        {"grid": GRID},
        OF_MAP
        | {
            "says": replace(
                METRIC,
                names=HOLDS,
                order="takes no samples",
                duplicates="takes no samples, and equal prototypes leave it undefined",
            ),
            "arguments": lambda n: {"weights": with_weights(n)["weights"]},
            "samples": (),
            "spaces": (("weights",),),
        },
    ),
    "trustworthiness": ({}, OF_EMBEDDING),
    "variance_lost": (
        {},
        {
            "says": OF_IMAGES,
            "arguments": two_sets("X", "drawn"),
            "samples": (("X",), ("drawn",)),
            "spaces": (("X", "drawn"),),
        },
    ),
}


# ---------------------------------------------------------------- the table


def measured(name, options):
    """Return a function that computes a metric."""

    def run(**arguments):
        value = getattr(metrics, name)(**arguments, **options)
        return value if isinstance(value, dict) else {"value": value}

    return run


def _estimator_rows():
    models = {name: (says, small(name)) for name, says in ESTIMATORS.items()} | VARIANTS
    for name, (says, model) in models.items():
        yield (
            name,
            Row(
                says=says,
                run=trained(model),
                arguments=some_samples,
                samples=(("X", "y"),),
                spaces=(("X",),),
                renamed=renamed_y,
                model=model,
            ),
        )


def renamed_y(arguments):
    return arguments | {"y": np.char.upper(arguments["y"])}


TABLE = dict(_estimator_rows()) | {
    name: Row(run=measured(name, options), **row) for name, (options, row) in METRICS.items()
}


def test_every_estimator_and_metric_is_a_row_and_no_field_is_empty():
    assert set(ESTIMATORS) == set(somlib.ESTIMATORS)
    assert set(METRICS) == set(metrics.__all__)
    for name, row in TABLE.items():
        for said in PROPERTIES:
            assert len(getattr(row.says, said)) > 4, (name, said)


def rows(said, *, value=HOLDS):
    """Parametrize a test by the rows of which a property is said to hold."""
    names = [name for name, row in TABLE.items() if getattr(row.says, said) == value]
    return pytest.mark.parametrize("name", names)


def test_as_many_fields_hold_as_are_tested():
    """A property with few rows would be a test of nothing."""
    held = {
        said: sum(getattr(r.says, said) == HOLDS for r in TABLE.values()) for said in PROPERTIES
    }
    assert min(held.values()) > 5, held


# ---------------------------------------------------------------- comparisons


def assert_equal(found, expected, rtol=0.0):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        value = np.asarray(value)
        if value.dtype.kind in "iub" or not rtol:
            np.testing.assert_array_equal(found[name], value, err_msg=name)
        else:
            atol = rtol * max(abs(value).max(), np.finfo(value.dtype).tiny)
            np.testing.assert_allclose(found[name], value, rtol=rtol, atol=atol, err_msg=name)


def changed(parts, of_points, of_samples=lambda value: value, of_rest=lambda value: value):
    """Return parts of a result as they should be after a change of the arguments."""
    return {
        name: of_points(value)
        if name == "points"
        else of_samples(value)
        if "samples" in name
        else of_rest(value)
        for name, value in parts.items()
    }


def same(value):
    return value


# ---------------------------------------------------------------- the properties

few = settings(max_examples=2)
seeds = st.integers(0, 2**20)


def at_random(name, seed):
    return np.random.default_rng(seed), TABLE[name], TABLE[name].arguments(32)


@rows("order")
@few
@given(seeds)
def test_the_order_of_the_samples_does_not_matter(name, seed):
    rng, row, arguments = at_random(name, seed)
    expected, permuted = row.run(**arguments), dict(arguments)
    for group in row.samples:
        order = rng.permutation(len(arguments[group[0]]))
        permuted |= {name: arguments[name][order] for name in group}
    expected = changed(expected, same, lambda value: value[order])
    assert_equal(row.run(**permuted), expected, 1e-6)


@rows("shift")
@few
@given(seeds, st.sampled_from([-1.0, 100.0]))
def test_the_origin_does_not_matter(name, seed, size):
    rng, row, arguments = at_random(name, seed)
    expected, shifted = row.run(**arguments), dict(arguments)
    for group in row.spaces:
        vector = np.round(16 * size * rng.random(arguments[group[0]].shape[-1])) / 16
        shifted |= {name: arguments[name] + vector for name in group}
    expected = changed(expected, lambda points: points + vector)
    assert_equal(row.run(**shifted), expected, 1e-6)


@once
def in_unit(name, unit, dtype):
    """Return the result in another unit, or None if it is refused for its scale."""
    row = TABLE[name]
    data = {name for group in row.spaces for name in group}
    scaled = {
        name: value.astype(dtype) * dtype(unit) if name in data else value
        for name, value in row.arguments(32).items()
    }
    try:
        return row.run(**scaled)
    except (ValueError, FloatingPointError) as refusal:
        if re.search(r"scale|range|unit", str(refusal)):
            return None
        raise


EXPONENTS = {np.float64: (-1000, -500, 500, 1000), np.float32: (-120, -70, 70, 120)}
UNITS = [(dtype, 2.0**e) for dtype, exponents in EXPONENTS.items() for e in exponents]
UNITS += [(np.float64, 10.0**e) for e in (-300, -40, 3, 40, 300)]


@pytest.mark.parametrize(("dtype", "unit"), UNITS)
@rows("unit")
def test_the_unit_does_not_matter(name, dtype, unit):
    power = TABLE[name].power
    if abs(power * np.log10(unit)) > 300:
        return  # the value itself is beyond all numbers
    one, found = in_unit(name, 1, dtype), in_unit(name, unit, dtype)
    if found is not None:
        exact = np.frexp(unit)[0] == 0.5
        expected = {
            part: np.asarray(value) * dtype(unit)
            if part == "points" or part.startswith("unit")
            else np.asarray(value) * unit**power
            if power
            else value
            for part, value in one.items()
        }
        assert_equal(found, expected, 1e-6 if dtype is np.float64 or exact else 1e-3)


@pytest.mark.parametrize("unit", [2.0**-1000, 1e-150, 1e-20, 1e20, 1e150, 2.0**1000])
@rows("unit", value=BOUNDED)
def test_in_any_unit_the_result_is_finite_or_refused(name, unit):
    for part, value in (in_unit(name, unit, np.float64) or {}).items():
        assert np.isfinite(value).all(), part


@rows("duplicates")
def test_a_copy_counts_as_a_weight_or_as_nothing(name):
    row, arguments = TABLE[name], TABLE[name].arguments(32)
    if row.model is None:
        twice = {
            name: np.repeat(arguments[name], 2, axis=0) for group in row.samples for name in group
        }
        assert_equal(row.run(**arguments | twice), row.run(**arguments), 1e-6)
        return
    times = np.random.default_rng(2).integers(0, 4, 32)
    times[:3] = 1, 2, 3
    del arguments["y"]
    copies = {name: np.repeat(value, times, axis=0) for name, value in arguments.items()}
    expected = changed(
        row.run(**arguments, sample_weight=times), same, lambda v: v.repeat(times, 0)
    )
    assert_equal(row.run(**copies), expected, 1e-6)


@rows("names")
def test_names_do_not_matter(name):
    row, arguments = TABLE[name], TABLE[name].arguments(32)
    assert_equal(row.run(**row.renamed(arguments)), row.run(**arguments), 1e-6)


def test_classes_of_units_are_renamed_as_their_samples_are():
    X, y = some_samples().values()
    som = small("SOM").fit(X)
    names = dict(zip(["ant", "bee", "cow"], [1.5, 2.5, 9.0], strict=True))
    expected = [names[name] for name in som.label_units(X, y)]
    np.testing.assert_array_equal(som.label_units(X, [names[name] for name in y]), expected)


# ---------------------------------------------------------------- layout and container


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def on_disk(a):
    with TemporaryFile() as file:  # the map keeps it
        mapped = np.memmap(file, a.dtype, "w+", shape=a.shape)
    mapped[:] = a
    return mapped


DOUBLE, EITHER = ("float64",), ("float32", "float64")
LAYOUTS = {
    "reversed": (DOUBLE, lambda a: np.ascontiguousarray(a[::-1])[::-1]),
    "backwards": (DOUBLE, lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1]),
    "every other": (DOUBLE, lambda a: np.repeat(a, 2, axis=-1)[..., ::2]),
    "Fortran": (DOUBLE, np.asfortranarray),
    "byte order": (DOUBLE, lambda a: a.astype(a.dtype.newbyteorder())),
    "read-only": (DOUBLE, read_only),
    "memmap": (DOUBLE, on_disk),
    "masked array": (DOUBLE, np.ma.array),
    "tensor": (DOUBLE, torch.tensor),
    "tensor with gradient": (DOUBLE, lambda a: torch.tensor(a, requires_grad=True)),
    "bfloat16 tensor": (EITHER, lambda a: torch.tensor(a, dtype=torch.bfloat16)),
    "float16": (EITHER, np.float16),
    "list": (DOUBLE, np.ndarray.tolist),
    "objects": (DOUBLE, lambda a: a.astype(object)),
}
FRAMES = {
    "frame": (DOUBLE, pd.DataFrame),
    "nullable frame": (DOUBLE, lambda a: pd.DataFrame(a).convert_dtypes()),
}
LABELS = {
    "reversed": lambda y: y[::-1].copy()[::-1],
    "every other": lambda y: np.repeat(y, 2)[::2],
    "byte order": lambda y: y.astype(y.dtype.newbyteorder()),
    "read-only": read_only,
    "memmap": on_disk,
    "small": lambda y: y.astype(np.uint8),
    "list": np.ndarray.tolist,
    "tuple": tuple,
    "masked array": np.ma.array,
    "tensor": torch.tensor,
    "objects": lambda y: y.astype(object),
    "series": pd.Series,
    "nullable series": lambda y: pd.Series(y, dtype="Int64"),
}


@rows("layout")
def test_neither_layout_nor_container_changes_a_bit(name):
    row, arguments = TABLE[name], TABLE[name].arguments(32)
    data = {k: v for k, v in arguments.items() if v.dtype.kind == "f"}
    labels = {k: v for k, v in arguments.items() if v.dtype.kind == "i"}
    expected = {
        dtype: row.run(**arguments | {k: v.astype(dtype) for k, v in data.items()})
        for dtype in EITHER
    }
    wrong = {}
    flat = all(value.ndim == 2 for value in data.values())
    for layout, (dtypes, hold) in (LAYOUTS | (FRAMES if flat else {})).items() if data else ():
        held = arguments | {k: hold(v) for k, v in data.items()}
        wrong[layout] = difference(row, held, *(expected[dtype] for dtype in dtypes))
    for layout, hold in LABELS.items() if labels else ():
        held = arguments | {k: hold(v) for k, v in labels.items()}
        wrong[f"labels: {layout}"] = difference(row, held, expected["float64"])
    require_none({layout: found for layout, found in wrong.items() if found})


def difference(row, arguments, *expected):
    """Return what is wrong with a result that should be one of some, or None."""
    try:
        found = row.run(**arguments)
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:80]}"
    return None if any(_equal(found, one) for one in expected) else "other numbers"


def _equal(found, expected):
    return found.keys() == expected.keys() and all(
        np.array_equal(found[name], value) for name, value in expected.items()
    )


def masked(X):
    return np.ma.masked_invalid(X)


MISSING = {
    "NaN": same,
    "mask": masked,
    "mask over a number": lambda X: np.ma.array(np.nan_to_num(X), mask=np.isnan(X)),
    "tensor": torch.tensor,
    "frame": pd.DataFrame,
    "nullable frame": lambda X: pd.DataFrame(X).convert_dtypes(),
    "None": lambda X: np.where(np.isnan(X), None, X),
}


MISSING_LABELS = {
    "NaN": lambda y: np.where(y == 0, np.nan, y),
    "None": lambda y: np.where(y == 0, None, y),
    "mask": lambda y: np.ma.masked_equal(y, 0),
    "nullable series": lambda y: pd.Series(y, dtype="Int64").replace(0, pd.NA),
}


@rows("missing")
def test_missing_values_are_refused_however_they_are_marked(name):
    row, arguments = TABLE[name], TABLE[name].arguments(32)
    wrong = {}
    for argument, value in arguments.items():
        if value.dtype.kind == "i":
            for mark, hold in MISSING_LABELS.items():
                wrong[argument, mark] = not_refused(row, arguments, argument, hold(value))
        elif value.dtype.kind == "f" and value.ndim == 2:
            holes = value.copy()
            holes[3, 1] = np.nan
            for mark, hold in MISSING.items():
                wrong[argument, mark] = not_refused(row, arguments, argument, hold(holes))
    require_none({mark: found for mark, found in wrong.items() if found})


def not_refused(row, arguments, name, value):
    """Return what happens instead of a refusal that names the argument, or None."""
    try:
        row.run(**arguments | {name: value})
    except ValueError as error:
        fits = re.search(rf"(?s)\b{name}\b.*(NaN|missing|mask)", str(error))
        return None if fits else f"not in words: {str(error)[:80]}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:80]}"
    return "taken"


@pytest.mark.parametrize("mode", ["batch", "online"])
def test_where_missing_values_are_allowed_their_mark_does_not_matter(mode):
    X = some_samples()["X"]
    X[3, 1] = X[7, 4] = np.nan
    run = trained(small("SOM", mode=mode, allow_missing=True))
    row, expected = Row(says=MAP, run=run, arguments=some_samples), run(X)
    wrong = {mark: difference(row, {"X": hold(X)}, expected) for mark, hold in MISSING.items()}
    require_none({mark: found for mark, found in wrong.items() if found})


# ---------------------------------------------------------------- threads and blocks


@rows("threads")
def test_neither_threads_nor_other_trainings_matter(name):
    row = TABLE[name]
    if row.model is None:
        run, arguments = row.run, row.arguments(64)
    else:  # of so many numbers PyTorch leaves parts to other threads
        arguments = some_samples(160, 220)
        rows_at_once = "batch_size" in row.model.get_params()
        model = clone(row.model).set_params(**{"batch_size": 160} if rows_at_once else {})
        if not isinstance(getattr(model, "init", "pca"), str):
            model.set_params(init=arguments["X"][:6])
        run = trained(model)
    expected = run(**arguments)

    def at_the_same_time():
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda _: run(**arguments), range(2)))

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = quiet(at_the_same_time)  # warnings are filtered for all threads together
    finally:
        torch.set_num_threads(threads)
    for one in found:
        assert_equal(one, expected, 1e-6)


BLOCKS = ("BLOCK_ELEMENTS", "BLOCK_ROWS", "ROWS_AT_ONCE", "ERROR_BLOCK", "_BLOCK")


@rows("blocks")
def test_the_size_of_blocks_changes_no_bit(name, monkeypatch):
    assert_same_in_blocks(name, monkeypatch, 0.0)


@rows("blocks", value=ROUNDED)
def test_the_size_of_blocks_changes_no_more_than_rounding(name, monkeypatch):
    assert_same_in_blocks(name, monkeypatch, 1e-12)


def assert_same_in_blocks(name, monkeypatch, rtol):
    row, arguments = TABLE[name], TABLE[name].arguments(64)
    expected = row.run(**arguments)
    for size in (7, 40):
        for module in [m for name, m in sys.modules.items() if name.startswith("somlib.")]:
            for constant in BLOCKS:
                if hasattr(module, constant):
                    monkeypatch.setattr(module, constant, size)
        assert_equal(row.run(**arguments), expected, rtol)


# ---------------------------------------------------------------- features and seeds


@rows("features")
@few
@given(seeds)
def test_the_order_of_the_features_does_not_matter(name, seed):
    rng, row, arguments = at_random(name, seed)
    expected, permuted = row.run(**arguments), dict(arguments)
    for group in row.spaces:
        order = rng.permutation(arguments[group[0]].shape[-1])
        permuted |= {name: arguments[name][..., order] for name in group}
    expected = changed(expected, lambda points: points[:, order])
    found = row.run(**permuted)
    by_feature = {k for k, v in found.items() if k.startswith("nodes") and np.ndim(v) == 2}
    expected = {k: v[:, order] if k in by_feature else v for k, v in expected.items()}
    assert_equal(found, expected, 1e-6)


@rows("seeds")
def test_a_seed_is_the_same_alone_and_stacked(name):
    row, X = TABLE[name], TABLE[name].arguments(32)["X"]
    together = quiet(fit_seeds, row.model, X, [2, 0, 1])
    for seed, one in zip([2, 0, 1], together, strict=True):
        alone = quiet(clone(row.model).set_params(random_state=seed).fit, X)
        assert_equal(one.parameters_ | one.history_, alone.parameters_ | alone.history_, 1e-6)


@rows("seeds", value=ALONE)
def test_what_cannot_be_stacked_says_so(name):
    row = TABLE[name]
    with pytest.raises(TypeError, match="cannot be trained as an ensemble; call fit per seed"):
        fit_seeds(row.model, row.arguments(32)["X"], [0])
