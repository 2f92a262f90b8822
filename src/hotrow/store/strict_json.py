"""JSON from a file that may be damaged or hostile."""

from __future__ import annotations

import json
import math
from typing import Any, TypeGuard, cast

_DIGITS = 20
"""Of 2^64; the sign of a smaller number counts, too."""


class MalformedError(Exception):
    """What is wrong with some bytes; whoever knows the file turns it into a CorruptError."""


def parse_object(text: bytes) -> dict[str, Any]:
    """The object in JSON text, strictly: UTF-8, no key twice, no NaN or infinity, no number of endless digits.

    MalformedError otherwise.

    >>> parse_object(b'{"rows": 2}')
    {'rows': 2}
    """
    try:
        value: Any = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_distinct,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_short,
        )
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"isn't valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedError("isn't a JSON object")
    return cast("dict[str, Any]", value)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} isn't JSON")


def _finite(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError(f"{digits} is too large")
    return number


def _short(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number of {len(digits)} digits is too large")
    return int(digits)


def object_of(value: Any, keys: set[str]) -> dict[str, Any] | None:
    """Return `value` if it is an object with just these keys, else None."""
    if not isinstance(value, dict):
        return None
    found = cast("dict[str, Any]", value)
    return found if set(found) == keys else None


def natural(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number from 0 to 2^63 − 1; True and 1.0 aren't."""
    return type(value) is int and 0 <= value < 1 << 63


def naturals(value: Any) -> tuple[int, ...] | None:
    """A JSON list of natural numbers as a tuple, else None."""
    if not isinstance(value, list):
        return None
    numbers = tuple(cast("list[Any]", value))
    return numbers if all(map(natural, numbers)) else None
