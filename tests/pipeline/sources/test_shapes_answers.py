"""Questions about generated scenes: true answers, known words, and no useful prior.

The answers are checked by a reader that shares no code with the generator.
"""

from collections import Counter, defaultdict

import pytest

from frozen_vqa.pipeline.sources.example import VqaExample
from frozen_vqa.pipeline.sources.shapes import ShapesSource
from frozen_vqa.pipeline.sources.shapes_questions import COLORS, EXTREMES, SHAPES
from tests.support import shapes_reader
from tests.support.shapes_reader import answer, look

source = shapes_reader.source  # a fixture

FIXED_WORDS = """
what color shape size is the how many are there a an larger than more object objects left right of
above below
"""


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
    words = {*FIXED_WORDS.split(), *COLORS, *SHAPES, *(f"{shape}s" for shape in SHAPES), *EXTREMES}
    assert {word for text in texts for word in text} == words
    assert len(words) < 40


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
