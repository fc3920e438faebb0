"""How fast stage one was: shown while it runs, and kept in CACHE/extractions.jsonl.

One line a run that stored something. It is a log and no part of the cache: no digest pins it, no
reader of features looks at it, and what cannot be written or read of it is passed over.
"""

import json
import math
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.cache.format.manifest import ShardKind
from frozen_vqa.pipeline.system.console import Advance

NAME = "extractions.jsonl"
LARGEST = 16 << 20
"""Bytes of the log that are read; a line has half a thousand."""

Part = Literal["encoding", "waiting", "reading", "writing"]
PARTS: tuple[Part, ...] = ("encoding", "waiting", "reading", "writing")


def untold(*_: object, **__: object) -> None:
    """Stand for an `Advance` when nobody watches."""


class Pace:
    """Where the time of one loop goes; any thread may add to it.

    "encoding" and "waiting" are the main thread's: the encoders at work, and kept from it.
    "reading" is the sum over the threads that read pictures, "writing" that of the one that builds
    shards and writes them; both go on beside the encoding.

    Args:
        advance: Told of every batch, with the split of the time so far.
    """

    def __init__(self, advance: Advance = untold) -> None:
        self.seconds: dict[Part, float] = dict.fromkeys(PARTS, 0.0)
        self._advance = advance
        self._started = self._ended = time.monotonic()
        self._lock = threading.Lock()

    @contextmanager
    def on(self, part: Part) -> Iterator[None]:
        """Count the time of a block."""
        started = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[part] += time.monotonic() - started

    @property
    def wall(self) -> float:
        """Seconds from the beginning of the loop to its end."""
        return self._ended - self._started

    def end(self) -> None:
        """Note that the loop is over."""
        self._ended = time.monotonic()

    def advance(self, count: int, *, note: str = "") -> None:
        """Tell that `count` more are done."""
        split = shares(self.seconds, time.monotonic() - self._started)
        self._advance(count, note=f"{split}, {note}" if note else split)


def shares(seconds: dict[Part, float], of: float) -> str:
    """Return each part of some time in percent: 'encoding 93 %, waiting 4 %, ...'."""
    return ", ".join(f"{part} {100 * seconds[part] / max(of, 1e-9):.0f} %" for part in PARTS)


@dataclass(frozen=True)
class Extraction:
    """A line of the log: one run of `extract-features`.

    Attributes:
        started: UTC, ISO 8601.
        seconds: From start to last shard.
        pictures: Stored by this run, all ranks together.
        questions: Distinct ones, likewise.
        images_per_second: Of the time that pictures took.
        questions_per_second: Of the time that questions took.
        encoding: Seconds that the first rank's encoders worked.
        waiting: Seconds that they were kept from it, by reading or by writing.
        reading: Seconds of its reading threads, added up.
        writing: Seconds of its writing thread.
        batch_size: Pictures per batch at the end.
        device: Of the encoders.
        ranks: Processes.
        torch: Version.
        transformers: Version.
    """

    started: str
    seconds: float
    pictures: int
    questions: int
    images_per_second: float
    questions_per_second: float
    encoding: float
    waiting: float
    reading: float
    writing: float
    batch_size: int
    device: str
    ranks: int
    torch: str
    transformers: str

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is float and type(value) is int:
                value = float(value)
                object.__setattr__(self, field.name, value)
            if type(value) is not field.type:
                raise TypeError(f"{field.name} is {value!r:.60}")
            if field.type is float and not math.isfinite(value):
                raise ValueError(f"{field.name} is {value}")

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON, times to the millisecond."""
        return {k: round(v, 3) if type(v) is float else v for k, v in asdict(self).items()}

    def __str__(self) -> str:
        """Return what a person wants to know of it."""
        seconds = {part: getattr(self, part) for part in PARTS}
        rates = f"{self.images_per_second:,.1f} images/s" if self.pictures else ""
        if self.questions:
            rates += f"{', ' if rates else ''}{self.questions_per_second:,.1f} questions/s"
        return (
            f"{rates}; {shares(seconds, self.seconds)} of {self.seconds:.1f} s; "
            f"batches of {self.batch_size} on {self.device}"
        )


def measured(
    paces: Mapping[ShardKind, Pace],
    pictures: int,
    questions: int,
    *,
    began: datetime,
    seconds: float,
    batch_size: int,
    device: str,
    ranks: int,
) -> Extraction | None:
    """Return how fast a run was that has stored so many; None if it has stored nothing."""
    if not pictures + questions:
        return None
    images, texts = paces["images"], paces["questions"]
    return Extraction(
        started=began.isoformat(timespec="seconds"),
        seconds=seconds,
        pictures=pictures,
        questions=questions,
        images_per_second=pictures / images.wall if images.wall else 0.0,
        questions_per_second=questions / texts.wall if texts.wall else 0.0,
        **{part: images.seconds[part] + texts.seconds[part] for part in PARTS},
        batch_size=batch_size,
        device=device,
        ranks=ranks,
        torch=version("torch"),
        transformers=version("transformers"),
    )


def log(cache: Path, extraction: Extraction | None) -> None:
    """Append a line to the log of a cache, if there is one and it can be written."""
    if extraction is None:
        return
    line = json.dumps(extraction.to_json()).encode() + b"\n"
    path = cache / NAME
    with suppress(OSError):
        # As everywhere in a cache: no link is followed, no pipe waited for.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        handle = os.open(path, flags, 0o666)
        try:
            found = os.fstat(handle)
            if stat.S_ISREG(found.st_mode):
                cut = found.st_size and os.pread(handle, 1, found.st_size - 1) != b"\n"
                os.write(handle, b"\n" + line if cut else line)
        finally:
            os.close(handle)


def logged(cache: Path, last: int) -> list[Extraction]:
    """Return the last lines of the log; what is not one of ours is passed over."""
    try:
        lines = read_file(cache / NAME, most=LARGEST).splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        with suppress(ValueError, TypeError, RecursionError):
            found.append(Extraction(**json.loads(line)))
    return found[-last:]
