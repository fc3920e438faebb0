"""What is distinct in the splits, in order of first appearance."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.extract.plan import Plan, make_plan
from frozen_vqa.pipeline.sources.example import Id, LeftOut, VqaExample
from tests.support.frozen import Source, Text

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
    with pytest.raises(SourceError, match="split 'val' has no question that can be used"):
        plan_of(train=[(1, "a")], val=[])


def test_what_the_source_left_out_is_kept_whatever_the_limit() -> None:
    faults = [LeftOut(None, f"line {n}", "no good") for n in range(3)]
    source = Source({"train": examples([(1, "a"), (2, "b")])}, {}, {"train": faults})

    for limit in (None, 1):
        assert make_plan(source, splits=["train"], text=Text(), limit=limit).left_out == {
            "train": faults
        }


def test_a_question_too_long_for_the_text_model_is_left_out() -> None:
    """BOS counts: of five tokens, four are bytes of the question."""
    fault = LeftOut(3, "line 4", "no good")
    splits = {"train": examples([(1, "abcd"), (9, "abcde"), (2, "x")]), "val": examples([(3, "y")])}
    source = Source(splits, {}, {"train": [fault]})

    plan = make_plan(source, splits=["train", "val"], text=Text(max_tokens=5))

    assert [e.question for e in plan.splits["train"]] == ["abcd", "x"]
    assert plan.left_out == {
        "train": [
            fault,
            LeftOut(
                1,
                "split 'train', question 1",
                "the question has 6 tokens, and fake-text reads at most 5; shorten it, or choose "
                "another text model",
            ),
        ],
        "val": [],
    }
    assert list(plan.images) == [1, 2, 3]
    assert list(plan.questions) == ["abcd", "x", "y"]
    assert (plan.tokens, plan.prefixes) == (5 + 2 + 2, 5 + 1 + 1)


def test_a_question_of_5000_words_is_kept_where_the_positions_suffice() -> None:
    long = " ".join(["why"] * 5000)

    plan = make_plan(
        Source({"train": examples([(1, long)])}, {}), splits=["train"], text=Text(max_tokens=20_000)
    )

    assert plan.tokens == 20_000
    assert plan.left_out == {"train": []}


def test_a_limit_counts_the_questions_that_can_be_used() -> None:
    rows = [(1, "long enough"), (2, "b"), (3, "too long too"), (4, "d"), (5, "far too long")]
    source = Source({"train": examples(rows)}, {})

    plan = make_plan(source, splits=["train"], text=Text(max_tokens=5), limit=2)

    assert [e.question for e in plan.splits["train"]] == ["b", "d"]
    assert [fault.question_id for fault in plan.left_out["train"]] == [0, 2]  # 4 was not asked for


def test_a_split_of_questions_too_long_is_refused_with_the_reason() -> None:
    source = Source({"train": examples([(1, "abcde")])}, {})

    match = "split 'train' has no question that can be used; the first, 0: the question has 6 tok"
    with pytest.raises(SourceError, match=match):
        make_plan(source, splits=["train"], text=Text(max_tokens=5))


def test_of_image_ids_that_look_alike_the_later_is_left_out() -> None:
    """The cache knows a picture by its id as text."""
    plan = plan_of(train=[(7, "a"), (7, "b")], val=[("7", "a"), ("07", "a")])

    assert list(plan.images) == [7, "07"]
    reason = "image_id '7' looks like 7 of another picture; write both as text or both as numbers"
    assert plan.left_out == {"train": [], "val": [LeftOut(0, "split 'val', question 0", reason)]}
    assert [e.question_id for e in plan.splits["val"]] == [1]


def test_a_source_says_itself_that_a_split_is_missing() -> None:
    with pytest.raises(SourceError, match="no split 'test'"):
        make_plan(Source({}, {}), splits=["test"], text=Text())
