"""Checks of parameters: each raises a ValueError that names the value and what is expected."""

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np


def one_of(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raise a ValueError unless the value is one of the choices.

    Examples
    --------
    >>> one_of("decay", "linear", ["linear", "constant"])
    """
    choices = list(choices)
    if not any(
        value is choice or (isinstance(value, str) and value == choice) for choice in choices
    ):
        raise ValueError(f"{name}={value!r} is unknown; choose one of {choices}")


def count(name: str, value: Any, least: int = 1) -> None:
    """Raise a ValueError unless the value is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")


def pair(value: Any) -> tuple[Any, Any]:
    """Return the two entries of a tuple, list or array; raise a ValueError for anything else."""
    if isinstance(value, tuple | list | np.ndarray) and len(value) == 2:
        return value[0], value[1]
    raise ValueError("expected a pair of numbers")


def is_number(value: Any) -> bool:
    """Return whether the value is a finite real number, of Python or NumPy."""
    real = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    return real and math.isfinite(value)


def positive(name: str, value: Any) -> None:
    """Raise a ValueError unless the value is a finite number above 0."""
    if not (is_number(value) and value > 0):
        raise ValueError(f"{name}={value!r} must be a positive number")


def not_negative(name: str, value: Any) -> None:
    """Raise a ValueError unless the value is a finite number of at least 0."""
    if not (is_number(value) and value >= 0):
        raise ValueError(f"{name}={value!r} must be a finite number of at least 0")


def from_0_to_1(name: str, value: Any) -> None:
    """Raise a ValueError unless the value is a number from 0 to 1, both included."""
    if not (is_number(value) and 0 <= value <= 1):
        raise ValueError(f"{name}={value!r} must be a number from 0 to 1")
