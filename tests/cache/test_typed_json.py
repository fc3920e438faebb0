"""Dataclasses from JSON: a value of the wrong type never becomes a field."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from frozen_vqa.cache.typed_json import decode


@dataclass(frozen=True)
class Example:
    name: str
    share: float
    count: int
    digests: Mapping[str, str]
    lines: list[int]
    limit: int | None = None


BODY: dict[str, Any] = {"name": "a", "share": 0.5, "count": 3, "digests": {}, "lines": [1]}


@pytest.mark.parametrize("change", [{}, {"share": 1}, {"limit": 2}, {"limit": None}])
def test_values_of_the_right_type(change: dict[str, Any]) -> None:
    """JSON has one kind of number, so a whole one may stand for a float."""
    body = BODY | change
    assert decode(Example, body) == Example(**body)


@pytest.mark.parametrize(
    "change",
    [
        {"name": 1},
        {"share": "1"},
        {"share": True},
        {"share": 10**400},
        {"share": float("nan")},
        {"share": float("-inf")},
        {"count": True},
        {"limit": False},
        {"count": 3.5},
        {"digests": []},
        {"lines": {}},
        {"lines": "text"},
        {"limit": "2"},
        {"unknown": 1},
    ],
)
def test_values_of_another_type(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        decode(Example, BODY | change)


@pytest.mark.parametrize("name", BODY)
def test_a_missing_field(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        decode(Example, {key: value for key, value in BODY.items() if key != name})
