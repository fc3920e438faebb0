"""Ctrl-C and SIGTERM during a training: obeyed where the training can go on from later."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asked for an end; no `except Exception` may swallow it."""


class Stop:
    """Notes a signal, to be raised as `Stopped` by the next `check`; a second one acts at once.

    Attributes:
        number: The signal; None before one has come.
        obeyed: What another rank has had.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.obeyed: int | None = None
        self._before: dict[int, Any] = {}
        self._anywhere = False

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.number is not None:
            raise Stopped

    def obey(self, number: int) -> None:
        """Raise `Stopped` for a signal that all ranks know of; 0 is none."""
        if number:
            self.obeyed = number
            raise Stopped

    @contextmanager
    def anywhere(self) -> Iterator[None]:
        """Let a signal raise `Stopped` wherever the block is: for what changes nothing."""
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
                # What is ignored stays so, as under nohup.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back, and send the one that came to whom it would have reached."""
        self._restore()
        number = self.number or self.obeyed
        if number is not None:
            signal.raise_signal(number)
            sys.exit(128 + number)  # it reached nobody who cared

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
