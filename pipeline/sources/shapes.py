"""A generated data set: scenes of coloured shapes, and questions that need the picture.

    ShapesSource ── seed, split, index ── make_scene ─┬─ ask (shapes_questions.py)
                                                      └─ draw_scene

There are no files and no downloads: a scene is a pure function of seed, split and index, so a
picture is drawn again each time and never kept. The texts come from few templates, and their
answers are balanced, as `shapes_questions.py` explains.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from frozen_vqa.pipeline.errors import ConfigError, SourceError
from frozen_vqa.pipeline.sources.example import Form, Id, LeftOut, VqaExample
from frozen_vqa.pipeline.sources.shapes_questions import (
    COLORS,
    KINDS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    ask,
    pick,
)

SPLITS = ("train", "val", "test")

MAX_IMAGES = 1_000_000
"""An id is this number times the split's rank, plus the index, so a split cannot hold more."""

RGB = {
    "red": (208, 36, 44),
    "green": (46, 160, 67),
    "blue": (38, 98, 222),
    "yellow": (247, 214, 40),
    "purple": (142, 62, 186),
    "orange": (252, 132, 16),
}
JITTER = 9  # per channel; far less than the distance between any two colors

RADIUS = {"small": 0.072, "large": 0.134}  # shares of the side: 16 and 30 px across at 112 px
REACH = 1.25  # no corner of a square or triangle is further from its centre, in radii
SPACING = 0.03  # least free room between two objects, and to the border

GRID = 8
"""Centres lie on the crossings of the lines that cut the picture into 8 by 8 cells.

At 112 pixels a cell is one patch of 14, so an object covers patches in the same way at any place,
and a head on frozen features learns shapes from far fewer pictures.
"""

SUPERSAMPLING = 4


class ShapesSource:
    """Generated scenes, with questions whose text does not give the answer away."""

    def __init__(self, images: int = 2500, seed: int = 0, size: int = 112) -> None:
        """Check the arguments. Nothing is drawn yet.

        Args:
            images: Scenes in "train"; "val" and "test" have a fifth of that each. A smaller data
                set has the first scenes of a larger one.
            size: Width and height of the pictures in pixels; questions do not depend on it.

        Raises:
            ConfigError: if a value is out of range.
        """
        for name, value, low, high in (
            ("images", images, 1, MAX_IMAGES),
            ("seed", seed, 0, 2**32 - 1),
            ("size", size, 56, 2048),
        ):
            if not low <= value <= high:
                raise ConfigError(f"shapes: {name} is {value}, but must be {low} to {high}.")
        self.seed = seed
        self.size = size
        self.lengths = {"train": images, "val": max(1, images // 5), "test": max(1, images // 5)}

    def examples(self, split: str) -> list[VqaExample]:
        """Return about eight questions per scene of `split`, with ten equal answers each."""
        if split not in self.lengths:
            raise SourceError(
                f"shapes: no split {split!r}; there are {', '.join(SPLITS)}. Choose one of these."
            )
        first = MAX_IMAGES * (SPLITS.index(split) + 1)
        return [
            VqaExample(
                question_id=image_id * 100 + number,
                image_id=image_id,
                question=question.text,
                answers=(question.answer,) * 10,
                question_type=question.question_type,
                answer_type=question.answer_type,
            )
            for image_id in range(first, first + self.lengths[split])
            for number, question in enumerate(ask(self.scene(image_id), self._rng(image_id, 1)))
        ]

    def left_out(self, split: str) -> Sequence[LeftOut]:
        return ()  # every generated question can be used

    def splits(self) -> Sequence[str]:
        return SPLITS

    def form(self, split: str) -> Form:
        return Form("generated scenes")

    def cure(self, image_id: Id) -> str:
        return ""  # no picture is missing

    def picture(self, image_id: Id) -> Image.Image:
        return draw_scene(self.scene(image_id), self.size)

    def where(self, image_id: Id) -> str:
        split, index = self._place(image_id)
        return f"shapes (seed {self.seed}), {split} scene {index}"

    def scene(self, image_id: Id) -> Scene:
        """Return the objects of a picture; raise `SourceError` if no example has this id."""
        return make_scene(self._rng(image_id, 0))

    def _place(self, image_id: Id) -> tuple[str, int]:
        if isinstance(image_id, int):
            rank, index = divmod(image_id, MAX_IMAGES)
            if 1 <= rank <= len(SPLITS) and index < self.lengths[SPLITS[rank - 1]]:
                return SPLITS[rank - 1], index
        raise SourceError(
            f"shapes: no picture {image_id!r} among {self.lengths['train']} train scenes and "
            f"{self.lengths['val']} each of val and test. Take ids from its examples."
        )

    def _rng(self, image_id: Id, purpose: int) -> Generator:
        """Return a separate random generator for the scene (0) or the questions (1)."""
        split, index = self._place(image_id)
        return np.random.default_rng([self.seed, SPLITS.index(split), index, purpose])


def make_scene(rng: Generator) -> Scene:
    """Return a scene of two to four objects that do not touch.

    The count of one color or shape, `Scene.counted`, is uniform from none to all.
    """
    number = int(rng.integers(2, 5))
    kind = pick(rng, list(KINDS))
    value = pick(rng, KINDS[kind])
    with_value = int(rng.integers(number + 1))
    looks = []
    for position in range(number):
        look = {"color": pick(rng, COLORS), "shape": pick(rng, SHAPES)}
        other_values = [other for other in KINDS[kind] if other != value]
        look[kind] = value if position < with_value else pick(rng, other_values)
        looks.append(look | {"size": pick(rng, SIZES)})
    centers = _centers(rng, [RADIUS[look["size"]] * REACH for look in looks])
    things = tuple(
        Thing(**look, rgb=_shifted(rng, RGB[look["color"]], JITTER), center=center)
        for look, center in zip(looks, centers, strict=True)
    )
    return Scene(things, _shifted(rng, (243, 242, 240), 8), (kind, value))


def draw_scene(scene: Scene, size: int) -> Image.Image:
    """Draw `scene` with smooth edges as a square RGB picture of `size` pixels."""
    side = size * SUPERSAMPLING
    canvas = Image.new("RGB", (side, side), scene.background)
    pen = ImageDraw.Draw(canvas)
    for thing in scene.things:
        x, y = (share * side for share in thing.center)
        radius = RADIUS[thing.size] * side
        if thing.shape == "circle":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=thing.rgb)
        elif thing.shape == "square":
            half = 0.88 * radius  # edges look as long as the circle is wide
            pen.rectangle((x - half, y - half, x + half, y + half), fill=thing.rgb)
        else:
            corner = 1.2 * radius
            half = corner * math.sqrt(3) / 2
            base = y + corner / 2
            pen.polygon([(x, y - corner), (x - half, base), (x + half, base)], fill=thing.rgb)
    return canvas.reduce(SUPERSAMPLING)


def _centers(rng: Generator, reaches: list[float]) -> list[tuple[float, float]]:
    """Return centres at which objects that reach this far from them do not touch.

    All centres are drawn again until they fit. So the look of an object says nothing about its
    place, except that large objects keep further from the border.
    """
    reach = np.array(reaches)
    low = np.ceil((reach[:, None] + SPACING) * GRID)  # (objects, 1)
    first, second = np.triu_indices(len(reaches), 1)
    needed = reach[first] + reach[second] + SPACING
    while True:
        lines = rng.integers(low, GRID - low + 1, (64, len(reaches), 2))
        tries = lines / GRID  # (tries, objects, axis)
        apart = np.hypot(*np.moveaxis(tries[:, first] - tries[:, second], -1, 0))
        fits = np.flatnonzero((apart >= needed).all(axis=1))
        if fits.size:
            return [(float(x), float(y)) for x, y in tries[fits[0]]]


def _shifted(rng: Generator, rgb: tuple[int, int, int], most: int) -> tuple[int, int, int]:
    """Return `rgb` with up to `most` added to or taken from each channel."""
    red, green, blue = np.clip(rgb + rng.integers(-most, most + 1, 3), 0, 255).tolist()
    return red, green, blue
