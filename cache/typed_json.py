"""Dataclasses from JSON that anybody may have written: every field is there and has its type."""

from collections.abc import Mapping
from dataclasses import fields
from types import UnionType
from typing import Any, TypeVar, get_origin

T = TypeVar("T")


def make_dataclass(kind: type[T], body: Mapping[str, Any]) -> T:
    """Return `kind(**body)`; raise `TypeError` if a field is missing, unknown or of another type.

    A whole number counts as a float. Items of lists and mappings are not checked.
    """
    made = kind(**body)
    for entry in fields(kind):  # type: ignore[arg-type]
        origin = get_origin(entry.type)
        needed = entry.type if origin in (None, UnionType) else origin
        if needed is float:
            needed = float | int
        if not isinstance(getattr(made, entry.name), needed):  # type: ignore[arg-type]
            raise TypeError(f"{entry.name!r} is {getattr(made, entry.name)!r:.60}")
    return made
