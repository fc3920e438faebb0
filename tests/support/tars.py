"""WebDatasets for tests: tar files of pictures and texts, whole and forged."""

import io
import json
import tarfile
from collections.abc import Iterable
from typing import Any

from tests.support.frozen import picture

Member = tuple[str, bytes]


def tar_of(members: Iterable[Member | tarfile.TarInfo], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """Return a tar of files; a `TarInfo` stands for one without content."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as tar:
        for one in members:
            if isinstance(one, tarfile.TarInfo):
                tar.addfile(one)
            else:
                info = tarfile.TarInfo(one[0])
                info.size = len(one[1])
                tar.addfile(info, io.BytesIO(one[1]))
    return data.getvalue()


def sample(number: int, found: Any = None, **more: bytes) -> list[Member]:
    """Return a picture, and a json with a question or with what was found."""
    text = {"question": f"what is {number}?", "answer": "it"} if found is None else found
    parts = {"png": picture(number), "json": json.dumps(text).encode(), **more}
    return [(f"{number:04d}.{ending.replace('_', '.')}", data) for ending, data in parts.items()]


def shard(numbers: Iterable[int], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """Return a shard of samples with these numbers."""
    return tar_of([member for number in numbers for member in sample(number)], form)
