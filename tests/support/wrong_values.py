"""Every field of a JSON file in turn with every wrong value, as a stranger may write it."""

import copy
from collections.abc import Iterator
from typing import Any

EXTRA, MISSING = "an extra field", "missing"
VALUES: dict[str, Any] = {
    **{"null": None, "true": True, "-1": -1, "0": 0, "1.5": 1.5, "2**63": 2**63, "1e308": 1e308},
    **{"10**400": 10**400, "empty": "", "text": "x", "NUL": "\0", "escape": "\u202e\x1b[2J"},
    **{"half": "\ud800", "path": "../../x", "long": "x" * 5000, "list": [], "object": {}},
    **{"texts": ["x"], "nested": [[[[1]]]], "deep": None, "named": {"x": {"\x1b[2J": [None]}}},
}
for _ in range(200):
    VALUES["deep"] = [VALUES["deep"]]

Place = tuple[str | int, ...]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Yield where each field of JSON stands, and the first item of each list."""
    yield at
    if isinstance(value, dict):
        for key, part in value.items():
            yield from places(part, (*at, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*at, 0))


def forgeries(body: Any, every: int = 1) -> Iterator[tuple[str, Any]]:
    """Yield each forged content with its name; only one of `every` many, all places in turn."""
    count = 0
    for at in places(body):
        names = [*VALUES, MISSING, EXTRA] if at else [*VALUES, EXTRA]
        for name in names:
            count += 1
            if count % every:
                continue
            forged = _forge(body, at, name)
            if forged is not None:
                yield f"{'.'.join(map(str, at)) or 'all'}: {name}", forged[0]


def _forge(body: Any, at: Place, name: str) -> tuple[Any] | None:
    """Return the forged content in a tuple of one, None if it cannot be made."""
    if not at:
        return (
            ({**body, "x": 1},)
            if name == EXTRA and isinstance(body, dict)
            else (None if name == EXTRA else (VALUES[name],))
        )
    forged = copy.deepcopy(body)
    holder: Any = forged
    for key in at[:-1]:
        holder = holder[key]
    if name == MISSING:
        del holder[at[-1]]
    elif name != EXTRA:
        holder[at[-1]] = VALUES[name]
    elif isinstance(holder, dict):
        holder[f"{at[-1]} too"] = holder[at[-1]]
    else:
        holder.append(holder[at[-1]])
    return (forged,)
