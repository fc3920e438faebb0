"""Names of splits: other names of the same split, and the nearest name to a mistyped one."""

import difflib
from collections.abc import Collection

_SPLIT_NAMES = (
    ("train", "training"),
    ("val", "validation", "valid", "dev"),
    ("test-dev", "testdev", "test_dev"),
    ("test", "testing"),
)


def split_like(split: str, known: Collection[str]) -> str | None:
    """Return the one of `known` that `split` means: the same name, or another usual name of it.

    "val" finds "validation", and "test-dev" finds "testdev".
    """
    if split in known:
        return split
    names = next((names for names in _SPLIT_NAMES if split in names), ())
    found = [name for name in known if name in names]
    return found[0] if len(found) == 1 else None


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return " Did you mean …?" with the nearest known name, or nothing."""
    near = split_like(name, known) or next(iter(difflib.get_close_matches(name, known, n=1)), None)
    return f" Did you mean {near!r}?" if near else ""
