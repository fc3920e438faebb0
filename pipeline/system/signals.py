"""Ctrl-C and SIGTERM during a training: obeyed where the training can resume later."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asked for an end; `except Exception` does not catch it."""


class Stop:
    """Notes a signal, which the next `check` raises as `Stopped`; a second one acts at once."""

    def __init__(self) -> None:
        self.number: int | None = None  # the signal that has come
        self.obeyed: int | None = None  # that of another rank
        self._before: dict[int, Any] = {}
        self._anywhere = False

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.number is not None:
            raise Stopped

    def obey(self, number: int) -> None:
        """Raise `Stopped` for a signal that all ranks agree on; 0 is none."""
        if number:
            self.obeyed = number
            raise Stopped

    @contextmanager
    def anywhere(self) -> Iterator[None]:
        """Let a signal raise `Stopped` anywhere in the block, which must change nothing."""
        self._anywhere = True
        try:
            self.check()
            yield
        finally:
            self._anywhere = False

    def _note(self, number: int, _: FrameType | None) -> None:
        again, self.number = self.number is not None, number
        if again:
            self._restore()
            signal.raise_signal(number)
        if self._anywhere:
            raise Stopped

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():  # only there it is allowed
            for number in SIGNALS:
                # An ignored signal stays ignored, as under nohup.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the handlers before, and send them the signal that came."""
        self._restore()
        number = self.number or self.obeyed
        if number is not None:
            signal.raise_signal(number)
            sys.exit(128 + number)  # the handler before did not end the process

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
