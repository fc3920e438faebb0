"""The heads of a sweep in the order of their accuracy: a live table, or lines in a log."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.live import Live
from rich.table import Table

from frozen_vqa.pipeline.batches.plan import BatchPlan
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.runs.state import EpochLine
from frozen_vqa.pipeline.system.console import Advance, console, progress, progress_bar


class SweepTable:
    """The latest figures of each head; `config` may be of any head: only shared settings count."""

    def __init__(self, names: Sequence[str], config: TrainConfig) -> None:
        self._config = config
        self._last: dict[str, EpochLine | None] = dict.fromkeys(names)
        self._best = dict.fromkeys(names, -1.0)
        self._failed: set[str] = set()
        self._bar = progress_bar()

    def add(self, name: str, line: EpochLine) -> None:
        """Note a line of a head's metrics.jsonl."""
        self._last[name] = line
        self._best[name] = max(self._best[name], line.accuracy)

    def fail(self, name: str) -> None:
        self._failed.add(name)

    def rank(self) -> list[tuple[str, EpochLine | None]]:
        """Return names and last lines, the head with the best epoch so far first."""
        order = sorted(self._best, key=lambda name: (name in self._failed, -self._best[name]))
        return [(name, self._last[name]) for name in order]

    @contextmanager
    def show_live(self) -> Iterator[None]:
        """Show table and progress while the block runs, if there is a terminal."""
        if not console.is_live:
            yield
            return
        with Live(
            get_renderable=lambda: Group(self.render(), self._bar), console=console, transient=True
        ):
            yield

    def progress(self, title: str, order: BatchPlan) -> AbstractContextManager[Advance]:
        """Show the progress of an epoch; yields the function to call after each batch."""
        return progress(title, order.questions, display=self._bar)

    def print_lines(self) -> None:
        """Print one line for each head, where there is no live table."""
        if console.is_live:
            return
        for rank, (name, line) in enumerate(self.rank(), start=1):
            if line:
                console.print(
                    f"{rank}. {name}: epoch {line.epoch}/{self._config.epochs}, loss "
                    f"{line.loss:.4f}, accuracy {line.accuracy:.2f} % on "
                    f"{self._config.validation}, best {self._best[name]:.2f} %"
                )

    def render(self) -> Table:
        table = Table(box=SIMPLE_HEAD)
        for title in ("", "head", "epoch", "loss", "accuracy", "best"):
            table.add_column(title, justify="left" if title == "head" else "right")
        for rank, (name, line) in enumerate(self.rank(), start=1):
            epoch = f"{line.epoch}/{self._config.epochs}" if line else ""
            figures = [line.loss, line.accuracy, self._best[name]] if line else []
            cells = [f"{value:.{4 if i == 0 else 2}f}" for i, value in enumerate(figures)]
            table.add_row(str(rank), name, "failed" if name in self._failed else epoch, *cells)
        return table
