"""Cached results: `fit` and `fit_seeds` for estimators, `call` for other functions.

The key of a result is all that it was computed from: parameters, data, seed, versions and the
source of the modules it depends on, which are found by following imports (plots and reports
excluded). If any of these changes, the result is computed again; an edit of another module has no
effect. A name that a package only passes on, such as `clustering.MiniSomMap`, stands for the module
that it comes from; where the source does not tell which names are used, as with `getattr`, all
modules of the package count.

runs/cache/ holds an .npz per result and a .json with its key and the hash of the .npz, so that a
damaged file is noticed; it also says how many seconds the result took, on which machine, and which
notebook asked for it. What failed has a .failed with its key and the error. The folder may be
deleted at any time. If several processes ask for the same result, one computes it and the others
wait.
"""

import ast
import builtins
import functools
import hashlib
import importlib.util
import inspect
import json
import re
import symtable
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from somlib import MODULES, NAMES
from somlib.companion import report
from somlib.files import claimed, replacing
from somlib.hashing import content_hash

Estimator = TypeVar("Estimator", bound=Any)

_PACKAGE = Path(__file__).parents[1]


def _dotted(path: Path) -> str:
    """Return the name of a module inside somlib: "models.desom"; of the package itself ""."""
    parts = path.relative_to(_PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCE = {_dotted(path): path.read_bytes() for path in sorted(_PACKAGE.rglob("*.py"))}
"""Source of the package by module, read at import: that of the running code, not later edits."""

# No cached result depends on these.
_EXCLUDED = {
    *("", "__main__", "companion", "companion.cli", "companion.report", "companion.runner"),
    *("companion.comparison", "companion.display", "companion.evidence", "companion.folders"),
    *("companion.pretraining", "companion.queue", "companion.results", "companion.verdicts"),
    *("evaluation", "evaluation.diagrams", "evaluation.plots"),
}


def fit(estimator: Estimator, X: Any, *args: Any, **options: Any) -> Estimator:
    """Return the estimator fitted to `X`, read from the cache if it was fitted before.

    Parameters
    ----------
    estimator : estimator
        With an integer `random_state` and a method `save(path)`. If its `fit` has the argument
        `checkpoint`, an interrupted training is resumed.
    X : array-like of shape (n, d)
        The data.
    *args, **options
        Passed on to `fit`.

    Returns
    -------
    estimator
        The given one, as from `fit` itself.

    Raises
    ------
    ValueError
        When a random state is None, because the training cannot be repeated. When there are
        `callbacks`, because they are not called if the result is read from the cache.
    TypeError
        When an argument, such as a random generator, has no content that could be compared.
    """
    if options.get("callbacks"):
        raise ValueError(
            f"callbacks={options['callbacks']!r} are not called when the result is read from the "
            "cache; fit without the cache, or use `call` with a function that returns what they see"
        )

    def make(checkpoint: Path) -> Any:
        resumes = "checkpoint" in inspect.signature(estimator.fit).parameters
        extra = {"checkpoint": checkpoint} if resumes else {}
        return estimator.fit(X, *args, **options, **extra)

    made_from = {"params": _params(estimator), "X": X, "fit": [args, options]}
    fitted = _once(_model_entry(estimator, made_from), make)
    vars(estimator).update(vars(fitted))
    return estimator


def fit_seeds(
    estimator: Estimator,
    X: Any,
    seeds: Iterable[int],
    *,
    settings: Sequence[Mapping[str, Any]] | None = None,
    start: Sequence[Any] | None = None,
) -> list[Estimator]:
    """Return one fitted clone of the estimator per seed; only those not in the cache are trained.

    `training.fit_seeds` trains them together; an interrupted training is resumed when the same
    seeds are asked for again. If they do not fit into memory together, they are trained in
    halves, with a warning, and these in halves again. The same is done if a loss is not finite:
    the other seeds are kept before the error is raised.

    Parameters
    ----------
    estimator : estimator
        As for `training.fit_seeds`; its own `random_state` is ignored.
    X : array-like of shape (n, d)
        The data.
    seeds : iterable of int
        The random states. Each has its own entry: after three seeds, ten need seven trainings.
    settings : sequence of dicts, optional
        One per seed: parameters in which the models differ.
    start : list of fitted estimators, optional
        One per seed, whose network weights its training starts from.

    Returns
    -------
    list of estimators
        In the order of `seeds`.

    Raises
    ------
    ValueError
        When a seed is not an integer, or `start` is not one per seed.
    FloatingPointError
        When the loss of a seed is not finite; all other seeds are in the cache.
    TypeError
        As `fit`.

    Examples
    --------
    >>> import os, tempfile
    >>> from unittest.mock import patch
    >>> from somlib.models.autoencoders import Autoencoder
    >>> X = np.random.default_rng(0).random((60, 8), dtype=np.float32)
    >>> model = Autoencoder(hidden=(6,), latent_dim=2, n_epochs=2, batch_size=20)
    >>> with patch.dict(os.environ, SOMLIB_OUTPUT=tempfile.mkdtemp()):
    ...     two = fit_seeds(model, X, [0, 1])
    ...     four = fit_seeds(model, X, range(4))  # trains 2 and 3
    >>> [model.random_state for model in four]
    [0, 1, 2, 3]
    """
    from somlib import training  # imports torch, which takes seconds

    seeds = list(seeds)
    settings = [{}] * len(seeds) if settings is None else settings
    for name, given in (("start", start), ("settings", settings)):
        if given is not None and len(given) != len(seeds):
            raise ValueError(f"{name} has {len(given)} items for {len(seeds)} seeds; give one each")
    entries = []
    shared = {"function": training.fit_seeds, "X": _content(X)}  # the data are hashed once
    for i, seed in enumerate(seeds):
        params = _params(estimator, **settings[i], random_state=seed)
        own = {"params": params, "start": start and start[i]}
        entries.append(_model_entry(estimator, shared | own))

    def train(some: list[int], checkpoint: Path) -> list[Any]:
        part: dict[str, Any] = {
            "settings": [settings[i] for i in some],
            "start": start and [start[i] for i in some],
        }
        own = [seeds[i] for i in some]
        return training.fit_seeds(estimator, X, own, checkpoint=checkpoint, **part)

    found = _all_of(type(estimator).__name__, entries, train)
    return [found[entry.path] for entry in entries]


def call(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return `function(*args, **options)`, read from the cache if it was computed before.

    Parameters
    ----------
    function : callable
        Its result must depend on its arguments alone. Of a function written in a notebook, the
        source and all modules, classes and functions that it uses are part of the key.
    *args, **options
        Numbers, strings, arrays, tables, data sets, estimators, functions; lists and dicts of them.

    Returns
    -------
    object
        Numbers, strings, arrays, DataFrames, and lists, tuples and dicts of them; no pickles.

    Raises
    ------
    ValueError, TypeError
        As for `fit`, and when the result holds something else. Also when a function written in a
        notebook uses a global variable that holds data.

    Examples
    --------
    >>> import os, tempfile
    >>> from unittest.mock import patch
    >>> with patch.dict(os.environ, SOMLIB_OUTPUT=tempfile.mkdtemp()):
    ...     call(np.cumsum, [1, 2, 3])
    array([1, 3, 6])
    """
    given = inspect.signature(function).bind(*args, **options)
    given.apply_defaults()
    if "random_state" in given.arguments:
        _require_seed(given.arguments["random_state"], f"{function.__name__}(... random_state)")
    made_from = {"function": function, "arguments": given.arguments}
    made_from["format"] = format_hash()
    entry = _Entry(function.__name__, made_from, _save, _load)
    return _once(entry, lambda _: function(*args, **options))


# ---------------------------------------------------------------- look up, make, keep

_NOTHING = object()


def folder() -> Path:
    """Return the folder of the results."""
    return report.output_folder("runs", "cache")


def key_of(made_from: dict[str, Any]) -> str:
    """Return the part of a result's file name that depends on what it was made from."""
    return content_hash(json.dumps(made_from, sort_keys=True))[:24]


def _run() -> report.Run | None:
    """Return the run of the notebook that is executed; by convention it is its `run`."""
    run = getattr(sys.modules["__main__"], "run", None)
    return run if isinstance(run, report.Run) else None


class _Entry:
    """The files of a result, named by the hash of its key."""

    def __init__(
        self,
        name: str,
        made_from: dict[str, Any],
        save: Callable[[Any, Path], None],
        load: Callable[[Path], Any],
    ) -> None:
        self.made_from = _content(made_from) | {"versions": report.versions()}
        torch = sys.modules.get("torch")  # results on a GPU depend on this setting
        if torch and torch.are_deterministic_algorithms_enabled():
            self.made_from["deterministic"] = True
        self.path = folder() / f"{name}-{key_of(self.made_from)}.npz"
        self.described = self.path.with_suffix(".json")
        self.failed = self.path.with_suffix(".failed")
        self.save, self.load = save, load

    def find(self) -> Any:
        """Return the result, or `_NOTHING` if there is none or, with a warning, a damaged one."""
        try:
            described = json.loads(self.described.read_bytes())
            if described["sha256"] != sha256(self.path.read_bytes()):
                raise ValueError("its content has changed since it was written")
            result = self.load(self.path)
            if (run := _run()) and "made_on" in described:
                run.note_origin(described["made_on"])
            return result
        except FileNotFoundError:
            pass
        except Exception as error:  # whatever is wrong with it, the remedy is the same
            message = f"{self.path} is damaged ({error}); computing it again"
            warnings.warn(message, stacklevel=4)
            with suppress(OSError):  # so that the warning is not repeated
                self.described.unlink()
        return _NOTHING

    def keep(self, result: Any, seconds: float) -> Any:
        """Write the result and read it back, so that the first run returns what later ones do."""
        with replacing(self.path) as partial:
            self.save(result, partial)
            made = {"sha256": sha256(partial.read_bytes()), "seconds": round(seconds, 3)}
        self._describe(self.described, made_on=_made_on(self.made_from), **made)
        with suppress(OSError):
            self.failed.unlink()
        return self.load(self.path)

    def fail(self, error: Exception) -> None:
        """Note that the result could not be computed; it is tried again when it is asked for."""
        with suppress(OSError):
            self._describe(self.failed, error=f"{type(error).__name__}: {error}")

    def _describe(self, path: Path, **facts: Any) -> None:
        run = _run()
        asked_by = {"notebook": run.notebook, "profile": run.profile} if run else {}
        described = {"made_from": self.made_from, **asked_by, **facts}
        with replacing(path) as partial:
            partial.write_text(json.dumps(described, indent=1), encoding="utf-8")


def _once(entry: _Entry, make: Callable[[Path], Any]) -> Any:
    """Return the result of the entry, from `make(checkpoint)` if it is not in the cache."""
    result = entry.find()
    if result is _NOTHING:
        with claimed(entry.path, wait=True):
            result = entry.find()  # another process may have computed it in the meantime
            if result is _NOTHING:
                checkpoint, began = entry.path.with_suffix(".checkpoint"), time.monotonic()
                try:
                    made = make(checkpoint)
                except Exception as error:
                    entry.fail(error)
                    raise
                result = entry.keep(made, time.monotonic() - began)
                checkpoint.unlink(missing_ok=True)
    return result


def _all_of(
    name: str, entries: Sequence[_Entry], train: Callable[[list[int], Path], list[Any]]
) -> dict[Path, Any]:
    """Return the results by path; `train(indices, checkpoint)` makes those of missing entries."""
    import torch

    _undo_interrupted()
    found = {entry.path: entry.find() for entry in entries}
    missing = {e.path: i for i, e in enumerate(entries) if found[e.path] is _NOTHING}
    parts = [list(missing.values())] if missing else []
    failures: list[FloatingPointError] = []
    while parts:
        some = parts.pop(0)
        together = content_hash(*(entries[i].path.name for i in some))[:24]
        checkpoint = entries[0].path.with_name(f"{name}-{together}.checkpoint")
        with claimed(checkpoint, wait=True):
            found |= {entries[i].path: entries[i].find() for i in some}
            left = [i for i in some if found[entries[i].path] is _NOTHING]
            if left != some:  # another process has trained some in the meantime
                parts = [left, *parts] if left else parts
                continue
            began = time.monotonic()
            try:
                fitted = train(some, checkpoint)
            except (MemoryError, FloatingPointError, torch.OutOfMemoryError) as error:
                if len(some) > 1:
                    half = len(some) // 2
                    message = f"{error}. Training {half} of {len(some)} at a time"
                    warnings.warn(message, stacklevel=3)
                    parts = [some[:half], some[half:], *parts]
                    checkpoint.unlink(missing_ok=True)  # these are not trained together again
                    continue
                entries[some[0]].fail(error)
                if not isinstance(error, FloatingPointError):
                    raise
                failures.append(error)
                continue
            except Exception as error:
                for i in some:
                    entries[i].fail(error)
                raise
            seconds = (time.monotonic() - began) / len(some)
            found |= _keep_all([entries[i] for i in some], fitted, seconds, checkpoint)
            checkpoint.unlink(missing_ok=True)
    if failures:
        raise failures[0]
    return found


_KEEPING = ".keeping"
"""Suffix of the list of results that are being written together."""


def _keep_all(
    entries: Sequence[_Entry], results: Sequence[Any], seconds: float, checkpoint: Path
) -> dict[Path, Any]:
    """Keep the results of one training, all or none: `_undo_interrupted` finishes the latter."""
    journal = checkpoint.with_suffix(_KEEPING)
    with replacing(journal) as partial:
        partial.write_text(json.dumps([entry.described.name for entry in entries]))
    found = {}
    for entry, result in zip(entries, results, strict=True):
        with claimed(entry.path, wait=True):  # it may be part of another training
            found[entry.path] = entry.keep(result, seconds)
    journal.unlink()
    return found


def _undo_interrupted() -> None:
    """Forget the results of trainings that were killed while their results were being kept.

    Else the next run would train the rest without them, and fewer networks in one product round
    differently.
    """
    for journal in folder().glob(f"[!.]*{_KEEPING}"):
        with claimed(journal.with_suffix(".checkpoint"), wait=True):
            if journal.exists():  # its process has not ended well in the meantime
                for name in json.loads(journal.read_bytes()):
                    (folder() / Path(name).name).unlink(missing_ok=True)
                journal.unlink()


def _model_entry(estimator: Any, made_from: dict[str, Any]) -> _Entry:
    kind = type(estimator)
    devices = {n: v for n, v in made_from["params"].items() if n.split("__")[-1] == "device"}

    def load(path: Path) -> Any:
        from somlib.training.saving import load  # imports torch, which takes seconds

        return load(path).set_params(**devices)  # it may have been trained on another machine

    return _Entry(kind.__name__, {"class": kind} | made_from, kind.save, load)


def _params(estimator: Any, **changes: Any) -> dict[str, Any]:
    """Return all parameters, those of inner estimators included, with checked random states."""
    params: dict[str, Any] = estimator.get_params() | changes
    for name, value in params.items():
        if name.split("__")[-1] == "random_state":
            _require_seed(value, f"{type(estimator).__name__}(... {name})")
            params[name] = int(value)
    return params


def _require_seed(value: Any, where: str) -> None:
    if not isinstance(value, int | np.integer):
        raise ValueError(
            f"{where} is {value!r}: a result that cannot be repeated cannot be cached. "
            "Expected a whole number as its random state."
        )


# ---------------------------------------------------------------- where a result was made


def _made_on(made_from: dict[str, Any]) -> dict[str, Any]:
    """Return device, platform and versions of a result that has just been computed."""
    versions = made_from["versions"]
    if run := _run():
        return {"device": run.device, "platform": run.made_by["platform"], "versions": versions}
    device = device_of(made_from)
    if device == "auto":
        from somlib.training.loop import resolve_device

        device = str(resolve_device())
    return {"device": device, "platform": report.platform_of(device), "versions": versions}


def device_of(made_from: dict[str, Any]) -> str:
    """Return the device that a key names; of several, one that is not the CPU.

    Examples
    --------
    >>> device_of({"params": {"device": "cuda"}, "start": [{"device": "cpu"}]}), device_of({})
    ('cuda', 'cpu')
    """
    named = [
        value
        for node in dictionaries(made_from)
        for key, value in node.items()
        if names_device(key, value)
    ]
    return next((device for device in named if device != "cpu"), "cpu")


def names_device(key: str, value: Any) -> bool:
    """Return whether this is the parameter `device`, also of an inner estimator, and its value."""
    of_that_name = key.split("__")[-1] == "device" and isinstance(value, str)
    return of_that_name and bool(re.fullmatch(r"auto|(cpu|cuda|mps)(:\d+)?", value))


def dictionaries(node: Any) -> Iterator[dict[str, Any]]:
    """Yield each dictionary in JSON, at any depth."""
    ahead = [node]
    while ahead:
        node = ahead.pop()
        if isinstance(node, dict):
            yield node
            ahead += node.values()
        elif isinstance(node, list):
            ahead += node


# ---------------------------------------------------------------- the key of a result


def sha256(content: bytes) -> str:
    """Return what `sha256sum` prints for a file of this content."""
    return hashlib.sha256(content).hexdigest()


def _content(value: Any) -> Any:
    """Return JSON that differs whenever two values differ in what a result may depend on."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple | range):
        return [_content(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _content(item) for key, item in value.items()}
    if isinstance(value, pd.DataFrame | pd.Series):
        return {"table": content_hash(value.to_csv())}
    if hasattr(value, "__array__"):
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        if array.dtype.hasobject:
            return _content(array.tolist())
        described = {"shape": list(array.shape), "dtype": str(array.dtype)}
        return {"array": content_hash(array), **described}
    if isinstance(value, ModuleType):
        return _named(value.__name__, value.__name__)
    if isinstance(value, np.ufunc):
        return value.__name__
    if hasattr(value, "__qualname__"):  # classes, functions and methods of all kinds
        owner = getattr(value, "__self__", None)
        bound = owner is not None and not isinstance(owner, ModuleType)
        return [_content(owner), value.__name__] if bound else _code(value)
    if hasattr(value, "get_params"):
        learned = {n: v for n, v in vars(value).items() if n.endswith("_") and n[0] != "_"}
        return [_code(type(value)), _content(value.get_params()), _content(learned)]
    if is_dataclass(value):
        return [
            _code(type(value)),
            {f.name: _content(getattr(value, f.name)) for f in fields(value)},
        ]
    raise TypeError(
        f"a result that depends on {value!r} cannot be cached: the content of a "
        f"{type(value).__name__} cannot be compared. Expected numbers, strings, arrays, tables, "
        "estimators, functions or collections of them; for a random state a whole number."
    )


def _code(thing: Any, inside: tuple[Any, ...] = ()) -> Any:
    """Return the name of a class or function and the source that it depends on."""
    name = f"{thing.__module__}.{thing.__qualname__}"
    if thing in inside:
        return name
    if thing.__module__ != "__main__":
        return _named(name, str(thing.__module__))
    if not isinstance(thing, FunctionType):
        raise TypeError(f"{name} was written in a notebook: only functions there can be cached")
    cells = zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True)
    closure = {variable: cell.cell_contents for variable, cell in cells}
    definitions = _definitions(thing)
    free = set().union(*map(_free_names, definitions)) & thing.__globals__.keys()
    used = {n: thing.__globals__[n] for n in sorted(free - closure.keys())}
    for variable, value in used.items():
        # modules, classes and functions have names; data, or the object of a method, have none
        owner = getattr(value, "__self__", None)
        if not hasattr(value if owner is None else owner, "__name__"):
            raise TypeError(
                f"{name} uses the global variable {variable!r}, a {type(value).__name__}, and "
                "would be cached whatever it holds; pass it as an argument"
            )
    given = [*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
    variables = [*(used | closure).items(), *(("", value) for value in given)]
    uses = [_use(*variable, definitions, (*inside, thing)) for variable in variables]
    imports = sorted(set().union(*map(_imported_names, definitions)))
    return {
        "name": name,
        "source": [ast.unparse(definition) for definition in definitions],
        "uses": uses,
        "imports": [_named(imported, imported) for imported in imports],
    }


def _use(variable: str, value: Any, definitions: Sequence[ast.AST], inside: tuple[Any, ...]) -> Any:
    """Return the content of a variable that definitions use: of a package, of its names used."""
    if isinstance(value, FunctionType):
        return _code(value, inside)
    if isinstance(value, ModuleType) and _passes_on(_module_of(value.__name__)):
        nodes = [node for definition in definitions for node in ast.walk(definition)]
        mentions = [node for node in nodes if isinstance(node, ast.Name) and node.id == variable]
        named = [n for n in nodes if isinstance(n, ast.Attribute) and n.value in mentions]
        if mentions and len(named) == len(mentions):  # otherwise it is passed around
            names = sorted({f"{value.__name__}.{node.attr}" for node in named})
            return [_named(name, name) for name in names]
    return _content(value)


def _definitions(function: FunctionType) -> list[ast.AST]:
    """Return the definition of a function: of a lambda, all that begin in its line."""
    code = function.__code__
    lines, _ = inspect.findsource(function)  # the whole cell
    found: list[ast.AST] = []
    for node in ast.walk(ast.parse("".join(lines))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            if (first, getattr(node, "name", "<lambda>")) == (code.co_firstlineno, code.co_name):
                found.append(node)
    return found


def _free_names(definition: ast.AST) -> set[str]:
    """Return the names that a definition uses without binding them.

    Examples
    --------
    >>> sorted(_free_names(ast.parse("def f(x): return [x.mean(axis) + g(i) for i in x]")))
    ['axis', 'g']
    """
    names: set[str] = set()
    tables = symtable.symtable(ast.unparse(definition), "notebook", "exec").get_children()
    while tables:
        table = tables.pop()
        names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
        tables += table.get_children()
    return names - set(vars(builtins))


# ---------------------------------------------------------------- the source that code depends on


def source_hash(module: str) -> str:
    """Return the hash of a module of somlib that a key contains."""
    return content_hash(SOURCE[module])[:16]


def format_hash() -> str:
    """Return the hash of the code that writes and reads the results of `call`."""
    return content_hash(SOURCE["companion.cache"], SOURCE["training.saving"])


def _named(name: str, module: str) -> Any:
    """Return a name, with hashes of the modules of somlib that code of its module may run."""
    source = {stem: source_hash(stem) for stem in sorted(_dependencies(module))}
    return {"name": name, "source": source} if source else name


def _dependencies(module: str) -> set[str]:
    """Return the modules of somlib that code of `module` may run: if in doubt, too many.

    Examples
    --------
    >>> sorted(_dependencies("somlib.search.best_units"))
    ['search.best_units', 'search.products', 'search.screen']
    >>> _dependencies("numpy.linalg")
    set()
    """
    package = module.partition(".")[0]
    if package != "somlib" and _installed(package):
        return set()
    start = _module_of(module)
    if not start:
        return set(SOURCE) - _EXCLUDED  # a module of the user, or the whole package, may use all
    found: set[str] = set()
    ahead = [start]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += _imports(SOURCE[name])
            if _passes_on(name):  # used as a whole, so any of its modules may be meant
                ahead += [below for below in SOURCE if below.startswith(f"{name}.")]
            room = name.rpartition(".")[0]
            if room and not _passes_on(room):
                ahead.append(room)  # importing a module runs the room's __init__
    return found - _EXCLUDED


@functools.cache
def _imports(source: bytes) -> frozenset[str]:
    """Return the modules of somlib that are imported anywhere in a source, or named `somlib.x`.

    Examples
    --------
    >>> sorted(_imports(b"from somlib import SOM, files; from somlib.spaces import Grid"))
    ['files', 'models.som', 'spaces.grid']
    >>> sorted(_imports(b"import somlib; somlib.metrics.purity"))
    ['evaluation.metrics']
    """
    tree = ast.parse(source)
    names = _imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.add(f"{node.value.id}.{node.attr}")
    return frozenset(filter(None, (_module_of(name) for name in names)))


def _imported_names(tree: ast.AST) -> set[str]:
    """Return the dotted names that are imported anywhere in a tree."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _module_of(name: str) -> str:
    """Return the module of somlib that a dotted name is or lies in, "" where there is none.

    Examples
    --------
    >>> _module_of("somlib.models.desom.DESOM"), _module_of("somlib.SOM"), _module_of("numpy")
    ('models.desom', 'models.som', '')
    >>> _module_of("somlib.clustering"), _module_of("somlib.clustering.MiniSomMap")
    ('models.baselines', 'models.baselines.minisom')
    """
    package, *parts = name.split(".")
    if package != "somlib" or not parts:
        return ""
    if home := NAMES.get(parts[0]):
        parts = [*home.split("."), *parts]
    elif home := MODULES.get(parts[0]):
        parts = [*home.split("."), *parts[1:]]
    below = ""
    while parts and ".".join(parts) not in SOURCE:
        below = parts.pop()
    module = ".".join(parts)
    origin = (_passed_on(SOURCE[module]) or {}).get(below, "")
    return _module_of(origin) or module


def _passes_on(module: str) -> bool:
    """Return whether a module of somlib only passes on names of others."""
    return _passed_on(SOURCE[module]) is not None


@functools.cache
def _passed_on(source: bytes) -> dict[str, str] | None:
    """Return the names that a source passes on and their origins; None if it does anything else.

    Examples
    --------
    >>> _passed_on(b"from somlib.spaces import Grid as G; __all__ = ['G']")
    {'G': 'somlib.spaces.Grid'}
    >>> _passed_on(b"from somlib.spaces import Grid; Grid.shape = None") is None
    True
    """
    names: dict[str, str] = {}
    for node in ast.parse(source).body:
        match node:
            case ast.Expr(ast.Constant()) | ast.Assign([ast.Name("__all__")], ast.List()):
                continue
            case ast.ImportFrom(str(module), aliases, 0) if aliases[0].name != "*":
                names |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in aliases}
            case _:
                return None
    return names


def _installed(package: str) -> bool:
    """Return whether a package is Python's or installed: such packages do not use somlib."""
    if package in sys.stdlib_module_names:
        return True
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # created at run time, without a file
        return False
    parts = Path(spec.origin or "").parts if spec else ()
    return "site-packages" in parts or "dist-packages" in parts


# ---------------------------------------------------------------- results without pickle


def _save(result: Any, path: Path) -> None:
    from somlib.training.saving import encode, write_arrays

    content, arrays = encode(result)
    write_arrays(path, arrays, {"content": content})


def _load(path: Path) -> Any:
    from somlib.training.saving import decode, read_arrays

    arrays, facts = read_arrays(path)
    return decode(facts["content"], arrays)
