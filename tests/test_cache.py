"""Cached results: found again if nothing has changed, computed again if something has."""

import ast
import inspect
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import make_pipeline

import somlib
from somlib import SOM, Grid, cache, clustering, metrics, report, training
from somlib.training import saving as storage


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
    real = storage.load

    def load(path):
        with np.load(path) as stored:
            if "mean" not in stored:
                return real(path)
            model = Mean()
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


def test_other_versions_are_a_new_training(monkeypatch):
    cache.fit(Mean(), X)
    monkeypatch.setattr(cache.report, "versions", lambda: {"numpy": "9"})
    cache.fit(Mean(), X)
    assert Mean.paid == 2


@pytest.mark.parametrize("state", [None, np.random.default_rng(0), np.random.RandomState(0)])
def test_what_cannot_be_asked_for_again_is_refused(state):
    with pytest.raises(ValueError, match=r"Mean\(... random_state\) is .*whole number"):
        cache.fit(Mean(random_state=state), X)
    assert Mean.paid == 0


def test_callbacks_are_refused():
    with pytest.raises(ValueError, match=r"callbacks=.*are not called"):
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
    with pytest.warns(UserWarning, match=r"is damaged .*computing it again"):
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
    with pytest.raises(TypeError, match="content of a Generator cannot be compared"):
        cache.call(echo, np.random.default_rng(0))
    with pytest.raises(TypeError, match=r"\{1\} cannot be saved"):
        cache.call(lambda: {1})


def in_notebook(source, tmp_path, **names):
    """Return the globals after running `source` as a notebook would, as module `__main__`."""
    path = tmp_path / f"cell{len(list(tmp_path.glob('cell*')))}.py"
    path.write_text(textwrap.dedent(source))
    scope = {"__name__": "__main__", **names}
    exec(compile(path.read_text(), path, "exec"), scope)
    return scope


def test_a_notebooks_function_is_known_by_its_source_and_the_functions_it_calls(tmp_path, entries):
    source = """
    def scale(factor):
        return factor
    def table(n, factor):
        return [scale(factor) * i for i in range(n)]
    """

    def run(source, factor):
        return cache.call(in_notebook(source, tmp_path)["table"], 3, factor)

    assert run(source, 1) == [0, 1, 2]
    assert run(source, 2) == [0, 2, 4]
    assert run(source.replace("* i", "+ i"), 1) == [1, 2, 3]
    assert run(source.replace("return factor", "return -factor"), 1) == [0, -1, -2]
    before = entries()
    run(source.replace("* i", "*  i").replace("return factor", "return factor  # as it is"), 1)
    assert entries() == before  # only layout and comments differ


USES_DATA = {
    "in its body": "def table(n): return n * data",
    "as an attribute": "def table(n): return n * data.shape[0]",
    "in a comprehension": "def table(n): return [i * data for i in range(n)]",
    "in an inner function": """
        def table(n):
            def scaled(x):
                return x * data
            return scaled(n)
        """,
    "in a class inside": """
        def table(n):
            class Scale:
                factor = data
            return n * Scale.factor
        """,
    "in a lambda": "table = lambda n: n * data",
    "below a decorator": """
        @doubled
        def table(n):
            return n * data
        """,
    "in a function it calls": """
        def scale(n):
            return n * data
        def table(n):
            return scale(n)
        """,
    "in a function of its closure": """
        def made(function):
            def inner(n):
                return function(n)
            return inner
        def scale(n):
            return n * data
        table = made(scale)
        """,
    "declared global": """
        def table(n):
            global data
            data = n
            return data
        """,
}


@pytest.mark.parametrize("how", USES_DATA)
@pytest.mark.parametrize("value", [2, np.ones(3), [metrics.purity], "text", [].count, None])
def test_global_data_is_refused_by_name_with_the_remedy(how, value, tmp_path, entries):
    table = in_notebook(USES_DATA[how], tmp_path, data=value, doubled=doubled)["table"]
    kind = type(value).__name__
    message = rf"uses the global variable 'data', a {kind}, .*; pass it as an argument"
    with pytest.raises(TypeError, match=message):
        cache.call(table, 3)
    assert not entries()


class Box:
    def __init__(self, n):
        self.n = n

    def data(self):
        return self.n


FUNCTIONS = {"Box": Box, "expit": expit, "sqrt": np.sqrt}


@pytest.mark.parametrize(
    "source",
    [
        "def table(n): return Box(n).data()",
        "def table(n, data=3): return n * data",
        "def table(n): return sum(data for data in range(n))",
        "def table(n): return max([n], key=lambda data: -data)",
        """
        def table(n):
            data = n
            return (lambda: data)()
        """,
        """
        def table(n):
            import numpy as data
            return int(data.sum(n))
        """,
        "def table(n): return dict(data=n)['data']",
        "def table(n): return float(expit(sqrt(n)))",
    ],
)
def test_a_global_of_the_same_name_as_a_local_attribute_or_keyword_does_not_count(source, tmp_path):
    results = [
        cache.call(in_notebook(source, tmp_path, data=value, **FUNCTIONS)["table"], 3)
        for value in (object(), np.ones(3))
    ]
    assert results[0] == results[1]


def test_functions_that_call_each_other_do_not_hang(tmp_path):
    source = """
    def even(n):
        return n == 0 or odd(n - 1)
    def odd(n):
        return n > 0 and even(n - 1)
    """
    assert cache.call(in_notebook(source, tmp_path)["even"], 4) is True


# ------------------------------------------------------------------ the source that counts


@pytest.fixture
def anew(entries, monkeypatch):
    """Tell whether a call makes its result again after a module was edited."""

    def made(edited, pay, *args, **options):
        pay(*args, **options)
        before = len(entries())
        with monkeypatch.context() as patch:
            patch.setitem(cache.SOURCE, edited, cache.SOURCE[edited] + b"# edited")
            pay(*args, **options)
        return len(entries()) > before

    return made


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        ("models.som", True),
        ("search.best_units", True),
        ("spaces.grid", True),
        ("spaces", False),  # which only passes on names
        ("files", True),  # imported by what it imports
        ("evaluation.metrics", False),
        ("data", False),
        ("companion.cache", False),
        ("evaluation.plots", False),
    ],
)
def test_a_training_depends_on_what_its_module_imports(edited, expected, anew):
    som = SOM(grid=(2, 2), n_epochs=1, random_state=0)
    assert anew(edited, cache.fit, som, X) == expected


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        ("evaluation.metrics.clusterings", True),
        ("arrays", True),
        ("companion.cache", True),
        ("evaluation.metrics.maps", False),
        ("data", False),
    ],
)
def test_a_call_depends_on_what_its_module_imports(edited, expected, anew):
    assert anew(edited, cache.call, metrics.purity, [0, 1], [0, 0]) == expected


@pytest.mark.parametrize(
    "edited", sorted(cache.SOURCE.keys() - {"companion.cache", "training.saving"})
)
def test_installed_packages_do_not_depend_on_ours(edited, anew):
    assert not anew(edited, cache.call, np.cumsum, [1, 2])


@pytest.mark.parametrize("edited", sorted(cache.SOURCE))
def test_a_module_of_ones_own_may_use_everything_but_drawing(edited, anew):
    assert anew(edited, cache.fit, Mean(), X) == (edited not in cache._EXCLUDED)


def doubled(function):
    @wraps(function)
    def twice(y):
        return 2 * function(y)

    return twice


USES_PURITY = {
    "global module": "def score(y): return metrics.purity(y, y)",
    "global function": "def score(y): return purity(y, y)",
    "argument's default": "def score(y, functions=functions): return functions[0](y, y)",
    "import inside": """
        def score(y):
            from somlib.evaluation.metrics import purity
            return purity(y, y)
        """,
    "import by its public name inside": """
        def score(y):
            from somlib import metrics
            return metrics.purity(y, y)
        """,
    "import of the module inside": """
        def score(y):
            import somlib.evaluation.metrics as m
            return m.purity(y, y)
        """,
    "in a nested function": "def score(y): return (lambda: metrics.purity(y, y))()",
    "in a function it calls": """
        def inner(y, function=purity):
            return function(y, y)
        def score(y):
            return inner(y)
        """,
    "in a closure": """
        def made(function):
            return lambda y: function(y, y)
        score = made(purity)
        """,
    "in a lambda over two lines": """
        table = {"score": lambda y:
            metrics.purity(y, y)}
        score = table["score"]
        """,
    "below a decorator": """
        @doubled
        def score(y):
            return metrics.purity(y, y)
        """,
}
NAMES = {
    "metrics": metrics,
    "purity": metrics.purity,
    "functions": [metrics.purity],
    "doubled": doubled,
}


@pytest.mark.parametrize("how", USES_PURITY)
def test_a_notebooks_function_depends_on_what_it_uses(how, anew, tmp_path):
    score = in_notebook(USES_PURITY[how], tmp_path, **NAMES)["score"]
    assert anew("evaluation.metrics.clusterings", cache.call, score, [0, 1])
    assert anew("arrays", cache.call, score, [0, 1])
    assert not anew("data", cache.call, score, [0, 1])


TAKES_ONE = {
    "attribute": "def f(): return clustering.MiniSomMap.__name__",
    "under another name": "def f(): return c.MiniSomMap.__name__",
    "twice": "def f(): return clustering.MiniSomMap.__name__ + clustering.MiniSomMap.__doc__",
    "module of the package": "def f(): return clustering.minisom.MiniSomMap.__name__",
    "method": "def f(): return clustering.MiniSomMap.fit.__name__",
    "formatted": "def f(): return f'{clustering.MiniSomMap.__name__}'",
    "inner function": "def f(): return (lambda: clustering.MiniSomMap.__name__)()",
    "closure": """
        def made(package):
            return lambda: package.MiniSomMap.__name__
        f = made(clustering)
        """,
    "function it calls": """
        def name():
            return clustering.MiniSomMap.__name__
        def f():
            return name()
        """,
    "class": """
        Map = clustering.MiniSomMap
        def f():
            return Map.__name__
        """,
    "argument's default": "def f(kind=clustering.MiniSomMap): return kind.__name__",
    "import inside": """
        def f():
            from somlib.models.baselines import MiniSomMap
            return MiniSomMap.__name__
        """,
    "import by its public name inside": """
        def f():
            from somlib import MiniSomMap as Map
            return Map.__name__
        """,
}


@pytest.mark.parametrize("how", TAKES_ONE)
@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        ("models.baselines.minisom", True),
        ("models.baselines.centers", True),  # imported by it
        ("training.network", True),  # imported by that
        ("models.baselines.deep_kmeans", False),
        ("models.baselines", False),
    ],
)
def test_of_a_package_only_the_names_that_are_used_count(how, edited, expected, anew, tmp_path):
    f = in_notebook(TAKES_ONE[how], tmp_path, clustering=clustering, c=clustering)["f"]
    assert anew(edited, cache.call, f) == expected


TAKES_ANY = {
    "passed to a function": "def f(): return repr(clustering)",
    "under a name inside": """
        def f():
            package = clustering
            return package.MiniSomMap.__name__
        """,
    "getattr": "def f(): return getattr(clustering, 'MiniSomMap').__name__",
    "once as a whole": "def f(): return [clustering.MiniSomMap.__name__, repr(clustering)]",
    "its dictionary": "def f(): return clustering.__dict__['MiniSomMap'].__name__",
    "argument's default": "def f(package=clustering): return package.MiniSomMap.__name__",
    "closure": """
        def made(package):
            return lambda: repr(package)
        f = made(clustering)
        """,
    "in a function it calls": """
        def name(package=clustering):
            return repr(package)
        def f():
            return clustering.MiniSomMap.__name__ + name()
        """,
    "import inside": """
        def f():
            from somlib import clustering
            return clustering.MiniSomMap.__name__
        """,
    "import under a name inside": """
        def f():
            import somlib.models.baselines as package
            return package.MiniSomMap.__name__
        """,
    "of the package above": "def f(): return above.baselines.MiniSomMap.__name__",
    "getattr of the package above": "def f(): return getattr(above, 'baselines').__name__",
}


@pytest.mark.parametrize("how", TAKES_ANY)
def test_a_package_counts_as_a_whole_if_the_names_used_cannot_be_told(how, anew, tmp_path):
    names = {"clustering": clustering, "above": sys.modules["somlib.models"]}
    f = in_notebook(TAKES_ANY[how], tmp_path, **names)["f"]
    for edited in ("models.baselines.minisom", "models.baselines.deep_kmeans"):
        assert anew(edited, cache.call, f)


def test_a_training_does_not_depend_on_the_other_modules_of_its_package():
    found = cache._dependencies(clustering.DEC.__module__)
    assert {"models.baselines.dec", "models.baselines.centers", "models.autoencoders"} <= found
    assert not {"models.baselines.deep_kmeans", "models.baselines"} & found


def modules_run(function, *args):
    """Return the modules of somlib whose functions run in a call."""
    files = set()
    sys.setprofile(lambda frame, event, _: files.add(frame.f_code.co_filename))
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    paths = {path for path in map(Path, files) if path.is_relative_to(cache._PACKAGE)}
    return {cache._dotted(path) for path in paths}


@pytest.mark.parametrize("name", ["SOM", "DESOM", "DEC", "VaDE", "SOMRL"])
def test_what_runs_in_a_training_is_in_its_key(name):
    kind = getattr(somlib, name)
    small = {"hidden": (4,), "latent_dim": 2, "n_iter": 2, "pretrain_epochs": 1, "batch_size": 10}
    small |= {"n_clusters": 2} if name in ("DEC", "VaDE") else {}
    small |= {"grid": (2, 2)} if name == "DESOM" else {}
    known = kind().get_params(deep=False).keys() - ({"n_iter"} if name == "SOM" else set())
    model = kind(**{n: v for n, v in small.items() if n in known}, random_state=0)
    samples = np.random.default_rng(0).random((20, 6), dtype=np.float32)
    found = modules_run(model.fit, samples)
    assert {kind.__module__.removeprefix("somlib."), "arrays"} <= found
    assert found <= cache._dependencies(kind.__module__) | cache._EXCLUDED


@pytest.mark.parametrize("name", ["purity", "trustworthiness", "summary"])
def test_what_runs_in_a_metric_is_in_the_key_of_its_name(name):
    samples = np.random.default_rng(0).random((20, 6))
    args = {"purity": ([0, 1], [0, 1]), "trustworthiness": (samples, samples[:, :2])}
    args["summary"] = (SOM(grid=(3, 3), random_state=0).fit(samples), samples)
    found = modules_run(getattr(metrics, name), *args[name])
    assert len(found) > 1
    assert found <= cache._dependencies(f"somlib.metrics.{name}") | cache._EXCLUDED


@pytest.mark.parametrize(
    ("line", "name", "home"),
    [
        ("from somlib.models.baselines.dec import DEC as Other", "Other", "models.baselines.dec"),
        ("from somlib.models.baselines.dec import LIMIT", "LIMIT", "models.baselines.dec"),
        ("from somlib import checks", "checks", "checks"),
        ("from somlib import SOM", "SOM", "models.som"),
        ("from somlib import metrics as m", "m", "evaluation.metrics"),
        ("from somlib.spaces import Grid", "Grid", "spaces.grid"),  # passed on twice
        ("from math import pi", "pi", "models.baselines"),
        ("from somlib import checks", "other", "models.baselines"),
    ],
)
def test_a_name_that_is_passed_on_stands_for_the_module_that_defines_it(
    line, name, home, monkeypatch
):
    monkeypatch.setitem(cache.SOURCE, "models.baselines", line.encode())
    assert cache._module_of(f"somlib.clustering.{name}") == home
    assert cache._module_of(f"somlib.models.baselines.{name}.more") == home


@pytest.mark.parametrize(
    "line",
    [
        "LIMIT = 3",
        "DEC.limit = 3",
        "from somlib.models.baselines.dec import *",
        "from .dec import DEC",
        "import somlib.models.baselines.dec",
        "if True: from somlib.models.baselines.dec import DEC",
        "def __getattr__(name): ...",
        "register(DEC)",
        "__all__ = register(DEC)",
    ],
)
def test_a_package_that_does_more_counts_for_each_of_its_modules(line, monkeypatch):
    init = cache.SOURCE["models.baselines"] + line.encode()
    monkeypatch.setitem(cache.SOURCE, "models.baselines", init)
    assert cache._module_of("somlib.clustering.MiniSomMap") == "models.baselines"
    found = cache._dependencies("somlib.models.baselines.minisom")
    assert {"models.baselines", "models.baselines.deep_kmeans"} <= found


@pytest.mark.parametrize(
    "source",
    [
        "def score(y): return somlib.evaluation.metrics.purity(y, y)",
        "def score(y): return short.metrics.purity(y, y)",
        """
        def score(y):
            import somlib
            return somlib.evaluation.metrics.purity(y, y)
        """,
        """
        def score(y):
            import test_cache
            return test_cache.metrics.purity(y, y)
        """,
    ],
)
def test_who_names_the_package_or_an_unknown_module_depends_on_everything(source, anew, tmp_path):
    score = in_notebook(source, tmp_path, somlib=somlib, short=somlib)["score"]
    assert anew("evaluation.metrics", cache.call, score, [0, 1])
    assert anew("data", cache.call, score, [0, 1])


def test_a_decorator_is_part_of_a_notebooks_function(tmp_path):
    source = """
    from functools import wraps
    def scaled(function):
        @wraps(function)
        def inner(x):
            return 2 * function(x)
        return inner
    @scaled
    def same(x):
        return x
    """
    assert cache.call(in_notebook(source, tmp_path)["same"], 1) == 2
    assert cache.call(in_notebook(source.replace("2 *", "3 *"), tmp_path)["same"], 1) == 3
    assert (
        cache.call(in_notebook(source.replace("return x", "return -x"), tmp_path)["same"], 1) == -2
    )


def test_a_default_of_a_notebooks_inner_function_counts(tmp_path):
    source = """
    def scale(x, factor=factor):
        return factor * x
    def table(x):
        return scale(x)
    """
    for factor in (2, 3):
        assert cache.call(in_notebook(source, tmp_path, factor=factor)["table"], 1) == factor


@pytest.mark.parametrize(
    ("argument", "edited", "unrelated"),
    [
        (Grid(2, 2), "spaces.grid", "training.schedules"),
        ([{"grid": Grid(2, 2)}], "spaces.grid", "training.schedules"),
        (Grid(2, 2).distance, "spaces.grid", "training.schedules"),
        (metrics.purity, "evaluation.metrics.clusterings", "data"),
        (metrics, "evaluation.metrics", "data"),
        (report, "files", "companion.report"),
        (SOM, "models.som", "evaluation.metrics"),
        (SOM(random_state=0), "search.best_units", "evaluation.metrics"),
        (make_pipeline(SOM(random_state=0)), "search.best_units", "evaluation.metrics"),
    ],
)
def test_arguments_bring_the_source_of_what_they_are(argument, edited, unrelated, anew, tmp_path):
    known = in_notebook("def known(thing): return thing is not None", tmp_path)["known"]
    assert anew(edited, cache.call, known, argument)
    assert not anew(unrelated, cache.call, known, argument)


def test_parameters_bring_the_source_of_what_they_are():
    som = SOM(grid=Grid(2, 2), n_epochs=1, random_state=0)
    record = cache._content(som.get_params())["grid"]
    assert record[0]["name"] == "somlib.spaces.grid.Grid"
    found = set(record[0]["source"])
    assert "spaces.grid" in found
    assert all(m.startswith("spaces") for m in found - {"arrays", "checks"})


@pytest.mark.parametrize("stem", sorted(cache.SOURCE.keys() - {""}))
def test_what_a_module_holds_of_others_is_found_in_its_imports(stem):
    module = import_module(f"somlib.{stem}")
    held = [v for v in vars(module).values() if hasattr(v, "__name__")]
    inside = f"{module.__name__}."  # a room has its modules for attributes once they are imported
    held = [v for v in held if not (inspect.ismodule(v) and v.__name__.startswith(inside))]
    homes = {getattr(v, "__module__", None) or v.__name__ for v in held}
    homes = {home.removeprefix("somlib.") for home in homes if home.startswith("somlib.")}
    assert homes <= cache._dependencies(f"somlib.{stem}") | cache._EXCLUDED


@pytest.mark.parametrize("stem", sorted(cache.SOURCE.keys() - {""}))
def test_modules_import_each_other_in_words_that_can_be_followed(stem):
    for node in ast.walk(ast.parse(cache.SOURCE[stem])):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            assert node.names[0].name != "*"
        elif isinstance(node, ast.Import):
            assert not [a for a in node.names if a.asname and a.name.startswith("somlib")]
        elif isinstance(node, ast.Attribute | ast.Name):
            name = node.attr if isinstance(node, ast.Attribute) else node.id
            assert name not in ("import_module", "__import__")


@pytest.mark.parametrize("stem", sorted(cache.SOURCE.keys() - {"", "__main__"}))
def test_importing_a_module_changes_no_other(stem):
    """So a result does not depend on the modules that its package imports beside its own."""
    definitions = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.If)
    for node in ast.parse(cache.SOURCE[stem]).body:
        match node:
            case ast.Assign(targets) if all(isinstance(x, ast.Name | ast.Tuple) for x in targets):
                pass
            case ast.AnnAssign(ast.Name()) | ast.Expr(ast.Constant()):
                pass
            case _:
                assert isinstance(node, definitions), ast.unparse(node)


@pytest.mark.parametrize("stem", sorted(cache.SOURCE.keys()))
def test_no_package_passes_on_a_name_of_one_of_its_modules(stem):
    passed_on = cache._passed_on(cache.SOURCE[stem]) or {}
    assert not [name for name in passed_on if f"{stem}.{name}" in cache.SOURCE]


def test_a_deterministic_training_is_another_result():
    cache.fit(Mean(), X)
    torch.use_deterministic_algorithms(True)
    try:
        cache.fit(Mean(), X)
    finally:
        torch.use_deterministic_algorithms(False)
    assert Mean.paid == 2
    cache.fit(Mean(), X)
    assert Mean.paid == 2


# ------------------------------------------------------------------ fit_seeds


@pytest.fixture
def trained(monkeypatch):
    """Stand in for `training.fit_seeds` and note what it was asked for."""
    asked = []

    def fit_seeds(estimator, X, seeds, *, settings=None, start=None, checkpoint=None):
        asked.append({"seeds": seeds, "start": start, "checkpoint": checkpoint})
        models = [clone(estimator).set_params(random_state=seed) for seed in seeds]
        return [model.fit(X + model.random_state) for model in models]

    monkeypatch.setattr(training, "fit_seeds", fit_seeds)
    return asked


def seeds_of(models):
    return [model.mean_[0] - X.mean(axis=0)[0] for model in models]


def test_more_seeds_cost_only_those_that_are_missing(trained, entries):
    assert seeds_of(cache.fit_seeds(Mean(), X, range(3))) == [0, 1, 2]
    assert seeds_of(cache.fit_seeds(Mean(), X, range(10))) == list(range(10))
    assert [asked["seeds"] for asked in trained] == [[0, 1, 2], [3, 4, 5, 6, 7, 8, 9]]
    assert len(entries()) == 10
    assert seeds_of(cache.fit_seeds(Mean(random_state=None), X, np.array([7, 2, 2]))) == [7, 2, 2]
    assert len(trained) == 2


def test_a_seed_asked_for_twice_is_trained_once(trained):
    assert seeds_of(cache.fit_seeds(Mean(), X, [5, 1, 5])) == [5, 1, 5]
    assert sorted(trained[0]["seeds"]) == [1, 5]


@pytest.mark.parametrize(
    ("estimator", "data"), [(Mean(grid=Lattice(3)), X), (Mean(), X + 1), (Mean(), X[:2])]
)
def test_any_change_trains_all_seeds_again(estimator, data, trained):
    cache.fit_seeds(Mean(), X, [0, 1])
    cache.fit_seeds(estimator, data, [0, 1])
    assert [asked["seeds"] for asked in trained] == [[0, 1], [0, 1]]


def test_each_seed_is_known_by_its_own_start(trained):
    starts = [Mean(random_state=seed).fit(X + seed) for seed in range(3)]
    cache.fit_seeds(Mean(), X, range(3))
    cache.fit_seeds(Mean(), X, range(3), start=starts)
    again = [clone(start).fit(X + i) for i, start in enumerate(starts)]
    cache.fit_seeds(Mean(), X, range(3), start=again)
    assert [asked["start"] for asked in trained] == [None, starts]
    other = Mean(random_state=1).fit(X)
    cache.fit_seeds(Mean(), X, range(3), start=[starts[0], other, starts[2]])
    assert (trained[2]["seeds"], trained[2]["start"]) == ([1], [other])


def test_interrupted_seeds_find_the_checkpoint_of_their_set(output, trained, monkeypatch):
    fake = training.fit_seeds
    seen = []

    def halfway(*args, checkpoint, **options):
        seen.append((checkpoint.exists(), checkpoint))
        if seen[-1][0]:
            return fake(*args, checkpoint=checkpoint, **options)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit_seeds", halfway)
    for seeds in ([0, 1], [0, 1, 2]):
        with pytest.raises(KeyboardInterrupt):
            cache.fit_seeds(Mean(), X, seeds)
    assert seen[0][1] != seen[1][1]
    assert seeds_of(cache.fit_seeds(Mean(), X, [0, 1])) == [0, 1]
    assert list(output.rglob("*.checkpoint")) == [seen[1][1]]
    assert seen[2] == (True, seen[0][1])


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_seeds_are_kept_together_or_not_at_all(kept, output, trained, entries, monkeypatch):
    """Those left over would be trained in a smaller stack, whose products round differently."""
    keep, done = cache._Entry.keep, []

    def killed(entry, *args):
        if len(done) == kept:
            raise SystemExit  # as a kill: nothing after it runs
        done.append(entry)
        return keep(entry, *args)

    with monkeypatch.context() as patch:
        patch.setattr(cache._Entry, "keep", killed)
        with pytest.raises(SystemExit):
            cache.fit_seeds(Mean(), X, range(3))
    assert len(list(output.rglob("*.keeping"))) == 1
    assert seeds_of(cache.fit_seeds(Mean(), X, range(3))) == [0, 1, 2]
    assert [asked["seeds"] for asked in trained] == [[0, 1, 2], [0, 1, 2]]
    assert not list(output.rglob("*.keeping"))
    cache.fit_seeds(Mean(), X, range(3))
    assert (len(trained), len(entries())) == (2, 3)


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_seeds_that_do_not_fit_together_are_trained_by_halves(output, trained, monkeypatch, error):
    fake, asked = training.fit_seeds, []

    def small(estimator, X, seeds, **options):
        asked.append(seeds)
        if len(seeds) > 2:
            raise error(f"{len(seeds)} seeds need much")
        return fake(estimator, X, seeds, **options)

    monkeypatch.setattr(training, "fit_seeds", small)
    with pytest.warns(UserWarning, match="seeds need much") as said:
        assert seeds_of(cache.fit_seeds(Mean(), X, range(5))) == [0, 1, 2, 3, 4]
    assert [str(warning.message) for warning in said] == [
        "5 seeds need much. Training 2 of 5 at a time",
        "3 seeds need much. Training 1 of 3 at a time",
    ]
    assert asked == [[0, 1, 2, 3, 4], [0, 1], [2, 3, 4], [2], [3, 4]]
    assert len({part["checkpoint"] for part in trained}) == 3
    cache.fit_seeds(Mean(), X, range(5))
    assert len(asked) == 5  # all were kept


def test_a_seed_that_diverges_does_not_cost_the_others_and_is_listed(
    output, trained, monkeypatch, entries
):
    fake, bad = training.fit_seeds, [3]

    def diverges(estimator, X, seeds, **options):
        if set(bad) & set(seeds):
            raise FloatingPointError("the loss of seed 3 is not finite")
        return fake(estimator, X, seeds, **options)

    monkeypatch.setattr(training, "fit_seeds", diverges)
    with (
        pytest.warns(UserWarning, match="is not finite. Training"),
        pytest.raises(FloatingPointError, match="seed 3 is not finite"),
    ):
        cache.fit_seeds(Mean(), X, range(5))
    assert len(entries()) == 4
    (failed,) = (output / "runs" / "cache").glob("*.failed")
    record = json.loads(failed.read_text())
    assert record["made_from"]["params"]["random_state"] == 3
    assert record["error"] == "FloatingPointError: the loss of seed 3 is not finite"
    bad.clear()
    assert seeds_of(cache.fit_seeds(Mean(), X, range(5))) == [0, 1, 2, 3, 4]
    assert trained[-1]["seeds"] == [3]
    assert not failed.exists()


def test_a_call_that_fails_is_listed_until_it_succeeds(output):
    def fail(random_state):
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        cache.call(fail, 1)
    (failed,) = (output / "runs" / "cache").glob("fail-*.failed")
    assert json.loads(failed.read_text())["error"] == "OSError: no room"


def test_an_entry_knows_its_seconds_and_who_asked(entries, monkeypatch):
    cache.call(np.cumsum, X)
    record = json.loads(entries()[0].with_suffix(".json").read_text())
    assert 0 <= record["seconds"] < 60
    assert "notebook" not in record
    run = report.start("01_toy", profile="quick", device="cpu", seeds=1)
    monkeypatch.setattr(sys.modules["__main__"], "run", run, raising=False)
    cache.call(np.cumprod, X)
    (path,) = (entry for entry in entries() if entry.name.startswith("cumprod"))
    record = json.loads(path.with_suffix(".json").read_text())
    assert (record["notebook"], record["profile"]) == ("01_toy", "quick")


def test_one_seed_that_does_not_fit_is_an_error(trained, monkeypatch):
    def never(*args, **options):
        raise MemoryError("1 seeds need much")

    monkeypatch.setattr(training, "fit_seeds", never)
    with pytest.raises(MemoryError, match="1 seeds need much"):
        cache.fit_seeds(Mean(), X, [0])


def test_only_the_damaged_seed_is_trained_again(trained, entries):
    cache.fit_seeds(Mean(), X, range(3))
    entries()[0].write_bytes(b"")
    with pytest.warns(UserWarning, match=r"is damaged .*computing it again"):
        assert seeds_of(cache.fit_seeds(Mean(), X, range(3))) == [0, 1, 2]
    assert len(trained[1]["seeds"]) == 1


def test_seeds_are_whole_numbers_and_starts_one_for_each(trained):
    with pytest.raises(ValueError, match=r"Mean\(... random_state\) is None.*whole number"):
        cache.fit_seeds(Mean(), X, [0, None])
    with pytest.raises(ValueError, match="start has 1 items for 2 seeds; give one each"):
        cache.fit_seeds(Mean(), X, [0, 1], start=[Mean().fit(X)])
    assert not trained


# ------------------------------------------------------------------ several processes

TOGETHER = """\
import sys, time
from pathlib import Path
import numpy as np
from somlib import cache
from somlib.training import saving  # takes seconds, and the others would warn that they wait

def slow(folder):
    (Path(folder) / str(time.time_ns())).touch()
    time.sleep(0.5)
    return np.random.default_rng().random(3)  # two that made it would differ

folder = sys.argv[1]
(Path(folder).parent / f"ready{time.time_ns()}").touch()
while len(list(Path(folder).parent.glob("ready*"))) < 3:
    time.sleep(0.01)
print(cache.call(slow, folder).tolist())
"""


def test_of_several_processes_one_makes_a_result_and_the_others_wait_for_it(output, tmp_path):
    (tmp_path / "made").mkdir()
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    command = [sys.executable, "-W", "error", str(script), str(tmp_path / "made")]
    environment = os.environ | {"SOMLIB_OUTPUT": str(output)}
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment, "text": True}
    running = [subprocess.Popen(command, **said) for _ in range(3)]
    ends = [process.communicate(timeout=120) for process in running]
    assert [err for _, err in ends] == [""] * 3
    assert len({out for out, _ in ends}) == 1
    assert len(list((tmp_path / "made").iterdir())) == 1
    assert not list(output.rglob(".partial-*"))
