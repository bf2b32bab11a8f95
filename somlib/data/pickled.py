"""Arrays in a pickle, read without running anything that the pickle names.

A pickle is a program: it may name any function of any module and have it called. Here names are not
looked up. Each becomes a `_Name`, calling it a `_Call` that records its arguments, and the arrays
are made of the records that have the form of NumPy's own.
"""

import io
import math
import pickle
import pickletools
import re
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '\|?O8?', 'fortran_order': (?:True|False), "
    rb"'shape': \(\), \} *\n",
    re.DOTALL,
)
"""The header of an `.npy` file that holds one object."""

_NAMES = {
    f"{module} {name}"
    for modules, name in (
        (("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct"),
        (("numpy",), "ndarray"),
        (("numpy",), "dtype"),
        (("_codecs",), "encode"),  # what Python 3 makes of bytes in an old protocol
    )
    for module in modules
}

_OPCODES = """
PROTO FRAME STOP MARK REDUCE BUILD GLOBAL STACK_GLOBAL NONE NEWTRUE NEWFALSE BININT BININT1 BININT2
LONG1 BINUNICODE SHORT_BINUNICODE BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8
EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE
"""
"""What arrays, dictionaries, lists and text are written with."""


class _Name:
    """A name in the pickle; it stands for nothing."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> "_Call":
        return _Call(self.name, arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"it changes {self.name}")


class _Call:
    """A call that the pickle asks for, and the state that it sets on the result."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name, self.arguments = name, arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if f"{module} {name}" not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}"[:100])
        return _Name(name)

    def persistent_load(self, pid: Any, /) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside")


def read_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of a dictionary that `numpy.save` has pickled.

    Parameters
    ----------
    content : bytes
        Of an `.npy` file that holds one object: a dictionary of text and arrays of numbers, written
        by Python 2 or 3 in any binary protocol.

    Returns
    -------
    dict of str to ndarray
        Read-only.

    Raises
    ------
    ValueError
        When it holds anything else, before any of it is run.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> np.save(file, np.array({"label": np.arange(3)}), allow_pickle=True)
    >>> read_arrays(file.getvalue())
    {'label': array([0, 1, 2])}
    """
    header = _NPY.match(content)
    if header is None or int.from_bytes(content[8:10], "little") + 10 != header.end():
        raise ValueError("it is no .npy file of one object")
    program = content[header.end() :]
    try:
        _require_plain(program)
        (found,) = _state(_Reader(io.BytesIO(program), encoding="latin1").load(), "O", ())
        return {_text(name): _array(value) for name, value in found.items()}
    except MemoryError:
        raise
    except Exception as error:  # damaged or hostile, whatever comes of it
        raise ValueError(f"it is no pickle of a dictionary of arrays: {error}") from error


def _require_plain(program: bytes) -> None:
    """Raise a ValueError for an incomplete pickle, or instructions that arrays do not need."""
    memorized = 0
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name not in _OPCODES.split():
            raise ValueError(f"it holds the instruction {opcode.name}")
        if opcode.name in ("BINPUT", "LONG_BINPUT"):  # space is made for all numbers up to this
            if argument is None or argument > memorized:
                raise ValueError(f"it numbers an object {argument} after {memorized}")
            memorized += 1


def _state(node: Any, kind: str, shape: tuple[int, ...] | None = None) -> Any:
    """Return the data of an array of a kind of dtype and, if given, a shape."""
    if not isinstance(node, _Call) or node.name != "_reconstruct":
        raise ValueError(f"it holds a {type(node).__name__} in the place of an array")
    _, found, dtype, _, data = node.state
    if not isinstance(dtype, _Call) or dtype.name != "dtype" or dtype.arguments[0][0] not in kind:
        raise ValueError(f"an array is of another kind than {kind}")
    if shape is not None and found != shape:
        raise ValueError(f"an array has shape {found}, expected {shape}")
    return data


def _array(node: Any) -> NDArray[Any]:
    """Return an array of numbers from its record."""
    data = _state(node, "fiu")
    _, shape, described, columns_first, _ = node.state
    code, order = described.arguments[0], described.state[1]
    if not re.fullmatch("[fiu][1248]", code) or order not in ("<", ">", "|"):
        raise ValueError(f"an array has the dtype {code!r}")
    dtype = np.dtype(order + code)
    if isinstance(data, _Call) and data.name == "encode":
        data, _ = data.arguments
    data = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array does not have the bytes of its shape {shape}")
    layout: Literal["F", "C"] = "F" if columns_first else "C"
    return np.frombuffer(data, dtype).reshape(shape, order=layout)


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"its key {name!r} is no text"[:100])
    return name
