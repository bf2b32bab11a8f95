"""What every model's training shares: device, seed, loop, checkpoint, saved file."""

import hashlib
import importlib
import json
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

import somlib
from somlib.files import replacing
from somlib.progress import progress_bar
from somlib.spaces import Grid

Logs = dict[str, float]
Callback = Callable[[int, Logs], Any]
"""f(step, logs): sees each epoch (or iteration) as it ends and stops the training by returning
True."""

CHECKPOINT_SECONDS = 5.0
"""A checkpoint is written when the last one is older than this: an interrupted run loses seconds,
an undisturbed one hardly notices."""


# -------------------------------------------------------------------- device and randomness


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device to compute on; one that is not there is an error, never a fallback.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"} or torch.device, default="auto"
        "auto" takes a CUDA GPU where there is one, else the CPU. Apple's "mps" is used only when
        asked for, because it has no float64. "cuda:1" names one of several GPUs.

    Raises
    ------
    ValueError
        When the name is unknown.
    RuntimeError
        When this machine has no such device.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        found = torch.device("meta")
    if found.type not in ("cpu", "cuda", "mps"):
        raise ValueError(
            f"device={device!r} is unknown; choose 'auto', 'cpu', 'cuda' (or 'cuda:1', ...) "
            "or 'mps'"
        )
    there = (
        found.type == "cpu"
        or (found.type == "cuda" and (found.index or 0) < torch.cuda.device_count())
        or (found.type == "mps" and torch.backends.mps.is_available())
    )
    if not there:
        raise RuntimeError(
            f"device={str(device)!r} was asked for, but this machine (or this build of PyTorch "
            f"{torch.__version__}) does not have it; use device='cpu', or 'auto' to take the best "
            "there is"
        )
    return found


def resolve_seed(random_state: Any) -> int:
    """Return one whole number from which all of a fit's randomness follows.

    Parameters
    ----------
    random_state : None, int, numpy Generator or RandomState
        None draws fresh entropy; a generator is advanced by one draw.

    Raises
    ------
    ValueError
        For anything else, or a negative number.
    """
    if random_state is None:
        return int(np.random.default_rng().integers(2**63))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if isinstance(random_state, int | np.integer) and random_state >= 0:
        return int(random_state)
    raise ValueError(
        f"random_state={random_state!r} must be None, a whole number of at least 0, "
        "or a numpy Generator or RandomState"
    )


# -------------------------------------------------------------------- the loop


class Checkpoint:
    """A file from which an interrupted training goes on, bit for bit.

    Parameters
    ----------
    path : path-like or None
        Where it lies; None keeps nothing.
    fingerprint : str
        What the training depends on (see `fingerprint`); a file with another one is refused.
    """

    def __init__(self, path: str | PathLike[str] | None, fingerprint: str = "") -> None:
        self.path = None if path is None else Path(path)
        self.fingerprint = fingerprint
        self._written = time.monotonic()

    def load(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Return (arrays, facts) as last saved, or None when there is nothing to go on from.

        Raises
        ------
        ValueError
            When the file belongs to other data or settings, or is not a checkpoint.
        """
        if self.path is None or not self.path.exists():
            return None
        arrays, facts = read_arrays(self.path)
        if facts.pop("fingerprint", None) != self.fingerprint:
            raise ValueError(
                f"the checkpoint {self.path} was made with other data, parameters or another "
                "version of somlib; delete it to start again, or name another file"
            )
        return arrays, facts

    def save(
        self, state: Callable[[], tuple[dict[str, NDArray[Any]], dict[str, Any]]], *, now: bool
    ) -> None:
        """Write what `state()` returns, when `now` or when the last file is old enough."""
        if self.path is None:
            return
        if now or time.monotonic() - self._written >= CHECKPOINT_SECONDS:
            arrays, facts = state()
            write_arrays(self.path, arrays, facts | {"fingerprint": self.fingerprint})
            self._written = time.monotonic()


def run_loop(
    step: Callable[[int], Logs],
    n_steps: int,
    *,
    first: int = 0,
    state: Callable[[], tuple[dict[str, NDArray[Any]], dict[str, Any]]],
    checkpoint: Checkpoint,
    callbacks: Iterable[Callback] = (),
    progress: bool = False,
    description: str = "training",
) -> int:
    """Run steps `first` ... `n_steps` − 1 of a training and return how many are done in all.

    Parameters
    ----------
    step : callable
        `step(i)` does step i completely and returns what it measured. An exception inside it, at
        any point, must find the model before the step or after it.
    n_steps : int
        Steps in all.
    first : int, default=0
        Steps done already.
    state : callable
        Returns (arrays, facts) from which the training can go on; called for checkpoints.
    checkpoint : Checkpoint
        Written every few seconds and when the loop is interrupted.
    callbacks : iterable of callables
        Each is called as f(i, logs) after each step; one that returns True ends the loop.
    progress : bool, default=False
        Show a bar with the latest logs and the time left.
    description : str
        Stands before the bar.

    Raises
    ------
    KeyboardInterrupt
        Passed on after the checkpoint is written; the model stays usable as of the last step.
    """
    done = first
    with progress_bar(n_steps, description, progress, initial=first) as bar:
        try:
            for i in range(first, n_steps):
                logs = step(i)
                done = i + 1
                bar.set_postfix({name: f"{value:.4g}" for name, value in logs.items()})
                bar.update()
                answers = [callback(i, logs) for callback in callbacks]
                if any(isinstance(a, bool | np.bool_) and a for a in answers):
                    break
                checkpoint.save(state, now=False)
        except KeyboardInterrupt:
            checkpoint.save(state, now=True)
            raise
    return done


def fingerprint(estimator: Any, *arrays: NDArray[Any] | None) -> str:
    """Return a hash of an estimator's class and parameters, the data and somlib's version.

    Examples
    --------
    >>> from somlib.som import SOM
    >>> X = np.eye(3)
    >>> fingerprint(SOM(n_epochs=5), X) == fingerprint(SOM(n_epochs=6), X)
    False
    """
    params = {k: v for k, v in estimator.get_params().items() if k not in ("progress", "device")}
    if isinstance(params.get("random_state"), np.random.Generator | np.random.RandomState):
        raise ValueError(
            f"random_state={params['random_state']!r} would not repeat the run that a checkpoint "
            "belongs to; give a whole number"
        )
    encoded, param_arrays = encode(params)
    made_of = [type(estimator).__qualname__, somlib.__version__, encoded]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode())
    for array in (*param_arrays.values(), *arrays):
        if array is None:
            digest.update(b"none")
        else:
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


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
    >>> from somlib.som import SOM
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
        For what is neither data nor a `Grid`.
    """
    arrays = {} if arrays is None else arrays
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value, arrays
    if isinstance(value, Grid):
        shape = [value.rows, value.cols, value.topology, list(value.wrap)]  # type: ignore[arg-type]
        return {"__grid__": shape}, arrays
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
    raise TypeError(f"{value!r} cannot be written down; only data, grids and arrays can")


def decode(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return what `encode` was given."""
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "__grid__" in value:
        rows, cols, topology, wrap = value["__grid__"]
        return Grid(rows, cols, topology, tuple(wrap))
    if "__array__" in value:
        array = arrays[value["__array__"]]
        return array.astype(object) if value["text"] else array
    if "__tuple__" in value:
        return tuple(decode(item, arrays) for item in value["__tuple__"])
    return {k: decode(v, arrays) for k, v in value.items()}
