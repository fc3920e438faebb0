"""JSON that anybody may have written: numbers are finite, and every value has its type.

`decode` is the one reader of files of ours. The types of a dataclass say what a field may hold:

    count: Annotated[int, (0, 2**48)]      a number in a range
    cache: Annotated[str, FILE_PATH]       a text that an expression matches
    origin: Annotated[Mapping[str, Any], Origin]   a mapping whose keys a `TypedDict` knows
"""

import json
import math
import re
import reprlib
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NotRequired,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from frozen_vqa.cache.json_budget import require_few_values

T = TypeVar("T")
Json = str | int | float | bool | None | list | dict

FILE_PATH = re.compile(r"[^\0\ud800-\udc7f\udd00-\udfff]+")
"""A path that the system takes; halves of pairs stand for bytes that are not UTF-8."""

Count = Annotated[int, (0, 2**48 - 1)]
"""No disk and no training counts further."""

Percent = Annotated[float, (0, 100)]

DEEPEST = 20
"""Brackets within brackets of JSON that has no type of ours."""

NAMES: Mapping[object, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    NoneType: "null",
    FILE_PATH: "a path without NUL",
}
"""How a message calls a type, or what an expression matches."""

BYTES_EACH = 16
"""Bytes of a value on average, at least; the files that we write have more."""


class NotFiniteNumberError(ValueError):
    """JSON holds NaN, infinity, or a number that no float can hold."""


class UnfitValueError(TypeError):
    """A value is not of its type. The message names its place, the value and what is needed."""

    def __init__(self, found: str, needed: str, place: str = "") -> None:
        self.found, self.needed, self.place = found, needed, place
        super().__init__(f"{place.lstrip('.') or 'it'} is {found}, and {needed} is needed")

    def below(self, place: object) -> "UnfitValueError":
        """Return the error of the value that holds this one at `place`."""
        part = f".{place}" if isinstance(place, str) else f"[{place}]"
        part = part if len(part) <= 60 and part.isprintable() else f"[{reprlib.repr(place)}]"
        return UnfitValueError(self.found, self.needed, part + self.place)


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


def decode(kind: type[T], value: object) -> T:
    """Return plain JSON as a dataclass, or as another type that is made of types.

    Raises `UnfitValueError` if a value is missing, unknown, of another type or out of its range,
    and what a dataclass itself raises. A whole number counts as a float, and every float is finite.
    A bool is no number. A mapping of a `TypedDict` may have other keys too, and stays as it is.
    """
    return cast(T, _decoder(cast(Hashable, kind))(value))


Decoder = Callable[[Any], Any]


@cache
def _decoder(kind: Any) -> Decoder:
    """Return the function that decodes a type; it is made once, because a cache has many shards."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: value
    if kind in (list, dict, Json):
        return _plain
    if origin is NotRequired:
        return _decoder(parts[0])
    if origin is Annotated:
        return _limited(*parts)
    if origin is Literal:
        return _choice(parts)
    if origin in (UnionType, Union):
        return _one_of(parts)
    if is_typeddict(kind):
        return _keys(kind)
    if is_dataclass(kind):
        return _dataclass(kind)
    if origin is tuple:
        return _tuple(parts)
    if origin in (list, Sequence):
        return _list(_decoder(parts[0]))
    if origin is Mapping:
        return _mapping(_decoder(parts[1]))
    assert origin is None, f"decode knows no {kind}"
    needed = NAMES.get(kind, f"a {getattr(kind, '__name__', kind)}")
    return _number(kind, needed) if kind in (int, float) else _instance(kind, needed)


def _unfit(value: Any, needed: str) -> UnfitValueError:
    return UnfitValueError(reprlib.repr(value), needed)


def _choice(values: Sequence[Any]) -> Decoder:
    def check(value: Any) -> Any:
        if value not in values:
            raise _unfit(value, f"one of {', '.join(map(repr, values))}")
        return value

    return check


def _instance(kind: type, needed: str) -> Decoder:
    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise _unfit(value, needed)
        return value

    return check


def _number(kind: type, needed: str) -> Decoder:
    def check(value: Any) -> Any:
        if (type(value) is not kind and type(value) is not int) or not _is_number(value):
            raise _unfit(value, needed)
        return value

    return check


def _is_number(value: Any) -> bool:
    return type(value) in (float, int) and abs(value) <= sys.float_info.max


def _limited(kind: Any, limit: Any) -> Decoder:
    inner, keys = _decoder(kind), _keys(limit) if is_typeddict(limit) else None
    number = kind if kind in (int, float) else None

    def check(value: Any) -> Any:
        if type(value) is number and limit[0] <= value <= limit[1]:
            return value  # at once, because a cache has a million numbers
        value = inner(value)
        if keys:
            return keys(value)
        if isinstance(limit, re.Pattern):
            if not limit.fullmatch(value):
                raise _unfit(value, NAMES[limit])
        elif value is not None and not limit[0] <= value <= limit[1]:
            raise _unfit(value, f"{limit[0]:,} to {limit[1]:,}")
        return value

    return check


def _one_of(kinds: Sequence[Any]) -> Decoder:
    decoders = [_decoder(kind) for kind in kinds]

    def check(value: Any) -> Any:
        refused = []
        for one in decoders:
            try:
                return one(value)
            except UnfitValueError as error:
                refused.append(error)
        inside = [error for error in refused if error.place]
        raise inside[0] if inside else _unfit(value, " or ".join(one.needed for one in refused))

    return check


def _dataclass(kind: Any) -> Decoder:
    decoders = _decoders(kind)
    needed = [one.name for one in fields(kind) if one.default is one.default_factory is MISSING]
    return lambda value: kind(**_fields(value, needed, decoders, _unknown))


def _keys(kind: Any) -> Decoder:
    decoders = _decoders(kind)
    needed = [name for name in decoders if name in kind.__required_keys__]  # in their order

    def check(value: Any) -> Any:
        _fields(value, needed, decoders, _plain)
        return value

    return check


def _mapping(item: Decoder) -> Decoder:
    return lambda value: _fields(value, (), {}, item)


def _decoders(kind: Any) -> Mapping[str, Decoder]:
    hints = get_type_hints(kind, include_extras=True)
    return {name: _decoder(hint) for name, hint in hints.items() if get_origin(hint) != ClassVar}


def _fields(
    value: Any, needed: Iterable[str], decoders: Mapping[str, Decoder], other: Decoder
) -> dict[str, Any]:
    """Return an object with decoded values; `other` decodes those that have no decoder."""
    if not isinstance(value, Mapping):
        raise _unfit(value, "an object")
    for name in needed:
        if name not in value:
            raise UnfitValueError("missing", "a value").below(name)
    made, name = {}, ""
    try:
        for name, part in value.items():
            made[name] = decoders.get(name, other)(part)
    except UnfitValueError as error:
        raise error.below(name) from None
    return made


def _unknown(_: Any) -> Any:
    raise UnfitValueError("a field", "none of this name")


def _tuple(kinds: Sequence[Any]) -> Decoder:
    if kinds[1:] == (...,):
        items = _list(_decoder(kinds[0]))
        return lambda value: tuple(items(value))
    decoders = [_decoder(kind) for kind in kinds]

    def make(value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(decoders):
            raise _unfit(value, f"a list of {len(decoders)}")
        return tuple(_items(decoders, value))

    return make


def _list(item: Decoder) -> Decoder:
    def make(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise _unfit(value, "a list")
        return _items([item] * len(value), value)

    return make


def _items(decoders: Sequence[Decoder], values: Sequence[Any]) -> list[Any]:
    made: list[Any] = []
    try:
        for decoder, value in zip(decoders, values, strict=True):
            made.append(decoder(value))
    except UnfitValueError as error:
        raise error.below(len(made)) from None
    return made


def _plain(value: Any, depth: int = 0) -> Any:
    """Return JSON of no type of ours, which is neither deep nor holds numbers beyond a float."""
    if isinstance(value, list | tuple | Mapping) and depth < DEEPEST:
        for part in value.values() if isinstance(value, Mapping) else value:
            _plain(part, depth + 1)
    elif not (value is None or isinstance(value, str | bool) or _is_number(value)):
        raise _unfit(value, f"finite JSON of at most {DEEPEST} brackets within each other")
    return value
