"""VQAv2 as its authors publish it, read for stage one: what one question lacks costs no other.

    ROOT/v2_OpenEnded_mscoco_train2014_questions.json    {"questions": [{"question_id", …}, …]}
    ROOT/v2_mscoco_train2014_annotations.json            {"annotations": [{"question_id", …}, …]}
    ROOT/train2014/COCO_train2014_000000000009.jpg

The formats are those of https://visualqa.org/download.html. `pipeline/metrics/official_files.py`
reads the same files for a score, where every entry must be right.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import Id, LeftOut, VqaExample
from frozen_vqa.pipeline.sources.split_names import did_you_mean
from frozen_vqa.pipeline.sources.strict_json import entries_in
from frozen_vqa.pipeline.sources.validation import (
    UnusableError,
    answers_of,
    id_of,
    id_or_none,
    question_of,
    require_fields,
    require_some,
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


class Vqav2Source:
    """VQAv2 as its authors publish it."""

    def __init__(self, root: Path) -> None:
        """Look at the folder. No file is read yet.

        Raises:
            SourceError: if there is no such folder.
        """
        if not root.is_dir():
            raise SourceError(f"vqav2:{root}: there is no such folder. Check the path.")
        self._root = root
        self._folders: dict[Id, str] = {}
        self._left_out: dict[str, list[LeftOut]] = {}

    def examples(self, split: str) -> list[VqaExample]:
        """Return the questions of "train", "val", "test" or "test-dev" in their official order.

        The test splits have no answers.

        Raises:
            SourceError: if a file is missing or damaged, or no question can be used.
        """
        name, folder, answered = self._split(split)
        file = self._question_file(split)
        annotations = _Annotations(self._annotation_file(name)) if answered else None
        examples: list[VqaExample] = []
        left_out: list[LeftOut] = []
        first: dict[Id, int] = {}
        for number, entry in enumerate(_entries(file, "questions")):
            try:
                example = self._example(entry, annotations, first, folder)
            except UnusableError as error:
                where = error.where or _where(file, number)
                left_out.append(LeftOut(_id_in(entry), where, str(error)))
            else:
                first[example.question_id] = number
                self._folders[example.image_id] = folder
                examples.append(example)
        if annotations:
            asked = first.keys() | {fault.question_id for fault in left_out}
            left_out += annotations.not_for(asked)
        require_some(examples, left_out, file)
        self._left_out[split] = left_out
        return examples

    def left_out(self, split: str) -> Sequence[LeftOut]:
        """Return what `examples(split)` could not use: questions first, then annotations."""
        return self._left_out[split]

    def picture(self, image_id: Id) -> Path:
        """Return the file of a picture."""
        folder = self._folders[image_id]
        return self._root / folder / f"COCO_{folder}_{image_id:012d}.jpg"

    def where(self, image_id: Id) -> str:
        """Return the path of a picture."""
        return str(self.picture(image_id))

    def _example(
        self, entry: Any, annotations: "_Annotations | None", first: dict[Id, int], folder: str
    ) -> VqaExample:
        """Make an example of one entry of the question file."""
        _require_object(entry, ("question_id", "image_id", "question"))
        question_id = id_of(entry["question_id"], "question_id")
        image_id = entry["image_id"]
        if not isinstance(id_or_none(image_id), int):
            raise UnusableError(f"image_id is {shown(image_id)}; a whole number is needed")
        question = question_of(entry["question"])
        if question_id in first:
            raise UnusableError(
                f"question_id {shown(question_id)} was used before, in entry {first[question_id]}; "
                "the first is kept"
            )
        before = self._folders.get(image_id, folder)
        if before != folder:
            raise UnusableError(
                f"image_id {image_id} is in {folder} here, but was in {before} before; one id must "
                "mean one picture"
            )
        if annotations is None:
            return VqaExample(question_id, image_id, question, ())
        return VqaExample(question_id, image_id, question, *annotations.of(question_id))

    def _question_file(self, split: str) -> Path:
        return self._root / f"v2_OpenEnded_mscoco_{_SPLITS[split][0]}_questions.json"

    def _annotation_file(self, name: str) -> Path:
        file = self._root / f"v2_mscoco_{name}_annotations.json"
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
    """The entries of an annotation file by question; each is judged when its question asks."""

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
        """Return the answers, the question type and the answer type of a question."""
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
                _answers(entry["answers"]),
                type_of(entry.get("question_type"), "question_type"),
                type_of(entry.get("answer_type"), "answer_type"),
            )
        except UnusableError as error:
            raise UnusableError(str(error), _where(self._file, number)) from None

    def not_for(self, asked: set[Id | None]) -> list[LeftOut]:
        """Return the entries that are for no question of `asked`, or for one that has another."""
        return self._strays + [
            LeftOut(question_id, _where(self._file, number), "annotation without a question")
            for question_id, number in self._numbers.items()
            if question_id not in asked
        ]


def _entries(file: Path, key: str) -> list[Any]:
    entries = entries_in(file, key)
    if not entries:
        raise SourceError(
            f"{file}: the list of {key} is empty; at least one is needed. Use the official file."
        )
    return entries


def _answers(value: object) -> tuple[str, ...]:
    """Return the texts of a list of answers, each an object with "answer"; null is none."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UnusableError(f"answers is {shown(value)}; a list is needed")
    try:
        return answers_of([given["answer"] for given in value])
    except (TypeError, KeyError):
        raise UnusableError(
            'answers holds something else than objects with "answer"; {"answer": "…"} is needed'
        ) from None


def _require_object(entry: object, fields: Sequence[str]) -> None:
    if not isinstance(entry, dict):
        raise UnusableError(f"found {shown(entry)}; an object is needed")
    require_fields(entry, fields)


def _id_in(entry: object) -> Id | None:
    return id_or_none(entry.get("question_id")) if isinstance(entry, dict) else None


def _where(file: Path, number: int) -> str:
    return f"{file}: entry {number}"
