"""ScienceQA: the questions that have a picture, each with two to five choices.

ROOT/problems.json      {"42": {"question", "choices", "answer", "hint", "image", "split", …}}
ROOT/pid_splits.json    {"test": ["42", …], …}
ROOT/images/test/42/image.png
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.sources.official.reader import OfficialSource, keyed, name_in
from frozen_vqa.pipeline.sources.own.tables import Record
from frozen_vqa.pipeline.sources.strict_json import entries_in
from frozen_vqa.pipeline.sources.validation import UnusableError, question_of, shown, text_of

_PARTS = ("train", "val", "test", "trainval", "minitrain", "minival", "minitest")


class ScienceQaSource(OfficialSource):
    """A hint stands before its question, because many questions ask about it."""

    name, title, metric = "scienceqa", "ScienceQA", "scienceqa"
    get_it = "https://github.com/lupantech/ScienceQA"
    files = dict.fromkeys(_PARTS, ("pid_splits.json",))
    keys = {
        "question_id": "id",
        "image_id": "id",
        "question": "question",
        "choices": "choices",
        "right_choice": "answer",
        "question_type": "topic",
    }
    tail = 2  # all are named image.png
    groups = {name: name for name in ("subject", "grade", "category")}

    def records(self, split: str, file: Path) -> Iterable[Record]:
        asked = {str(one) for one in entries_in(file, split)}
        problems = file.with_name("problems.json")
        if not problems.is_file():
            raise self.missing(split, [problems.name], "It has the questions.")
        for record in keyed(problems, "id"):
            if isinstance(record.found, UnusableError):
                yield record
            elif (name := record.found["id"]) in asked:
                asked.remove(name)
                if record.found.get("image"):
                    yield record
        for name in sorted(asked):
            fault = UnusableError(f"there is no such question in {problems.name}")
            yield Record(0, f"{file}: {shown(name)}", fault)

    def fields(self, split: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        found = super().fields(split, entry)
        if not (hint := entry.get("hint")):
            return found
        hint, question = text_of(hint, "hint"), question_of(entry["question"])
        return found | {"question": f"{hint}\n{question}"}

    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        part, name = name_in(entry, "split"), name_in(entry, "image")
        return f"images/{part}/{name_in(entry, 'id')}/{name}"
