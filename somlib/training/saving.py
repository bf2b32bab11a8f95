"""Fitted models and intermediate states as files: arrays and JSON, nothing that is executed."""

import importlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

import somlib
from somlib import spaces
from somlib.files import replacing
from somlib.spaces import Continuous, Grid

# -------------------------------------------------------------------- saved models


class Saveable:
    """Gives an estimator `save` and `load`: weights and JSON in one file, nothing executable."""

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted model to one `.npz` file: learned arrays, parameters, version.

        Nothing in it is pickled, so loading a file runs no code of its maker's.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            When the model has not been fitted.
        TypeError
            When a parameter (a function, a generator) cannot be written down.
        OSError
            When the file cannot be written; one already there stays as it was.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        learned = {
            name: value
            for name, value in vars(self).items()
            if name.endswith("_") and not name.startswith("_")
        }
        params: dict[str, Any] = self.get_params(deep=False)  # type: ignore[attr-defined]
        if isinstance(params.get("random_state"), np.random.Generator | np.random.RandomState):
            params["random_state"] = None  # its state after the fit would not repeat the fit
        facts, arrays = encode({"params": params, "learned": learned})
        about = {"class": f"{type(self).__module__}:{type(self).__qualname__}"}
        write_arrays(path, arrays, facts | about | {"somlib": somlib.__version__})

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


def load(path: str | PathLike[str]) -> Any:
    """Return the fitted model, of whatever class, that `save` wrote to `path`.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is damaged or holds no model of somlib.

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
    arrays, facts = read_arrays(path)
    module, _, name = str(facts.get("class", "")).partition(":")
    if module.split(".")[0] != "somlib" or not {"params", "learned"} <= facts.keys():
        raise ValueError(f"{path} holds no model saved by somlib; expected a file made by .save()")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{path} holds a {name} of somlib {facts.get('somlib')}, which somlib "
            f"{somlib.__version__} does not know; load it with that version"
        ) from error
    content = decode(facts, arrays)
    model = cls(**content["params"])
    for attribute, value in content["learned"].items():
        setattr(model, attribute, value)
    return model


# -------------------------------------------------------------------- arrays and JSON in a file


def write_arrays(
    path: str | PathLike[str], arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]
) -> None:
    """Write named arrays and a JSON object as one `.npz` file that is whole or not there."""
    text = np.frombuffer(json.dumps(facts, sort_keys=True).encode(), dtype=np.uint8)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, __json__=text, **arrays)  # type: ignore[arg-type]


def read_arrays(path: str | PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return what `write_arrays` wrote; a damaged file is a ValueError that names it."""
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(arrays.pop("__json__").tobytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged or was not written by somlib ({error}); delete it and make it again"
        ) from error
    return arrays, facts


def encode(value: Any, arrays: dict[str, NDArray[Any]] | None = None) -> tuple[Any, Any]:
    """Return `value` as JSON that refers to arrays, and those arrays by name.

    Raises
    ------
    TypeError
        For what is neither data nor a space.
    """
    arrays = {} if arrays is None else arrays
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value, arrays
    if isinstance(value, Grid | Continuous):
        made_of = {f.name: getattr(value, f.name) for f in fields(value)}
        return {"__space__": type(value).__name__, "of": encode(made_of, arrays)[0]}, arrays
    if isinstance(value, torch.Tensor):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray):
        texts = value.dtype == object and all(isinstance(v, str) for v in value.flat)
        if value.dtype == object and not texts:
            raise TypeError(f"an array of Python objects cannot be written down: {value!r}")
        name = f"array{len(arrays)}"
        arrays[name] = value.astype(str) if texts else value
        return {"__array__": name, "text": bool(texts)}, arrays
    if isinstance(value, tuple | list):
        items = [encode(item, arrays)[0] for item in value]
        return ({"__tuple__": items} if isinstance(value, tuple) else items), arrays
    if isinstance(value, Mapping):
        return {str(k): encode(v, arrays)[0] for k, v in value.items()}, arrays
    raise TypeError(f"{value!r} cannot be written down; only data, spaces and arrays can")


def decode(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return what `encode` was given."""
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "__space__" in value:
        return getattr(spaces, value["__space__"])(**decode(value["of"], arrays))
    if "__array__" in value:
        array = arrays[value["__array__"]]
        return array.astype(object) if value["text"] else array
    if "__tuple__" in value:
        return tuple(decode(item, arrays) for item in value["__tuple__"])
    return {k: decode(v, arrays) for k, v in value.items()}
