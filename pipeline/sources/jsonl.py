"""Questions and answers as one JSON object a line: the format for your own folder of pictures.

    DATA/train.jsonl   {"image": "images/7.png", "question": "What is it?", "answer": "a dog"}
    DATA/val.jsonl     …
    DATA/images/7.png

`jsonl:DATA` reads the folder, `jsonl:DATA/train.jsonl` one file. A single file either names a
`split` on every line, or on none; then it is one split, under any name that you ask for.

| field | holds |
|---|---|
| `image` | path of the picture, relative to the folder of the file and inside it |
| `question` | the text |
| `answers` or `answer` | a text, a list of texts, or objects with `answer`; none on a test split |
| `question_id` | unique in the split; default: the line number |
| `image_id` | one per picture in all splits; default: the path |
| `question_type`, `answer_type` | for the tables; default: none |

Null is an absent field; other fields are ignored, unless their name is nearly one of these. A line
that cannot be used is left out. A fault of the whole file (its encoding, its split, the form of its
answers) refuses the file.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from frozen_vqa.cache.disk.files import memory_bytes, open_regular
from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import Id, VqaExample
from frozen_vqa.pipeline.sources.selection import FileSource, Selection
from frozen_vqa.pipeline.sources.strict_json import NotJsonError, parse_json
from frozen_vqa.pipeline.sources.validation import (
    UnusableError,
    answers_of,
    id_of,
    id_or_none,
    question_of,
    refuse_nearly_named,
    require_fields,
    shown,
    text_of,
    type_of,
)

FIELDS = (
    "image",
    "question",
    "answers",
    "answer",
    "question_id",
    "image_id",
    "question_type",
    "answer_type",
    "split",
)


class JsonlSource(FileSource):
    """The questions of one `.jsonl` file, or of a folder of `<split>.jsonl`.

    A line whose split cannot be read is left out of every split of its file.
    """

    def __init__(self, path: Path) -> None:
        """Raise `SourceError` if there is no such file, or no `.jsonl` file in the folder."""
        super().__init__(path if path.is_dir() else path.parent)
        self._path = path
        self._split: str | None = None  # the name under which a file without splits was read
        if not (path.is_dir() or path.is_file()):
            found = "this is neither a file nor a folder"
            found = found if path.exists() else "there is no such file or folder"
            raise SourceError(f"jsonl:{path}: {found}. Check the path.")
        if path.is_dir() and not self._splits():
            raise SourceError(
                f"jsonl:{path}: the folder holds no .jsonl file; one per split is needed, such as "
                f"{path / 'train.jsonl'}."
            )

    def examples(self, split: str) -> list[VqaExample]:
        file = self._file(split)
        selection = Selection("line", self._pictures)
        for line in self._lines_of(split, file):
            selection.add(line.number, f"{file}:{line.number}", line.question_id, line.example)
        return self._finish(split, selection, file)

    def _splits(self) -> list[str]:
        return sorted(file.stem for file in self._root.glob("*.jsonl"))

    def _file(self, split: str) -> Path:
        if not self._path.is_dir():
            return self._path
        if split not in self._splits():
            raise SourceError(
                f"{self._path}: no split {split!r}: there is no {split}.jsonl. "
                f"The folder has: {', '.join(self._splits())}."
            )
        return path_in(self._path, f"{split}.jsonl")

    def _lines_of(self, split: str, file: Path) -> list["_Line"]:
        """Return the lines of `split`, and the unusable lines that may belong to it."""
        lines = list(_read_lines(file))
        if not lines:
            raise SourceError(f"{file}: the file has no lines; one line a question is needed.")
        if self._path.is_dir():
            for one in lines:
                if one.split not in (split, "", None):
                    one.refuse(f"split is {one.split!r} in the file of {split!r}; move it")
            return lines
        named = [one.split for one in lines if one.split]
        bare = sum(one.split == "" for one in lines)
        if named and len(named) == bare:
            raise SourceError(
                f"{file}: half of the {len(named) + bare:,} lines name a split and half do not; "
                "all lines or none must. Put a `split` on each, or write a file per split."
            )
        if len(named) < bare or not named:
            self._require_one_name(split)
            fault = "but most lines of the file name none; all or none must"
            for one in lines:
                if one.split:
                    one.refuse(f"split is {one.split!r}, {fault}")
            return lines
        if split not in named:
            raise SourceError(
                f"{file}: no question of split {split!r}; its lines are of: "
                f"{', '.join(sorted(set(named)))}. Ask for one of these."
            )
        for one in lines:
            if one.split == "":
                one.refuse("names no split, but most lines of the file do; all or none must")
        return [one for one in lines if one.split in (split, "", None)]

    def _require_one_name(self, split: str) -> None:
        if self._split not in (None, split):
            raise SourceError(
                f"{self._path}: was read as split {self._split!r} and has no `split` fields, so "
                f"it cannot be {split!r} too. Put a `split` on each line, or use a folder with "
                f"{self._split}.jsonl and {split}.jsonl."
            )
        self._split = split


@dataclass(slots=True)
class _Line:
    number: int  # counted from 1
    question_id: Id | None  # None if it cannot be read
    split: str | None  # "" if the line names none, None if it cannot be read
    found: tuple[VqaExample, str] | UnusableError  # the question and the path of its picture

    def example(self) -> tuple[VqaExample, str]:
        if isinstance(self.found, UnusableError):
            raise self.found
        return self.found

    def refuse(self, reason: str) -> None:
        """Make the line unusable; if it is unusable already, it keeps its reason."""
        if not isinstance(self.found, UnusableError):
            self.found = UnusableError(reason)


def _read_lines(file: Path) -> Iterator[_Line]:
    try:
        with io.BufferedReader(open_regular(file, most=memory_bytes())) as lines:
            for number, raw in enumerate(lines, 1):
                if raw.strip():
                    yield _parse_line(raw, file, number)
    except OSError as error:
        raise SourceError(f"{file}: reading failed ({error.strerror}). Check the file.") from error


def _parse_line(raw: bytes, file: Path, number: int) -> _Line:
    split, question_id = None, None
    try:
        record = _parse_object(raw, file, number)
        question_id = id_or_none(record.get("question_id", number))
        split = type_of(record.get("split"), "split")
        return _Line(number, question_id, split, _example(record, number))
    except UnusableError as error:
        return _Line(number, question_id, split, error)


def _example(record: dict[str, Any], number: int) -> tuple[VqaExample, str]:
    refuse_nearly_named(record, FIELDS)
    require_fields(record, ("image", "question"))
    image = _require_inside(text_of(record["image"], "image"))
    question = question_of(record["question"])
    example = VqaExample(
        question_id=id_of(record.get("question_id", number), "question_id"),
        image_id=id_of(record.get("image_id", image), "image_id"),
        question=question,
        answers=_given_answers(record),
        question_type=type_of(record.get("question_type"), "question_type"),
        answer_type=type_of(record.get("answer_type"), "answer_type"),
    )
    return example, image


def _given_answers(record: dict[str, Any]) -> tuple[str, ...]:
    return answers_of(record.get("answers")) or answers_of(record.get("answer"))


def _require_inside(image: str) -> str:
    """Return the picture's path in its plain form; refuse it if it leaves the data folder.

    Only the path is checked: a link is followed, because the owner of the folder has put it there.
    """
    path = PurePosixPath(image)
    if path.is_absolute() or ".." in path.parts or path == PurePosixPath("."):
        raise UnusableError(
            f"image {shown(image)} is not a path inside the data folder; copy or link it there"
        )
    return str(path)


def _parse_object(raw: bytes, file: Path, number: int) -> dict[str, Any]:
    try:
        value = parse_json(raw.rstrip().decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            raise UnusableError("the line is cut short within a letter") from None
        raise SourceError(
            f"{file}:{number}: byte {error.start + 1} of the line is not UTF-8; JSON in UTF-8 is "
            "needed. Save the file as UTF-8."
        ) from None
    except NotJsonError as error:
        raise UnusableError(f"{error}; one JSON object a line is needed") from None
    if not isinstance(value, dict):
        raise UnusableError(
            f"found {shown(value)}; one JSON object a line is needed, such as "
            '{"image": …, "question": …, "answer": …}'
        )
    return value
