"""Dataclasses from JSON that anybody may have written: every field is there and has its type."""

import math
from collections.abc import Mapping
from dataclasses import fields
from types import UnionType
from typing import Any, TypeVar, get_origin

T = TypeVar("T")


def make_dataclass(kind: type[T], body: Mapping[str, Any]) -> T:
    """Return `kind(**body)`; raise `TypeError` if a field is missing, unknown or of another type.

    A whole number counts as a float, and every float is finite. A bool is no number. Items of lists
    and mappings are not checked.
    """
    made = kind(**body)
    for entry in fields(kind):  # type: ignore[arg-type]
        origin = get_origin(entry.type)
        needed = entry.type if origin in (None, UnionType) else origin
        if needed is float:
            needed = float | int
        value = getattr(made, entry.name)
        fits = isinstance(value, needed)  # type: ignore[arg-type]
        if isinstance(value, bool) and entry.type is not bool:
            fits = False
        if not fits or (entry.type is float and not _is_finite(value)):
            raise TypeError(f"{entry.name!r} is {value!r:.60}")
    return made


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False
