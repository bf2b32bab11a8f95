"""Small models that are part of the package, trained on MNIST: `load_pretrained` returns one.

Each is a pair of files in `weights/`: NAME.npz, a saved model (see `training.saving`) whose large
matrices are rounded to 8 bits with a scale for each row; and NAME.json, its record: what was
trained, where, by which versions, and how good it is. The record has the hash of the other file.
`somlib pretrain` makes both by running the cells tagged `pretrained` of the notebooks.
"""

import copy
import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from somlib.files import replacing
from somlib.training import saving

FOLDER = Path(__file__).parent / "weights"
"""The models of the package."""

LIMIT = 3_000_000
"""Maximal size of all models and records together, in bytes."""

LARGE = 4096
"""Matrices of at least so many numbers are rounded; smaller ones cost little as they are."""

_SCALE = ".scale"
"""Suffix of the array with the scales of a rounded one."""

_REMEDY = "install somlib again, or train it again by `somlib pretrain`"


# -------------------------------------------------------------------- reading


def load_pretrained(name: str) -> Any:
    """Return a small model that was trained on MNIST and is part of the package.

    It is a fitted estimator of the ordinary class, on the CPU, and behaves as one that was loaded
    from a file, with two exceptions: the labels of its training images (`labels_`) and the history
    of its training (`history_`) are left out. Its weights are rounded to 8 bits; how little that
    changes is in its record (`pretrained.record`). A function that is called through the cache gets
    the model as an argument: a name would not tell the cache of other weights.

    Parameters
    ----------
    name : str
        One of `pretrained.names()`, such as "som-mnist" or "soae-torus-mnist".

    Raises
    ------
    ValueError
        When there is no model of that name, or its file is damaged.

    Examples
    --------
    >>> from somlib import data
    >>> vae = load_pretrained("vae-mnist")
    >>> images = data.load("mnist-sample")
    >>> codes = vae.transform(images.X)
    >>> codes.shape, vae.inverse_transform(codes).shape
    ((1000, 2), (1000, 784))
    """
    return read(name, FOLDER)


def names(folder: Path = FOLDER) -> list[str]:
    """Return the names of the models in a folder.

    Examples
    --------
    >>> "vae-mnist" in names()
    True
    """
    return sorted(path.stem for path in folder.glob("[!.]*.json"))


def record(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Return the record of a model: how it was trained and how good it is.

    Parameters
    ----------
    name : str
        One of `names(folder)`.
    folder : pathlib.Path, optional
        Where the models are; by default those of the package.

    Returns
    -------
    dict
        - "model", "class", "notebook", "trained on", "seed", "device", "seconds": the training.
        - "metrics": dicts of measures, by what was measured: "test images" and "sample" with the
          rounded weights, "sample, before rounding" with those that were trained.
        - "platform", "versions", "commit", "date": where and when.
        - "bytes", "sha256": of the file of the weights.

    Raises
    ------
    ValueError
        When there is no model of that name, or its record is damaged.

    Examples
    --------
    >>> record("vae-mnist")["class"]
    'VAE'
    """
    if name not in names(folder):
        known = ", ".join(names(folder)) or "none"
        raise ValueError(f"unknown model {name!r}; choose one of {known}")
    path = folder / f"{name}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        _ = found["metrics"]["sample"], found["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no record of a model ({error!r}); {_REMEDY}") from error
    made: dict[str, Any] = found
    return made


def read(name: str, folder: Path) -> Any:
    """Return a model of a folder; see `load_pretrained`."""
    described, path = record(name, folder), folder / f"{name}.npz"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); {_REMEDY}") from error
    if (found := hashlib.sha256(content).hexdigest()) != described["sha256"]:
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {found}, that of its record "
            f"{described['sha256']}; {_REMEDY}"
        )
    arrays, facts = saving.read_arrays(path)
    with saving.reading(path):
        arrays = expanded(arrays)
    return saving.restored(path, arrays, facts)


# -------------------------------------------------------------------- writing


def write(name: str, model: Any, facts: Mapping[str, Any], folder: Path = FOLDER) -> None:
    """Write a model and its record.

    Parameters
    ----------
    name : str
        Its name; a model of that name is replaced.
    model : fitted estimator
        Computed in float32. What is left out, see `load_pretrained`.
    facts : mapping
        The record without "bytes" and "sha256"; see `record`.
    folder : pathlib.Path, optional
        Where the models are; by default those of the package.

    Raises
    ------
    ValueError
        When the models would take more than `LIMIT` together; nothing is written.
    """
    weights, described = folder / f"{name}.npz", folder / f"{name}.json"
    with replacing(described) as text, replacing(weights) as partial:
        arrays, content = _saved(model)
        saving.write_arrays(partial, rounded(arrays), content)
        made = partial.read_bytes()
        own = {"bytes": len(made), "sha256": hashlib.sha256(made).hexdigest()}
        written = json.dumps({**facts, **own}, indent=2, ensure_ascii=False, allow_nan=False)
        text.write_text(written + "\n", encoding="utf-8")
        _require_small(name, len(made) + text.stat().st_size, folder)


def as_stored(model: Any) -> Any:
    """Return a fitted estimator as `load_pretrained` returns it once it has been written."""
    arrays, facts = _saved(model)
    return saving.restored("the model", expanded(rounded(arrays)), facts)


def _saved(model: Any) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return arrays and facts of the file of a model, without what is left out."""
    lean = copy.copy(model).set_params(device="cpu", progress=False)
    vars(lean).pop("labels_", None)
    lean.history_ = {}
    with tempfile.TemporaryDirectory(prefix="somlib-") as folder:
        path = Path(folder, "model.npz")
        lean.save(path)
        return saving.read_arrays(path)


def _require_small(name: str, size: int, folder: Path) -> None:
    """Raise a ValueError if a model and its record are too large beside the others."""
    others = {
        path.name: path.stat().st_size
        for path in [*folder.glob("[!.]*.npz"), *folder.glob("[!.]*.json")]
        if path.stem != name
    }
    if (total := size + sum(others.values())) > LIMIT:
        raise ValueError(
            f"{name} takes {size} bytes, and all models together {total}; expected at most "
            f"{LIMIT}. Choose smaller layers for {name}, or remove one of "
            f"{', '.join(file for file in sorted(others) if file.endswith('.npz')) or 'none'}"
        )


# -------------------------------------------------------------------- rounding


def rounded(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays with large matrices as whole numbers from −127 to 127.

    The scale of a row is a 127th of its largest absolute value, so a weight changes by at most a
    254th of the largest of its row.

    Examples
    --------
    >>> W = np.linspace(-1, 2, 8192, dtype=np.float32).reshape(2, -1)
    >>> both = rounded({"W": W})
    >>> both["W"].dtype, both["W.scale"].ravel().astype(float).round(4).tolist()
    (dtype('int8'), [0.0079, 0.0157])
    >>> bool(abs(expanded(both)["W"] - W).max() <= 2 / 254 + 1e-6)
    True
    """
    made = dict(arrays)
    for name, value in arrays.items():
        if value.dtype == np.float32 and value.ndim == 2 and value.size >= LARGE:
            scale = np.abs(value).max(1, keepdims=True) / np.float32(127)
            scale[scale == 0] = 1  # of a row of zeros
            made[name] = np.rint(value / scale).astype(np.int8)
            made[name + _SCALE] = scale
    return made


def expanded(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays that were given to `rounded`, up to rounding.

    Raises
    ------
    ValueError
        When scales do not fit their array.
    """
    made = dict(arrays)
    for name in [name for name in arrays if name.endswith(_SCALE)]:
        scale, of = made.pop(name), name.removesuffix(_SCALE)
        value = made.get(of)
        if value is None or value.dtype != np.int8 or value.ndim != 2:
            raise ValueError(f"{name} has no rounded matrix")
        if scale.dtype != np.float32 or scale.shape != (len(value), 1):
            raise ValueError(f"{name} has shape {scale.shape}; expected {(len(value), 1)}")
        made[of] = value * scale
    return made
