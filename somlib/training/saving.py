"""Fitted models, checkpoints and results as files of arrays and JSON; no code is executed.

Files are not trusted. A file names classes only by registered names, of this package or of classes
that the user has defined; its content is compared with the declarations of the class (`Saveable`)
before it is used; its size bounds the memory needed to read it. Any mismatch is a ValueError that
names the file.
"""

import inspect
import json
import math
import numbers
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import IO, Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import somlib
from somlib import checks
from somlib.files import replacing
from somlib.spaces import Euclidean, Grid, Sphere, Torus

FORMAT = 1
"""Version of the file format, increased with each incompatible change."""

# -------------------------------------------------------------------- registered classes

_SPACES: dict[str, type] = {space.__name__: space for space in (Euclidean, Grid, Sphere, Torus)}
_DEFINED: dict[str, type] = {}
"""Subclasses of `Saveable` outside of this package, by name."""

_MAX_COORDINATES = 10**6
"""Limit of the dimension of a space, whose memory the size of the file does not bound."""


def _registered(name: Any) -> type | None:
    """Return the estimator of that name, from this package or from the user's code."""
    if name in somlib.ESTIMATORS:
        cls: type = getattr(somlib, name)
        return cls
    return _DEFINED.get(name)


# -------------------------------------------------------------------- declarations

Check = Callable[[str, Any, dict[str, int]], None]
"""f(name, value, sizes): raises a ValueError if a learned attribute cannot have that value. `sizes`
holds the lengths found so far, by symbol."""


def array(kinds: str, *shape: str) -> Check:
    """Declare an array: the kinds of its dtype, and a symbol for the length of each axis.

    Axes with the same symbol, also of other attributes, must have the same length. Kind "f" is
    float32 or float64.

    Examples
    --------
    >>> array("f", "K", "d")("weights_", np.zeros((3, 4)), {"d": 5})
    Traceback (most recent call last):
    ValueError: weights_ has 4 entries along d, where others have 5
    """

    def check(name: str, value: Any, sizes: dict[str, int]) -> None:
        known = isinstance(value, np.ndarray) and value.dtype.kind in kinds
        if not known or (value.dtype.kind == "f" and value.dtype.itemsize not in (4, 8)):
            raise ValueError(f"{name} is {checks.shown(value)}; expected an array of kind {kinds}")
        if value.ndim != len(shape):
            raise ValueError(
                f"{name} has shape {value.shape}; expected {len(shape)} axes ({', '.join(shape)})"
            )
        for symbol, length in zip(shape, value.shape, strict=True):
            _agree(name, symbol, length, sizes)

    return check


def names(*shape: str) -> Check:
    """Declare an array of text, as objects."""

    def check(name: str, value: Any, sizes: dict[str, int]) -> None:
        array("O", *shape)(name, value, sizes)
        if not all(isinstance(v, str) for v in value.flat):
            raise ValueError(f"{name} contains a value that is not text")

    return check


def count(symbol: str = "") -> Check:
    """Declare a whole number of at least 0; a symbol makes it the length of axes."""

    def check(name: str, value: Any, sizes: dict[str, int]) -> None:
        checks.require(name, value, checks.CountOrZero)
        if symbol:
            _agree(name, symbol, int(value), sizes)

    return check


def typed(annotation: Any) -> Check:
    """Declare a value as parameters are declared; see `checks`."""
    return lambda name, value, sizes: checks.require(name, value, annotation)


def series(symbol: str) -> Check:
    """Declare a list of numbers."""

    def check(name: str, value: Any, sizes: dict[str, int]) -> None:
        checks.require(name, value, list[float])
        _agree(name, symbol, len(value), sizes)

    return check


def each(of: Check) -> Check:
    """Declare a dict with text as keys and values of one type."""

    def check(name: str, value: Any, sizes: dict[str, int]) -> None:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise ValueError(f"{name} is {checks.shown(value)}; expected a dict with text as keys")
        for key, one in value.items():
            of(f"{name}[{key!r}]", one, sizes)

    return check


def _agree(name: str, symbol: str, length: int, sizes: dict[str, int]) -> None:
    if sizes.setdefault(symbol, length) != length:
        raise ValueError(
            f"{name} has {length} entries along {symbol}, where others have {sizes[symbol]}"
        )


def require_names(what: str, found: Collection[str], always: Collection[str],
                  sometimes: Collection[str] = ()) -> None:  # fmt: skip
    """Raise a ValueError unless all of `always`, and nothing but these and `sometimes`, is found.

    Examples
    --------
    >>> require_names("learned attributes", ["weights_", "x_"], ["weights_", "labels_"])
    Traceback (most recent call last):
    ValueError: learned attributes: labels_ missing, x_ unknown
    """
    missing = [f"{name} missing" for name in always if name not in found]
    unknown = [f"{name} unknown" for name in found if name not in {*always, *sometimes}]
    if missing or unknown:
        raise ValueError(f"{what}: {', '.join([*missing, *unknown][:5])}")


def require_units(weights: NDArray[Any], grid: Grid) -> None:
    """Raise a ValueError unless there is one prototype per unit."""
    if len(weights) != grid.n_units:
        raise ValueError(f"{len(weights)} prototypes for a grid of {grid.n_units} units")


def require_moments(moments: Mapping[str, Any], shape: tuple[int, ...], dtype: Any) -> None:
    """Raise a ValueError unless these are Adam's moments for that shape and dtype."""
    shapes = {"step": (), "exp_avg": shape, "exp_avg_sq": shape}
    require_names("Adam's moments", moments, shapes)
    for name, value in moments.items():
        wrong = value.dtype != dtype and name != "step"  # the step count may have another dtype
        if wrong or value.dtype.kind != "f" or value.shape != shapes[name]:
            raise ValueError(f"Adam's {name} is {checks.shown(value)}; expected {dtype} of {shape}")


# -------------------------------------------------------------------- saved models


class Saveable:
    """Adds `save` and `load` to an estimator: arrays and JSON in one file, no executable code.

    A subclass declares its learned attributes by name, in addition to those of its bases: in
    `_learned` those of every fitted model, in `_also_learned` optional ones, each with a check of
    its value (`array`, `count`, ...). `_require_whole` checks relations between them. A model is
    checked when it is loaded and before it is written.

    A file contains the plain name of its class. Classes outside of somlib are registered when they
    are defined: import yours before loading their files.
    """

    _learned: ClassVar[dict[str, Check]] = {"n_features_in_": count("d")}
    _also_learned: ClassVar[dict[str, Check]] = {"feature_names_in_": names("d")}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.split(".")[0] != "somlib":
            _DEFINED[cls.__name__] = cls

    def _require_whole(self) -> None:
        """Raise a ValueError unless learned attributes and parameters are consistent."""

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted model to one `.npz` file: learned arrays, parameters, version.

        Nothing is pickled, so loading a file executes no code. Tensors, series and similar
        parameters are loaded as arrays, a `torch.device` as its name. A random generator is not
        saved: the seed that was taken from it, with which the fit can be repeated, is `seed_`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            When the model has not been fitted.
        TypeError
            When a parameter is code, such as a function for a distance: it cannot be saved. Set
            the parameter to its default, save, and set it again, also after loading.
        ValueError
            When the model has been modified after `fit`, so that the file could not be loaded.
        OSError
            When the file cannot be written; an existing file is not changed.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        name = type(self).__name__
        known = _registered(name)
        if known is None or _origin(known) != _origin(type(self)):
            raise ValueError(
                f"{_origin(type(self))} cannot be saved: the name {name} is that of "
                f"{_origin(known) if known else 'no estimator'}; give your class another name"
            )
        learned = {
            name: value
            for name, value in vars(self).items()
            if name.endswith("_") and not name.startswith("_")
        }
        params: dict[str, Any] = self.get_params(deep=False)  # type: ignore[attr-defined]
        if not isinstance(params.get("random_state", 0), int | np.integer):
            params["random_state"] = None  # a generator's state after the fit does not reproduce it
        for parameter, value in params.items():
            try:
                encode(value)
            except TypeError as error:
                default = self._defaults()[parameter].default
                raise TypeError(
                    f"{error}. To save the rest of this {name}, set_params({parameter}="
                    f"{default!r}), save, and set it again, also after loading"
                ) from error
        node, arrays = encode({"params": params, "learned": learned})
        try:
            self._from(decode(node, arrays))
        except Exception as error:
            raise ValueError(
                f"this {name} was modified after its fit ({error}) and could not be loaded again; "
                "nothing was written. Restore its parameters, or fit it again"
            ) from error
        facts = {"class": name, "content": node, "somlib": somlib.__version__}
        write_arrays(path, arrays, facts)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Return the model that `save` wrote to `path`; see `somlib.load`.

        Raises
        ------
        TypeError
            When the file holds a model of another class.
        """
        model = load(path)
        if not isinstance(model, cls):
            raise TypeError(
                f"{path} holds a {type(model).__name__}, not a {cls.__name__}; "
                f"use {type(model).__name__}.load or somlib.load"
            )
        return model

    @classmethod
    def _defaults(cls) -> dict[str, inspect.Parameter]:
        """Return the constructor's parameters."""
        signature = inspect.signature(cls.__init__).parameters
        return {name: p for name, p in signature.items() if name != "self"}

    @classmethod
    def _declared(cls, kind: Literal["_learned", "_also_learned"]) -> dict[str, Check]:
        found: dict[str, Check] = {}
        for base in reversed(cls.__mro__):
            found |= vars(base).get(kind, {})
        return found

    @classmethod
    def _from(cls, content: Any) -> Self:
        """Return the model with these parameters and learned attributes, after all checks."""
        params, learned = content["params"], content["learned"]
        known, always = cls._defaults(), cls._declared("_learned")
        sometimes = cls._declared("_also_learned")
        require_names("parameters", params, known)
        require_names("learned attributes", learned, always, sometimes)
        for name, annotation in checks.declared(cls).items():
            checks.require(name, params[name], annotation)
        sizes: dict[str, int] = {}
        for name, value in learned.items():
            (always | sometimes)[name](name, value, sizes)
        model = cls(**params)
        vars(model).update(learned)
        model._require_whole()
        return model


def _origin(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def load(path: str | PathLike[str]) -> Any:
    """Return the fitted model that `save` wrote to `path`, of any class.

    Files need not be trusted: only models of somlib, or of your own subclasses of
    `training.saving.Saveable`, are loaded.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is damaged, or contains no model or one that this version does not know.

    Examples
    --------
    >>> import tempfile
    >>> from somlib.models.som import SOM
    >>> som = SOM(grid=(2, 2), random_state=0).fit(np.eye(4))
    >>> path = Path(tempfile.mkdtemp()) / "map.npz"
    >>> som.save(path)
    >>> bool((load(path).weights_ == som.weights_).all())
    True
    """
    return restored(path, *read_arrays(path))


def restored(
    path: str | PathLike[str], arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]
) -> Any:
    """Return the fitted model of which `read_arrays` has read arrays and facts.

    Parameters
    ----------
    path : path-like
        The file that they are from, for messages.
    arrays, facts
        What `read_arrays` returned; rounded arrays have been expanded (see `models.pretrained`).

    Raises
    ------
    ValueError
        As `load`.
    """
    name = facts.get("class")
    if facts.keys() != {"class", "content", "somlib"} or not isinstance(name, str):
        raise ValueError(f"{path} holds no model saved by somlib; expected a file made by .save()")
    cls: Any = _registered(name)
    if cls is None:
        raise ValueError(
            f"{path} holds a {name[:80]!r} of somlib {str(facts['somlib'])[:20]}, which somlib "
            f"{somlib.__version__} does not know; load it with that version, or import the module "
            "of yours that defines it"
        )
    with reading(path):
        return cls._from(decode(facts["content"], arrays))


# -------------------------------------------------------------------- arrays and JSON in a file


@contextmanager
def reading(path: str | PathLike[str] | None) -> Iterator[None]:
    """Turn any error about the content of a file into a ValueError that names the file."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # every kind of damage is handled in the same way
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise ValueError(
            f"{path} is damaged or was not written by somlib ({reason[:300]}); delete it and "
            "create it again"
        ) from error


def write_arrays(
    path: str | PathLike[str], arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]
) -> None:
    """Write named arrays and a JSON object as one `.npz` file, atomically."""
    for name, value in arrays.items():
        if not _plain(value):
            raise TypeError(f"{name}, {checks.shown(value)}, cannot be saved")
    text = json.dumps({**facts, "format": FORMAT}, sort_keys=True).encode()
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, __json__=np.frombuffer(text, dtype=np.uint8), **arrays)  # type: ignore[arg-type]


def read_arrays(path: str | PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return what `write_arrays` wrote; a damaged file is a ValueError that names it.

    The memory needed is at most a small multiple of the file's size.
    """
    try:
        stream = Path(path).open("rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    with stream, reading(path):
        arrays = _members(stream)
        facts = json.loads(arrays.pop("__json__").tobytes())
        if not isinstance(facts, dict):
            raise ValueError("its JSON is not an object")
        found = facts.pop("format", None)
        if not isinstance(found, int) or found < 1:
            raise ValueError("it has no format number")
    if found > FORMAT:
        raise ValueError(
            f"{path} was written in format {found}, by somlib {str(facts.get('somlib'))[:20]}; "
            f"somlib {somlib.__version__} reads formats up to {FORMAT}: use a newer version"
        )
    return arrays, facts


_HEADER = re.compile(
    rb"\{'descr': '([<>|][biufcmMSU]\d{1,10}(?:\[\d*\w{1,2}\])?)', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,19}, ?)*(?:\d{1,19})?)\), \} *\n"
)
"""The header as NumPy writes it; NumPy's own reader would evaluate other forms."""


def _members(stream: IO[bytes]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` file, each of its declared size.

    They are not compressed, so their total size is at most that of the file.
    """
    size = stream.seek(0, 2)
    with zipfile.ZipFile(stream) as file:
        members = file.infolist()
        if sum(m.file_size for m in members) > size:
            raise ValueError("it declares more data than it contains")
        arrays = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            stored = member.compress_type == zipfile.ZIP_STORED and member.flag_bits & 1 == 0
            if not stored or member.compress_size != member.file_size:
                raise ValueError(f"{name[:80]} is compressed")
            if name == member.filename or name in arrays:
                raise ValueError(f"{member.filename[:80]} is not an array, or a duplicate")
            with file.open(member) as opened:
                arrays[name] = _array(opened.read(), name)
    return arrays


def _array(data: bytes, name: str) -> NDArray[Any]:
    """Return the array of an `.npy` file, version 1, given its bytes."""
    begin = 10 + int.from_bytes(data[8:10], "little")
    header = _HEADER.fullmatch(data[10:begin])
    if data[:8] != b"\x93NUMPY\x01\x00" or header is None:
        raise ValueError(f"{name[:80]} is not a plain array")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(n) for n in re.findall(rb"\d+", header[3]))
    if not dtype.itemsize or math.prod(shape) * dtype.itemsize != len(data) - begin:
        raise ValueError(f"{name[:80]} does not have the bytes of its shape {shape}")
    order: Literal["F", "C"] = "F" if header[2] == b"True" else "C"
    found: NDArray[Any] = np.ndarray(shape, dtype, data, begin, order=order)
    return found.astype(dtype.newbyteorder("="), order="K", copy=True)


def _plain(value: NDArray[Any]) -> bool:
    dtype = np.asarray(value).dtype
    return dtype.kind in "biufcmMSU" and dtype.itemsize > 0


# -------------------------------------------------------------------- values as JSON and arrays

_NUMBERS = {np.dtype(code).name: np.dtype(code) for code in "?bhilqBHILQefd"}


def encode(value: Any, arrays: dict[str, NDArray[Any]] | None = None) -> tuple[Any, Any]:
    """Return `value` as JSON that refers to arrays, and those arrays by name.

    Raises
    ------
    TypeError
        For values that are neither data nor a space of somlib.

    Examples
    --------
    >>> encode((1, np.float32(0.5), np.eye(1)))
    ({'tuple': [1, {'number': ['float32', 0.5]}, {'array': 'array0'}]}, {'array0': array([[1.]])})
    """
    arrays = {} if arrays is None else arrays
    return _encode(value, arrays), arrays


def _encode(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    def inner(items: Any) -> list[Any]:
        return [_encode(item, arrays) for item in items]

    if isinstance(value, np.generic) and value.dtype.name in _NUMBERS:
        return {"number": [value.dtype.name, value.item()]}
    if isinstance(value, np.generic) and _plain(value):  # type: ignore[arg-type]
        return {"scalar": _kept(np.asarray(value), arrays)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if type(value) in _SPACES.values():
        attributes = {f.name: getattr(value, f.name) for f in fields(value)}
        return {"space": [type(value).__name__, _encode(attributes, arrays)]}
    if isinstance(value, pd.DataFrame):
        axes = [_labels(axis) for axis in value.axes]
        columns = [value.iloc[:, i].to_numpy() for i in range(value.shape[1])]
        return {"frame": inner([axes, [c.tolist() if c.dtype.hasobject else c for c in columns]])}
    if isinstance(value, bytes):
        return {"bytes": list(value)}
    if isinstance(value, torch.Tensor):
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy(force=True)
    if hasattr(value, "__array__") and not isinstance(value, type):
        value = np.asarray(value)
        if _plain(value):
            return {"array": _kept(value, arrays)}
        if value.dtype.kind in "OT":  # objects, or text of any length
            return {"objects": [value.dtype.kind, list(value.shape), inner(value.ravel().tolist())]}
    if isinstance(value, tuple):
        return {"tuple": inner(value)}
    if isinstance(value, Sequence) and not isinstance(value, bytearray | memoryview):
        return {"list": inner(value)}
    if isinstance(value, Mapping):
        return {"dict": [inner(pair) for pair in value.items()]}
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, numbers.Real):  # fractions and the like
        return float(value)
    raise TypeError(f"{value!r} cannot be saved; only data, spaces and arrays can")


def _kept(value: NDArray[Any], arrays: dict[str, NDArray[Any]]) -> str:
    name = f"array{len(arrays)}"
    arrays[name] = value
    return name


def decode(node: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return the value that `encode` was given; invalid input raises an error of any type.

    Examples
    --------
    >>> decode(*encode({1: (2, [3.0, None])}))
    {1: (2, [3.0, None])}
    """
    left = dict(arrays)
    value = _decode(node, left)
    if left:
        raise ValueError(f"unused arrays: {', '.join(left)[:80]}")
    return value


def _decode(node: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    if not isinstance(node, dict | list):
        return node
    ((kind, inside),) = node.items()  # type: ignore[union-attr]
    if kind == "number":
        name, number = inside
        return _NUMBERS[name].type(number)
    if kind == "scalar":
        return arrays.pop(inside)[()]
    if kind == "array":
        return arrays.pop(inside)
    if kind == "space":
        name, attributes = inside
        attributes = _decode(attributes, arrays)
        require_names(name, attributes, [f.name for f in fields(_SPACES[name])])
        if attributes.get("m", 0) > _MAX_COORDINATES:
            raise ValueError(f"a space of {attributes['m']} coordinates")
        return _SPACES[name](**attributes)
    if kind == "bytes":
        return bytes(inside)
    if kind == "dict":
        return {_decode(key, arrays): _decode(item, arrays) for key, item in inside}
    if kind == "objects":
        text, shape, items = inside
        flat = np.empty(len(items), object)
        flat[:] = [_decode(item, arrays) for item in items]
        return (flat.astype(np.dtypes.StringDType()) if text == "T" else flat).reshape(shape)
    items = [_decode(item, arrays) for item in inside]
    if kind == "frame":
        return _frame(*items)
    return {"tuple": tuple, "list": list}[kind](items)


def _frame(axes: Any, columns: Any) -> pd.DataFrame:
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
