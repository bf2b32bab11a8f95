"""The one way in for data: samples, weights, labels and units, in any container.

Taken are arrays of any strides, order and byte order, memory maps, data frames (nullable columns
too), masked arrays, tensors on any device, with gradients, in bfloat16, and lists. Refused, with
the same words everywhere, are sparse and complex data, text and dates as numbers, rows of different
lengths, infinity, and missing values unless they are allowed. NaN, None, `pandas.NA` and masked
entries all mean the same: a missing value, or a missing label.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy import sparse
from sklearn.utils.validation import validate_data

from somlib.checks import NotNegative, require, shown

Array = NDArray[np.floating]

_BLOCK = 2**22
"""Numbers per block when data are searched for missing values: they may not fit into memory."""

# ---------------------------------------------------------------- numbers


def samples(
    X: ArrayLike,
    name: str = "X",
    *,
    axes: int | None = 2,
    least: int = 1,
    dtype: DTypeLike | None = None,
    other: DTypeLike = np.float64,
    missing: bool = False,
    streamed: bool = False,
    hint: str = "",
) -> Array:
    """Return finite numbers as a C-contiguous, writeable array of floats; a copy only if needed.

    Parameters
    ----------
    X : array-like
    name : str, default="X"
        What messages call it.
    axes : int, optional
        Number of axes, none of which may be empty; None takes any shape.
    least : int, default=1
        Least number of rows.
    dtype : dtype, optional
        That of the result. By default float32 and float64 are kept.
    other : dtype, default=float64
        That of the result for data of another dtype, such as whole numbers.
    missing : bool, default=False
        Whether values may be missing: the result has NaN there, and in each row and column a value.
    streamed : bool, default=False
        Whether a `numpy.memmap` of float32 or float64 is returned as it is, to be read in blocks.
    hint : str, default=""
        Added to the message about a missing value.

    Raises
    ------
    ValueError, TypeError
        The message names the value, its place and the remedy.

    Examples
    --------
    >>> samples([[1, 2], [3, 4]])
    array([[1., 2.],
           [3., 4.]])
    >>> samples([[1.0, None]])
    Traceback (most recent call last):
    ValueError: X contains NaN in row 0, column 1; drop the row, or fill in a value
    """
    return _samples(X, name, axes, least, dtype, other, missing, streamed, hint)[0]


def _samples(
    X: ArrayLike,
    name: str = "X",
    axes: int | None = 2,
    least: int = 1,
    dtype: DTypeLike | None = None,
    other: DTypeLike = np.float64,
    missing: bool = False,
    streamed: bool = False,
    hint: str = "",
) -> tuple[Array, float]:
    """Return what `samples` returns, and the sum of the squares in the precision of the result."""
    array = _numbers(X, name)
    if axes is not None:
        _require_shape(array, name, axes, least)
    if dtype is None:
        double = array.dtype.kind == "f" and array.dtype.itemsize >= 8
        dtype = np.float64 if double else np.float32 if array.dtype.str[1:] == "f4" else other
    if streamed and isinstance(X, np.memmap) and X.dtype in (np.float32, np.float64):
        array = X
    else:
        with np.errstate(over="ignore"):  # reported as infinity below
            array = np.require(array, dtype, ["C_CONTIGUOUS", "WRITEABLE"])  # as PyTorch needs
    return array, _require_known(array, name, missing, hint)


def features(estimator: Any, X: ArrayLike, *, reset: bool, **options: Any) -> Array:
    """Return samples of an estimator; names and number of features are set, or compared if fitted.

    Parameters
    ----------
    estimator : estimator
        With the attributes `n_features_in_` and `feature_names_in_` of scikit-learn.
    X : array-like of shape (n, d)
    reset : bool
        Whether the attributes are set.
    **options
        See `samples`.

    Raises
    ------
    ValueError
        Also when the squares of the values, which distances and losses consist of, are too large
        for the dtype or, where the attributes are set, too small.
    """
    checked, squares = _samples(X, **options)
    _require_range(checked, squares, small=reset)
    named = X if hasattr(X, "columns") else checked
    validate_data(estimator, named, reset=reset, skip_check_array=True)
    return checked


def same_features(estimator: Any, fitted: Any) -> None:
    """Give an estimator the number and names of the features of another."""
    names = ("n_features_in_", "feature_names_in_")
    vars(estimator).update({k: v for k, v in vars(fitted).items() if k in names})


def weights(weight: ArrayLike | None, n: int, dtype: DTypeLike = np.float64) -> Array | None:
    """Return the weights of n samples, or None.

    Examples
    --------
    >>> weights([1, 0], 2)
    array([1., 0.])
    """
    if weight is None:
        return None
    name = "sample_weight"
    if np.isscalar(weight):
        require(name, weight, NotNegative)
        weight = np.full(n, weight)
    array = samples(weight, name, axes=1, dtype=dtype)
    if len(array) != n:
        raise ValueError(f"{name} has {len(array)} entries for {n} samples; give one for each")
    if array.min() < 0:
        i = int(array.argmin())
        raise ValueError(f"{name} is negative, {array[i]}, in row {i}; give numbers of at least 0")
    if not array.any():
        raise ValueError(f"{name} must contain at least one non-zero number, not only 0")
    return array


def _numbers(values: Any, name: str) -> NDArray[Any]:
    """Return values as an array of real numbers of any dtype, NaN where they are missing."""
    array, missing = _plain(values, name)
    kind = array.dtype.kind
    if kind == "c":
        raise ValueError(
            f"{name} has dtype {array.dtype}. Complex data not supported; pass real and imaginary "
            "parts as columns"
        )
    if kind == "O":
        missing = missing | pd.isna(array)
        array = _floats(np.where(missing, np.nan, array), name)
    elif kind not in "fiub":
        raise ValueError(
            f"{name} has dtype {array.dtype}, which is not a number; encode text and dates as "
            "numbers, or drop those columns"
        )
    if missing.any():
        array = array.astype(array.dtype if array.dtype.kind == "f" else np.float64)
        array[missing] = np.nan
    return array


def _floats(array: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Return an array of objects as floats."""
    for found in set(map(type, array.ravel())):
        if issubclass(found, str | bytes | complex | np.complexfloating):
            value = next(v for v in array.ravel() if type(v) is found)
            what = "Complex data not supported" if isinstance(value, complex) else "it is text"
            raise ValueError(
                f"{name} contains {value!r}, which is not a number: {what}; encode it as numbers, "
                "or drop that column"
            )
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(
            f"{name} contains objects that are not numbers ({error}); convert them"
        ) from None


_Nothing = np.zeros((), bool)


def _plain(values: Any, name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the entries of any container as an array of any dtype, and which are masked."""
    if sparse.issparse(values) or (
        isinstance(values, torch.Tensor) and values.layout != torch.strided
    ):
        raise TypeError(f"{name} is sparse, which is not supported; pass {name}.toarray(), dense")
    if isinstance(values, str | bytes | dict | set) or values is None:
        raise ValueError(f"{name}={shown(values)} must be an array")
    try:
        if isinstance(values, torch.Tensor):
            values = values.float() if values.dtype == torch.bfloat16 else values
            return values.numpy(force=True), _Nothing
        if isinstance(values, np.ma.MaskedArray):
            return np.asarray(values.data), np.ma.getmaskarray(values)
        if isinstance(values, pd.DataFrame | pd.Series):
            return _of_pandas(values), _Nothing
        return np.asarray(values), _Nothing
    except Exception as error:  # whatever NumPy meets in a list or in an object's `__array__`
        raise ValueError(
            f"{name} cannot be read as an array ({error}); give rows of equal length"
        ) from error


def _of_pandas(values: Any) -> NDArray[Any]:
    """Return a frame or series as an array; nullable numbers keep their dtype unless missing."""
    columns = values.dtypes if isinstance(values, pd.DataFrame) else [values.dtype]
    dtypes = [getattr(dtype, "numpy_dtype", dtype) for dtype in columns]
    numeric = all(isinstance(dtype, np.dtype) and dtype.kind in "fiub" for dtype in dtypes)
    if not numeric or len(dtypes) == 0:
        return np.asarray(values, dtype=None if len(dtypes) == 1 else object)
    dtype = np.result_type(*dtypes)
    if dtype.kind != "f" and np.any(pd.isna(values)):
        dtype = np.dtype(np.float64)
    missing = {"na_value": np.nan} if dtype.kind == "f" else {}
    return np.asarray(values.to_numpy(dtype=dtype, **missing))


def _require_shape(array: NDArray[Any], name: str, axes: int, least: int) -> None:
    shape = array.shape
    if len(shape) != axes:
        expected = {1: "(n,)", 2: "(samples, features)"}.get(axes, f"{axes} axes")
        raise ValueError(
            f"{name} has shape {shape}, expected {expected}. Reshape your data: "
            f"{name}.reshape(-1, 1) makes a column, {name}.reshape(1, -1) a row"
        )
    for axis, count in enumerate(shape):
        what, minimum = ("feature", 1) if axis else ("sample", least)
        if count < minimum:
            raise ValueError(
                f"{name} has {count} {what}(s) (shape={shape}) while a minimum of {minimum} is "
                "required."
            )


def row_blocks(X: Array) -> Iterator[Array]:
    """Yield the rows of an array in blocks of some million numbers."""
    rows = max(1, _BLOCK // max(1, X[:1].size))
    return (X[first : first + rows] for first in range(0, len(X), rows))


def _require_range(X: Array, squares: float, *, small: bool) -> None:
    """Raise a ValueError unless the squares of X can be summed in its dtype to full precision."""
    limits = np.finfo(X.dtype)
    least = X.size * float(limits.tiny) / float(limits.eps) ** 2
    if squares > float(limits.max) / 16:
        what = "large"
    elif small and squares < least and any(np.nan_to_num(rows).any() for rows in row_blocks(X)):
        what = "small"
    else:
        return
    typical = float(np.nanmax(np.abs(X)))
    raise ValueError(
        f"X holds values up to {typical:.3g}, so {what} that their squares leave the range of "
        f"{X.dtype}; change the unit or scale the data, to a standard deviation of 1 for instance"
    )


def _sum_of_squares(X: Array) -> float:
    flat = X.ravel()
    return float(np.einsum("i,i", flat, flat))  # without threads, which would go on spinning


def _require_known(X: Array, name: str, missing: bool, hint: str) -> float:
    """Raise a ValueError for infinity, and for NaN unless allowed and not a whole row or column.

    Returns
    -------
    float
        The sum of the squares of the known values.
    """
    first, columns, squares = 0, np.zeros(X.shape[1:], dtype=bool), 0.0
    for rows in row_blocks(X) if X.ndim else (X[None],):
        with np.errstate(invalid="ignore", over="ignore"):
            # the sum is finite, and needs no memory, unless something is wrong
            sums = _sum_of_squares(rows)
            sound = np.isfinite(sums)
            finite = np.ones(1, bool) if sound else np.isfinite(rows)
            if not sound:
                known = np.where(finite, rows, 0)
                sums = _sum_of_squares(known)
        squares += sums
        if not finite.all():
            bad = np.argwhere(np.isinf(rows) if missing else ~finite)
            if len(bad):
                _report(rows[tuple(bad[0])], [first + bad[0][0], *bad[0][1:]], name, hint)
            empty = np.flatnonzero(~finite.any(1)) if X.ndim == 2 else bad[:, 0]
            if len(empty):
                raise ValueError(
                    f"{name} has no known value in row {first + empty[0]} (all NaN): drop the row"
                )
        columns |= finite.any(0)
        first += len(rows)
    if missing and X.ndim == 2 and len(X) > 1 and not columns.all():
        column = int(np.flatnonzero(~columns)[0])
        raise ValueError(f"{name} has no known value in column {column} (all NaN): drop the column")
    return squares


def _report(value: Any, at: list[int], name: str, hint: str) -> None:
    what, hint = ("NaN", hint) if np.isnan(value) else ("infinity", "")
    axes = ("row", "column", "entry")
    place = ", ".join(f"{axis} {i}" for axis, i in zip(axes, at, strict=False))
    raise ValueError(f"{name} contains {what} in {place}; drop the row, or fill in a value{hint}")


# ---------------------------------------------------------------- labels


def labels(
    y: ArrayLike, name: str = "y", n: int | None = None, *, complete: bool = True
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the classes of labels in sorted order, and the number of each sample's class.

    Parameters
    ----------
    y : array-like of shape (n,)
        Numbers, text or dates. None, NaN, NaT, `pandas.NA` and masked entries are missing labels.
    name : str, default="y"
        What messages call it.
    n : int, optional
        Number of samples.
    complete : bool, default=True
        Whether a missing label is an error, or has the number −1.

    Examples
    --------
    >>> labels(["b", None, "a"], complete=False)
    (array(['a', 'b'], dtype='<U1'), array([ 1, -1,  0]))
    """
    array, missing = _label_array(y, name)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} has shape {array.shape}; expected (n,), a label for each sample")
    if n is not None and len(array) != n:
        raise ValueError(f"{name} has {len(array)} labels for {n} samples; give one for each")
    missing = missing | pd.isna(array)
    if missing.all() or (complete and missing.any()):
        raise ValueError(
            f"{name} has no label in row {missing.argmax()} (None, NaN or masked); leave out "
            "samples without a label"
        )
    known = array[~missing]
    if known.dtype.kind == "O":
        known = _natural(known, name)
    if known.dtype.kind not in "fiubmMSU" or (known.dtype.kind == "f" and np.isinf(known).any()):
        raise ValueError(
            f"{name} holds labels such as {shown(known[0])}; expected finite numbers only, text "
            "only or dates only: convert them"
        )
    codes = np.full(len(array), -1)
    classes, codes[~missing] = np.unique(known, return_inverse=True)
    return classes, codes


def _label_array(y: Any, name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    if isinstance(y, list | tuple) and any(isinstance(v, str) for v in y):
        y = pd.Series(list(y), dtype=object)  # NumPy would write NaN among text as "nan"
    if isinstance(y, pd.Series | pd.Index) and not isinstance(y.dtype, np.dtype):
        return np.asarray(y, dtype=object), _Nothing
    array, missing = _plain(y, name)
    return (array.astype(object) if array.dtype.kind == "T" else array), missing


def _natural(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Return objects in the dtype that they have in common, unless text and numbers are mixed."""
    text = {issubclass(found, str | bytes) for found in set(map(type, values))}
    natural = np.array(values.tolist()) if len(text) == 1 else values
    return natural if natural.ndim == 1 else values


def units(
    labels: ArrayLike, n_units: int, name: str = "labels", *, axes: int | None = 1
) -> NDArray[np.integer]:
    """Return the best-matching units of samples: whole numbers from 0 to `n_units` − 1.

    With `axes=None` they may have any shape.

    Examples
    --------
    >>> units([0, 4], 4)
    Traceback (most recent call last):
    ValueError: labels contain 4, but the 4 units are 0 to 3; pass what predict returns
    """
    array, missing = _plain(labels, name)
    array = _natural(array, name) if array.dtype.kind == "O" and array.ndim == 1 else array
    shaped = axes is None or (array.ndim == axes and array.size)
    missing = missing | pd.isna(array)
    if shaped and missing.any():
        row = f" in row {np.argwhere(missing)[0][0]}" if np.ndim(missing) else ""
        raise ValueError(
            f"{name} are missing{row} (None, NaN or masked); leave out samples without a unit"
        )
    if not shaped or array.dtype.kind not in "iu":
        found = f", such as {array.ravel()[0]!r}" if array.size else ""
        raise ValueError(
            f"{name} have shape {array.shape} and dtype {array.dtype}{found}; expected one whole "
            "number per sample, its best-matching unit: pass what predict returns"
        )
    outside = array[(array < 0) | (array >= n_units)]
    if len(outside):
        raise ValueError(
            f"{name} contain {outside[0]}, but the {n_units} units are 0 to {n_units - 1}; pass "
            "what predict returns"
        )
    return array
