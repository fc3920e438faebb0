"""What stands in for TensorBoard's writer."""


class Writer:
    """Keeps what TensorBoard would show, and whether it was flushed and closed."""

    made: list["Writer"]

    def __init__(self, folder: str, purge_step: int | None) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.scalars: list[tuple[str, int, float]] = []
        self.shown = 0
        self.closed = False
        Writer.made.append(self)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.append((tag, step, value))

    def flush(self) -> None:
        self.shown = len(self.scalars)

    def close(self) -> None:
        self.closed = True

    def curve(self, tag: str) -> list[tuple[int, float]]:
        return [(step, value) for name, step, value in self.scalars[: self.shown] if name == tag]
