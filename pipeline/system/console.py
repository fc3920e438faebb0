"""Output for people: one console on stderr, with progress bars, or plain lines in a log.

stdout is for results alone, so that `--json` prints one object there and nothing else.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import IO, Any, cast

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from frozen_vqa.cache.errors import CacheError
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.system.texts import printable

NARROWEST = 40
"""Columns that a table gets at least: rich fails in a terminal that is as wide as one letter."""

LINE_SECONDS = 10.0
"""How often a log without a terminal gets a line."""


class _Unfailing:
    """A stream to which nothing essential is written: an error of it ends no command."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # no reader, a full disk; ValueError: it was closed
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Console(Console):
    """The one door to the terminal: all texts go through it, those in tables and titles too."""

    @property  # type: ignore[misc]  # nothing sets it
    def file(self) -> IO[str]:
        return cast(IO[str], _Unfailing(super().file))

    def print(self, *objects: Any, **how: Any) -> None:
        """Print as Rich does, but break no line of text."""
        how.setdefault("soft_wrap", all(isinstance(one, str) for one in objects))
        super().print(*objects, **how)

    def render_str(self, text: str, **how: Any) -> Text:
        """Return a text of one line, whose characters are shown and not obeyed."""
        return super().render_str(printable(text), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as Rich does, but let no table cut a text."""
        if isinstance(renderable, Table):
            for column in renderable.columns:
                column.overflow = "fold"
        return super().render(renderable, options)

    @property  # type: ignore[misc]  # nobody sets it
    def size(self) -> ConsoleDimensions:
        """Columns and rows of the terminal, or what COLUMNS and LINES say."""
        found = super().size
        return ConsoleDimensions(max(NARROWEST, found.width), found.height)


# Brackets and colons in a path or a question are no markup and no emoji.
console = _Console(stderr=True, highlight=False, markup=False, emoji=False)

Advance = Callable[..., None]
"""advance(n, note="..."): n more are done; the bar shows the note behind the rate."""


@contextmanager
def beside_the_work(lost: list[str]) -> Iterator[None]:
    """Let the work go on if the block fails to write something extra; add the reason to `lost`."""
    try:
        yield
    except (CacheError, PipelineError) as error:
        lost.append(str(error))
        console.print(f"warning: {error}")


def size(count: float) -> str:
    """Return a number of bytes for people: 1,500,000 -> '1.5 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.95:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Return a time for people: 3725 -> '1 h 02 min'."""
    if seconds < 59.95:  # from there on it would read 60.0 s
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class _Rate(ProgressColumn):
    """Recent rate, as in '1,234/s'."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="cyan")


def progress_bar() -> Progress:
    """Return a bar that is not shown yet: start it, or put it into a live display."""
    columns = (
        TextColumn("{task.description:<12}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    return Progress(*columns, console=console)


@contextmanager
def progress(title: str, total: int, *, display: Progress | None = None) -> Iterator[Advance]:
    """Show the progress of a long loop; yields the function to call after each step.

    Its bar is part of `display` while the loop lasts, or has a display of its own.
    """
    if not console.is_terminal:
        yield _plain_lines(title, total)
        return
    with nullcontext(display) if display else progress_bar() as bar:
        task = bar.add_task(printable(title), total=total, note="")
        yield lambda count=1, note="": bar.update(task, advance=count, note=printable(note))
        if display:
            bar.remove_task(task)


def _plain_lines(title: str, total: int) -> Advance:
    started = last = time.monotonic()
    done = 0

    def advance(count: int = 1, *, note: str = "") -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if done < total and now - last < LINE_SECONDS:
            return
        last = now
        rate = done / max(now - started, 1e-9)
        left = f", {duration((total - done) / rate)} left" if 0 < done < total else ""
        tail = f", {note}" if note else ""
        console.print(f"{title}: {done:,}/{total:,}, {rate:,.0f}/s{left}{tail}")

    return advance
