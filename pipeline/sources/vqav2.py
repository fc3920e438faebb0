"""VQAv2 as its authors publish it, for stage one: a faulty question costs no other question.

    ROOT/v2_OpenEnded_mscoco_train2014_questions.json    {"questions": [{"question_id", …}, …]}
    ROOT/v2_mscoco_train2014_annotations.json            {"annotations": [{"question_id", …}, …]}
    ROOT/train2014/COCO_train2014_000000000009.jpg

The formats are those of https://visualqa.org/download.html. `pipeline/metrics/official_files.py`
reads the same files for a score, where every entry must be right.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import Id, LeftOut, VqaExample
from frozen_vqa.pipeline.sources.selection import FileSource, Selection, did_you_mean
from frozen_vqa.pipeline.sources.strict_json import entries_in
from frozen_vqa.pipeline.sources.validation import (
    UnusableError,
    answers_of,
    id_of,
    id_or_none,
    question_of,
    require_fields,
    shown,
    type_of,
)

# split: (name in the question file, folder of the pictures, whether answers are published)
_SPLITS = {
    "train": ("train2014", "train2014", True),
    "val": ("val2014", "val2014", True),
    "test": ("test2015", "test2015", False),
    "test-dev": ("test-dev2015", "test2015", False),
}
_GET_IT = "Get it from https://visualqa.org/download.html and unzip it there."


class Vqav2Source(FileSource):
    """VQAv2 as its authors publish it; `left_out` lists questions first, then annotations."""

    def __init__(self, root: Path) -> None:
        """Raise `SourceError` if there is no such folder; no file is read yet."""
        if not root.is_dir():
            raise SourceError(f"vqav2:{root}: there is no such folder. Check the path.")
        super().__init__(root)

    def examples(self, split: str) -> list[VqaExample]:
        """Return the usable questions of a split; "test" and "test-dev" have no answers."""
        name, folder, answered = self._split(split)
        file = self._question_file(split)
        annotations = _Annotations(self._annotation_file(name)) if answered else None
        selection = Selection("entry", self._pictures)
        for number, entry in enumerate(_entries(file, "questions")):
            make = partial(_example, entry, annotations, folder)
            selection.add(number, _where(file, number), _id_in(entry), make)
        if annotations:
            asked = selection.numbers.keys() | {fault.question_id for fault in selection.left_out}
            selection.left_out += annotations.without_question(asked)
        return self._finish(split, selection, file)

    def _question_file(self, split: str) -> Path:
        return path_in(self._root, f"v2_OpenEnded_mscoco_{_SPLITS[split][0]}_questions.json")

    def _annotation_file(self, name: str) -> Path:
        file = path_in(self._root, f"v2_mscoco_{name}_annotations.json")
        if not file.is_file():
            raise SourceError(
                f"vqav2:{self._root}: {file.name} is not there, and the questions of {name} need "
                f"their answers. {_GET_IT}"
            )
        return file

    def _split(self, split: str) -> tuple[str, str, bool]:
        """Return the row of the table, once the question file is known to be there."""
        here = [other for other in _SPLITS if self._question_file(other).is_file()]
        there = f"Splits in the folder: {', '.join(here) or 'none'}."
        if split not in _SPLITS:
            raise SourceError(
                f"vqav2:{self._root}: no split {split!r}; VQAv2 has {', '.join(_SPLITS)}."
                f"{did_you_mean(split, _SPLITS)} {there}"
            )
        if split not in here:
            raise SourceError(
                f"vqav2:{self._root}: split {split!r} needs {self._question_file(split).name}, "
                f"which is not there. {there} {_GET_IT}"
            )
        return _SPLITS[split]


class _Annotations:
    """The entries of an annotation file by question; each is checked when its question needs it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._entries = _entries(file, "annotations")
        self._numbers: dict[Id, int] = {}
        self._strays: list[LeftOut] = []
        for number, entry in enumerate(self._entries):
            try:
                _require_object(entry, ("question_id",))
                question_id = id_of(entry["question_id"], "question_id")
                first = self._numbers.setdefault(question_id, number)
                if first != number:
                    raise UnusableError(
                        f"question_id {shown(question_id)} was annotated before, in entry {first}; "
                        "the first is kept"
                    )
            except UnusableError as error:
                self._strays.append(LeftOut(_id_in(entry), _where(file, number), str(error)))

    def of(self, question_id: Id) -> tuple[tuple[str, ...], str, str]:
        """Return the answers, the question type and the answer type."""
        if question_id not in self._numbers:
            raise UnusableError(
                f"no annotation in {self._file.name}; use question and annotation files of one "
                "release"
            )
        number = self._numbers[question_id]
        entry = self._entries[number]
        try:
            require_fields(entry, ("answers",))
            return (
                answers_of(entry["answers"]),
                type_of(entry.get("question_type"), "question_type"),
                type_of(entry.get("answer_type"), "answer_type"),
            )
        except UnusableError as error:
            error.where = _where(self._file, number)
            raise

    def without_question(self, asked: set[Id | None]) -> list[LeftOut]:
        """Return the entries whose question is not in `asked` or has another annotation."""
        return self._strays + [
            LeftOut(question_id, _where(self._file, number), "annotation without a question")
            for question_id, number in self._numbers.items()
            if question_id not in asked
        ]


def _example(entry: Any, annotations: _Annotations | None, folder: str) -> tuple[VqaExample, str]:
    """Return the question of one entry, and the path of its picture."""
    _require_object(entry, ("question_id", "image_id", "question"))
    question_id = id_of(entry["question_id"], "question_id")
    image_id = entry["image_id"]
    if not isinstance(id_or_none(image_id), int):
        raise UnusableError(f"image_id is {shown(image_id)}; a whole number is needed")
    question = question_of(entry["question"])
    found = annotations.of(question_id) if annotations else ((),)
    picture = f"{folder}/COCO_{folder}_{image_id:012d}.jpg"
    return VqaExample(question_id, image_id, question, *found), picture


def _entries(file: Path, key: str) -> list[Any]:
    entries = entries_in(file, key)
    if not entries:
        raise SourceError(
            f"{file}: the list of {key} is empty; at least one is needed. Use the official file."
        )
    return entries


def _require_object(entry: object, fields: Sequence[str]) -> None:
    if not isinstance(entry, dict):
        raise UnusableError(f"found {shown(entry)}; an object is needed")
    require_fields(entry, fields)


def _id_in(entry: object) -> Id | None:
    return id_or_none(entry.get("question_id")) if isinstance(entry, dict) else None


def _where(file: Path, number: int) -> str:
    return f"{file}: entry {number}"
