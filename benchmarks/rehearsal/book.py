"""Figures that say where they come from: measured, published, or reckoned from other ones.

The figures that a reckoned one comes from are not written by hand: the book notes which ones the
formula has looked up.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Literal

from benchmarks.harness import Json

Kind = Literal["measured", "published", "chosen", "reckoned"]
Look = Callable[[str], float]


@dataclass(frozen=True)
class Figure:
    """A number.

    Attributes:
        source: The command that measured it, where it was published, or how it is reckoned.
        of: The figures that it was reckoned from.
    """

    name: str
    value: float
    unit: str
    kind: Kind
    source: str
    of: tuple[str, ...] = ()


@dataclass
class Book:
    """Figures by name, in the order in which they came."""

    figures: dict[str, Figure] = field(default_factory=dict)

    def note(self, kind: Kind, name: str, value: float, unit: str, source: str) -> None:
        """Note a figure that comes from outside."""
        assert name not in self.figures, name
        assert kind != "reckoned", name
        self.figures[name] = Figure(name, value, unit, kind, source)

    def reckon(self, name: str, unit: str, how: str, formula: Callable[[Look], float]) -> float:
        """Note and return what a formula makes of the figures that it looks up."""
        assert name not in self.figures, name
        used: dict[str, None] = {}

        def look(other: str) -> float:
            used[other] = None
            return self.figures[other].value

        value = formula(look)
        assert used, f"{name} comes from nothing"
        self.figures[name] = Figure(name, value, unit, "reckoned", how, tuple(used))
        return value

    def roots(self, name: str) -> dict[str, Figure]:
        """Return the figures from outside that a figure comes from in the end."""
        one = self.figures[name]
        if one.kind != "reckoned":
            return {name: one}
        return {key: root for other in one.of for key, root in self.roots(other).items()}

    def label(self, name: str) -> str:
        """Return a short name for a table: its kind and its place among them, as in M3."""
        kind = self.figures[name].kind
        place = [one.name for one in self.of_kind(kind)].index(name)
        return f"{kind[0].upper()}{place + 1}"

    def of_kind(self, *kinds: Kind) -> list[Figure]:
        """Return the figures of these kinds."""
        return [one for one in self.figures.values() if one.kind in kinds]

    def to_json(self) -> Json:
        """Return the figures by kind and name."""
        kinds: tuple[Kind, ...] = ("measured", "published", "chosen", "reckoned")
        return {kind: {f.name: asdict(f) for f in self.of_kind(kind)} for kind in kinds}
