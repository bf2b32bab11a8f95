"""Declarations of parameters as types, and the check of values against them.

The annotation of a parameter is its declaration:

    n_epochs: Count = 20
    decay: Literal["linear", "constant"] = "linear"
    clip: tuple[float, float] | None = None

Types of Python mean what they say: an `int` is a whole number and no bool, a `float` any finite
number, a `tuple` or `Sequence` any sequence but text. A `Rule` in `Annotated` states what a type
cannot say. `parameters` checks an estimator or another dataclass, `arguments` decorates a function,
`require` checks one value. What depends on data or on two parameters is checked where they meet.
"""

import functools
import inspect
import math
import os
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np
from numpy.typing import ArrayLike

LIMIT = 2**63
"""Whole numbers of NumPy and PyTorch are below it."""

P = ParamSpec("P")
R = TypeVar("R")

# ---------------------------------------------------------------- rules


@dataclass(frozen=True)
class Rule:
    """What a value must be.

    Parameters
    ----------
    text : str
        In words, to follow "must be".
    accepts : callable
        accepts(value) is false for a bad value, or raises a ValueError that says what is wrong.
    choices : tuple
        All values that are accepted, where these are few.
    """

    text: str
    accepts: Callable[[Any], Any]
    choices: tuple[Any, ...] = ()


def is_whole(value: Any) -> bool:
    """Return whether the value is a whole number, of Python or NumPy."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether the value is a real number that is finite in float64."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number with hundreds of digits
        return False


def is_sequence(value: Any) -> bool:
    """Return whether the value is a sequence of several values: no text, no bytes, no scalar."""
    if hasattr(value, "__array__"):
        return getattr(value, "ndim", 0) > 0
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def whole(least: int) -> Rule:
    """Return the rule of a whole number of at least `least`."""

    def accepts(value: Any) -> bool:
        if is_whole(value) and value >= LIMIT:
            raise ValueError("too large; choose a number below 2**63")
        return is_whole(value) and value >= least

    return Rule(f"a whole number of at least {least}", accepts)


def number(text: str, accepts: Callable[[Any], bool]) -> Rule:
    """Return the rule of a finite number that meets a condition."""
    return Rule(text, lambda value: is_number(value) and accepts(value))


def _is_device(value: Any) -> bool:
    name = str(value) if type(value).__name__ in ("str", "device") else ""
    kind, colon, index = name.partition(":")
    return kind in ("auto", "cpu", "cuda", "mps") and (index.isdigit() if colon else True)


def _is_seed(value: Any) -> bool:
    generator = isinstance(value, np.random.Generator | np.random.RandomState)
    return value is None or generator or whole(0).accepts(value)


Count = Annotated[int, whole(1)]
CountOrZero = Annotated[int, whole(0)]
Positive = Annotated[float, number("a positive number", lambda value: value > 0)]
NotNegative = Annotated[float, number("a finite number of at least 0", lambda value: value >= 0)]
Fraction = Annotated[float, number("a number from 0 to 1", lambda value: 0 <= value <= 1)]
OpenFraction = Annotated[
    float, number("a number between 0 and 1, both excluded", lambda value: 0 < value < 1)
]
Values = Annotated[
    ArrayLike, Rule("an array", lambda value: is_sequence(value) or hasattr(value, "__array__"))
]
"""An array, or what can become one; `arrays` checks what is inside."""
FilePath = Annotated[
    str | os.PathLike[str],
    Rule(
        "the path of a file",
        lambda value: (
            isinstance(value, str | os.PathLike)
            and bool(str(value).strip())
            and not os.path.isdir(value)  # noqa: PTH112 - swallows errors of impossible names
        ),
    ),
]
Several = Annotated[
    Iterable[Any],
    Rule(
        "a sequence, or another iterable",
        lambda value: isinstance(value, Iterable) and not isinstance(value, str | bytes | dict),
    ),
]
ImageShape = tuple[Count, Count]
"""Rows and columns of a sample as an image."""
Device = Annotated[
    Any, Rule("'auto', 'cpu', 'cuda' (or 'cuda:1', ...), 'mps' or a torch.device", _is_device)
]
Seed = Annotated[
    Any,
    Rule("None, a whole number of at least 0, or a numpy Generator or RandomState", _is_seed),
]

_PLAIN: dict[Any, Rule] = {
    bool: Rule("True or False", lambda value: isinstance(value, bool | np.bool_)),
    int: Rule("a whole number", is_whole),
    float: Rule("a finite number", is_number),
    str: Rule("text", lambda value: isinstance(value, str)),
    tuple: Rule("a sequence", is_sequence),
    type(None): Rule("None", lambda value: value is None, (None,)),
}


@functools.cache
def rule(annotation: Any) -> Rule:
    """Return the rule of an annotation; of one that is not understood, a rule without effect.

    Examples
    --------
    >>> rule(Count | Literal["auto"] | None).text
    "a whole number of at least 1, 'auto' or None"
    """
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        stated = [part for part in inside[1:] if isinstance(part, Rule)]
        return stated[0] if stated else rule(inside[0])
    if origin in (Union, types.UnionType):
        return _any_of([rule(part) for part in inside])
    if origin is Literal:
        texts = list(map(repr, inside))
        return Rule(_joined(texts), functools.partial(_is_one_of, inside), inside)
    if origin is Callable or annotation is Callable:
        return Rule("a function", callable)
    if origin is tuple and Ellipsis not in inside:
        return _tuple_of([rule(part) for part in inside])
    if isinstance(origin, type) and issubclass(origin, Sequence):
        each = rule(inside[0])
        entries = "" if each.text == "anything" else f", each entry {each.text}"
        return Rule(
            f"a sequence{entries}",
            lambda value: is_sequence(value) and all(each.accepts(one) for one in value),
        )
    cls = origin or annotation
    if isinstance(cls, type) and cls is not Any and not getattr(cls, "_is_protocol", False):
        name = f"an {cls.__name__}" if cls.__name__[0] in "AEIOU" else f"a {cls.__name__}"
        return _PLAIN.get(cls, Rule(name, lambda value: isinstance(value, cls)))
    return Rule("anything", lambda value: True)


def _is_one_of(choices: Sequence[Any], value: Any) -> bool:
    return any(type(value) is type(choice) and value == choice for choice in choices)


def _any_of(rules: Sequence[Rule]) -> Rule:
    """Return the rule of a value that meets one of several."""
    few = all(one.choices for one in rules)
    choices = tuple(choice for one in rules for choice in one.choices) if few else ()

    def accepts(value: Any) -> bool:
        reasons = []
        for one in rules:
            try:
                if one.accepts(value):
                    return True
            except ValueError as reason:
                reasons.append(reason)
        if reasons:
            raise reasons[0]
        return False

    texts = [t for one in rules for t in (map(repr, one.choices) if one.choices else [one.text])]
    return Rule(_joined(texts), accepts, choices)


def _tuple_of(rules: Sequence[Rule]) -> Rule:
    """Return the rule of a sequence of fixed length."""

    def accepts(value: Any) -> bool:
        fits = is_sequence(value) and len(value) == len(rules)
        return fits and all(one.accepts(part) for one, part in zip(rules, value, strict=True))

    return Rule(f"({', '.join(one.text for one in rules)})", accepts)


def _joined(texts: Sequence[str]) -> str:
    *first, last = texts
    return f"{', '.join(first)} or {last}" if first else last


# ---------------------------------------------------------------- checks


def require(name: str, value: Any, annotation: Any) -> None:
    """Raise a ValueError that names the value and what is expected, unless the value fits.

    Examples
    --------
    >>> require("n_epochs", 0, Count)
    Traceback (most recent call last):
    ValueError: n_epochs=0 must be a whole number of at least 1
    >>> require("decay", "cosine", Literal["linear", "constant"])
    Traceback (most recent call last):
    ValueError: decay='cosine' is unknown; choose one of ['linear', 'constant']
    """
    _require(name, value, rule(annotation))


def _require(name: str, value: Any, expected: Rule) -> None:
    try:
        if expected.accepts(value):
            return
    except ValueError as reason:
        raise ValueError(f"{name}={shown(value)}: {reason}") from None
    if expected.choices and not set(map(type, expected.choices)) <= {bool, type(None)}:
        raise ValueError(
            f"{name}={shown(value)} is unknown; choose one of {list(expected.choices)}"
        )
    raise ValueError(f"{name}={shown(value)} must be {expected.text}")


def declared(cls: Any) -> dict[str, Any]:
    """Return the declarations of a class's parameters, by name."""
    return _declared(cls)


@functools.cache
def _declared(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    names = [name for name in inspect.signature(cls).parameters if name in hints]
    return {name: hints[name] for name in names}


@functools.cache
def _rules(cls: Any) -> dict[str, Rule]:
    return {name: rule(annotation) for name, annotation in declared(cls).items()}


def parameters(made: Any) -> None:
    """Check all parameters of an estimator, or of another object made from declared parameters."""
    cls: Any = type(made)
    for name, expected in _rules(cls).items():
        _require(name, getattr(made, name), expected)


def arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of a function against their annotations before each call.

    Examples
    --------
    >>> @arguments
    ... def sample(n: Count) -> list[int]:
    ...     return list(range(n))
    >>> sample(0)
    Traceback (most recent call last):
    ValueError: n=0 must be a whole number of at least 1
    """
    signature = inspect.signature(function)

    @functools.cache
    def hints() -> dict[str, Any]:  # on the first call, when all names are defined
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        plain = [name for name, p in signature.parameters.items() if p.kind not in variable]
        found = get_type_hints(function, include_extras=True)
        return {name: found[name] for name in plain if name in found}

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs).arguments
        for name, annotation in hints().items():
            if name in given:
                require(name, given[name], annotation)
        return function(*args, **kwargs)

    return checked


def shown(value: Any) -> str:
    """Return a value as a message shows it: arrays by type and shape, long texts cut."""
    if hasattr(value, "__array__") and np.ndim(value):
        dtype = getattr(value, "dtype", "several dtypes")
        return f"<{type(value).__name__} of {dtype}, shape {tuple(np.shape(value))}>"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."
