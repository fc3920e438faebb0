"""What is distinct in the splits, in order of first appearance."""

from collections.abc import Sequence

import pytest
from frozen import Source, Text
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SourceError
from pipeline.examples import Id, VqaExample
from pipeline.plan import Plan, make_plan

few = st.lists(st.tuples(st.integers(0, 4), st.text("ab ", max_size=4)), min_size=1, max_size=10)


def examples(rows: Sequence[tuple[Id, str]]) -> list[VqaExample]:
    return [VqaExample(i, image, text, ("yes",)) for i, (image, text) in enumerate(rows)]


def plan_of(*, limit: int | None = None, **splits: Sequence[tuple[Id, str]]) -> Plan:
    source = Source({name: examples(rows) for name, rows in splits.items()}, {})
    return make_plan(source, splits=list(splits), text=Text(), limit=limit)


@given(few, few)
def test_a_plan_against_brute_force(train: list[tuple[Id, str]], val: list[tuple[Id, str]]) -> None:
    plan = plan_of(train=train, val=val)

    rows = train + val
    tokens = {text: Text().tokens([text])[0] for _, text in rows}
    assert plan.splits == {"train": examples(train), "val": examples(val)}
    assert list(plan.images) == list(dict.fromkeys(image for image, _ in rows))
    assert list(plan.questions.items()) == list(tokens.items())
    assert plan.tokens == sum(len(tokens[text]) for _, text in rows)
    assert plan.prefixes == len({tuple(t[: i + 1]) for t in tokens.values() for i in range(len(t))})
    assert plan.question_count == len(rows)


def test_a_limit_takes_the_first_questions_of_each_split() -> None:
    train = [(1, "a"), (2, "b"), (1, "c")]
    val = [(3, "d")]

    assert plan_of(train=train, val=val, limit=2) == plan_of(train=train[:2], val=val)
    assert plan_of(train=train, val=val, limit=9) == plan_of(train=train, val=val)


def test_a_split_given_twice_is_refused() -> None:
    source = Source({"train": examples([(1, "a")])}, {})
    with pytest.raises(SourceError, match="--split train is given twice"):
        make_plan(source, splits=["train", "train"], text=Text())


def test_a_split_without_questions_is_refused() -> None:
    with pytest.raises(SourceError, match="split 'val' has no questions"):
        plan_of(train=[(1, "a")], val=[])


def test_image_ids_that_look_alike_are_refused() -> None:
    with pytest.raises(SourceError, match="image ids '7' and 7 look alike"):
        plan_of(train=[(7, "a")], val=[("7", "a")])
    assert list(plan_of(train=[(7, "a"), (7, "b")], val=[("07", "a")]).images) == [7, "07"]


def test_a_source_says_itself_that_a_split_is_missing() -> None:
    with pytest.raises(SourceError, match="no split 'test'"):
        make_plan(Source({}, {}), splits=["test"], text=Text())
