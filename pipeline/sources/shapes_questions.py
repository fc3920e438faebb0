"""Scenes of coloured shapes, and the questions that can be asked about them.

    type               an example                                    answers
    attribute color    what color is the triangle?                   6 colors
    attribute shape    what shape is the red object?                 3 shapes
    attribute size     what size is the blue object?                 small, large
    count              how many circles are there?                   0 to 4
    existence          is there a red circle?                        yes, no
    comparison         is the circle larger than the square?         yes, no
    spatial relation   is the red object left of the square?         yes, no
    spatial extreme    what color is the leftmost object?            6 colors, 3 shapes
    spatial neighbor   what shape is above the red object?           6 colors, 3 shapes

Colors, shapes, sizes and places of all objects are drawn from the same distributions, and each
yes/no question is as likely as its mirror image. So the answers to each text are nearly uniform,
and without the picture a head can only guess. Nothing here knows about pixels, splits or ids.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from numpy.random import Generator

COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle")
SIZES = ("small", "large")
KINDS = {"color": COLORS, "shape": SHAPES}

RELATION_GAP = 0.25
"""Centres at least this far apart along an axis, as a share of the picture, count as ordered."""

EXTREME_GAP = 0.125
"""The leftmost object is at least this much further left than the next."""

SIDES = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
EXTREMES = {"leftmost": (0, -1), "rightmost": (0, 1), "top": (1, -1), "bottom": (1, 1)}
"""Word to axis (0 runs right, 1 runs down) and sign of the direction along it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Thing:
    """One object of a scene."""

    color: str
    shape: str
    size: str
    rgb: tuple[int, int, int]  # the color as drawn, 0 to 255
    center: tuple[float, float]  # right and down, as shares of the picture's side

    def value(self, kind: str) -> str:
        """Return its "color", "shape" or "size"."""
        return getattr(self, kind)


@dataclass(frozen=True, slots=True)
class Scene:
    """Two to four objects on a plain background."""

    things: tuple[Thing, ...]
    background: tuple[int, int, int]  # its color as drawn, 0 to 255
    counted: tuple[str, str]  # the kind and value whose count in this scene was drawn uniformly

    def count(self, kind: str, value: str) -> int:
        return sum(thing.value(kind) == value for thing in self.things)


@dataclass(frozen=True, slots=True)
class Question:
    """A text and its only true answer, with the types for the tables."""

    text: str
    answer: str
    question_type: str
    answer_type: str = "other"


Family = Callable[[Scene, Generator], Question | None]
"""Asks one thing about a scene; None if there is nothing to ask."""


def ask(scene: Scene, rng: Generator) -> list[Question]:
    """Return about eight different questions: 40 % spatial, 15 % of each other family."""
    families: list[Family] = [_spatial, _attribute, _count, _existence, _comparison]
    families += [_spatial, _spatial, pick(rng, families)]
    asked: dict[str, Question] = {}
    for family in families:
        for _ in range(8):  # a family may have nothing, or nothing new, to ask here
            question = family(scene, rng)
            if question is not None and question.text not in asked:
                asked[question.text] = question
                break
    return list(asked.values())


def pick(rng: Generator, items: Sequence[T]) -> T:
    """Return one of `items`, each equally likely."""
    return items[int(rng.integers(len(items)))]


def _attribute(scene: Scene, rng: Generator) -> Question | None:
    thing = pick(rng, scene.things)
    asked = pick(rng, ["color", "color", "shape", "shape", "size"])
    # "what color is the red object?" would answer itself: name the object by the other kind.
    kinds = {"color": ["shape"], "shape": ["color"], "size": ["color", "shape"]}[asked]
    name = _name(scene, thing, rng, kinds)
    if name is None:
        return None
    return Question(f"what {asked} is {name}?", thing.value(asked), f"attribute {asked}")


def _count(scene: Scene, rng: Generator) -> Question:
    if rng.random() < 1 / 6:
        text, number = "how many objects are there?", len(scene.things)
    else:
        # Only this count is uniform; a color chosen now would mostly occur once or never.
        kind, value = scene.counted
        text, number = f"how many {_plural(kind, value)} are there?", scene.count(kind, value)
    return Question(text, str(number), "count", "number")


def _existence(scene: Scene, rng: Generator) -> Question:
    there = {(thing.color, thing.shape) for thing in scene.things}
    colors, shapes = {color for color, _ in there}, {shape for _, shape in there}
    found = bool(rng.random() < 0.5)
    pairs = [(color, shape) for color in COLORS for shape in SHAPES]
    if found:
        choices = [pair for pair in pairs if pair in there]
    else:
        absent = [pair for pair in pairs if pair not in there]
        # Pairs whose halves both occur, on different objects, are best; then one half.
        both = [pair for pair in absent if pair[0] in colors and pair[1] in shapes]
        choices = both or [pair for pair in absent if pair[0] in colors or pair[1] in shapes]
    color, shape = pick(rng, choices)
    article = "an" if color[0] in "aeiou" else "a"
    return _yes_no(f"is there {article} {color} {shape}?", found, "existence")


def _comparison(scene: Scene, rng: Generator) -> Question | None:
    if rng.random() < 0.6:
        pairs = [pair for pair in combinations(scene.things, 2) if pair[0].size != pair[1].size]
        if not pairs:
            return None
        first, second = _shuffled(rng, pick(rng, pairs))
        names = _name(scene, first, rng), _name(scene, second, rng)
        if None in names:
            return None
        text = f"is {names[0]} larger than {names[1]}?"
        return _yes_no(text, first.size == "large", "comparison")
    kind = pick(rng, list(KINDS))
    number = {value: scene.count(kind, value) for value in KINDS[kind]}
    unequal = [pair for pair in combinations(number, 2) if number[pair[0]] != number[pair[1]]]
    present = [pair for pair in unequal if number[pair[0]] and number[pair[1]]]
    if not unequal:  # a circle, a square and a triangle
        return None
    more, less = _shuffled(rng, pick(rng, present or unequal))
    text = f"are there more {_plural(kind, more)} than {_plural(kind, less)}?"
    return _yes_no(text, number[more] > number[less], "comparison")


def _spatial(scene: Scene, rng: Generator) -> Question | None:
    families = [_relation] * 4 + [_extreme] * 3 + [_neighbor] * 4
    return pick(rng, families)(scene, rng)


def _relation(scene: Scene, rng: Generator) -> Question | None:
    side = pick(rng, list(SIDES))
    first, second = _shuffled(rng, pick(rng, list(combinations(scene.things, 2))))
    distance = _along(SIDES[side], first) - _along(SIDES[side], second)
    names = _name(scene, first, rng), _name(scene, second, rng)
    if abs(distance) < RELATION_GAP or None in names:
        return None
    return _yes_no(f"is {names[0]} {side} {names[1]}?", distance > 0, "spatial relation")


def _extreme(scene: Scene, rng: Generator) -> Question | None:
    word = pick(rng, list(EXTREMES))
    *_, second, first = sorted(scene.things, key=lambda thing: _along(EXTREMES[word], thing))
    if _along(EXTREMES[word], first) - _along(EXTREMES[word], second) < EXTREME_GAP:
        return None
    asked = pick(rng, list(KINDS))
    return Question(f"what {asked} is the {word} object?", first.value(asked), "spatial extreme")


def _neighbor(scene: Scene, rng: Generator) -> Question | None:
    side = pick(rng, list(SIDES))
    thing = pick(rng, scene.things)
    start = _along(SIDES[side], thing)
    beyond = [
        other
        for other in scene.things
        if other is not thing and _along(SIDES[side], other) > start - RELATION_GAP / 3
    ]
    if len(beyond) != 1 or _along(SIDES[side], beyond[0]) - start < RELATION_GAP:
        return None  # none there, several, or one that stands almost level
    asked, named_by = _shuffled(rng, ("color", "shape"))
    name = _name(scene, thing, rng, [named_by])
    if name is None:
        return None
    answer = beyond[0].value(asked)
    return Question(f"what {asked} is {side} {name}?", answer, "spatial neighbor")


def _name(
    scene: Scene, thing: Thing, rng: Generator, kinds: Sequence[str] = ("color", "shape")
) -> str | None:
    """Return words for `thing` alone, made of `kinds`; one attribute if that suffices."""
    names = []
    if "color" in kinds and scene.count("color", thing.color) == 1:
        names.append(f"the {thing.color} object")
    if "shape" in kinds and scene.count("shape", thing.shape) == 1:
        names.append(f"the {thing.shape}")
    if names:
        return pick(rng, names)
    alike = [(other.color, other.shape) for other in scene.things]
    if len(kinds) == 2 and alike.count((thing.color, thing.shape)) == 1:
        return f"the {thing.color} {thing.shape}"
    return None


def _along(direction: tuple[int, int], thing: Thing) -> float:
    axis, sign = direction
    return sign * thing.center[axis]


def _plural(kind: str, value: str) -> str:
    return f"{value} objects" if kind == "color" else f"{value}s"


def _shuffled(rng: Generator, pair: tuple[T, T]) -> tuple[T, T]:
    return pair if rng.random() < 0.5 else (pair[1], pair[0])


def _yes_no(text: str, answer: bool, question_type: str) -> Question:
    return Question(text, "yes" if answer else "no", question_type, "yes/no")
