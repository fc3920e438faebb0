"""Values that a stranger may write in the place of any other, and changes that put them there."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Key = str | int
Place = Sequence[Key]
Edit = Callable[[Path, Callable[[Any], object]], object]
"""Opens a file, lets a function change its content, and writes it again, sealed as it has to be."""


def _deep(depth: int = 500) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "a list": [],
    "an object": {},
    "NaN": float("nan"),
    "infinity": float("inf"),
    "1e308": 1e308,
    "-1": -1,
    "0": 0,
    "a half": 0.5,
    "2**40": 2**40,
    "2**63": 2**63,
    "10**400": 10**400,
    "no text": "",
    "a path": "../secret/file",
    "an absolute path": "/etc/hostname",
    "a NUL": "a\0b",
    "an escape": "\x1b]0;owned\x07\x1b[2J\u202e",
    "half of a pair": "\ud83d",
    "a long text": "x" * 500_000,
    "a deep list": _deep(),
}


def set_at(value: Any, place: Place, new: Any) -> None:
    """Put a value at a place of nested lists and objects."""
    for key in place[:-1]:
        value = value[key]
    value[place[-1]] = new


def remove_at(value: Any, place: Place) -> None:
    """Take away what is at a place."""
    for key in place[:-1]:
        value = value[key]
    del value[place[-1]]


def forgeries(
    file: str, places: Iterable[Place], edit: Edit, *, each: int, first: int = 0
) -> dict[str, Callable[[Path], object]]:
    """Return changes of a file: at each place, `each` of the values above in turn, or nothing."""
    names = itertools.cycle(["missing", *VALUES])
    for _ in range(first):
        next(names)
    return {
        f"{file}: {'.'.join(map(str, place))} is {name}": _change(file, place, name, edit)
        for place in places
        for name in itertools.islice(names, each)
    }


def _change(file: str, place: Place, name: str, edit: Edit) -> Callable[[Path], object]:
    def put(value: Any) -> None:
        if name == "missing":
            remove_at(value, place)
        else:
            set_at(value, place, VALUES[name])

    return lambda folder: edit(folder / file, put)


def below(place: Place, names: Iterable[Key]) -> list[Place]:
    """Return the places of these names below a place."""
    return [(*place, name) for name in names]


def edit_plain(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file that carries no digest."""
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value))


def written(file: str, contents: Mapping[str, str | bytes]) -> dict[str, Callable[[Path], object]]:
    """Return changes that write another content to a file."""

    def write(content: str | bytes) -> Callable[[Path], object]:
        data = content if isinstance(content, bytes) else content.encode(errors="surrogatepass")
        return lambda folder: (folder / file).write_bytes(data)

    return {f"{file}: {name}": write(content) for name, content in contents.items()}


TEXTS: dict[str, str | bytes] = {
    "nothing": "",
    "spaces": " \n \n",
    "binary": bytes(range(256)),
    "NUL": "\0" * 100,
    "a list": "[]",
    "a number": "1",
    "null": "null",
    "NaN": "NaN",
    "a number of 5,000 digits": "9" * 5000,
    "half of a pair": '"\\ud83d"',
    "200,000 brackets": "[" * 200_000,
    "200,000 braces": '{"a":' * 200_000,
    "keys twice": '{"a": 1, "a": 2}',
    "a byte order mark": "\ufeff{}",
    "UTF-16": "{}".encode("utf-16"),
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "escapes": "\x1b]0;owned\x07\x1b[2J",
    "one long line": "x" * (5 << 20),
}
"""Contents that a file of text may have."""


def replaced(files: Iterable[str]) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Yield changes that put each special thing in the place of each file or folder."""
    from tests.support.forged import SPECIAL, replace_by

    for file, kind in itertools.product(files, SPECIAL):
        yield f"{file} is {kind}", lambda place, f=file, k=kind: replace_by(k)(place / f)
