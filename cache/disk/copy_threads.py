"""A few threads that copy rows side by side; Python's lock is free while they copy and hash."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

MOST = 4
"""Threads, the caller's included; a few saturate the memory."""

BYTES_PER_THREAD = 1 << 20
"""With fewer bytes for each thread, handing them over takes longer than copying them."""


class CopyThreads:
    """Splits work among the caller and a few threads, which end with this object."""

    def __init__(self) -> None:
        self._others = min(MOST, os.cpu_count() or 1) - 1
        self._threads: ThreadPoolExecutor | None = None
        self._process = 0

    def each(self, do: Callable[[Sequence[T]], None], work: Sequence[T], *, nbytes: int) -> None:
        """Call `do` with pieces of the work, which copies `nbytes` in all, and wait for all."""
        pieces = min(1 + self._others, len(work), nbytes // BYTES_PER_THREAD)
        if pieces < 2:
            do(work)
            return
        if self._threads is None or self._process != os.getpid():  # a fork has no threads
            self._process = os.getpid()
            self._threads = ThreadPoolExecutor(self._others, thread_name_prefix="copy")
        edges = [len(work) * i // pieces for i in range(pieces + 1)]
        others = [self._threads.submit(do, work[a:b]) for a, b in pairwise(edges[1:])]
        try:
            do(work[: edges[1]])
        finally:
            wait(others)  # whatever happened here, nobody writes into the buffer any more
        for other in others:
            other.result()
