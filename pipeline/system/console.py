"""Output for people: one console on stderr, with progress bars, or plain lines in a log.

stdout is for results alone, so that `--json` prints one object there and nothing else.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import IO, Any, cast

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.progress import Progress, ProgressColumn, Task
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from frozen_vqa.cache.errors import CacheError, without_secrets
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.system.texts import break_lines, printable

NARROWEST = 40
"""Columns that a table gets at least: rich fails in a terminal that is as wide as one letter."""

LONGEST_BAR = 30
"""Columns of a bar, if there is room beside rate and time."""

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

    results_only = False
    """Whether only results, warnings and errors are shown."""

    @property  # type: ignore[misc]  # nothing sets it
    def file(self) -> IO[str]:
        return cast(IO[str], _Unfailing(super().file))

    def print(self, *objects: Any, **how: Any) -> None:
        """Tell how the work goes, unless only results are wanted; else as `show`."""
        if not self.results_only:
            self.show(*objects, **how)

    def show(self, *objects: Any, **how: Any) -> None:
        """Print a result as Rich does. A terminal breaks lines at words, a log breaks none."""
        how.setdefault("soft_wrap", all(isinstance(one, str) for one in objects))
        if self.is_terminal:
            objects = tuple(
                Text(break_lines(one, self.width)) if isinstance(one, str) else one
                for one in objects
            )
        super().print(*objects, **how)

    def warn(self, text: str) -> None:
        """Print a warning, which is part of a result."""
        self.show(f"warning: {without_secrets(text)}")

    @property
    def is_live(self) -> bool:
        """Whether lines that change are wanted: on a terminal, unless only results are."""
        return self.is_terminal and not self.results_only

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
"""advance(n, note="...", title="..."): n more are done; the bar shows the note behind the rate."""


@contextmanager
def beside_the_work(lost: list[str]) -> Iterator[None]:
    """Let the work go on if the block fails to write something extra; add the reason to `lost`."""
    try:
        yield
    except (CacheError, PipelineError) as error:
        lost.append(str(error))
        console.warn(str(error))


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


class _Line(ProgressColumn):
    """All about a task in one line; rate and time left stay where the terminal is narrow."""

    max_refresh = 0.1

    def render(self, task: Task) -> Text:
        rate = f"{task.speed:,.0f}/s" if task.speed else ""
        seconds = task.time_remaining
        left = f"{duration(seconds)} left" if seconds is not None and not task.finished else ""
        count = f"{task.completed:,.0f}/{task.total:,.0f}"
        return fit_line(task.description, count, rate, left, task.fields["note"], task.percentage)


def fit_line(title: str, count: str, rate: str, left: str, note: str, percent: float) -> Text:
    """Return a line as wide as the terminal, without the parts that have no room.

    First goes the count, then the note, then the end of the title. The bar takes what is left over.
    """
    room = console.width - 1
    kept = [part for part in (rate, left) if part]

    def width(*parts: str) -> int:
        return sum(cell_len(part) + 2 for part in (title, *kept, *parts) if part) - 2

    note = note if width(note) <= room else ""
    count = count if width(count, note) <= room else ""
    title = set_cell_size(title, cell_len(title) - max(0, width(count, note) - room))
    columns = min(LONGEST_BAR, room - width(count, note) - 2)
    line = Text(title)
    if columns >= LONGEST_BAR // 3:
        full = round(columns * percent / 100)
        mark = "-" if console.options.ascii_only else "━"
        line.append("  ").append(mark * full, "green").append(mark * (columns - full), "dim")
    styles = ("", "cyan", "", "dim")
    for part, style in zip((count, rate, left, note), styles, strict=True):
        if part:
            line.append("  ").append(part, style)
    return line


def progress_bar() -> Progress:
    """Return a bar that is not shown yet: start it, or put it into a live display."""
    return Progress(_Line(), console=console)


@contextmanager
def progress(
    title: str, total: int, *, done: int = 0, display: Progress | None = None
) -> Iterator[Advance]:
    """Show the progress of a long loop; yields the function to call after each step.

    Its bar is part of `display` while the loop lasts, or has a display of its own. `done` were done
    before.
    """
    if not console.is_live:
        yield _plain_lines(title, total, done)
        return
    with nullcontext(display) if display else progress_bar() as bar:
        task = bar.add_task(printable(title), total=total, completed=done, note="")

        def advance(count: int = 1, *, note: str = "", title: str = title) -> None:
            bar.update(task, advance=count, description=printable(title), note=printable(note))

        yield advance
        if display:
            bar.remove_task(task)


@contextmanager
def loading(what: str = "PyTorch") -> Iterator[None]:
    """Say on a terminal what takes seconds to load, while the block loads it."""
    if not console.is_live or "torch" in sys.modules:
        yield
        return
    with console.status(f"loading {what}"):
        yield


def _plain_lines(title: str, total: int, before: int) -> Advance:
    started = last = time.monotonic()
    done = before

    def advance(count: int = 1, *, note: str = "", title: str = title) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if done < total and now - last < LINE_SECONDS:
            return
        last = now
        rate = (done - before) / max(now - started, 1e-9)
        left = f", {duration((total - done) / rate)} left" if rate and done < total else ""
        tail = f", {note}" if note else ""
        console.print(f"{title}: {done:,}/{total:,}, {rate:,.0f}/s{left}{tail}")

    return advance
