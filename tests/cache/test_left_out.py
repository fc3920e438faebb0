"""What a split lacks, and the sentences that say so."""

from dataclasses import replace

from frozen_vqa.cache import Failure
from frozen_vqa.cache.left_out import NONE, LeftOutQuestions, left_out_of, note_pictures
from tests.support.manifests import SMALL

FAULT = Failure(7, "data.json:3", "no question", "val")
PICTURE = Failure("a.jpg", "a.jpg", "truncated", "")


def test_each_reason_is_a_sentence_with_its_first_case() -> None:
    found = LeftOutQuestions((FAULT, FAULT), 1200, picture=PICTURE)
    assert found.describe() == [
        "2 questions are left out because they cannot be used; the first is data.json:3: no "
        "question",
        "1,200 questions are left out because their pictures cannot be read; the first is a.jpg: "
        "truncated",
    ]
    assert (len(found), found.to_json()) == (1202, {"unusable": 2, "without_picture": 1200})


def test_a_reason_without_questions_is_not_said() -> None:
    assert (NONE.describe(), len(NONE)) == ([], 0)
    assert LeftOutQuestions(without_picture=1).describe() == [
        "1 questions are left out because their pictures cannot be read"
    ]


def test_what_is_known_of_the_questions_that_a_split_lacks() -> None:
    """Five of them: two faults of which one has an id, and three pictures of which one is noted."""
    faults = [FAULT, replace(FAULT, id=None)]
    origin = note_pictures([(9, "a.jpg")])
    record = replace(SMALL.splits["val"], left_out=5, origin=origin)
    manifest = replace(SMALL, splits={"val": record}, failures=(*faults, PICTURE))
    found = left_out_of(manifest, "val", answered=[1, 2])
    assert found == LeftOutQuestions(faults, 3, [7, 9], 1 + 2, PICTURE)
    assert left_out_of(manifest, "val", answered=[7]).ids == [9]  # a second question of that id


def test_an_origin_notes_pictures_only_where_one_is_lost() -> None:
    assert note_pictures([]) == {}
    assert note_pictures([(7, 8), ("q", "a.jpg")]) == {
        "without_picture": [[7, "8"], ["q", "a.jpg"]]
    }
