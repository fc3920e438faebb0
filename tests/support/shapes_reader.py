"""Generated scenes, and a reader of them that shares no code with the generator.

It finds the objects in the pixels and takes the questions apart with regular expressions of its
own.
"""

import re
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from frozen_vqa.pipeline.sources.shapes import ShapesSource

PURE = {
    "red": (208, 36, 44),
    "green": (46, 160, 67),
    "blue": (38, 98, 222),
    "yellow": (247, 214, 40),
    "purple": (142, 62, 186),
    "orange": (252, 132, 16),
}


class Seen(NamedTuple):
    """One object as measured in the pixels."""

    color: str
    shape: str
    size: str
    x: float
    y: float
    width: int
    color_distance: float


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def regions(mask: np.ndarray) -> list[np.ndarray]:
    """Connected sets of pixels, each as (row, column) pairs."""
    left = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    found = []
    while left:
        queue = [left.pop()]
        region = list(queue)
        while queue:
            row, column = queue.pop()
            for step in (
                (row + 1, column),
                (row - 1, column),
                (row, column + 1),
                (row, column - 1),
            ):
                if step in left:
                    left.remove(step)
                    queue.append(step)
                    region.append(step)
        found.append(np.array(region))
    return found


def look(picture: Image.Image) -> list[Seen]:
    """Measure every object of a picture of 112 pixels."""
    image = pixels(picture)
    things = []
    for region in regions(np.abs(image - image[0, 0]).sum(axis=2) > 130):
        median = np.median(image[region[:, 0], region[:, 1]], axis=0)
        distance = {name: float(np.abs(median - rgb).max()) for name, rgb in PURE.items()}
        color = min(distance, key=distance.__getitem__)
        height, width = np.ptp(region, axis=0) + 1
        fill = len(region) / (height * width)  # square 1, circle 0.79, triangle 0.5
        shape = "square" if fill > 0.93 else "circle" if fill > 0.68 else "triangle"
        size = "large" if width > 21 else "small"
        y, x = region.mean(axis=0)
        things.append(Seen(color, shape, size, x, y, int(width), distance[color]))
    return things


def fits(thing: Seen, words: str) -> bool:
    """Whether `thing` is one of the "red objects", the "circle", a "red circle"."""
    wanted = set(words.split()) - {"object", "objects"}
    return {word.removesuffix("s") for word in wanted} <= {thing.color, thing.shape}


def one(things: list[Seen], words: str) -> Seen:
    found = [thing for thing in things if fits(thing, words)]
    assert len(found) == 1, f"{words!r} names {len(found)} objects"
    return found[0]


def further(word: str, first: Seen, second: Seen) -> float:
    """How many pixels `first` lies beyond `second` in the direction of `word`."""
    if word in {"left of", "leftmost"}:
        return second.x - first.x
    if word in {"right of", "rightmost"}:
        return first.x - second.x
    return second.y - first.y if word in {"above", "top"} else first.y - second.y


def answer(question: str, things: list[Seen]) -> str:
    """Answer from the measured objects; an ambiguous question is an assertion error."""
    sides = "left of|right of|above|below"

    def match(pattern: str) -> tuple[str, ...]:
        found = re.fullmatch(pattern, question)
        return found.groups() if found else ()

    if found := match(rf"what (color|shape) is ({sides}) the (.+)\?"):
        start = one(things, found[2])
        gaps = {thing: further(found[1], thing, start) for thing in things if thing != start}
        beyond = [thing for thing, gap in gaps.items() if gap > 0]
        assert len(beyond) == 1
        assert gaps[beyond[0]] > 27
        return getattr(beyond[0], found[0])
    if found := match(r"what (color|shape) is the (leftmost|rightmost|top|bottom) object\?"):
        first = max(things, key=lambda thing: further(found[1], thing, things[0]))
        assert all(further(found[1], first, thing) > 13 for thing in things if thing != first)
        return getattr(first, found[0])
    if found := match(r"what (color|shape|size) is the (.+)\?"):
        return getattr(one(things, found[1]), found[0])
    if found := match(r"how many (.+) are there\?"):
        return str(sum(fits(thing, found[0]) for thing in things))
    if found := match(r"is there an? (.+)\?"):
        return "yes" if any(fits(thing, found[0]) for thing in things) else "no"
    if found := match(r"are there more (.+) than (.+)\?"):
        more, less = (sum(fits(thing, words) for thing in things) for words in found)
        assert more != less
        return "yes" if more > less else "no"
    if found := match(r"is the (.+) larger than the (.+)\?"):
        first, second = (one(things, words) for words in found)
        assert first.size != second.size
        return "yes" if first.width > second.width else "no"
    if found := match(rf"is the (.+) ({sides}) the (.+)\?"):
        gap = further(found[1], one(things, found[0]), one(things, found[2]))
        assert abs(gap) > 27
        return "yes" if gap > 0 else "no"
    raise AssertionError(f"no reading for {question!r}")


@pytest.fixture(scope="module")
def source() -> ShapesSource:
    return ShapesSource(images=1600, seed=3)
