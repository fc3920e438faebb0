"""Files that a library opens by itself, in folders of models and data sets from anybody.

It would wait for a pipe and read a device for ever, so they are looked at before.
"""

import io
from pathlib import Path

from frozen_vqa.cache.disk.files import memory_bytes, require_regular, require_regular_below
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.typed_json import finite_json

TEXTS = (".csv", ".tsv", ".json", ".jsonl", ".txt", ".xml", ".model", ".jinja")
"""Endings of files that are read whole."""
CARDS = ("README.md", "dataset_infos.json")
LARGEST_CARD = 16 << 20
"""Bytes that are read of a file that only describes others."""
LARGEST_HEADER = 100_000_000
"""Of .safetensors; their library takes no longer one."""


def require_library_files(
    place: Path, error: type[Exception], *, largest_text: int | None = None
) -> None:
    """Raise `error` for a pipe, a device or too large a text, in a folder or as a single file.

    `largest_text` is in bytes, and None is what the memory holds.
    """
    texts = dict.fromkeys(TEXTS, largest_text or memory_bytes())
    cards = dict.fromkeys((".md", ".yaml"), LARGEST_CARD)
    try:
        if place.is_dir():
            require_regular_below(place, texts | cards)
            return
        require_regular(place, place.stat())
        for name in CARDS:  # they may describe a single file beside them
            if (card := path_in(place.parent, name)).exists():
                require_regular(card, card.stat(), most=LARGEST_CARD)
    except OSError as found:
        raise error(
            f"{found.filename}: {found.strerror}, and a file that can be read whole is needed "
            f"there. Move it elsewhere, or give another folder."
        ) from None


def read_safetensors_header(file: io.FileIO) -> tuple[bytes, int | None]:
    """Return what a .safetensors file begins with, and of how many bytes that tells; None: of none.

    A file may be longer, such as one of zeros, and would be mapped or read whole.
    """
    length = int.from_bytes(file.read(8), "little")
    file.seek(0)
    head = file.read(8 + min(length, LARGEST_HEADER))
    try:
        tensors = [part for name, part in finite_json(head[8:]).items() if name[:2] != "__"]
        return head, 8 + length + max((int(one["data_offsets"][1]) for one in tensors), default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return head, None
