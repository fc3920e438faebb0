"""What a split lacks, and the sentences that say so."""

from frozen_vqa.cache import Failure
from frozen_vqa.cache.left_out import NONE, LeftOutQuestions, note_pictures

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


def test_an_origin_notes_pictures_only_where_one_is_lost() -> None:
    assert note_pictures([]) == {}
    assert note_pictures([(7, 8), ("q", "a.jpg")]) == {
        "without_picture": [[7, "8"], ["q", "a.jpg"]]
    }
