"""A JSON object in a file that carries its own digest: a changed digit is no other number."""

import json
from collections.abc import Mapping
from typing import Any

from frozen_vqa.cache.format.digests import digest


def seal_json(value: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file that holds an object, and its digest under "xxh3"."""
    return json_bytes({**value, "xxh3": _digest(value)})


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file that holds an object."""
    return json.dumps(value, indent=1, ensure_ascii=False).encode()


def unseal_json(value: Any) -> dict[str, Any]:
    """Return what was sealed.

    Raises:
        ValueError: if it is no object or does not fit its digest.
    """
    if not isinstance(value, dict):
        raise ValueError("a JSON object is needed")
    content = {name: part for name, part in value.items() if name != "xxh3"}
    if value.get("xxh3") != _digest(content):
        raise ValueError("does not fit its digest; it was changed or damaged")
    return content


def _digest(value: Mapping[str, Any]) -> str:
    return digest(json.dumps(value, sort_keys=True).encode())
