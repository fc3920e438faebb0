"""Questions and answers as one JSON object a line: the format for your own folder of pictures.

    DATA/train.jsonl   {"image": "images/7.png", "question": "What is it?", "answer": "a dog"}
    DATA/val.jsonl     …
    DATA/images/7.png

`jsonl:DATA` reads the folder, `jsonl:DATA/train.jsonl` one file. A single file either names a
`split` on every line, or on none; then it is one split, whatever name is asked for.

| field | holds |
|---|---|
| `image` | path of the picture, relative to the folder of the file and inside it |
| `question` | the text |
| `answers` or `answer` | a list of answers, or one; none on a test split |
| `question_id` | unique in the split; default: the line number |
| `image_id` | one per picture in all splits; default: the path |
| `question_type`, `answer_type` | for the tables; default: none |

A number is an answer as its text, null is none; other fields are ignored. A line that cannot be
used is left out; what concerns the whole file (its encoding, which split it is) refuses it.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import Id, LeftOut, VqaExample
from frozen_vqa.pipeline.sources.strict_json import NotJsonError, parse_json
from frozen_vqa.pipeline.sources.validation import (
    UnusableError,
    answers_of,
    id_of,
    id_or_none,
    question_of,
    require_fields,
    require_some,
    shown,
    text_of,
    type_of,
)


class JsonlSource:
    """The questions of one `.jsonl` file, or of a folder of `<split>.jsonl`."""

    def __init__(self, path: Path) -> None:
        """Look at the layout. No question is read yet.

        Raises:
            SourceError: if there is no such file, or no `.jsonl` file in the folder.
        """
        self._path = path
        self._root = path if path.is_dir() else path.parent
        self._paths: dict[Id, str] = {}
        self._left_out: dict[str, list[LeftOut]] = {}
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
        """Return the questions of `split` that can be used, in the order of the file.

        Raises:
            SourceError: if the split does not exist, the file cannot be read, or no line of it
                can be used.
        """
        file = self._file(split)
        examples: list[VqaExample] = []
        left_out: list[LeftOut] = []
        first: dict[Id, int] = {}
        for row in self._of_split(split, file):
            found = row.found
            if isinstance(found, VqaExample) and (fault := self._clash(row, found, first)):
                found = LeftOut(found.question_id, f"{file}:{row.line}", fault)
            if isinstance(found, LeftOut):
                left_out.append(found)
            else:
                first[found.question_id] = row.line
                self._paths[found.image_id] = row.image
                examples.append(found)
        require_some(examples, left_out, file)
        self._left_out[split] = left_out
        return examples

    def left_out(self, split: str) -> Sequence[LeftOut]:
        """Return the lines that `examples(split)` could not use.

        A line whose split cannot be read is left out of every split of its file.
        """
        return self._left_out[split]

    def picture(self, image_id: Id) -> Path:
        """Return the file of a picture."""
        return self._root / self._paths[image_id]

    def where(self, image_id: Id) -> str:
        """Return the path of a picture."""
        return str(self.picture(image_id))

    def _splits(self) -> list[str]:
        return sorted(file.stem for file in self._root.glob("*.jsonl"))

    def _file(self, split: str) -> Path:
        """Return the file to read `split` from."""
        if not self._path.is_dir():
            return self._path
        if split not in self._splits():
            raise SourceError(
                f"{self._path}: no split {split!r}: there is no {split}.jsonl. "
                f"The folder has: {', '.join(self._splits())}."
            )
        return self._path / f"{split}.jsonl"

    def _of_split(self, split: str, file: Path) -> list["_Row"]:
        """Return the lines of `split`, and those that cannot be used and may be of it."""
        rows = list(_rows(file))
        if not rows:
            raise SourceError(f"{file}: the file has no lines; one line a question is needed.")
        if self._path.is_dir():
            return [
                row
                if row.split in ("", None, split)
                else row.refused(f"split is {row.split!r} in the file of {split!r}; move it", file)
                for row in rows
            ]
        named = sum(bool(row.split) for row in rows)
        bare = sum(row.split == "" for row in rows)
        if named and named == bare:
            raise SourceError(
                f"{file}: half of the {named + bare:,} lines name a split and half do not; all "
                "lines or none must. Put a `split` on each, or write a file per split."
            )
        if named > bare:
            return self._named(split, file, rows)
        self._require_one_name(split)
        fault = "split is {!r}, but most lines of the file name none; all or none must"
        return [row.refused(fault.format(row.split), file) if row.split else row for row in rows]

    def _named(self, split: str, file: Path, rows: list["_Row"]) -> list["_Row"]:
        """Return the lines of `split` in a file whose lines name theirs."""
        splits = {row.split for row in rows if row.split}
        if split not in splits:
            raise SourceError(
                f"{file}: no question of split {split!r}; its lines are of: "
                f"{', '.join(sorted(splits))}. Ask for one of these."
            )
        fault = "names no split, but most lines of the file do; all or none must"
        return [
            row.refused(fault, file) if row.split == "" else row
            for row in rows
            if row.split in (split, "", None)
        ]

    def _require_one_name(self, split: str) -> None:
        if self._split not in (None, split):
            raise SourceError(
                f"{self._path}: was read as split {self._split!r} and has no `split` fields, so "
                f"it cannot be {split!r} too. Put a `split` on each line, or use a folder with "
                f"{self._split}.jsonl and {split}.jsonl."
            )
        self._split = split

    def _clash(self, row: "_Row", example: VqaExample, first: dict[Id, int]) -> str:
        """Say what is wrong with a question beside the others; "" if nothing is."""
        if example.question_id in first:
            return (
                f"question_id {shown(example.question_id)} was used before, in line "
                f"{first[example.question_id]}; the first is kept"
            )
        before = self._paths.get(example.image_id, row.image)
        if before != row.image:
            return (
                f"image_id {shown(example.image_id)} is {row.image} here, but was {before} before; "
                "one id must mean one picture in all splits"
            )
        return ""


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """One line.

    Attributes:
        line: Counted from 1.
        split: The split that it names; "" where it names none, None where that cannot be read.
        image: Path of the picture as the file has it, in its plain form.
        found: The question, or why it cannot be used.
    """

    line: int
    split: str | None
    image: str
    found: VqaExample | LeftOut

    def refused(self, reason: str, file: Path) -> "_Row":
        """Return the line as one that cannot be used, for this reason unless it has another."""
        if isinstance(self.found, LeftOut):
            return self
        fault = LeftOut(self.found.question_id, f"{file}:{self.line}", reason)
        return dataclasses.replace(self, found=fault)


def _rows(file: Path) -> Iterator[_Row]:
    """Yield the lines of a file that are not blank."""
    try:
        with file.open("rb") as lines:
            for line, raw in enumerate(lines, 1):
                if raw.strip():
                    yield _row(raw, file, line)
    except OSError as error:
        raise SourceError(f"{file}: reading failed ({error.strerror}). Check the file.") from error


def _row(raw: bytes, file: Path, line: int) -> _Row:
    split, question_id = None, None
    try:
        record = _object_in(raw, file, line)
        question_id = id_or_none(record.get("question_id", line))
        split = type_of(record.get("split"), "split")
        image, example = _example(record, line)
    except UnusableError as error:
        fault = LeftOut(question_id, f"{file}:{line}", str(error))
        return _Row(line, split, "", fault)
    return _Row(line, split, image, example)


def _example(record: dict[str, Any], line: int) -> tuple[str, VqaExample]:
    """Return the path of the picture and the question of one line."""
    require_fields(record, ("image", "question"))
    image = _inside(text_of(record["image"], "image"))
    question = question_of(record["question"])
    return image, VqaExample(
        question_id=id_of(record.get("question_id", line), "question_id"),
        image_id=id_of(record.get("image_id", image), "image_id"),
        question=question,
        answers=_given_answers(record),
        question_type=type_of(record.get("question_type"), "question_type"),
        answer_type=type_of(record.get("answer_type"), "answer_type"),
    )


def _given_answers(record: dict[str, Any]) -> tuple[str, ...]:
    for field in ("answers", "answer"):
        given = record.get(field)
        if given is not None:
            if isinstance(given, list) != (field == "answers"):
                raise UnusableError(
                    f"{field} is {shown(given)}; `answers` holds a list of texts, `answer` one text"
                )
            return answers_of(given)
    return ()


def _inside(image: str) -> str:
    """Return the picture's path in its plain form, if it stays inside the data folder.

    Only the path is judged: a link that the owner of the folder has put there is followed.
    """
    path = PurePosixPath(image)
    if path.is_absolute() or ".." in path.parts or path == PurePosixPath("."):
        raise UnusableError(
            f"image {shown(image)} is not a path inside the data folder; copy or link it there"
        )
    return str(path)


def _object_in(raw: bytes, file: Path, line: int) -> dict[str, Any]:
    try:
        value = parse_json(raw.rstrip().decode("utf-8-sig" if line == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            raise UnusableError("the line is cut short within a letter") from None
        raise SourceError(
            f"{file}:{line}: byte {error.start + 1} of the line is not UTF-8; JSON in UTF-8 is "
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
