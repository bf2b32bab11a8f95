"""Every container of the same numbers or labels gives the same result, or the same refusal."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import somlib
from somlib import SOM, arrays, metrics, plots
from somlib.models.baselines import merge_prototypes
from somlib.models.sne import SNE, conditional_probabilities
from somlib.spaces import Euclidean, Grid, Sphere, Torus
from somlib.training import fit_seeds

X = np.random.default_rng(0).random((24, 4))
GRID = Grid(2, 3)
W = X[:6]

CONTAINERS = {
    "reversed": lambda x: x[::-1].copy()[::-1],
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "Fortran": np.asfortranarray,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "read-only": lambda x: np.frombuffer(x.tobytes()).reshape(x.shape),
    "frame": pd.DataFrame,
    "nullable frame": lambda x: pd.DataFrame(x).astype("Float64"),
    "masked": lambda x: np.ma.masked_greater(x, 1e9),
    "tensor": torch.tensor,
    "tensor with gradient": lambda x: torch.tensor(x, requires_grad=True),
    "list": np.ndarray.tolist,
    "objects": lambda x: x.astype(object),
}
SMALL = {"n_iter": 2, "batch_size": 8, "random_state": 0, "device": "cpu"}
MODELS = {
    "Autoencoder": {"hidden": (5,), "latent_dim": 2, **SMALL},
    "DESOM": {"grid": (2, 3), "hidden": (5,), "latent_dim": 2, **SMALL},
    "DEC": {"n_clusters": 2, "hidden": (5,), "latent_dim": 2, "pretrain_epochs": 0, **SMALL},
    "SOAE": {"hidden": (5,), **SMALL},
    "VAE": {"hidden": (5,), **SMALL},
    "RBM": {"latent_dim": 3, **SMALL},
    "SOMRL": {"activation_threshold": 0.9, **SMALL},
    "DCSOMRL": {"hidden": (5,), "latent_dim": 2, **SMALL},
    "Kerasom": {"grid": (2, 3), **SMALL},
    "SOM": {"grid": (2, 3), "n_epochs": 2, "random_state": 0},
}
fitted = functools.cache(lambda name: getattr(somlib, name)(**MODELS[name]).fit(X))


@pytest.mark.filterwarnings("ignore:no node was inserted")
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", MODELS)
def test_models_take_every_container(name, container):
    contained = CONTAINERS[container](X)
    model = getattr(somlib, name)(**MODELS[name]).fit(contained)
    np.testing.assert_array_equal(model.transform(contained), fitted(name).transform(X))


@pytest.mark.parametrize("container", CONTAINERS)
def test_other_functions_take_every_container(container):
    contained = CONTAINERS[container]
    for compute in (
        lambda x: metrics.quantization_error(x(X), x(W)),
        lambda x: metrics.topographic_error(x(X), x(W), GRID),
        lambda x: metrics.trustworthiness(x(X), x(X[:, :2]), 3),
        lambda x: metrics.knn_accuracy(x(X), [0, 1] * 12, x(X), [0, 1] * 12, 3),
        lambda x: metrics.frechet_distance(x(X), x(X**2)),
        lambda x: plots.u_matrix_values(x(W), GRID)[0],
        lambda x: conditional_probabilities(x(X), 5.0),
        lambda x: merge_prototypes(x(W), [0, 5, 3], 2, random_state=0),
        lambda x: SNE(perplexity=5, n_iter=3, init=x(1e-4 * X[:, :2])).fit(x(X)).embedding_,
        lambda x: SOM((2, 3), n_epochs=2, init=x(W)).fit(x(X)).weights_,
        lambda x: fitted("SOAE").interpolate(x(X[:3]), x(X[3:6]), 4),
        lambda x: fitted("VAE").inverse_transform(x(X[:, :2])),
        lambda x: fit_seeds(somlib.Autoencoder(**MODELS["Autoencoder"]), x(X), [1])[0].transform(X),
    ):
        np.testing.assert_array_equal(compute(contained), compute(lambda x: x))


@pytest.mark.parametrize("container", [c for c in CONTAINERS if "tensor" not in c])
@pytest.mark.parametrize("space", [Euclidean(2), Torus(2), Sphere(2), Grid(3, 4)], ids=repr)
def test_spaces_take_every_container(space, container):
    z = space.sample(8, np.random.default_rng(0))
    z = np.column_stack([z, np.zeros((len(z), 0))])
    contained = CONTAINERS[container](z)
    for compute in (
        space.embed,
        lambda z: space.perturb(z, 0.5, np.random.default_rng(0)),
        lambda z: space.distance(z, z),
        lambda z: space.log_density(z, z, 0.5),
        lambda z: space.nearest(z, z, 2),
    ):
        np.testing.assert_array_equal(np.asarray(compute(contained)), compute(z))


def test_a_space_takes_a_tensor_beside_an_array():
    z = torch.zeros(3, 2)
    assert Torus(2).distance(z, np.ones((3, 2))).dtype == torch.float32


# ---------------------------------------------------------------- what is refused

SPOILT = np.where(np.arange(96).reshape(24, 4) == 6, np.nan, X)  # row 1, column 2
REFUSED = [
    (sparse.csr_array(X), TypeError, "is sparse, which is not supported"),
    (torch.tensor(X).to_sparse(), TypeError, "is sparse, which is not supported"),
    (X + 1j, ValueError, "Complex data not supported"),
    ([["a", "b"]] * 9, ValueError, "which is not a number"),
    ([*X.tolist(), ["a", 1, 1, 1]], ValueError, "which is not a number"),
    (np.full((9, 4), "2020", "M8[Y]"), ValueError, "which is not a number"),
    ([[1.0, 2.0], [3.0]] * 5, ValueError, "give rows of equal length"),
    ([[{}, 1.0]] * 9, TypeError, "objects that are not numbers"),
    (np.empty((0, 4)), ValueError, r"0 sample\(s\)"),
    (X[:, :0], ValueError, r"0 feature\(s\)"),
    (X[:, 0], ValueError, "Reshape your data"),
    (np.where(X > 0.9, np.inf, X), ValueError, "contains infinity"),
    (SPOILT, ValueError, "contains NaN in row 1, column 2"),
    (np.ma.array(X, mask=np.isnan(SPOILT)), ValueError, "contains NaN in row 1, column 2"),
    (pd.DataFrame(SPOILT).convert_dtypes(), ValueError, "contains NaN in row 1, column 2"),
    ([[1.0, 2.0], [1.0, None]] * 9, ValueError, "contains NaN in row 1, column 1"),
    (np.array([[np.datetime64("NaT"), 1.0]] * 9, object), ValueError, "contains NaN in row 0"),
    (None, ValueError, "must be an array"),
    ("text", ValueError, "must be an array"),
]


@pytest.mark.parametrize(("bad", "error", "message"), REFUSED)
def test_the_same_is_refused_everywhere(bad, error, message):
    for use in (
        lambda: SOM((2, 2)).fit(bad),
        lambda: somlib.Autoencoder(**MODELS["Autoencoder"]).fit(bad),
        lambda: fitted("SOM").predict(bad),
        lambda: fitted("VAE").transform(bad),
        lambda: SNE().fit(bad),
        lambda: metrics.quantization_error(bad, X),
        lambda: metrics.continuity(bad, bad),
        lambda: plots.u_matrix(bad, GRID),
    ):
        with pytest.raises(error, match=message):
            use()


# ---------------------------------------------------------------- missing values

MISSING = [
    lambda x: x,
    lambda x: np.ma.array(np.nan_to_num(x, nan=1e20), mask=np.isnan(x)),
    lambda x: pd.DataFrame(x).convert_dtypes(),
    lambda x: [[None if np.isnan(v) else v for v in row] for row in x],
    lambda x: torch.tensor(x),
]


@pytest.mark.parametrize("contained", MISSING)
@pytest.mark.parametrize("mode", ["batch", "online"])
def test_masks_and_missing_values_are_the_same(mode, contained):
    def fit(data):
        return SOM((2, 3), mode, n_epochs=3, allow_missing=True, random_state=0).fit(data)

    expected, found = fit(SPOILT), fit(contained(SPOILT))
    np.testing.assert_array_equal(found.weights_, expected.weights_)
    assert found.quantization_error_ == expected.quantization_error_ < 1


def test_masked_values_are_not_used():
    huge = np.ma.masked_greater(np.where(np.isnan(SPOILT), 1e20, SPOILT), 1e19)
    for refuse in (
        lambda: metrics.trustworthiness(huge, X, 3),
        lambda: metrics.quantization_error(huge, W),
        lambda: SNE(perplexity=5).fit(huge),
    ):
        with pytest.raises(ValueError, match="contains NaN in row 1, column 2"):
            refuse()


# ---------------------------------------------------------------- labels

PLAIN = ["b", "a", "b", "a", "b", "a"]
LABELS = {
    "text": np.array(PLAIN),
    "objects": np.array(PLAIN, object),
    "variable-width text": np.array(PLAIN, np.dtypes.StringDType()),
    "series": pd.Series(PLAIN),
    "categories": pd.Series(PLAIN, dtype="category"),
    "tuple": tuple(PLAIN),
}


@pytest.mark.parametrize("kind", LABELS)
def test_text_of_every_kind_is_the_same_labels(kind, tmp_path):
    units = [0, 0, 0, 1, 1, 1]
    assert metrics.purity(LABELS[kind], units) == metrics.purity(PLAIN, units)
    assert metrics.purity(units, LABELS[kind]) == metrics.purity(units, PLAIN)
    som = SOM((1, 2), n_epochs=1).fit(X[:6])
    found = som.label_units(X[:6], LABELS[kind])
    assert found.tolist() == som.label_units(X[:6], PLAIN).tolist()
    som.label_units(X[:6], LABELS[kind])
    som.save(tmp_path / "map.npz")
    assert SOM.load(tmp_path / "map.npz").unit_labels_.tolist() == found.tolist()


def test_tensors_of_labels_and_weights_with_gradients_are_taken():
    y, weight = torch.tensor([0, 1] * 12), torch.ones(24, requires_grad=True, dtype=torch.float64)
    assert metrics.purity(y, y) == 1
    assert metrics.dead_units(y, 4) == 2
    plain = SOM((2, 3), n_epochs=2).fit(X, sample_weight=np.ones(24))
    taken = SOM((2, 3), n_epochs=2).fit(torch.tensor(X, requires_grad=True), sample_weight=weight)
    np.testing.assert_array_equal(taken.weights_, plain.weights_)
    rounded = SOM((2, 3), n_epochs=2).fit(torch.tensor(X).bfloat16())
    assert rounded.weights_.dtype == np.float32


UNLABELED = {
    "None": ["a", None, "b", "a"],
    "NaN among text": ["a", float("nan"), "b", "a"],
    "NaN": [0.0, np.nan, 1.0, 0.0],
    "NA": pd.Series([0, pd.NA, 1, 0], dtype="Int64"),
    "NaT": np.array(["2020", "NaT", "2021", "2020"], "M8[Y]"),
    "masked": np.ma.array([0, 9, 1, 0], mask=[0, 1, 0, 0]),
}


@pytest.mark.parametrize("kind", UNLABELED)
def test_samples_without_a_label_are_left_out_or_refused(kind):
    y, units = UNLABELED[kind], [0, 1, 0, 1]
    classes, codes = arrays.labels(y, complete=False)
    assert codes.tolist() == [0, -1, 1, 0]
    assert len(classes) == 2
    som = SOM((1, 2), n_epochs=1).fit(X[:4])
    known = np.array([True, False, True, True])
    kept = np.array([classes[code] for code in codes[known]])
    assert (som.label_units(X[:4], y) == som.label_units(X[:4][known], kept)).all()
    for draw in (
        lambda: plots.class_pies(y, units, Grid(1, 2)),
        lambda: plots.projection(units, Grid(1, 2), y),
    ):
        names = [text.get_text() for text in draw().get_legend().get_texts()]
        assert len(names) == 2
        assert not any("nan" in name.lower() or "NaT" in name for name in names)
    for metric in (metrics.purity, metrics.clustering_accuracy):
        with pytest.raises(ValueError, match="y has no label in row 1"):
            metric(y, units)
    with pytest.raises(ValueError, match="y has no label in row 1"):
        metrics.knn_accuracy(X[:4], y, X[:4], units, 1)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, "a"], "numbers only, text only"),
        ([object(), object()], "numbers only, text only"),
        ([1.0, np.inf], "finite numbers only"),
        ([None, None], "no label in row 0"),
        ([[1], [2]], r"y has shape \(2, 1\)"),
        ([1, 2, 3], "y has 3 labels for 2 samples"),
        ("ab", "must be an array"),
        (None, "must be an array"),
    ],
)
def test_what_is_no_label_is_refused_everywhere(y, message):
    som = SOM((1, 2), n_epochs=1).fit(X[:2])
    for use in (
        lambda: som.label_units(X[:2], y),
        lambda: metrics.purity(y, [0, 1]),
        lambda: plots.class_pies(y, [0, 1], Grid(1, 2)),
    ):
        with pytest.raises(ValueError, match=message):
            use()


# ---------------------------------------------------------------- large data


def test_a_memory_map_is_streamed_and_any_other_dtype_converted(tmp_path):
    big = np.random.default_rng(0).random((300, 5)).astype(np.float32)
    big.tofile(tmp_path / "x.bin")
    mapped = np.memmap(tmp_path / "x.bin", np.float32, "r", shape=big.shape)
    assert arrays.samples(mapped, streamed=True) is mapped
    assert not isinstance(arrays.samples(mapped), np.memmap)
    in_memory, streamed = (SOM((2, 3), n_epochs=2).fit(x) for x in (big, mapped))
    np.testing.assert_array_equal(streamed.weights_, in_memory.weights_)
    np.testing.assert_array_equal(streamed.predict(mapped), in_memory.predict(big))
