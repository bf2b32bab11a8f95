"""Results that were paid for once: `fit` for estimators, `call` for everything else.

A result is kept under what it was made from: parameters, data, seed, versions and the source of
the package as this process imported it (drawing and reporting apart). Change any of these and it
is made again. In runs/cache/ lies an .npz per result and a .json that says what it was made from
and holds the hash of the .npz, so that a damaged one is noticed. Deleting the folder is safe.
"""

import hashlib
import inspect
import json
import warnings
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from somlib import report
from somlib.files import replacing

Estimator = TypeVar("Estimator", bound=Any)


def _sha256(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


_MODULES = [
    p for p in Path(__file__).parent.glob("*.py") if p.stem not in ("plots", "report", "cli")
]
SOURCE = _sha256(*(path.read_bytes() for path in sorted(_MODULES)))
"""Hash of the package's source, taken at import: of the code that runs, not of later edits."""


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
    params = estimator.get_params()
    for name, value in params.items():
        if name.split("__")[-1] == "random_state":
            _require_seed(value, f"{type(estimator).__name__}(... {name})")

    def make(path: Path) -> Any:
        resumes = "checkpoint" in inspect.signature(estimator.fit).parameters
        extra = {"checkpoint": path.with_suffix(".checkpoint")} if resumes else {}
        return estimator.fit(X, *args, **options, **extra)

    def load(path: Path) -> Any:
        from somlib.storage import load as loaded  # brings torch, which takes seconds to import

        return loaded(path)

    made_from = {"class": type(estimator), "params": params, "X": X, "fit": [args, options]}
    name = type(estimator).__name__
    fitted = _once(name, made_from, make, lambda result, path: result.save(path), load)
    vars(estimator).update(vars(fitted))
    return estimator


def call(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return `function(*args, **options)`, read from the cache when it was paid for before.

    Parameters
    ----------
    function : callable
        Its result depends on its arguments alone; of a function written in a notebook the source
        and the globals that it names count as well.
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
    return _once(function.__name__, made_from, lambda _: function(*args, **options), _save, _load)


def _once(
    name: str,
    made_from: dict[str, Any],
    make: Callable[[Path], Any],
    save: Callable[[Any, Path], None],
    load: Callable[[Path], Any],
) -> Any:
    """Return what `load` finds under the key of `made_from`, after making and saving it if need be.

    Also what was just made is read back, so that the first run gives what every later one gives.
    """
    made_from = _content(made_from) | {"versions": report.versions(), "source": SOURCE}
    key = _sha256(json.dumps(made_from, sort_keys=True).encode())
    path = report.output_folder("runs", "cache") / f"{name}-{key[:24]}.npz"
    described = path.with_suffix(".json")
    try:
        if json.loads(described.read_bytes())["sha256"] != _sha256(path.read_bytes()):
            raise ValueError("the file is not the one that was written")
        return load(path)
    except FileNotFoundError:
        pass
    except Exception as error:  # whatever is wrong with it, the remedy is the same
        warnings.warn(f"{path} is damaged ({error}); making it again", stacklevel=3)
    result = make(path)
    with replacing(path) as partial:
        save(result, partial)
        sha256 = _sha256(partial.read_bytes())
    with replacing(described) as partial:
        text = json.dumps({"made_from": made_from, "sha256": sha256}, indent=1)
        partial.write_text(text, encoding="utf-8")
    path.with_suffix(".checkpoint").unlink(missing_ok=True)
    return load(path)


def _require_seed(value: Any, where: str) -> None:
    if not isinstance(value, int | np.integer):
        raise ValueError(
            f"{where} is {value!r}: a result that cannot be asked for again cannot be cached. "
            "Expected a whole number as its random state."
        )


# ---------------------------------------------------------------- what a result is made from


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
        return value.__name__
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
    """Return the name of a class or function; with its source where the name may be used again."""
    name = f"{thing.__module__}.{thing.__qualname__}"
    if thing.__module__ != "__main__" or thing in inside:
        return name
    if not isinstance(thing, FunctionType):
        raise TypeError(f"{name} was written in a notebook: only functions there can be cached")
    # what it names, nested functions included; those written in the notebook in full as well
    named = {n: thing.__globals__[n] for n in _names(thing.__code__) if n in thing.__globals__}
    inner = [cell.cell_contents for cell in thing.__closure__ or ()]
    uses = [
        _code(value, (*inside, thing)) if isinstance(value, FunctionType) else _content(value)
        for value in [*named.values(), *inner]
    ]
    return {"name": name, "source": inspect.getsource(thing), "uses": uses}


def _names(code: CodeType) -> list[str]:
    nested = [c for c in code.co_consts if isinstance(c, CodeType)]
    return [*code.co_names, *(name for inner in nested for name in _names(inner))]


# ---------------------------------------------------------------- results without pickle


def _save(result: Any, path: Path) -> None:
    arrays: dict[str, Any] = {}
    tree = json.dumps(_encode(result, arrays))
    np.savez(path, tree=np.array(tree), **arrays)


def _load(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as arrays:
        return _decode(json.loads(str(arrays["tree"])), arrays)


def _encode(value: Any, arrays: dict[str, Any]) -> Any:
    """Return `value` as JSON that names arrays, and put the arrays into `arrays`."""
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        arrays[name := f"array{len(arrays)}"] = value
        return {"array": name}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(item, arrays) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_encode(k, arrays), _encode(v, arrays)] for k, v in value.items()]}
    if isinstance(value, pd.DataFrame):
        axes = [_labels(axis) for axis in value.axes]
        columns = [value.iloc[:, i].to_numpy() for i in range(value.shape[1])]
        columns = [c.tolist() if c.dtype.hasobject else c for c in columns]
        return {"frame": [_encode(part, arrays) for part in (axes, columns)]}
    raise TypeError(
        f"a result that holds a {type(value).__name__} cannot be cached; expected numbers, texts, "
        "arrays, DataFrames, or lists, tuples and dicts of them"
    )


def _decode(node: Any, arrays: Any) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, inner),) = node.items()
    if kind == "array":
        return arrays[inner][()]
    if kind == "dict":
        return {_decode(key, arrays): _decode(item, arrays) for key, item in inner}
    items = [_decode(item, arrays) for item in inner]
    if kind != "frame":
        return tuple(items) if kind == "tuple" else items
    axes, columns = items
    frame = pd.DataFrame(dict(enumerate(columns)))
    for number, labels in enumerate(axes):
        frame = frame.set_axis(_axis(*labels), axis=number)
    return frame


def _labels(axis: pd.Index) -> tuple[Any, list[Any]]:
    numbered = isinstance(axis, pd.RangeIndex)
    return (axis.start, axis.stop, axis.step) if numbered else axis.tolist(), list(axis.names)


def _axis(labels: Any, names: list[Any]) -> pd.Index:
    return (pd.RangeIndex(*labels) if isinstance(labels, tuple) else pd.Index(labels)).set_names(
        names
    )
