"""The questions on the contact sheet."""

import numpy as np

from frozen_vqa.cache import SplitTable
from frozen_vqa.pipeline.commands.demo import SHEET_TILES, _choose_rows


def test_types_take_turns_and_no_picture_stands_twice() -> None:
    kinds = ["what", "count", "where"]
    count = 90
    table = SplitTable(
        question_ids=list(range(count)),
        image_rows=np.arange(count) // 2,
        question_rows=np.zeros(count, dtype=np.int64),
        answers=[("red",)] * count,
        question_types=[kinds[i // 2 % 3] if i % 2 else "what" for i in range(count)],
        answer_types=["other"] * count,
    )
    rows = _choose_rows(table)
    assert len(rows) == len({int(table.image_rows[row]) for row in rows}) == SHEET_TILES
    assert [table.question_types[row] for row in rows] == sorted(kinds) * (SHEET_TILES // 3)
    assert rows[0] == table.question_types.index("count")
