"""Pickles of a stranger, as far as they are plain values: no name in them is looked up.

Python's own unpickler in C would import what a pickle names, and make room for what it claims. The
one in Python keeps its steps in a table, and here the table has those of plain values alone.
"""

import io
import pickle
import struct
from pathlib import Path
from typing import Any

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.strict_json import LARGEST

_PLAIN = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "NONE", "NEWTRUE", "NEWFALSE"),
    *("INT", "BININT", "BININT1", "BININT2", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"),
    *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"),
)
_STEPS = [getattr(pickle, name)[0] for name in _PLAIN]
_FAULTS: tuple[type[Exception], ...] = (pickle.UnpicklingError, struct.error, EOFError, OSError)
_FAULTS += (ValueError, TypeError, LookupError, AttributeError)


class _Plain(pickle._Unpickler):
    dispatch = {step: pickle._Unpickler.dispatch[step] for step in _STEPS}


def read_plain_pickle(file: Path) -> list[Any]:
    """Return the list in a file; raise `SourceError` if it holds anything but plain values."""
    try:
        found = _Plain(io.BytesIO(read_file(file, most=LARGEST)), encoding="utf-8").load()
    except KeyError as step:
        reason = f"its step {step} makes more than lists, objects, texts and numbers"
    except _FAULTS as error:
        reason = f"{type(error).__name__}: {error}"
    else:
        reason = "" if isinstance(found, list) else f"found {type(found).__name__}"
    if reason:
        raise SourceError(
            f"{file}: no plain list of questions ({reason}). Do not open it by `pickle.load`, "
            "which would run what it names: get it anew, or put it there as JSON, ending in .json."
        )
    return found
