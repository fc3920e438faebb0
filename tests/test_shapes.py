"""The generated data set: true answers, no useful prior, the same from run to run.

The answers are checked by a reader that shares no code with the generator: it finds the objects in
the pixels and takes the questions apart with regular expressions of its own.
"""

import re
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ConfigError, SourceError
from pipeline.examples import VqaExample
from pipeline.shapes import ShapesSource
from pipeline.shapes_questions import question_words

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


@pytest.fixture(scope="module")
def train(source: ShapesSource) -> list[VqaExample]:
    return source.examples("train")


@pytest.fixture(scope="module")
def val(source: ShapesSource) -> list[VqaExample]:
    return source.examples("val")


def prior_accuracy(train: list[VqaExample], val: list[VqaExample]) -> dict[str, float]:
    """Per type and over all: what the most frequent answer of each exact text would score."""
    seen: dict[str, Counter] = defaultdict(Counter)
    for example in train:
        seen[example.question][example.answers[0]] += 1
    hits: dict[str, list[bool]] = defaultdict(list)
    for example in val:
        common = seen[example.question].most_common(1)
        hit = bool(common) and common[0][0] == example.answers[0]
        for group in ("all", example.answer_type, example.question_type):
            hits[group].append(hit)
    return {group: sum(values) / len(values) for group, values in hits.items()}


def test_same_seed_gives_same_examples_and_pixels() -> None:
    first, second = ShapesSource(images=8, seed=5), ShapesSource(images=8, seed=5)

    for split in ("train", "val", "test"):
        assert first.examples(split) == second.examples(split)
    for image_id in {example.image_id for example in first.examples("train")}:
        assert first.picture(image_id).tobytes() == second.picture(image_id).tobytes()


def test_other_seed_gives_other_examples_and_pixels() -> None:
    first, second = ShapesSource(images=8, seed=5), ShapesSource(images=8, seed=6)
    image_id = first.examples("train")[0].image_id

    assert first.examples("train") != second.examples("train")
    assert first.picture(image_id).tobytes() != second.picture(image_id).tobytes()


@pytest.mark.parametrize("split", ["train", "val"])
def test_smaller_set_is_a_prefix_of_a_larger(split: str) -> None:
    small, large = ShapesSource(images=10), ShapesSource(images=20)
    few = small.examples(split)

    assert large.examples(split)[: len(few)] == few
    image_id = few[-1].image_id
    assert small.picture(image_id).tobytes() == large.picture(image_id).tobytes()


def test_every_answer_is_true_in_the_pixels(source: ShapesSource, train: list[VqaExample]) -> None:
    """150 scenes, some 1,150 questions: read from the picture alone, each in one way only."""
    by_image: dict[object, list[VqaExample]] = defaultdict(list)
    for example in train:
        by_image[example.image_id].append(example)
    types = set()
    for image_id in list(by_image)[:150]:
        things = look(source.picture(image_id))
        for example in by_image[image_id]:
            assert answer(example.question, things) == example.answers[0], source.where(image_id)
            types.add(example.question_type)

    assert types == {example.question_type for example in train}
    assert len(types) == 9


def test_objects_stand_clear_and_on_the_grid(source: ShapesSource) -> None:
    """Two to four regions, colors within the jitter, and sizes with nothing in between."""
    for image_id in range(2_000_000, 2_000_100):
        picture = source.picture(image_id)
        things = look(picture)

        assert (picture.size, picture.mode) == ((112, 112), "RGB")
        assert 2 <= len(things) <= 4
        assert len(things) == len(source.scene(image_id).things)
        assert all(thing.color_distance <= 9 for thing in things)
        assert all(13 <= thing.width <= 18 or 25 <= thing.width <= 33 for thing in things)
        assert pixels(picture)[0, 0].min() >= 230
        for thing in things:  # centred on the corner of four patches of 14 pixels
            assert (thing.x + 0.5) / 14 == pytest.approx(round((thing.x + 0.5) / 14), abs=0.05)
            assert (thing.y + 0.5) / 14 == pytest.approx(round((thing.y + 0.5) / 14), abs=0.05)


def test_size_scales_the_picture_but_not_the_questions() -> None:
    small, large = ShapesSource(images=3, size=112), ShapesSource(images=3, size=224)

    assert small.examples("train") == large.examples("train")
    assert large.picture(1_000_000).size == (224, 224)
    halved = pixels(large.picture(1_000_000).reduce(2))
    assert np.abs(halved - pixels(small.picture(1_000_000))).mean() < 1


def test_splits_share_no_picture_and_no_id(source: ShapesSource) -> None:
    ids: list[set] = []
    drawn: list[set] = []
    for split, length in (("train", 1600), ("val", 320), ("test", 320)):
        examples = source.examples(split)
        assert len({example.question_id for example in examples}) == len(examples)
        ids.append({example.image_id for example in examples})
        assert len(ids[-1]) == length
        drawn.append({source.picture(image_id).tobytes() for image_id in sorted(ids[-1])[:60]})

    assert len(set.union(*ids)) == 1600 + 320 + 320
    assert len(set.union(*drawn)) == 3 * 60


def test_questions_have_ten_equal_answers_and_an_id_from_their_picture(
    train: list[VqaExample],
) -> None:
    for example in train:
        assert len(example.answers) == 10
        assert len(set(example.answers)) == 1
        assert isinstance(example.question_id, int)
        assert example.question_id // 100 == example.image_id
        expected = {"yes": "yes/no", "no": "yes/no"}.get(example.answers[0], "other")
        assert example.answer_type == ("number" if example.answers[0].isdigit() else expected)


def test_no_text_comes_twice_for_one_picture(train: list[VqaExample]) -> None:
    pairs = [(example.image_id, example.question) for example in train]

    assert len(set(pairs)) == len(pairs)
    assert 7.4 < len(pairs) / 1600 <= 8


def test_texts_are_short_and_of_known_words(train: list[VqaExample]) -> None:
    texts = [example.question.removesuffix("?").split() for example in train]

    assert max(map(len, texts)) <= 9
    assert sorted({word for text in texts for word in text}) == question_words()
    assert len(question_words()) < 40


def test_families_have_their_shares(train: list[VqaExample]) -> None:
    families = Counter(example.question_type.split()[0] for example in train)
    shares = {family: count / len(train) for family, count in families.items()}

    assert shares.pop("spatial") == pytest.approx(0.4, abs=0.03)
    assert shares == pytest.approx(
        {"attribute": 0.15, "count": 0.15, "existence": 0.15, "comparison": 0.15}, abs=0.02
    )


def test_best_prior_that_knows_the_text_is_near_chance(
    train: list[VqaExample], val: list[VqaExample]
) -> None:
    """Bounds are chance plus some three standard errors of this val split."""
    accuracy = prior_accuracy(train, val)

    assert accuracy["all"] <= 0.42
    assert accuracy["yes/no"] <= 0.55
    for question_type in ("existence", "comparison", "spatial relation"):
        assert accuracy[question_type] <= 0.58
    assert accuracy["number"] <= 0.37
    assert accuracy["attribute color"] <= 0.30
    assert accuracy["attribute shape"] <= 0.46
    assert accuracy["attribute size"] <= 0.65
    assert accuracy["spatial extreme"] <= 0.34
    assert accuracy["spatial neighbor"] <= 0.40


def test_answers_are_spread_evenly_in_every_type(train: list[VqaExample]) -> None:
    answers: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for example in train:
        kind = example.question.split()[1] if example.answer_type == "other" else ""
        answers[example.question_type, kind][example.answers[0]] += 1

    for (question_type, kind), counts in answers.items():
        choices = {"color": 6, "shape": 3, "size": 2}.get(kind, 2)
        choices = 5 if question_type == "count" else choices
        slack = 0.13 if question_type == "count" else 0.08  # two is possible in every scene
        assert len(counts) == choices, question_type
        assert max(counts.values()) / counts.total() <= 1 / choices + slack, question_type


def test_one_answer_about_a_picture_does_not_tell_another(train: list[VqaExample]) -> None:
    """First and last yes/no answer agree as often as coins do."""
    by_image: dict[object, list[str]] = defaultdict(list)
    for example in train:
        if example.answer_type == "yes/no":
            by_image[example.image_id].append(example.answers[0])
    agree = [answers[0] == answers[-1] for answers in by_image.values() if len(answers) > 1]

    assert sum(agree) / len(agree) == pytest.approx(0.5, abs=0.05)


def test_most_denied_objects_have_both_halves_in_the_picture(
    source: ShapesSource, train: list[VqaExample]
) -> None:
    """ "Is there a red circle?" must not be answered by looking for red and for circles."""
    both = []
    for example in train:
        if example.question_type == "existence" and example.answers[0] == "no":
            color, shape = example.question.removesuffix("?").split()[-2:]
            scene = source.scene(example.image_id)
            both.append(scene.count("color", color) > 0 and scene.count("shape", shape) > 0)

    assert sum(both) / len(both) > 0.55


def test_every_question_can_be_used(source: ShapesSource) -> None:
    assert all(not source.left_out(split) for split in ("train", "val", "test"))


def test_unknown_split_names_the_splits_there_are() -> None:
    with pytest.raises(SourceError, match=r"no split 'dev'; there are train, val, test\. Choose"):
        ShapesSource(images=2).examples("dev")


@pytest.mark.parametrize("image_id", [0, 999_999, 1_000_002, 2_000_001, 4_000_000, "1000000"])
def test_unknown_picture_is_refused(image_id: int | str) -> None:
    with pytest.raises(SourceError, match=rf"no picture {image_id!r} among 2 train scenes and 1"):
        ShapesSource(images=2).picture(image_id)


def test_where_names_seed_split_and_index() -> None:
    assert ShapesSource(images=10, seed=4).where(2_000_001) == "shapes (seed 4), val scene 1"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": 0}, "images is 0, but must be 1 to 1000000"),
        ({"seed": -1}, "seed is -1, but must be 0 to"),
        ({"size": 8}, "size is 8, but must be 56 to 2048"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ShapesSource(**values)
