"""Results that were paid for once: found again when nothing changed, made again when it did."""

import json
import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

from somlib import cache, storage


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    return tmp_path


@pytest.fixture
def entries(output):
    return lambda: sorted((output / "runs" / "cache").glob("*.npz"))


X = np.arange(6, dtype=np.float32).reshape(3, 2)


@dataclass(frozen=True)
class Lattice:
    rows: int
    wrap: bool = False


class Mean(BaseEstimator):
    """As little of an estimator as the cache relies on; counts how often it is paid for."""

    paid = 0

    def __init__(self, grid=Lattice(2), start=None, random_state=0):
        self.grid = grid
        self.start = start
        self.random_state = random_state

    def fit(self, X, sample_weight=None):
        Mean.paid += 1
        self.mean_ = np.average(X, axis=0, weights=sample_weight)
        return self

    def save(self, path):
        np.savez(path, mean=self.mean_)


@pytest.fixture(autouse=True)
def loading(monkeypatch):
    def load(path):
        model = Mean()
        with np.load(path) as stored:
            model.mean_ = stored["mean"]
        return model

    monkeypatch.setattr(storage, "load", load)
    monkeypatch.setattr(Mean, "paid", 0)


# ------------------------------------------------------------------ fit


def test_a_training_is_paid_for_once(entries):
    first = cache.fit(Mean(), X)
    again = Mean()
    assert cache.fit(again, X.copy()) is again
    assert Mean.paid == 1
    np.testing.assert_array_equal(again.mean_, X.mean(axis=0))
    np.testing.assert_array_equal(first.mean_, again.mean_)
    assert len(entries()) == 1


@pytest.mark.parametrize(
    ("estimator", "data", "options"),
    [
        (Mean(random_state=1), X, {}),
        (Mean(grid=Lattice(3)), X, {}),
        (Mean(grid=Lattice(2, wrap=True)), X, {}),
        (Mean(start=np.zeros(2)), X, {}),
        (Mean(), X + 1, {}),
        (Mean(), X.astype(np.float64), {}),
        (Mean(), X.reshape(2, 3), {}),
        (Mean(), X, {"sample_weight": [1, 2, 3]}),
    ],
)
def test_any_change_is_a_new_training(estimator, data, options):
    cache.fit(Mean(), X)
    cache.fit(estimator, data, **options)
    assert Mean.paid == 2


@pytest.mark.parametrize("what", ["SOURCE", "versions"])
def test_other_code_is_a_new_training(what, monkeypatch):
    cache.fit(Mean(), X)
    if what == "SOURCE":
        monkeypatch.setattr(cache, "SOURCE", "edited")
    else:
        monkeypatch.setattr(cache.report, "versions", lambda: {"numpy": "9"})
    cache.fit(Mean(), X)
    assert Mean.paid == 2


def test_the_source_is_that_of_the_package_without_drawing():
    names = {path.stem for path in cache._MODULES}
    assert {"training", "cache", "data"} <= names
    assert not {"plots", "report", "cli"} & names


@pytest.mark.parametrize("state", [None, np.random.default_rng(0), np.random.RandomState(0)])
def test_what_cannot_be_asked_for_again_is_refused(state):
    with pytest.raises(ValueError, match=r"Mean\(... random_state\) is .*whole number"):
        cache.fit(Mean(random_state=state), X)
    assert Mean.paid == 0


def test_callbacks_are_refused():
    with pytest.raises(ValueError, match=r"callbacks=.*would see nothing"):
        cache.fit(Mean(), X, callbacks=[print])


def test_what_has_no_content_is_refused():
    with pytest.raises(TypeError, match=r"object.*cannot be cached.*Expected numbers"):
        cache.fit(Mean(start=object()), X)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[::-1]])
def test_a_damaged_entry_is_made_again(suffix, damage, entries):
    cache.fit(Mean(), X)
    path = entries()[0].with_suffix(suffix)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"is damaged .*making it again"):
        model = cache.fit(Mean(), X)
    np.testing.assert_array_equal(model.mean_, X.mean(axis=0))
    assert cache.fit(Mean(), X)  # and whole from now on
    assert Mean.paid == 2


def test_an_entry_without_its_signature_is_unfinished(entries):
    cache.fit(Mean(), X)
    entries()[0].with_suffix(".json").unlink()
    cache.fit(Mean(), X)
    assert Mean.paid == 2


class Resumable(Mean):
    """Trains in two parts, the first of which an interrupt cannot take away."""

    def fit(self, X, checkpoint=None):
        if not checkpoint.exists():
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.write_text("half")
            raise KeyboardInterrupt
        return super().fit(X)


def test_an_interrupted_training_finds_its_checkpoint(output):
    with pytest.raises(KeyboardInterrupt):
        cache.fit(Resumable(), X)
    assert len(list(output.rglob("*.checkpoint"))) == 1
    assert cache.fit(Resumable(), X).mean_.tolist() == [2, 3]
    assert not list(output.rglob("*.checkpoint"))


def test_the_entry_says_what_it_was_made_from(entries):
    cache.fit(Mean(random_state=7), X)
    record = json.loads(entries()[0].with_suffix(".json").read_text())
    assert record["made_from"]["params"]["random_state"] == 7
    assert record["made_from"]["X"]["shape"] == [3, 2]
    assert entries()[0].name.startswith("Mean-")


# ------------------------------------------------------------------ call

calls = []


def echo(value, random_state=0):
    calls.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        0.1,
        "text",
        [1, (2, "x")],
        {8: 0.5, "nested": {"a": [None]}},
        float("inf"),
        np.float32(0.1),
    ],
)
def test_results_come_back_as_they_were(value):
    assert cache.call(echo, value) == value
    again = cache.call(echo, value)
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("array", [X, X[:0], np.array(["a", "b"]), X > 2, X.T, X * 1j])
def test_arrays_come_back_bit_for_bit(array):
    back = cache.call(echo, {"a": array})["a"]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"n": [1, 2], "x": [0.1, np.nan], "name": ["a", "b"]}),
        pd.DataFrame({"x": [1.0, 2.0]}, index=pd.Index(["a", "b"], name="row")),
        pd.DataFrame({"x": [1, 2, 3]}).groupby("x").agg(x2=("x", "sum")),
        pd.DataFrame([[1, 2]], index=pd.MultiIndex.from_tuples([("a", 1)], names=["p", "q"])),
        pd.DataFrame({"x": [0.5, 1.5, 2.5]}).iloc[1:],
        pd.DataFrame({"x": []}),
    ],
)
def test_tables_come_back_as_they_were(frame):
    back = cache.call(echo, frame)
    pd.testing.assert_frame_equal(back, frame)
    assert type(back.index) is type(frame.index)


def test_a_call_is_paid_for_once_however_it_is_written():
    calls.clear()
    cache.call(echo, 5)
    cache.call(echo, value=5, random_state=0)
    assert calls == [5]
    cache.call(echo, 5, random_state=1)
    assert calls == [5, 5]


def test_fitted_estimators_are_told_apart_by_what_they_learned():
    def center(model):
        return model.mean_

    one, other = Mean().fit(X), Mean().fit(X + 1)
    assert not np.array_equal(cache.call(center, one), cache.call(center, other))
    np.testing.assert_array_equal(cache.call(center, one), one.mean_)


def test_methods_belong_to_their_object():
    assert [cache.call([1, 2].count, 1), cache.call([1, 1].count, 1)] == [1, 2]


def test_unkeyable_calls_are_refused():
    with pytest.raises(ValueError, match=r"echo\(... random_state\) is None"):
        cache.call(echo, 1, random_state=None)
    with pytest.raises(TypeError, match="Generator from another"):
        cache.call(echo, np.random.default_rng(0))
    with pytest.raises(TypeError, match="holds a set"):
        cache.call(lambda: {1})


def in_notebook(source, tmp_path, **names):
    """Return the globals after running `source` as a notebook would, as module `__main__`."""
    path = tmp_path / f"cell{len(list(tmp_path.glob('cell*')))}.py"
    path.write_text(textwrap.dedent(source))
    scope = {"__name__": "__main__", **names}
    exec(compile(path.read_text(), path, "exec"), scope)
    return scope


def test_a_notebooks_function_is_known_by_its_source_and_what_it_names(tmp_path):
    source = """
    def scale():
        return factor
    def table(n):
        return [scale() * i for i in range(n)]
    """

    def run(source, **names):
        return cache.call(in_notebook(source, tmp_path, **names)["table"], 3)

    assert run(source, factor=1) == [0, 1, 2]
    assert run(source, factor=2) == [0, 2, 4]  # a global of a function that it calls
    assert run(source.replace("* i", "+ i"), factor=1) == [1, 2, 3]
    assert run(source.replace("return factor", "return -factor"), factor=1) == [0, -1, -2]
    with pytest.raises(TypeError, match="Generator from another"):
        run(source, factor=np.random.default_rng(0))


def test_functions_that_call_each_other_do_not_hang(tmp_path):
    source = """
    def even(n):
        return n == 0 or odd(n - 1)
    def odd(n):
        return n > 0 and even(n - 1)
    """
    assert cache.call(in_notebook(source, tmp_path)["even"], 4) is True
