"""The table of a split comes back as it was, ids of both kinds and all answers included."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.format.hdf5 import (
    Hdf5Bytes,
    Hdf5File,
    build_hdf5,
    column_datasets,
    text_datasets,
)
from frozen_vqa.cache.format.splits import SplitTable, read_split

texts = st.text(max_size=6)
integers = st.integers(-(2**63), 2**63 - 1)
few_answers = st.lists(
    st.sampled_from(["yes", "no", "", "café", "2", "\u3042"]) | texts, max_size=11
)
several = st.lists(texts, max_size=3).map(tuple)
rows = st.tuples(
    *(integers | integers.map(str) | texts, integers, integers, few_answers, texts, texts),
    *(texts, texts, several, st.lists(integers, max_size=2).map(tuple)),
)

TABLE = SplitTable(
    question_ids=[7, "7", "q-ü"],
    image_rows=np.array([4, 0, 4]),
    question_rows=np.array([1, 1, 0]),
    answers=[("yes", "no", "yes"), (), ("two",)],
    question_types=["is it", "", "how many"],
    answer_types=["yes/no", "", "number"],
    groups={"modality": ["CT", "", "MRI"], "organ": ["", "", "lung"]},
    choices=[("yes", "no"), (), ("one", "two")],
    right_choices=[1, -1, -1],
    more_images=[(1, 2), (), (3,)],
    choice_rows=[(3, 2), (), (0, 4)],
)


def same(found: SplitTable, expected: SplitTable) -> None:
    assert list(found.question_ids) == list(expected.question_ids)
    assert [type(i) for i in found.question_ids] == [type(i) for i in expected.question_ids]
    np.testing.assert_array_equal(found.image_rows, expected.image_rows)
    np.testing.assert_array_equal(found.question_rows, expected.question_rows)
    assert list(found.answers) == list(expected.answers)
    assert list(found.question_types) == list(expected.question_types)
    assert list(found.answer_types) == list(expected.answer_types)
    for name in ("groups", "choices", "right_choices", "choice_rows", "more_images"):
        assert getattr(found, name) == getattr(expected, name)


@settings(deadline=None, max_examples=40)
@given(st.lists(rows, max_size=8))
def test_a_split_comes_back_as_it_was(rows: list[tuple]) -> None:
    ids, images, questions, answers, question_types, answer_types, one, other, choices, more = (
        [row[column] for row in rows] for column in range(10)
    )
    table = SplitTable(
        ids,
        np.array(images, dtype=np.int64),
        np.array(questions, dtype=np.int64),
        [tuple(given) for given in answers],
        question_types,
        answer_types,
        {"one": one, "": other},
        choices,
        [len(some) - 1 for some in choices],
        more,
        [tuple(map(len, some)) for some in choices],
    )
    found = read_split(opened(table.to_hdf5()))

    same(found, table)
    assert len(found) == len(rows)


def test_questions_are_taken_with_all_that_belongs_to_them() -> None:
    plain = SplitTable(
        ["a", 1], np.array([5, 6]), np.array([7, 8]), [(), ("b",)], ["", "c"], [""] * 2
    )
    none, last = np.array([], dtype=int), np.array([1])

    taken = TABLE.take(np.array([2, 0]))
    assert taken.question_ids == ["q-ü", 7]
    assert taken.image_rows.tolist() == [4, 4]
    assert taken.groups == {"modality": ["MRI", "CT"], "organ": ["lung", ""]}
    assert (taken.choices, taken.right_choices) == ([("one", "two"), ("yes", "no")], [-1, 1])
    assert (taken.more_images, taken.choice_rows) == ([(3,), (1, 2)], [(0, 4), (3, 2)])
    assert (len(TABLE.take(none)), TABLE.take(none).groups["organ"]) == (0, [])
    same(plain.take(last), SplitTable([1], last + 5, last + 7, [("b",)], ["c"], [""]))


def test_plain_h5py_reads_a_split(tmp_path: Path) -> None:
    (tmp_path / "val.h5").write_bytes(b"".join(TABLE.to_hdf5().pieces))

    with h5py.File(tmp_path / "val.h5") as file:
        column = {name: file[name][()] for name in file}
    words = column["answer_utf8"].tobytes().decode()
    cuts = column["answer_offsets"]
    flat = [words[cuts[i] : cuts[i + 1]] for i in column["answer_index"]]
    begin = column["answers_begin"]
    assert [tuple(flat[begin[i] : begin[i + 1]]) for i in range(3)] == list(TABLE.answers)
    assert column["question_id_utf8"].tobytes() == "77q-ü".encode()
    assert column["question_id_is_integer"].tolist() == [1, 0, 0]
    assert column["image_row"].tolist() == [4, 0, 4]
    assert column["question_row"].tolist() == [1, 1, 0]


def test_equal_tables_give_equal_bytes() -> None:
    assert TABLE.to_hdf5() == SplitTable(**vars(TABLE)).to_hdf5()
    assert TABLE.to_hdf5() != SplitTable(**{**vars(TABLE), "question_ids": [7, 7, "q-ü"]}).to_hdf5()


def int32(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (column_datasets("image_row", np.array([4, 0])), "columns have different lengths"),
        (
            column_datasets("question_row", np.array([1, 1, 0, 0])),
            "columns have different lengths",
        ),
        (text_datasets("question_id", ["7", "7"]), "columns have different lengths"),
        (column_datasets("answer_type_index", int32(0, 1)), "columns have different lengths"),
        (column_datasets("answer_type_index", int32(0, 1, 3)), "'answer_type' points outside"),
        (column_datasets("answer_index", int32(0, 1, 0, -1)), "'answer' points outside"),
        (column_datasets("answers_begin", np.array([0, 3, 3, 5])), "offsets do not fit"),
        (column_datasets("choice_row", np.array([3, 2, 0])), "offsets do not fit"),
        (column_datasets("answers_begin", np.array([0, 3, 2, 4])), "offsets do not fit"),
        (
            column_datasets("answers_begin", np.array([0, 3, 4])),
            "columns have different lengths",
        ),
        (column_datasets("group_1_index", int32(0, 0)), "columns have different lengths"),
        (column_datasets("group_1_index", int32(0, 0, 2)), "'group_1' points outside"),
        (text_datasets("groups", ["organ", "organ"]), "names a group twice"),
        (text_datasets("groups", ["modality", "organ", "x"]), "'group_2_utf8' is missing"),
        (column_datasets("choices_begin", np.array([0, 4])), "columns have different lengths"),
        (column_datasets("choices_begin", np.array([0, 2, 2, 3])), "offsets do not fit"),
        (column_datasets("right_choice", np.array([1, -1])), "columns have different lengths"),
        (column_datasets("right_choice", np.array([2, -1, -1])), "right choice is none of its"),
        (column_datasets("right_choice", np.array([1, 0, -1])), "right choice is none of its"),
        (column_datasets("right_choice", np.array([1, -2, -1])), "right choice is none of its"),
        (column_datasets("more_images_begin", np.array([0, 3])), "columns have different lengths"),
        (column_datasets("image_row", np.float32([4.0, 0.0, 4.0])), "float32 .*needs int64"),
        (
            text_datasets("question_id", ["seven", "7", "q-ü"]),
            "an integer question id is no number",
        ),
        ({"question_row": np.array([1, 1, 1])}, "'question_row' differs from its digest"),
    ],
)
def test_columns_that_do_not_fit_together_are_refused(
    changes: Mapping[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "val.h5"
    path.write_bytes(b"".join(TABLE.to_hdf5().pieces))
    with h5py.File(path) as file:
        whole = {name: file[name][()] for name in file}
    same(read_split(opened(build_hdf5(whole))), TABLE)

    spoilt = opened(build_hdf5({**whole, **changes}))
    with pytest.raises(CacheDamagedError, match=rf"val\.h5: .*{message}"):
        read_split(spoilt)


def opened(new: Hdf5Bytes) -> Hdf5File:
    return Hdf5File(Path("val.h5"), b"".join(new.pieces), new.datasets)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(integers, integers), min_size=1, max_size=8), st.integers(0, 3))
def test_linked_rows_are_the_least_that_links_reach_however_large_rows_are(
    pairs: list[tuple[int, int]], near: int
) -> None:
    pairs = [(a % (near + 2), b) if near else (a, b) for a, b in pairs]  # some meet
    least = {row: row for pair in pairs for row in pair}
    for _ in pairs:
        for one, other in pairs:
            least[one] = least[other] = min(least[one], least[other])
    first = [one for one, _ in pairs]
    table = replace(
        TABLE,
        question_ids=list(range(len(pairs))),
        image_rows=np.array(first),
        more_images=[(other,) for _, other in pairs],
    )
    assert table.linked_rows.tolist() == [least[one] for one in first]
