"""Names of columns: any usual spelling is found, and one that is nearly ours is asked about."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.pipeline.sources.own.columns import ALIASES, find_columns

ALIAS = st.sampled_from([(field, name) for field, names in ALIASES.items() for name in names])


def spell(name: str, space: str, upper: bool) -> str:
    words = name.replace("_", space)
    return words.upper() if upper else words.title()


@settings(deadline=None)
@given(alias=ALIAS, space=st.sampled_from(["", " ", "_", "-"]), upper=st.booleans())
def test_case_and_spaces_do_not_count(alias: tuple[str, str], space: str, upper: bool) -> None:
    field, name = alias
    others = tuple(one for one in ("image", "question") if one != field)
    written = spell(name, space, upper)
    found = find_columns((written, *others, "note"))
    assert found.fault == ""
    assert found.found == {field: written} | {one: one for one in others}


@pytest.mark.parametrize(
    ("names", "given", "fault"),
    [
        (("image", "question", "anwser"), (), "'anwser' is not known; did you mean 'answer'?"),
        (("image", "qestion"), (), "'qestion' is not known; did you mean 'question'?"),
        (("imge", "question"), (), "'imge' is not known; did you mean 'image'?"),
        (("image", "question", "answerable"), (), ""),
        (("image", "question", "anwser"), (("answer", "anwser"),), ""),
        (("image", "question", "anwser"), (("answer", ""),), ""),
        (("Image", "image", "question"), (), "'Image' and 'image' are both the image"),
        (("img", "Frage"), (), "question is missing; the fields are 'img', 'Frage'"),
        (("img", "Frage"), (("question", "Frage"),), ""),
        (("img", "Frage"), (("question", "frage"),), "frage is missing; the fields are 'img'"),
        (("img", "question"), (("answer", "Antwort"),), ""),  # an object may lack it
        ((), (), "image and question are missing; the fields are nothing"),
    ],
)
def test_what_is_wrong_with_the_names(
    names: tuple[str, ...], given: tuple[tuple[str, str], ...], fault: str
) -> None:
    found = find_columns(names, given).fault
    assert (fault in found) if fault else found == ""


def test_a_field_of_two_names_takes_the_first_of_its_names() -> None:
    found = find_columns(("file_name", "image", "question")).found
    assert found["image"] == "image"
