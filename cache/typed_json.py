"""JSON that anybody may have written: numbers are finite, and every field has its type."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from types import UnionType
from typing import Annotated, Any, TypeVar, get_args, get_origin

from frozen_vqa.cache.json_budget import require_few_values

T = TypeVar("T")

BYTES_EACH = 16
"""Bytes of a value on average, at least; the files that we write have more."""


class NotFiniteNumberError(ValueError):
    """JSON holds NaN, infinity, or a number that no float can hold."""


def finite_json(data: str | bytes) -> Any:
    """Return what JSON holds; raise as `json.loads` does, or another `ValueError`.

    That is `NotFiniteNumberError`, or `TooManyValuesError`.
    """
    require_few_values(data, bytes_each=BYTES_EACH)
    return json.loads(data, parse_float=_finite, parse_constant=_finite)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise NotFiniteNumberError("a number in it is not finite")
    return value


def make_dataclass(kind: type[T], body: Mapping[str, Any]) -> T:
    """Return `kind(**body)`; raise `TypeError` if a field is missing, unknown or of another type.

    A whole number counts as a float, and every float is finite. A bool is no number. A field of
    type `Annotated[int, (low, high)]` has to lie in that range, unless it is None. Items of lists
    and mappings are not checked.
    """
    made = kind(**body)
    for entry in fields(kind):  # type: ignore[arg-type]
        value, needed, limits = getattr(made, entry.name), entry.type, None
        if get_origin(needed) is Annotated:
            needed, limits = get_args(needed)
        union = get_args(needed) if get_origin(needed) is UnionType else (needed,)
        kinds = [get_origin(one) or one for one in union]
        if float in kinds:
            kinds.append(int)
        fits = isinstance(value, tuple(kinds)) and (bool in kinds or not isinstance(value, bool))
        if not fits or (isinstance(value, float | int) and not _is_finite(value)):
            raise TypeError(f"{entry.name!r} is {value!r:.60}")
        if limits and value is not None and not limits[0] <= value <= limits[1]:
            raise TypeError(f"{entry.name!r} is {value!r:.60}, and {limits} are its limits")
    return made


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False
