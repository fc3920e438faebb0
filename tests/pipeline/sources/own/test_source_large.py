"""A file of many lines, which lie in a file while they are sorted out, gives the same questions."""

from pathlib import Path

import pytest

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.own.source import OwnSource
from tests.support.jsonl_files import LINE, write
from tests.support.large import in_files

LINES = {
    "no split named": [LINE, "no JSON", {"image": "a.png"}, {**LINE, "image": "../out.png"}] * 5,
    "a split each": [{**LINE, "split": "train"}, {**LINE, "split": "val"}, LINE, "{"] * 5
    + [{**LINE, "split": "train", "choices": ["a", "b"], "answers": ["a"]}],
    "few splits named": [LINE, LINE, {**LINE, "split": "val"}, {**LINE, "split": 7}] * 5,
    "ids twice": [{**LINE, "question_id": n % 7, "image_id": n % 3} for n in range(40)],
    "another form of answers": [LINE, {**LINE, "answer": [3]}] * 5,
}


@pytest.mark.parametrize("lines", LINES.values(), ids=LINES)
def test_questions_and_faults_are_those_of_a_short_file(
    tmp_path: Path, lines: list[dict[str, object] | str]
) -> None:
    file = write(tmp_path / "train.jsonl", *lines)

    def found() -> object:
        source = OwnSource(file)
        try:
            examples = list(source.examples("train"))
        except SourceError as error:
            return str(error)
        return examples, source.left_out("train"), [source.where(e.image_id) for e in examples]

    whole = found()
    with in_files(1):
        assert found() == whole
