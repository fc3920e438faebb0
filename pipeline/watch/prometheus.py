"""The file of `--prometheus`: what a run does, for the textfile collector of node_exporter.

A file and no port, because it needs no open door, works alike on a laptop, under Slurm and in a
container, and still holds the last figures when the run is over. A thread writes it anew every
`EVERY` seconds, so a file that grows old says that the process is gone, and figures that stand
still say that the work hangs.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.disk.folders import require_own_file
from frozen_vqa.cache.errors import explain_write_errors
from frozen_vqa.pipeline.errors import ConfigError, PipelineError
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import count_in_environment
from frozen_vqa.pipeline.system.ranks import by_torchrun
from frozen_vqa.pipeline.system.texts import printable
from frozen_vqa.pipeline.watch.figures import FIGURES, PREFIX, Values

EVERY = 10.0
"""Seconds between two writes; Prometheus itself asks every 15 to 60."""

FIRST_LINE = b"# Written by frozen-vqa --prometheus, which replaces this file.\n"


class Part:
    """A part of the run whose figures are in the file, if there is one.

    `figures` is called from another thread, until the part has ended; then its last figures stay.

    Args:
        folder: The label `folder`; None for that of the command.
    """

    def __init__(self, figures: Callable[[], Values], folder: Path | None = None) -> None:
        self.folder, self._figures = folder, figures
        if _open_files:
            _open_files[-1].parts.append(self)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.end()

    def values(self) -> Values:
        """Return the figures as they are now."""
        return self._figures()

    def end(self) -> None:
        """Keep the figures as they are, and nothing that they are read from."""
        last = self._figures() if _open_files else {}
        self._figures = lambda: last


class _File:
    """One file and the figures that belong into it."""

    def __init__(self, path: Path, command: str, folder: Path | str) -> None:
        self.path, self.parts = path, list[Part]()
        self.running, self.succeeded = True, False
        self._command, self._folder, self._began = command, folder, time.time()

    def write(self) -> None:
        """Write all figures; raise `PipelineError` if the file is not ours or cannot be written."""
        data = FIRST_LINE + _render(self._samples())
        require_own_file(self.path, is_ours, PipelineError, "--prometheus")
        with explain_write_errors(
            self.path, PipelineError, "Make room or give another --prometheus."
        ):
            write_atomically(self.path, data, lasting=False)

    def _samples(self) -> Iterator[tuple[str, Values]]:
        """Yield figures, each with its label `folder`."""
        own: tuple[str, ...] = (self._command,)
        about = {
            "running": float(self.running),
            "succeeded": float(self.succeeded),
            "start_time_seconds": self._began,
        }
        yield _label(self._folder), {name: {own: value} for name, value in about.items()}
        for part in list(self.parts):
            yield _label(part.folder or self._folder), part.values()


_open_files: list[_File] = []
"""The file of this process, if it has one; a run writes at most one."""


def is_ours(found: bytes) -> bool:
    """Whether a file's bytes were written here."""
    return found.startswith(FIRST_LINE)


@contextmanager
def prometheus_file(path: Path | None, command: str, folder: Path | str) -> Iterator[None]:
    """Keep the figures of the block in a file; only the first rank of `torchrun` does.

    The block goes on if a later write fails, with a warning.

    Args:
        path: The file; None does without.
        command: The label of the figures about the command.
        folder: The label `folder` of most figures: what the command makes.

    Raises:
        ConfigError: if the library of Prometheus is not installed, or the file is in `folder`.
        PipelineError: if something else is in the file's place, or it cannot be written at first.
    """
    if path is None or (by_torchrun() and count_in_environment("RANK", 0)):
        yield
        return
    if isinstance(folder, Path) and path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"{path}: this is in {folder}, which holds what the command makes and nothing else. "
            f"Give --prometheus a file elsewhere."
        )
    file, over, failed = _File(path, command, folder), threading.Event(), set[str]()
    file.write()

    def write() -> None:
        try:
            file.write()
        except PipelineError as error:
            if str(error) not in failed:  # once, and not every ten seconds
                console.warn(str(error))
            failed.add(str(error))

    def write_now_and_then() -> None:
        while not over.wait(EVERY):
            write()

    thread = threading.Thread(target=write_now_and_then, name="prometheus", daemon=True)
    _open_files.append(file)
    thread.start()
    try:
        yield
        file.succeeded = True
    finally:
        over.set()
        thread.join()
        _open_files.remove(file)
        file.running = False
        write()


def _label(folder: Path | str) -> str:
    return str(folder.absolute() if isinstance(folder, Path) else folder)


def _render(samples: Iterable[tuple[str, Values]]) -> bytes:
    """Return figures, each with its label `folder`, in the text format of Prometheus."""
    try:
        from prometheus_client import generate_latest
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    except ImportError as error:
        raise ConfigError(
            "--prometheus needs prometheus_client, which is not installed: "
            "pip install 'frozen-vqa[prometheus]'"
        ) from error
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for folder, values in samples:
        for name, value in values.items():
            about = FIGURES[name]
            if name not in families:
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                families[name] = kind(PREFIX + name, about.help, labels=("folder", *about.labels))
            numbers = value if isinstance(value, Mapping) else {(): value}
            for labels, number in numbers.items():
                families[name].add_metric([printable(one) for one in (folder, *labels)], number)
    return generate_latest(cast(Any, SimpleNamespace(collect=families.values)))
