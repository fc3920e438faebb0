"""Saves while a training goes on: a copy of its tensors, which a thread writes.

Only the copy holds the training up: on a CPU one pass over memory, and on a GPU nothing but orders
to its copy engine, which run between two steps of the stream that trains. One save is written at a
time, so files come in the order in which they were asked for.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from frozen_vqa.pipeline.system.device import free_memory
from frozen_vqa.pipeline.system.pinned import pinned_empty

THREAD = "saves"
"""How the names of the threads begin."""

SHARE = 0.01
"""Share of a training's time that its saves may take."""

FREE_SHARE = 0.5
"""Share of the free memory that a copy may take; without room for one, a save has no thread."""


class Saver:
    """Writes tensors as they are now, while later steps change them.

    What a thread raises is raised by the next `check` or `wait`.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None
        self._room: dict[str, Tensor] = {}  # for all copies, because new memory is slow
        self.cost = 0.0
        """Seconds that the last save took from the training: in which it waited for the copy, and
        of the processor's time in the thread, because that may be a core that trains."""

    @property
    def pause(self) -> float:
        """Seconds between two saves in which training is to go on."""
        return self.cost / SHARE

    @property
    def busy(self) -> bool:
        """Whether a save is still being written."""
        return self._running is not None and not self._running.done()

    def check(self) -> None:
        """Raise what a save has failed with."""
        if not self.busy:
            self.wait()

    def wait(self) -> None:
        """Wait until all is written, and raise what that has failed with."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def close(self) -> None:
        """Wait until nothing is written any more, whether it fails or not."""
        if self._thread is not None:
            self._thread.shutdown()

    def save(
        self,
        tensors: Mapping[str, Tensor],
        write: Callable[[Mapping[str, Tensor]], None],
        *,
        behind: bool,
    ) -> None:
        """Call `write` with tensors; `behind` calls it in a thread if there is room for a copy.

        Raises what an earlier save has failed with, and what `write` raises in this thread.
        """
        began = time.perf_counter()
        self.wait()  # files come in order
        copied = self._copy(tensors) if behind else None
        if copied is None:
            write(tensors)
            if behind:
                self.cost = time.perf_counter() - began
            return
        held = time.perf_counter() - began
        copies, event = copied

        def work() -> None:
            used = time.thread_time()
            if event is not None:
                event.synchronize()
            write(copies)
            self.cost = held + time.thread_time() - used

        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix=THREAD)
        self._running = self._thread.submit(work)

    def _copy(
        self, tensors: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], torch.cuda.Event | None] | None:
        """Return copies in memory, and the event after which a GPU has made them; None if no room.

        Copies from a GPU come behind the step that has been asked for and before the next one.
        """
        missing = {name: one for name, one in tensors.items() if not _fits(self._room, name, one)}
        free = free_memory()
        if free is not None and sum(one.nbytes for one in missing.values()) > FREE_SHARE * free:
            self._room.clear()
            return None
        for name, one in missing.items():
            self._room[name] = (pinned_empty if one.is_cuda else torch.empty)(
                one.shape, dtype=one.dtype
            )
        copies = {
            name: self._room[name].copy_(one.detach(), non_blocking=one.is_cuda)
            for name, one in tensors.items()
        }
        gpu = next((one.device for one in tensors.values() if one.is_cuda), None)
        return copies, None if gpu is None else torch.cuda.current_stream(gpu).record_event()


def _fits(room: Mapping[str, Tensor], name: str, tensor: Tensor) -> bool:
    return name in room and room[name].shape == tensor.shape and room[name].dtype == tensor.dtype
