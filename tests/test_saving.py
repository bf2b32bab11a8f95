"""Files from strangers load as what was saved, or are refused; what `fit` takes can be saved."""

import copy
import json
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from contextlib import suppress
from datetime import date
from fractions import Fraction
from functools import cache as once

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import DENSE, LATER, SMALL, in_words, quiet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator

import somlib
from somlib import SOM, Euclidean, Grid, Torus, cache
from somlib.training import ensembles, loop
from somlib.training import saving as storage
from somlib.training.saving import Saveable, read_arrays, write_arrays

X = np.random.default_rng(0).random((24, 6), dtype=np.float32)
Y = np.where(X[:, 0] > 0.5, "hi", "lo")

PARAMS = SMALL | {
    "SOM": {"grid": Grid(2, 3, "hex"), "mode": "sgd", "n_epochs": 2, "init": X[:6]},
}


@once
def fitted(name):
    model = getattr(somlib, name)(**PARAMS[name], random_state=0)
    table = pd.DataFrame(X, columns=list("abcdef"))
    quiet(model.fit, table)
    if name == "SOM":
        model.label_units(table, Y.astype(object))
        model.cluster()
    return model


@once
def saved(name, folder):
    path = folder / f"{name}.npz"
    fitted(name).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def content(model):
    learned = {k: v for k, v in vars(model).items() if k.endswith("_") and k[0] != "_"}
    node, arrays = storage.encode({"params": model.get_params(deep=False), "learned": learned})
    return json.dumps(node), [(a.dtype, a.shape, a.tobytes()) for a in arrays.values()]


def or_refused(path, function, *args, **options):
    """Return what a function returns, None where it refuses the file in the usual form."""
    try:
        return quiet(function, *args, **options)
    except ValueError as error:
        message = str(error)
    assert path.name in message
    return None


def use(model):
    for method in ("predict", "transform"):
        if hasattr(model, method):
            assert len(getattr(model, method)(pd.DataFrame(X, columns=list("abcdef")))) == len(X)


# ------------------------------------------------------------------ what a file may name


def test_the_registry_has_every_estimator_and_nothing_else():
    def below(cls):
        return {cls}.union(*(below(c) for c in cls.__subclasses__()))

    for name in somlib.ESTIMATORS:
        assert issubclass(getattr(somlib, name), Saveable)
    ours = {c.__name__ for c in below(Saveable) if c.__module__.split(".")[0] == "somlib"}
    bases = {"Saveable", "DeepEstimator", "EmbeddedClustering", "EmbeddedMap"}
    assert {n for n in ours - bases if n[0] != "_"} == set(somlib.ESTIMATORS) == set(PARAMS)


@pytest.mark.parametrize("name", [
    "somlib.files:remove_partials", "somlib.cli:main", "os:system", "builtins.print", "Saveable",
    "DeepEstimator", "_Map", "load", "fit_seeds", "Grid", "__name__", "", 5, None, ["SOM"], {},
])  # fmt: skip
def test_a_file_names_estimators_and_nothing_else_is_called(tmp_path, name):
    keep = tmp_path / ".partial-kept"
    keep.write_text("here")
    empty = storage.encode({"params": {"folder": str(tmp_path)}, "learned": {}})[0]
    facts = {"class": name, "somlib": "0.1.0", "content": empty}
    old = {"params": {"folder": str(tmp_path), "arguments": ["--version"]}, "learned": {}}
    for made in (facts, facts | old):
        write_arrays(tmp_path / "evil.npz", {}, made)
        with pytest.raises(ValueError, match=r"evil\.npz holds (no model|a '.*' of somlib)"):
            somlib.load(tmp_path / "evil.npz")
    assert keep.exists()


@pytest.mark.parametrize("name", ["cKDTree", "Tensor", "Continuous", "np", "load", 3])
def test_a_file_names_spaces_and_nothing_else_is_made(tmp_path, folder, name):
    arrays, facts = read_arrays(saved("SOAE", folder))
    text = json.dumps(facts).replace('["Euclidean"', json.dumps([name])[:-1])
    write_arrays(tmp_path / "evil.npz", arrays, json.loads(text))
    with pytest.raises(ValueError, match=r"evil\.npz is damaged"):
        somlib.load(tmp_path / "evil.npz")


def test_a_fresh_interpreter_that_knows_only_somlib_loads_every_model(folder):
    paths = [str(saved(name, folder)) for name in PARAMS]
    code = "import sys, somlib\nprint([type(somlib.load(path)).__name__ for path in sys.argv[1:]])"
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(list(PARAMS)), done.stderr


class Middle(Saveable, BaseEstimator):
    _learned = {"mean_": storage.array("f", "d")}  # noqa: RUF012

    def __init__(self, power=1):
        self.power = power

    def fit(self, X, y=None):
        self.n_features_in_, self.mean_ = X.shape[1], (X**self.power).mean(0)
        return self


def test_a_class_of_ones_own_is_known_once_it_is_defined(tmp_path):
    model = Middle(2).fit(X)
    model.save(tmp_path / "middle.npz")
    assert content(somlib.load(tmp_path / "middle.npz")) == content(model)
    defined = storage._DEFINED.pop("Middle")
    with pytest.raises(ValueError, match=r"'Middle' of somlib .*import the module of yours"):
        somlib.load(tmp_path / "middle.npz")
    storage._DEFINED["Middle"] = defined
    model.note_ = "more than was declared"
    with pytest.raises(ValueError, match=r"note_ unknown.*nothing was written"):
        model.save(tmp_path / "more.npz")


def test_a_class_that_borrows_a_name_is_not_saved_as_another(tmp_path):
    borrowed = type("SOM", (SOM,), {"__init__": SOM.__init__, "__module__": __name__})
    message = r"is that of somlib\.models\.som\.SOM; give your class another"
    with pytest.raises(ValueError, match=message):
        borrowed((2, 2)).fit(X).save(tmp_path / "map.npz")


# ------------------------------------------------------------------ nothing that fit takes is lost


@pytest.mark.parametrize("name", PARAMS)
def test_a_saved_model_is_loaded_unchanged(folder, name):
    back = somlib.load(saved(name, folder))
    assert type(back) is type(fitted(name))
    assert content(back) == content(fitted(name))
    quiet(use, back)


@pytest.mark.parametrize("params", [
    {"init": pd.DataFrame(X[:4], columns=list("abcdef"))},
    {"init": torch.from_numpy(X[:4])},
    {"init": X[:4].tolist()},
    {"init": pd.array(X[:4].ravel(), "float32").to_numpy().reshape(4, 6)},
    {"device": torch.device("cpu")},
    {"sigma": [np.float32(1.0), 0.5]},
    {"n_epochs": np.int16(2), "shuffle": np.True_},
    {"random_state": np.random.default_rng(0)},
    {"random_state": np.random.RandomState(0)},
], ids=in_words)  # fmt: skip
def test_what_fit_takes_can_be_saved(tmp_path, params):
    model = SOM(**{"grid": (2, 2), "n_epochs": 1} | params).fit(X)
    model.save(tmp_path / "map.npz")
    back = somlib.load(tmp_path / "map.npz")
    np.testing.assert_array_equal(back.weights_, model.weights_)
    again = SOM(**back.get_params()).set_params(random_state=back.seed_).fit(X)
    np.testing.assert_array_equal(again.weights_, model.weights_)
    back.save(tmp_path / "again.npz")
    assert content(somlib.load(tmp_path / "again.npz")) == content(back)


@pytest.mark.parametrize("hidden", [[4], range(4, 5), np.array([4]), (np.int64(4),), [True]])
def test_what_a_deep_model_takes_can_be_saved(tmp_path, hidden):
    model = somlib.Autoencoder(**DENSE | {"device": torch.device("cpu")})
    model.set_params(hidden=hidden, learning_rate=Fraction(1, 100))
    if hidden == [True]:
        with pytest.raises(ValueError, match=r"hidden=\[True\] must be a sequence, each"):
            model.fit(X)
        return
    model.fit(X).save(tmp_path / "model.npz")
    np.testing.assert_array_equal(
        somlib.load(tmp_path / "model.npz").transform(X), model.transform(X)
    )


@pytest.mark.parametrize("hidden", [{4}, {4: 0}, 4, "4", None])
def test_what_could_not_be_saved_is_refused_before_training(hidden):
    with pytest.raises(ValueError, match=r"hidden=.*must be"):
        somlib.Autoencoder(**DENSE | {"hidden": hidden}).fit(X)


@pytest.mark.parametrize("labels", [
    Y, Y.astype(object), Y.astype(np.dtypes.StringDType()), pd.Series(Y), pd.Categorical(Y),
    Y == "hi", np.where(Y == "hi", 1.5, 2), Y.astype("S2"), Y.astype("S2").astype(object),
    np.where(Y == "hi", "ends in\0", "\ud800").astype(object),
    (Y == "hi").astype(int).astype(object), (Y == "hi").astype("M8[D]"), Y.tolist(),
], ids=str)  # fmt: skip
def test_labels_of_any_type_are_saved(tmp_path, labels):
    som = SOM((2, 2), n_epochs=1, random_state=0).fit(X)
    som.label_units(X, labels)
    som.save(tmp_path / "map.npz")
    back = somlib.load(tmp_path / "map.npz")
    assert back.unit_labels_.dtype == som.unit_labels_.dtype
    assert back.unit_labels_.tolist() == som.unit_labels_.tolist()
    assert back.predict_labels(X).tolist() == som.predict_labels(X).tolist()


@pytest.mark.parametrize("labels", [
    [None] * len(Y), [1, *Y[1:].tolist()], [float("nan")] * len(Y),
    [date(2020, 1, 1)] * len(Y), [("a", "b")] * len(Y),
], ids=str)  # fmt: skip
def test_labels_that_cannot_be_saved_raise_errors(labels):
    som = SOM((2, 2), n_epochs=1, random_state=0).fit(X)
    given = np.empty(len(Y), object)
    given[:] = list(labels)
    with pytest.raises(ValueError, match=r"y (holds labels such as|has no label in row 0)"):
        som.label_units(X, given)
    assert not hasattr(som, "unit_labels_")


def half(x, y):
    return (x - y).abs().sum(-1) / 2


class Plane(Euclidean):
    pass


@pytest.mark.parametrize(
    ("given", "usual"), [({"distance": half}, "'l2'"), ({"space": Plane(2)}, "Torus")]
)
def test_functions_of_the_user_are_not_saved(tmp_path, given, usual):
    model = somlib.SOAE(**PARAMS["SOAE"] | given, random_state=0).fit(X)
    before = model.transform(X)
    (name,) = given
    with pytest.raises(TypeError, match=rf"cannot be saved.*set_params\({name}={usual}"):
        model.save(tmp_path / "map.npz")
    assert not list(tmp_path.iterdir())
    np.testing.assert_array_equal(model.transform(X), before)
    if name == "distance":
        model.set_params(distance="l2").save(tmp_path / "map.npz")
        np.testing.assert_array_equal(somlib.load(tmp_path / "map.npz").transform(X), before)


@pytest.mark.parametrize("change", [
    {"hidden": (5,)}, {"latent_dim": 3}, {"grid": (3, 3)}, {"precision": "none"}, {"n_iter": "3"},
])  # fmt: skip
def test_what_load_would_refuse_is_not_written(tmp_path, change):
    model = somlib.DESOM(**PARAMS["DESOM"]).fit(X).set_params(**change)
    with pytest.raises(
        ValueError, match=r"this DESOM was modified after its fit.*Restore its param"
    ):
        model.save(tmp_path / "map.npz")
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ damaged and hostile files

JUNK = [
    None, True, -1, 0, 7, 10**30, 1.5, float("nan"), float("inf"), "x", "array0", [], {}, [[]],
    {"array": "array0"}, {"list": []}, {"tuple": [10**9, 10**9]}, {"dict": [[[], 1]]},
    {"dict": []}, {"space": ["Torus", {"dict": [["m", 10**12]]}]}, {"number": ["int8", 300]},
    {"space": ["Grid", {"dict": [["rows", 10**6], ["cols", 10**6], ["topology", "rect"],
                                 ["wrap", False]]}]},
    {"objects": ["O", [10**12], []]}, {"frame": [{"list": []}, {"list": [1]}]},
]  # fmt: skip


def places(node, path=()):
    yield path
    kinds = {dict: dict.items, list: enumerate}
    for key, inner in kinds.get(type(node), lambda _: ())(node):
        yield from places(inner, (*path, key))


def mutated(facts, draw):
    """Return JSON of which one place has been removed, renamed or given another value."""
    facts = copy.deepcopy(facts)
    *way, last = draw(st.sampled_from([p for p in places(facts) if p]))
    where = facts
    for key in way:
        where = where[key]
    how = draw(st.sampled_from(["remove", "rename", "replace", "replace"]))
    if how == "remove":
        del where[last]
    elif how == "rename" and isinstance(where, dict):
        where["other"] = where.pop(last)
    else:
        where[last] = draw(st.sampled_from(JUNK))
    return facts


def changed(arrays, draw):
    """Return arrays of which one has another name, type or shape."""
    name = draw(st.sampled_from(sorted(arrays)))
    a = arrays[name]
    others = [
        *([] if a.dtype.kind in "SU" else [a.astype(t) for t in ("f2", complex, "i2")]),
        a.astype("U5"), a[None], a.reshape(-1)[:0], np.zeros((3, 10, 2)),
        a.astype(a.dtype.newbyteorder(">")),
    ]  # fmt: skip
    if draw(st.booleans()):
        return {n: v for n, v in arrays.items() if n != name} | {"other": a}
    return arrays | {name: draw(st.sampled_from(others))}


FUZZ = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", PARAMS)
@FUZZ
@given(data=st.data())
def test_a_file_with_other_content_is_a_whole_model_or_refused(folder, name, data):
    arrays, facts = read_arrays(saved(name, folder))
    if arrays and data.draw(st.booleans()):
        arrays = changed(arrays, data.draw)
    else:
        facts = mutated(facts, data.draw)
    path = folder / "other.npz"
    write_arrays(path, arrays, facts)
    back = or_refused(path, somlib.load, path)
    if back is None:
        return
    back.save(path)  # it is whole
    assert content(somlib.load(path)) == content(back)
    with suppress(ValueError):  # a value that using or fitting it refuses
        quiet(use, back)


@pytest.mark.parametrize("name", PARAMS)
def test_names_of_parameters_and_attributes_must_all_be_there_and_no_others(folder, name):
    arrays, facts = read_arrays(saved(name, folder))
    whole = storage.decode(facts["content"], arrays)
    optional = getattr(somlib, name)._declared("_also_learned")
    path = folder / "names.npz"
    for part, pairs in whole.items():
        for key, value in pairs.items():
            less = {k: v for k, v in pairs.items() if k != key}
            for others in (less, less | {"other_": value}, pairs | {"other_": value}):
                node, arrays = storage.encode(whole | {part: others})
                write_arrays(path, arrays, facts | {"content": node})
                if others is less and key in optional:
                    somlib.load(path)
                else:
                    with pytest.raises(ValueError, match=r"names\.npz is damaged .*(miss|unkn)"):
                        somlib.load(path)


@pytest.mark.parametrize("name", ["SOM", "DESOM", "SOAE", "SNE"])
@FUZZ
@given(data=st.data())
def test_a_file_with_other_bytes_is_the_same_model_or_refused(folder, name, data):
    raw = bytearray(saved(name, folder).read_bytes())
    kind = data.draw(st.sampled_from(["flip", "cut", "random", "twice"]))
    at = data.draw(st.integers(0, len(raw) - 1))
    if kind == "flip":
        raw[at] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        raw = raw[:at]
    elif kind == "random":
        raw = data.draw(st.binary(max_size=200))
    else:
        raw = raw[:at] + raw
    path = folder / "bytes.npz"
    path.write_bytes(raw)
    back = or_refused(path, somlib.load, path)
    assert back is None or content(back) == content(fitted(name))


def npy(header, body=b""):
    text = header.encode() + b" " * (118 - len(header) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def with_header(dtype, shape, body=b""):
    return npy(f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}", body)


DEEP = ("[" * 100_000 + "]" * 100_000).encode()
GIANT = 10**15


@pytest.mark.parametrize("member", [
    with_header("<f8", f"({GIANT},)"), with_header("<f8", f"(0, {GIANT})"),
    with_header("<f8", "(0,)"),
    with_header("<f8", "(-1, -1)", b"8 bytes."), with_header("<f8", "(True,)", b"8 bytes."),
    with_header(f"<U{2**31}", "(0,)"), with_header("<U0", f"({GIANT},)"), with_header("|O", "()"),
    with_header("<f3", "()", b"abc"), with_header("|V8", "()", b"8 bytes."),
    with_header("<f8", "(" + "1, " * 100 + ")", b"8 bytes."), with_header("<f8", "()"),
    npy("__import__('os').system('true')"), npy("{'descr': '<f8'}"), npy("(" * 5000),
    b"", b"\x93NUMPY", b"\x93NUMPY\x02\x00" + b"0" * 100, b"no array at all",
])  # fmt: skip
def test_a_header_is_compared_with_the_data(tmp_path, folder, member):
    path = tmp_path / "header.npz"
    with zipfile.ZipFile(saved("SOM", folder)) as good, zipfile.ZipFile(path, "w") as bad:
        for info in good.infolist():
            bad.writestr(info.filename, good.read(info))
        bad.writestr("more.npy", member)
    assert_refused(path)


def assert_refused(path):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"{path.name} (is damaged|holds no model|was)"):
            somlib.load(path)
        assert tracemalloc.get_traced_memory()[1] < 60 * path.stat().st_size + 10**6
    finally:
        tracemalloc.stop()


def test_what_unpacks_to_more_than_the_file_is_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, __json__=np.zeros(3 * 10**7, np.uint8))
    assert path.stat().st_size < 10**5
    assert_refused(path)
    one = with_header("|u1", "(100000,)", b"0" * 100_000)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", one)
        for number in range(100):  # all of them the same bytes
            again = copy.copy(file.filelist[0])
            again.filename = again.orig_filename = f"b{number}.npy"
            file.filelist.append(again)
    assert_refused(path)


@pytest.mark.parametrize("text", [
    DEEP, b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b"", b"[]", b"3", b"NaN", b'"text"', b"\xff",
    b"{", b"{}", b'{"format": 1}', b'{"format": "1"}', b'{"format": -1}', b'{"format": 99}',
    b'{"format": 1, "class": "SOM", "somlib": "0", "content": ' + DEEP + b"}",
    b'{"format": 1, "class": "SOM", "somlib": "0", "content": '
    + b'{"list": [' * 50_000 + b"]}" * 50_000 + b"}",
], ids=range(16))  # fmt: skip
def test_json_that_is_none_of_ours_is_refused(tmp_path, text):
    path = tmp_path / "text.npz"
    np.savez(path, __json__=np.frombuffer(text, np.uint8))
    assert_refused(path)


def test_files_of_other_kinds_are_refused(tmp_path, folder):
    path = tmp_path / "kind.npz"
    with path.open("wb") as file:
        np.save(file, X)
    assert_refused(path)
    np.savez(path, a=X)
    assert_refused(path)
    np.savez(path, a=np.array([{}, None], object))
    assert_refused(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("notes.txt", "no array")
    assert_refused(path)
    with zipfile.ZipFile(saved("SOM", folder)) as good, zipfile.ZipFile(path, "w") as bad:
        for info in good.infolist():
            bad.writestr(info.filename, good.read(info))
        bad.fp.flush()
        with warnings.catch_warnings(action="ignore"):
            bad.writestr(good.infolist()[0].filename, good.read(good.infolist()[0]))
    assert_refused(path)
    path.write_bytes(b"")
    assert_refused(path)


def test_a_newer_format_raises_an_error(tmp_path, folder, monkeypatch):
    arrays, facts = read_arrays(saved("SOM", folder))
    with monkeypatch.context() as later:
        later.setattr(storage, "FORMAT", storage.FORMAT + 1)
        write_arrays(tmp_path / "new.npz", arrays, facts)
    with pytest.raises(ValueError, match=r"new\.npz was written in format 2.*a newer version"):
        somlib.load(tmp_path / "new.npz")


@pytest.mark.parametrize(("name", "params"), [
    ("Autoencoder", {"hidden": (10**9, 10**9)}),
    ("Autoencoder", {"hidden": (2**62, 2**62)}),
    ("Autoencoder", {"hidden": (1,) * 10**5}),
    ("Autoencoder", {"latent_dim": 10**12}),
    ("DESOM", {"grid": Grid(10**6, 10**6)}),
    ("SOMVAE", {"grid": (10**6, 10**6)}),
    ("SOAE", {"space": Torus(10**6)}),
    ("DCSOMRL", {"hidden": (-5,)}),
])  # fmt: skip
def test_parameters_of_a_giant_take_no_memory(tmp_path, folder, name, params):
    arrays, facts = read_arrays(saved(name, folder))
    pairs = facts["content"]["dict"][0][1]["dict"]
    for pair in pairs:
        if pair[0] in params:
            pair[1] = storage.encode(params[pair[0]])[0]
    write_arrays(tmp_path / "giant.npz", arrays, facts)
    assert_refused(tmp_path / "giant.npz")


# ------------------------------------------------------------------ checkpoints

TRAININGS = {
    "sgd": SOM((2, 3), "sgd", 3, batch_size=8, random_state=0),
    "batch": SOM((2, 3), n_epochs=3, random_state=0),
    "SOAE": somlib.SOAE(
        Torus(2), hidden=(4,), n_iter=4, batch_size=8, importance_sampling=True, random_state=0
    ),
    "DEC": somlib.DEC(**LATER | {"n_clusters": 3, "n_iter": 4}, random_state=0),
    "SOMRL": somlib.SOMRL(max_nodes=9, n_iter=4, batch_size=8, random_state=0),
}


def interrupt(i, logs):
    raise KeyboardInterrupt


@once
def interrupted(name, folder):
    path = folder / f"{name}.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        quiet(copy.deepcopy(TRAININGS[name]).fit, X, callbacks=[interrupt], checkpoint=path)
    return read_arrays(path), content(quiet(copy.deepcopy(TRAININGS[name]).fit, X))


@pytest.mark.parametrize("name", TRAININGS)
@settings(FUZZ, max_examples=10)
@given(data=st.data())
def test_a_checkpoint_with_other_content_resumes_or_raises_an_error(folder, name, data):
    with pytest.MonkeyPatch.context() as short:
        short.setattr(ensembles, "ITERATIONS_PER_LOG", 2)
        (arrays, facts), expected = interrupted(name, folder)
        if data.draw(st.booleans()):
            arrays = changed(arrays, data.draw)
        else:
            facts = mutated(facts, data.draw)
        path = folder / "other.checkpoint"
        write_arrays(path, arrays, facts)
        model = copy.deepcopy(TRAININGS[name])
        if or_refused(path, model.fit, X, checkpoint=path) is None:
            return
        found = content(model)
        assert [a[:2] for a in found[1]] == [a[:2] for a in expected[1]]
        model.save(folder / "resumed.npz")


@pytest.mark.parametrize("name", TRAININGS)
def test_an_intact_checkpoint_resumes_to_the_same_result(folder, name, monkeypatch):
    monkeypatch.setattr(ensembles, "ITERATIONS_PER_LOG", 2)
    (arrays, facts), expected = interrupted(name, folder)
    write_arrays(folder / "same.checkpoint", arrays, facts)
    model = copy.deepcopy(TRAININGS[name])
    quiet(model.fit, X, checkpoint=folder / "same.checkpoint")
    assert content(model) == expected


@pytest.mark.parametrize("name", TRAININGS)
def test_arrays_of_a_checkpoint_must_all_be_there_and_no_others(folder, name, monkeypatch):
    monkeypatch.setattr(ensembles, "ITERATIONS_PER_LOG", 2)
    (arrays, facts), _ = interrupted(name, folder)
    path = folder / "names.checkpoint"
    for key, value in arrays.items():
        less = {k: v for k, v in arrays.items() if k != key}
        for others in (less, less | {f"{key}x": value}, arrays | {"x": value}):
            write_arrays(path, others, facts)
            with pytest.raises(ValueError, match=r"names\.checkpoint is damaged"):
                quiet(copy.deepcopy(TRAININGS[name]).fit, X, checkpoint=path)


def test_a_checkpoint_of_any_other_kind_is_refused(tmp_path):
    path = tmp_path / "map.checkpoint"
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(ValueError, match=r"map\.checkpoint is damaged"):
        loop.Checkpoint(path).load()
    write_arrays(path, {}, {"fingerprint": "another"})
    with pytest.raises(ValueError, match=r"map\.checkpoint was made with other data"):
        loop.Checkpoint(path).load()


# ------------------------------------------------------------------ cached results


def result(seed):
    return {"a": X, 1: [np.float32(0.5), (None, "x")], "t": pd.DataFrame({"n": ["a", None]})}


@FUZZ
@given(data=st.data())
def test_a_cached_result_with_other_content_is_read_or_made_again(folder, data):
    with pytest.MonkeyPatch.context() as there, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        there.setenv("SOMLIB_OUTPUT", str(folder / "results"))
        good = cache.call(result, 0)
        (path,) = (folder / "results").rglob("result-*.npz")
        described = json.loads(path.with_suffix(".json").read_text())
        if data.draw(st.booleans()):
            arrays, facts = read_arrays(path)
            if data.draw(st.booleans()):
                write_arrays(path, changed(arrays, data.draw), facts)
            else:
                write_arrays(path, arrays, mutated(facts, data.draw))
            described["sha256"] = cache.sha256(path.read_bytes())
        else:
            described = mutated(described, data.draw)
        path.with_suffix(".json").write_text(json.dumps(described))
        found = cache.call(result, 0)
        again = [w for w in said if "is damaged" in str(w.message)]
        assert len(said) == len(again)
        if again:
            assert storage.encode(found)[0] == storage.encode(good)[0]
        path.unlink()
