"""How fast stage one was: shown while it runs, and kept in CACHE/extractions.jsonl.

Each run that stores something appends one line. The file is a log and no part of the cache: no
digest pins it, no reader of features looks at it, and lines that cannot be read are skipped.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self, get_args

from frozen_vqa.cache.disk.files import read_file, write_atomically
from frozen_vqa.cache.errors import CacheError
from frozen_vqa.cache.format.manifest import Manifest
from frozen_vqa.cache.format.records.files import ShardKind
from frozen_vqa.cache.format.small_files import LOG
from frozen_vqa.cache.typed_json import decode
from frozen_vqa.cache.writer import own_cache
from frozen_vqa.pipeline.sources.strict_json import parse_json
from frozen_vqa.pipeline.system.console import Advance
from frozen_vqa.pipeline.watch.figures import Values

LARGEST_LOG = 16 << 20
"""Bytes of the log that are read; a line has about 500."""

Phase = Literal["encoding", "waiting", "reading", "writing"]
PHASES: tuple[Phase, ...] = get_args(Phase)


class PhaseTimer:
    """Measures how long each phase of one loop takes; any thread may use it.

    "encoding" and "waiting" are the main thread's: the encoders work, or something keeps them from
    it. "reading" is the sum over the threads that read pictures, "writing" that over the threads
    that build shards and write them. Both run beside the encoding. `advance` gets each phase's
    share of the time so far.
    """

    def __init__(self, advance: Advance = lambda *_, **__: None) -> None:
        self.seconds: dict[Phase, float] = dict.fromkeys(PHASES, 0.0)
        self._advance = advance
        self.wall = 0.0  # seconds of the whole loop, once it is over
        self._started = time.monotonic()
        self._lock = threading.Lock()

    @contextmanager
    def measure(self, phase: Phase) -> Iterator[None]:
        """Add the time of the block to a phase."""
        started = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[phase] += time.monotonic() - started

    def stop(self) -> None:
        """Note that the loop is over."""
        self.wall = time.monotonic() - self._started

    def advance(self, count: int, *, note: str = "") -> None:
        """Show that `count` more rows are done."""
        shares = format_shares(self.seconds, time.monotonic() - self._started)
        self._advance(count, note=f"{shares}, {note}" if note else shares)


def format_shares(seconds: Mapping[Phase, float], of: float) -> str:
    """Return the share of each phase in percent: 'encoding 93 %, waiting 4 %, ...'."""
    return ", ".join(f"{name} {100 * seconds[name] / max(of, 1e-9):.0f} %" for name in PHASES)


@dataclass(frozen=True)
class NodeThroughput:
    """What one node of a cluster did in a run.

    Attributes:
        node: Its name for people.
        workers: Most workers that it had at once.
        lost: Workers that died there.
        seconds: From its first worker to its last chunk.
        encoding, waiting, reading, writing: Seconds of all its workers, as of `PhaseTimer`.
    """

    node: str
    device: str
    workers: int
    lost: int
    chunks: int
    pictures: int
    questions: int
    seconds: float
    encoding: float
    waiting: float
    reading: float
    writing: float


@dataclass(frozen=True)
class Left:
    """What an extraction has yet to store."""

    rows: Mapping[ShardKind, int]
    chunks: Mapping[ShardKind, int]
    waiting: int  # chunks that are made and wait for one before them


@dataclass(frozen=True)
class Throughput:
    """A line of the log: one run of `extract-features`.

    Attributes:
        started: UTC, ISO 8601.
        seconds: From the start to the last shard.
        pictures, questions: The distinct ones that this run stored, all ranks together.
        images_per_second, questions_per_second: These numbers over the time that each kind took.
        encoding, waiting, reading, writing: Seconds of the first rank, as `PhaseTimer` counts them;
            of a cluster those of an average worker.
        batch_size: Pictures per batch at the end.
        ranks: Processes that encoded.
        nodes: Of a cluster, what each node did.
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
    nodes: Sequence[NodeThroughput] = ()

    @classmethod
    def measure(
        cls,
        before: Manifest,
        now: Manifest,
        timers: Mapping[ShardKind, PhaseTimer],
        *,
        began: datetime,
        seconds: float,
        batch_size: int,
        device: str,
        ranks: int,
    ) -> Self:
        """Return what has been stored since `before` in so many seconds."""
        pictures = now.image_rows - before.image_rows
        questions = now.question_rows - before.question_rows
        images, texts = timers["images"], timers["questions"]
        return cls(
            started=began.isoformat(timespec="seconds"),
            seconds=seconds,
            pictures=pictures,
            questions=questions,
            images_per_second=pictures / images.wall if images.wall else 0.0,
            questions_per_second=questions / texts.wall if texts.wall else 0.0,
            **{phase: images.seconds[phase] + texts.seconds[phase] for phase in PHASES},
            batch_size=batch_size,
            device=device,
            ranks=ranks,
            torch=version("torch"),
            transformers=version("transformers"),
            nodes=(),
        )

    @property
    def stored(self) -> bool:
        """Whether this run has stored anything."""
        return bool(self.pictures or self.questions)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON, times to the millisecond."""
        nodes = {"nodes": [_rounded(node) for node in self.nodes]} if self.nodes else {}
        return {k: v for k, v in _rounded(self).items() if k != "nodes"} | nodes

    def figures(self, left: Left, cache: Manifest, workers: Mapping[str, int]) -> Values:
        """Return all that Prometheus is told.

        `workers` are those of each node that work now; a run without a cluster has the node "".
        """
        timed: list[tuple[str, Throughput | NodeThroughput]]
        timed = [("", self)] if "" in workers else [(one.node, one) for one in self.nodes]

        def by_node(field: str) -> Mapping[tuple[str, ...], float]:
            return {(node.node,): getattr(node, field) for node in self.nodes}

        return {
            "extract_pictures_total": self.pictures,
            "extract_questions_total": self.questions,
            "extract_pictures_left": left.rows["images"],
            "extract_questions_left": left.rows["questions"],
            "extract_chunks_left": {(kind,): count for kind, count in left.chunks.items()},
            "extract_chunks_waiting": left.waiting,
            "extract_unreadable_pictures": sum(not one.split for one in cache.failures),
            "extract_cache_bytes": cache.bytes,
            "extract_phase_seconds_total": {
                (phase, node): getattr(one, phase) for node, one in timed for phase in PHASES
            },
            "extract_workers": {(node,): count for node, count in workers.items()},
            "extract_workers_lost_total": by_node("lost"),
            "extract_node_pictures_total": by_node("pictures"),
            "extract_node_questions_total": by_node("questions"),
            "extract_node_chunks_total": by_node("chunks"),
        }

    def __str__(self) -> str:
        """Return rates, shares, batch size and device as one line for people."""
        seconds = {phase: getattr(self, phase) for phase in PHASES}
        rates = f"{self.images_per_second:,.1f} images/s" if self.pictures else ""
        if self.questions:
            rates += f"{', ' if rates else ''}{self.questions_per_second:,.1f} questions/s"
        return (
            f"{rates}; {format_shares(seconds, self.seconds)} of {self.seconds:.1f} s; "
            f"batches of {self.batch_size} on {self.device}"
        )


def _rounded(facts: Throughput | NodeThroughput) -> dict[str, Any]:
    return {k: round(v, 3) if type(v) is float else v for k, v in vars(facts).items()}


def append_throughput(cache: Path, throughput: Throughput) -> None:
    """Append a line to the log of a cache, if it can be written and is ours."""
    line = json.dumps(throughput.to_json()).encode() + b"\n"
    with suppress(OSError, CacheError):
        own_cache(cache).note(LOG)
        try:
            before = read_file(cache / LOG, most=LARGEST_LOG, follow=False)
        except FileNotFoundError:
            before = b""
        cut = before and not before.endswith(b"\n")
        # Whole and anew, because a copy of the cache may share the file with it, as a hard link.
        write_atomically(cache / LOG, before + (b"\n" if cut else b"") + line)


def read_throughputs(cache: Path, last: int) -> list[Throughput]:
    """Return the last lines of the log; lines that are not of this format are skipped."""
    try:
        lines = read_file(cache / LOG, most=LARGEST_LOG).splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        with suppress(ValueError, TypeError):
            found.append(decode(Throughput, parse_json(line.decode())))
    return found[-last:]
