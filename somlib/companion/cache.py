"""Results that were paid for once: `fit` and `fit_seeds` for estimators, `call` for the rest.

A result is kept under what it was made from: parameters, data, seed, versions and the source of
the modules it depends on, followed from import to import (drawing and reporting apart). Change
any of these and it is made again; an edit of another module leaves it be. In runs/cache/ lies an
.npz per result and a .json that says what it was made from and holds the hash of the .npz, so
that a damaged one is noticed. Deleting the folder is safe. Of several processes that want the same
result one makes it, and the others wait.
"""

import ast
import dis
import functools
import hashlib
import importlib.util
import inspect
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from somlib import MODULES, NAMES
from somlib.companion import report
from somlib.files import claimed, replacing

Estimator = TypeVar("Estimator", bound=Any)

_PACKAGE = Path(__file__).parents[1]


def _dotted(path: Path) -> str:
    """Return the name of a module inside somlib: "models.desom"; of the package itself ""."""
    parts = path.relative_to(_PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCE = {_dotted(path): path.read_bytes() for path in sorted(_PACKAGE.rglob("*.py"))}
"""The package's source by module, taken at import: of the code that runs, not of later edits."""

# These make no result that is kept.
_APART = {
    *("", "__main__", "companion", "companion.cli", "companion.report"),
    *("evaluation", "evaluation.diagrams", "evaluation.plots"),
}


def fit(estimator: Estimator, X: Any, *args: Any, **options: Any) -> Estimator:
    """Return the estimator fitted to `X`, read from the cache when that was paid for before.

    Parameters
    ----------
    estimator : estimator
        With a whole number for its `random_state`, and `save(path)`. Where its `fit` takes a
        `checkpoint`, it is given a file, so that an interrupted training goes on from there.
    X : array-like of shape (n, d)
        The data.
    *args, **options
        Passed on to `fit`.

    Returns
    -------
    estimator
        The one that was given, as `fit` itself would return it.

    Raises
    ------
    ValueError
        When a random state is None: nobody can ask for that training again. When there are
        `callbacks`: what they see would be missing the next time.
    TypeError
        When something, such as a live random generator, has no content to be recognised by.
    """
    if options.get("callbacks"):
        raise ValueError(
            f"callbacks={options['callbacks']!r} would see nothing when the result is read from "
            "the cache; fit without the cache, or use `call` with a function that returns it all"
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
    """Return one fitted clone of the estimator per seed, training only those not paid for before.

    `training.fit_seeds` trains them, all in one pass; an interrupted training goes on from there
    when the same seeds are asked for again. Where they do not fit into memory together, half of
    them are trained at a time, with a warning, and again half.

    Parameters
    ----------
    estimator : estimator
        What `training.fit_seeds` takes; its own `random_state` does not matter.
    X : array-like of shape (n, d)
        The data.
    seeds : iterable of int
        The random states. Each is kept on its own: after three seeds, ten cost seven.
    settings : sequence of dicts, optional
        One per seed: parameters in which the models of the stack differ.
    start : list of fitted estimators, optional
        One per seed, whose network weights its training begins from.

    Returns
    -------
    list of estimators
        In the order of `seeds`.

    Raises
    ------
    ValueError
        When a seed is not a whole number, or `start` is not one per seed.
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
    import torch  # takes seconds

    from somlib import training

    seeds = list(seeds)
    if start is not None and len(start) != len(seeds):
        raise ValueError(
            f"start holds {len(start)} estimators for {len(seeds)} seeds; give one for each seed"
        )
    settings = [{}] * len(seeds) if settings is None else settings
    if len(settings) != len(seeds):
        raise ValueError(
            f"settings holds {len(settings)} dicts for {len(seeds)} seeds; give one for each seed"
        )
    entries = []
    shared = {"function": training.fit_seeds, "X": _content(X)}  # the data are hashed once
    for i, seed in enumerate(seeds):
        params = _params(estimator, **settings[i], random_state=seed)
        own = {"params": params, "start": start and start[i]}
        entries.append(_model_entry(estimator, shared | own))
    found = {entry.path: entry.find() for entry in entries}
    missing = {e.path: i for i, e in enumerate(entries) if found[e.path] is _NOTHING}
    parts = [list(missing.values())] if missing else []
    while parts:
        some = parts.pop(0)
        together = _sha256(*(entries[i].path.name.encode() for i in some))[:24]
        checkpoint = entries[0].path.with_name(f"{type(estimator).__name__}-{together}.checkpoint")
        with claimed(checkpoint, wait=True):
            found |= {entries[i].path: entries[i].find() for i in some}  # by another, just now
            left = [i for i in some if found[entries[i].path] is _NOTHING]
            if left != some:
                parts = [left, *parts] if left else parts
                continue
            try:
                fitted = training.fit_seeds(
                    estimator,
                    X,
                    [seeds[i] for i in some],
                    settings=[settings[i] for i in some],
                    start=start and [start[i] for i in some],
                    checkpoint=checkpoint,
                )
            except (MemoryError, torch.OutOfMemoryError) as error:
                if len(some) == 1:
                    raise
                half = len(some) // 2
                warnings.warn(f"{error}. Training {half} of {len(some)} at a time", stacklevel=2)
                parts = [some[:half], some[half:], *parts]
                continue
            for i, model in zip(some, fitted, strict=True):
                with claimed(entries[i].path, wait=True):  # it may be in another's stack, too
                    found[entries[i].path] = entries[i].keep(model)
            checkpoint.unlink(missing_ok=True)
    return [found[entry.path] for entry in entries]


def call(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return `function(*args, **options)`, read from the cache when it was paid for before.

    Parameters
    ----------
    function : callable
        Its result depends on its arguments alone; of a function written in a notebook the source
        and what it names, globals and imports, count as well.
    *args, **options
        Numbers, texts, arrays, tables, data sets, estimators, functions; lists and dicts of them.

    Returns
    -------
    object
        Numbers, texts, arrays, DataFrames, and lists, tuples and dicts of them; nothing pickled.

    Raises
    ------
    ValueError, TypeError
        As `fit`, and when the result holds something else.

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
    made_from["format"] = _sha256(SOURCE["companion.cache"], SOURCE["training.saving"])
    entry = _Entry(function.__name__, made_from, _save, _load)
    return _once(entry, lambda _: function(*args, **options))


# ---------------------------------------------------------------- look up, make, keep

_NOTHING = object()


class _Entry:
    """The place of a result, named by the hash of everything that it was made from."""

    def __init__(
        self,
        name: str,
        made_from: dict[str, Any],
        save: Callable[[Any, Path], None],
        load: Callable[[Path], Any],
    ) -> None:
        self.made_from = _content(made_from) | {"versions": report.versions()}
        key = _sha256(json.dumps(self.made_from, sort_keys=True).encode())
        self.path = report.output_folder("runs", "cache") / f"{name}-{key[:24]}.npz"
        self.described = self.path.with_suffix(".json")
        self.save, self.load = save, load

    def find(self) -> Any:
        """Return the result, or `_NOTHING` where none is or, with a warning, a damaged one."""
        try:
            described = json.loads(self.described.read_bytes())
            if described["sha256"] != _sha256(self.path.read_bytes()):
                raise ValueError("the file is not the one that was written")
            return self.load(self.path)
        except FileNotFoundError:
            pass
        except Exception as error:  # whatever is wrong with it, the remedy is the same
            message = f"{self.path} is damaged ({error}); making it again"
            warnings.warn(message, stacklevel=4)
            with suppress(OSError):  # said once
                self.described.unlink()
        return _NOTHING

    def keep(self, result: Any) -> Any:
        """Write the result and read it back: the first run gives what every later one gives."""
        with replacing(self.path) as partial:
            self.save(result, partial)
            sha256 = _sha256(partial.read_bytes())
        with replacing(self.described) as partial:
            text = json.dumps({"made_from": self.made_from, "sha256": sha256}, indent=1)
            partial.write_text(text, encoding="utf-8")
        return self.load(self.path)


def _once(entry: _Entry, make: Callable[[Path], Any]) -> Any:
    """Return what the entry holds, after making it if need be; `make` is given a checkpoint."""
    result = entry.find()
    if result is _NOTHING:
        with claimed(entry.path, wait=True):
            result = entry.find()  # another may have made it just now
            if result is _NOTHING:
                checkpoint = entry.path.with_suffix(".checkpoint")
                result = entry.keep(make(checkpoint))
                checkpoint.unlink(missing_ok=True)
    return result


def _model_entry(estimator: Any, made_from: dict[str, Any]) -> _Entry:
    kind = type(estimator)
    return _Entry(kind.__name__, {"class": kind} | made_from, kind.save, _load_model)


def _load_model(path: Path) -> Any:
    from somlib.training.saving import load  # brings torch, which takes seconds to import

    return load(path)


def _params(estimator: Any, **changes: Any) -> dict[str, Any]:
    """Return the parameters, those of inner estimators too; a random state must be a number."""
    params: dict[str, Any] = estimator.get_params() | changes
    for name, value in params.items():
        if name.split("__")[-1] == "random_state":
            _require_seed(value, f"{type(estimator).__name__}(... {name})")
            params[name] = int(value)
    return params


def _require_seed(value: Any, where: str) -> None:
    if not isinstance(value, int | np.integer):
        raise ValueError(
            f"{where} is {value!r}: a result that cannot be asked for again cannot be cached. "
            "Expected a whole number as its random state."
        )


# ---------------------------------------------------------------- what a result is made from


def _sha256(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _content(value: Any) -> Any:
    """Return JSON that differs whenever values differ in a way that a result may depend on."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple | range):
        return [_content(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _content(item) for key, item in value.items()}
    if isinstance(value, pd.DataFrame | pd.Series):
        return {"table": _sha256(value.to_csv().encode())}
    if hasattr(value, "__array__"):
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        if array.dtype.hasobject:
            return _content(array.tolist())
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return {"array": _sha256(raw), "shape": list(array.shape), "dtype": str(array.dtype)}
    if isinstance(value, ModuleType):
        return _named(value.__name__, value.__name__)
    if hasattr(value, "__qualname__"):  # classes, functions and methods of every make
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
        f"a result made from {value!r} cannot be cached: nothing tells one "
        f"{type(value).__name__} from another. Expected numbers, texts, arrays, tables, "
        "estimators, functions or collections of them; for a random state a whole number."
    )


def _code(thing: Any, inside: tuple[Any, ...] = ()) -> Any:
    """Return the name of a class or function and the source that it stands on."""
    name = f"{thing.__module__}.{thing.__qualname__}"
    if thing in inside:
        return name
    if thing.__module__ != "__main__":
        return _named(name, str(thing.__module__))
    if not isinstance(thing, FunctionType):
        raise TypeError(f"{name} was written in a notebook: only functions there can be cached")
    # what it names, nested functions included; those written in the notebook in full as well
    codes = list(_nested(thing.__code__))
    names = dict.fromkeys(name for code in codes for name in code.co_names)
    values = [thing.__globals__[n] for n in names if n in thing.__globals__]
    values += [cell.cell_contents for cell in thing.__closure__ or ()]
    values += [*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
    uses = [
        _code(value, (*inside, thing)) if isinstance(value, FunctionType) else _content(value)
        for value in values
    ]
    steps = [step for code in codes for step in dis.get_instructions(code)]
    imports = [_named(s.argval, s.argval) for s in steps if s.opname == "IMPORT_NAME"]
    source = inspect.getsource(thing.__code__)  # its own, where a decorator has put it in between
    return {"name": name, "source": source, "uses": uses, "imports": imports}


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _nested(inner)


# ---------------------------------------------------------------- the source that code stands on


def _named(name: str, module: str) -> Any:
    """Return a name, with hashes of the source that code of its module may run where somlib's."""
    source = {stem: _sha256(SOURCE[stem])[:16] for stem in sorted(_stands_on(module))}
    return {"name": name, "source": source} if source else name


def _stands_on(module: str) -> set[str]:
    """Return the modules of somlib that code of `module` may run: in doubt more than it does.

    Examples
    --------
    >>> sorted(_stands_on("somlib.search.best_units"))
    ['search', 'search.best_units', 'search.products']
    >>> _stands_on("numpy.linalg")
    set()
    """
    package = module.partition(".")[0]
    if package != "somlib" and _installed(package):
        return set()
    start = _module_of(module)
    if not start:
        return set(SOURCE) - _APART  # a module of the user's, or the whole package: may use all
    found: set[str] = set()
    ahead = [start]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += _imports(SOURCE[name])
            room = name.rpartition(".")[0]
            ahead += [room] if room else []  # importing a module runs the room's __init__
    return found - _APART


@functools.cache
def _imports(source: bytes) -> frozenset[str]:
    """Return the modules of somlib that are imported anywhere in a source, or named `somlib.x`.

    Examples
    --------
    >>> sorted(_imports(b"from somlib import SOM, files; from somlib.spaces import Grid"))
    ['files', 'models.som', 'spaces']
    >>> sorted(_imports(b"import somlib; somlib.metrics.purity"))
    ['evaluation.metrics']
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.add(f"{node.value.id}.{node.attr}")
    return frozenset(filter(None, (_module_of(name) for name in names)))


def _module_of(name: str) -> str:
    """Return the module of somlib that a dotted name is or lies in, "" where there is none.

    Examples
    --------
    >>> _module_of("somlib.models.desom.DESOM"), _module_of("somlib.SOM"), _module_of("numpy")
    ('models.desom', 'models.som', '')
    """
    package, *parts = name.split(".")
    if package != "somlib" or not parts:
        return ""
    if home := NAMES.get(parts[0]) or MODULES.get(parts[0]):
        parts = [*home.split("."), *parts[1:]]
    while parts and ".".join(parts) not in SOURCE:
        parts.pop()
    return ".".join(parts)


def _installed(package: str) -> bool:
    """Tell whether a package came with Python or was installed: such know nothing of somlib."""
    if package in sys.stdlib_module_names:
        return True
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # made by hand, without a file
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
