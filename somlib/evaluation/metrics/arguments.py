"""Checks of what the metrics are given."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]


def checked(name: str, values: ArrayLike, n_axes: int) -> NDArray[Any]:
    """Return an array that is not empty and all known: floats if it has two axes, else labels."""
    array = values.numpy(force=True) if isinstance(values, torch.Tensor) else np.asanyarray(values)
    if array.ndim != n_axes or not array.size:
        wanted = "(rows, features), with a row for each sample or unit" if n_axes == 2 else "(n,)"
        raise ValueError(f"{name} has shape {array.shape}, but {wanted} is needed, not empty")
    if n_axes == 2:
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{name} holds {array.dtype} values; convert them to numbers")
        array = array if array.dtype == np.float32 else array.astype(np.float64, copy=False)
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            # the sum is finite, and needs no memory, unless something is wrong
            known = np.isfinite(array.sum(dtype=np.float64)) or np.isfinite(array).all()
    else:
        known = array.dtype.kind != "O" or not any(v is None or v != v for v in array)
    if not known:
        raise ValueError(f"{name} contains NaN or infinity; drop those rows or fill them first")
    return array


def in_range(*arrays: Array) -> tuple[list[Array], int]:
    """Return arrays of which no square, nor a sum of some, overflows or vanishes, and an exponent.

    They are the arrays given, or copies divided by 2 to that exponent where those would.
    """
    largest = max(float(part) for a in arrays for part in (a.max(), -a.min()))
    e = int(np.frexp(largest)[1])
    if largest == 0 or abs(e) < min(np.finfo(a.dtype).maxexp for a in arrays) // 3:
        return list(arrays), 0
    return [np.ldexp(a, -e) for a in arrays], e


def same_width(**arrays: ArrayLike) -> tuple[Array, Array]:
    """Return two finite arrays of as many columns, in float64."""
    (a, A), (b, B) = ((name, checked(name, array, 2)) for name, array in arrays.items())
    if A.shape[1] != B.shape[1]:
        raise ValueError(
            f"{a} has {A.shape[1]} columns and {b} has {B.shape[1]}; they must have as many"
        )
    return A.astype(float), B.astype(float)
