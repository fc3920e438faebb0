"""Questions in one file and their annotations in another: VQAv2's form, wherever the files lie."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import Form, Id, LeftOut
from frozen_vqa.pipeline.sources.official.reader import OfficialSource, listed
from frozen_vqa.pipeline.sources.own.tables import Record
from frozen_vqa.pipeline.sources.validation import (
    UnusableError,
    answers_of,
    id_of,
    id_or_none,
    require_fields,
    shown,
    type_of,
)

_PATTERN = re.compile(
    r"(?P<folder>[^{}]*/)?(?P<begin>[^{}/]*)\{image_id(:0(?P<digits>\d{1,2})d)?\}(?P<end>[^{}]*)"
)


class JoinedSource(OfficialSource):
    """Questions in one file, and by their ids annotations in another."""

    keys = {name: name for name in ("question_id", "image_id", "question")}

    def annotation_file(self, split: str) -> Path | None:
        """Return the file of a split's annotations; None if it has no answers."""
        raise NotImplementedError

    def records(self, split: str, file: Path) -> Iterable[Record]:
        annotations = self.annotation_file(split)
        self._annotations = Annotations(annotations, self.blanks) if annotations else None
        return listed(file, "questions")

    def fields(self, split: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        found = super().fields(split, entry)
        question_id = id_of(found["question_id"], "question_id")
        return found | (self._annotations.of(question_id) if self._annotations else {})

    def without_question(self, asked: set[Id | None]) -> Sequence[LeftOut]:
        return self._annotations.without_question(asked) if self._annotations else ()


class Annotations:
    """The entries of an annotation file by question; each is checked when its question needs it."""

    def __init__(self, file: Path, blanks: bool) -> None:
        self._file, self._blanks = file, blanks
        self._entries: dict[Id, Record] = {}
        self._strays: list[LeftOut] = []
        for record in listed(file, "annotations"):
            question_id = None
            try:
                if isinstance(record.found, UnusableError):
                    raise record.found
                require_fields(record.found, ("question_id",))
                question_id = id_or_none(record.found["question_id"])
                first = self._entries.setdefault(
                    id_of(record.found["question_id"], "question_id"), record
                )
                if first is not record:
                    raise UnusableError(
                        f"question_id {shown(question_id)} was annotated before, in entry "
                        f"{first.number}; the first is kept"
                    )
            except UnusableError as error:
                self._strays.append(LeftOut(question_id, record.where, str(error)))

    def of(self, question_id: Id) -> dict[str, Any]:
        """Return the answers, the question type and the answer type."""
        record = self._entries.get(question_id)
        if record is None:
            raise UnusableError(
                f"no annotation in {self._file.name}; use question and annotation files of one "
                "release"
            )
        try:
            assert isinstance(record.found, Mapping)
            require_fields(record.found, ("answers",))
            found: dict[str, Any] = {
                "answers": answers_of(record.found["answers"], blanks=self._blanks)
            }
            for name in ("question_type", "answer_type"):
                found[name] = type_of(record.found.get(name), name)
            return found
        except UnusableError as error:
            error.where = record.where
            raise

    def without_question(self, asked: set[Id | None]) -> list[LeftOut]:
        """Return the entries whose question is not in `asked` or has another annotation."""
        return self._strays + [
            LeftOut(question_id, record.where, "annotation without a question")
            for question_id, record in self._entries.items()
            if question_id not in asked
        ]


class FileInVqav2Form(JoinedSource):
    """One file of questions in VQAv2's form, read as any split, and one of annotations.

    Args:
        questions: The file of the questions.
        annotations: The file of the annotations; None if there are none.
        images: The path of a picture, such as "val2014/COCO_val2014_{image_id:012d}.jpg".
    """

    name, title, metric, get_it, files = "vqav2", "VQAv2's form", None, "", {}
    blanks = False

    def __init__(self, questions: Path, annotations: Path | None, images: Path | None) -> None:
        pattern = str(images or "")
        if not (found := _PATTERN.fullmatch(pattern)):
            raise SourceError(
                f"vqav2:{questions}: found --images {pattern!r}; for a file of questions the path "
                "of a picture with its id is needed, such as --images "
                "'val2014/COCO_val2014_{image_id:012d}.jpg'"
            )
        super().__init__(Path(found["folder"] or "."))
        self._named, self._pattern = found, pattern
        self._questions, self._given = questions, annotations

    def splits(self) -> list[str]:
        return []

    def form(self, split: str) -> Form:
        return Form("a file in VQAv2's form", str(self._questions))

    def _file(self, split: str) -> Path:
        return self._questions

    def annotation_file(self, split: str) -> Path | None:
        return self._given

    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        image_id, named = id_of(entry["image_id"], "image_id"), self._named
        if named["digits"] and not isinstance(image_id, int):
            raise UnusableError(f"image_id is {shown(image_id)}; --images needs a whole number")
        return f"{named['begin']}{str(image_id).zfill(int(named['digits'] or 0))}{named['end']}"
