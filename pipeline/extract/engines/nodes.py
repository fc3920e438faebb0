"""What each node has done: for the line of progress, and for the log."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from frozen_vqa.cache.format.records.files import ShardKind
from frozen_vqa.pipeline.extract.speed.throughput import PHASES, NodeThroughput, Phase

SHOWN = 3
"""Nodes that the line of progress names, those with the most work first."""


@dataclass
class _Node:
    device: str
    since: float
    until: float
    workers: int = 0
    most: int = 0
    lost: int = 0
    chunks: int = 0
    rows: Counter[ShardKind] = field(default_factory=Counter)
    seconds: Counter[Phase] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        return sum(self.rows.values()) / max(self.until - self.since, 1e-9)


class Nodes:
    """Counts workers, chunks and rows by the name of a node."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}

    def joined(self, name: str, device: str) -> None:
        """Count one more worker."""
        now = time.monotonic()
        node = self._nodes.setdefault(name, _Node(device, now, now))
        node.workers += 1
        node.most = max(node.most, node.workers)

    def lost(self, name: str) -> None:
        """Count one worker less."""
        self._nodes[name].workers -= 1
        self._nodes[name].lost += 1

    def did(self, name: str, kind: ShardKind, rows: int, seconds: Mapping[Phase, float]) -> None:
        """Count a chunk, and the seconds of its phases."""
        node = self._nodes[name]
        node.until = time.monotonic()
        node.chunks += 1
        node.rows[kind] += rows
        node.seconds.update(dict(seconds))

    def note(self) -> str:
        """Return workers and rates for the line of progress."""
        there = {name: node for name, node in self._nodes.items() if node.workers}
        most = sorted(there, key=lambda name: -there[name].rate)
        parts = [f"{name} {there[name].rate:,.1f}/s" for name in most[:SHOWN]]
        more = [f"{len(most) - SHOWN} more"] if len(most) > SHOWN else []
        workers = sum(node.workers for node in there.values())
        return f"workers {workers}, nodes {len(there)}: {', '.join([*parts, *more])}"

    def alive(self) -> dict[str, int]:
        """Return how many workers each node has now; another thread may ask."""
        return {name: node.workers for name, node in dict(self._nodes).items()}

    def measured(self) -> dict[str, Any]:
        """Return what `Throughput` says of a run by these nodes; seconds are a worker's average."""
        nodes = dict(self._nodes)  # another thread may ask
        workers = sum(node.most for node in nodes.values())
        total = sum((node.seconds for node in nodes.values()), Counter[Phase]())
        return {
            **{phase: total[phase] / max(1, workers) for phase in PHASES},
            "device": ", ".join(dict.fromkeys(node.device for node in nodes.values())),
            "ranks": workers,
            "nodes": [
                NodeThroughput(
                    node=name,
                    device=node.device,
                    workers=node.most,
                    lost=node.lost,
                    chunks=node.chunks,
                    pictures=node.rows["images"],
                    questions=node.rows["questions"],
                    seconds=node.until - node.since,
                    **{phase: node.seconds[phase] for phase in PHASES},
                )
                for name, node in nodes.items()
            ],
        }
