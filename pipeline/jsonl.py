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

Whole numbers count as answers; other fields are ignored.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from pipeline.errors import SourceError
from pipeline.examples import Id, VqaExample
from pipeline.sources import answers_of, id_of, shown, text_of


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
        self._split: str | None = None  # the name under which a file without splits was read
        if not (path.is_dir() or path.is_file()):
            raise SourceError(f"jsonl:{path}: there is no such file or folder. Check the path.")
        if path.is_dir() and not self._splits():
            raise SourceError(
                f"jsonl:{path}: the folder holds no .jsonl file; one per split is needed, such as "
                f"{path / 'train.jsonl'}."
            )

    def examples(self, split: str) -> list[VqaExample]:
        """Return the questions of `split` in the order of the file.

        Raises:
            SourceError: if the split does not exist or a line cannot be used.
        """
        file = self._file(split)
        rows = [row for row in _rows(file) if self._belongs(row, split)]
        if not rows:
            raise SourceError(f"{file}: no question of split {split!r}{self._other_splits(file)}.")
        first: dict[Id, _Row] = {}
        for row in rows:
            before = first.setdefault(row.example.question_id, row)
            if before is not row:
                raise SourceError(
                    f"{row.where}: question_id {row.example.question_id!r} was used before, in "
                    f"line {before.line}; each must occur once. Give it another id."
                )
            self._remember(row)
        return [row.example for row in rows]

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

    def _belongs(self, row: "_Row", split: str) -> bool:
        """Tell whether a row is of `split`, by its own field or by its file."""
        if self._path.is_dir():
            if row.split not in ("", split):
                raise SourceError(
                    f"{row.where}: split is {row.split!r} in the file of {split!r}. "
                    f"Move the line to {row.split}.jsonl, or leave the field out."
                )
            return True
        if row.split:
            return row.split == split
        if self._split not in (None, split):
            raise SourceError(
                f"{self._path}: was read as split {self._split!r} and has no `split` fields, so "
                f"it cannot be {split!r} too. Put a `split` on each line, or use a folder with "
                f"{self._split}.jsonl and {split}.jsonl."
            )
        self._split = split
        return True

    def _other_splits(self, file: Path) -> str:
        others = sorted({row.split for row in _rows(file)} - {""})
        return f"; its lines are of: {', '.join(others)}" if others else "; the file has no lines"

    def _remember(self, row: "_Row") -> None:
        """Keep the path of a picture; one id is one picture in all splits."""
        image_id = row.example.image_id
        before = self._paths.setdefault(image_id, row.image)
        if before != row.image:
            raise SourceError(
                f"{row.where}: image_id {image_id!r} is {row.image}, but it was {before} before; "
                "one id must mean one picture in all splits. Leave image_id out, or make it unique."
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """One line: its question, and what only this module needs to know."""

    file: Path
    line: int
    split: str
    image: str
    example: VqaExample

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


def _rows(file: Path) -> Iterator[_Row]:
    """Yield the lines of a file; all of them or none name a split."""
    named: bool | None = None
    for line, record in _records(file):
        row = _row(file, line, record)
        if named is None:
            named = bool(row.split)
        elif named != bool(row.split):
            raise SourceError(
                f"{row.where}: this line {'has no' if named else 'has a'} `split`, unlike those "
                "before it; all lines of a file or none must name one."
            )
        yield row


def _row(file: Path, line: int, record: dict[str, Any]) -> _Row:
    where = f"{file}:{line}"
    missing = [field for field in ("image", "question") if field not in record]
    if missing:
        raise SourceError(
            f"{where}: {' and '.join(missing)} missing; the line has: "
            f"{', '.join(record) or 'nothing'}. Needed are image, question and answers or answer."
        )
    image = _inside(text_of(record["image"], "image", where), where)
    question = text_of(record["question"], "question", where)
    if not question.strip():
        raise SourceError(f"{where}: the question is blank; text is needed.")
    example = VqaExample(
        question_id=id_of(record.get("question_id", line), "question_id", where),
        image_id=id_of(record.get("image_id", image), "image_id", where),
        question=question,
        answers=_given_answers(record, where),
        question_type=text_of(record.get("question_type", ""), "question_type", where),
        answer_type=text_of(record.get("answer_type", ""), "answer_type", where),
    )
    return _Row(file, line, text_of(record.get("split", ""), "split", where), image, example)


def _given_answers(record: dict[str, Any], where: str) -> tuple[str, ...]:
    for field, kind, needed in (("answers", list, "a list"), ("answer", str | int, "text")):
        if field in record:
            if not isinstance(record[field], kind):
                raise SourceError(
                    f"{where}: {field} is {shown(record[field])}; {needed} is needed. "
                    "`answers` holds a list of texts, `answer` one text."
                )
            return answers_of(record[field], where)
    return ()


def _inside(image: str, where: str) -> str:
    """Return the picture's path in its plain form, if it stays inside the data folder.

    Only the path is judged: a link that the owner of the folder has put there is followed.
    """
    path = PurePosixPath(image)
    if path.is_absolute() or ".." in path.parts or path == PurePosixPath("."):
        raise SourceError(
            f"{where}: image {image!r} is not a path inside the data folder; needed is one "
            "relative to the folder of this file. Copy or link the pictures there."
        )
    return str(path)


def _records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and object of each line that is not blank."""
    try:
        with file.open("rb") as lines:
            for number, raw in enumerate(lines, 1):
                if raw.strip():
                    yield number, _object_in(raw, file, number)
    except OSError as error:
        raise SourceError(f"{file}: reading failed ({error.strerror}). Check the file.") from error


class _RefusedError(ValueError):
    """Valid for Python's reader, but not JSON or not safe to guess at."""


def _object_in(raw: bytes, file: Path, line: int) -> dict[str, Any]:
    where = f"{file}:{line}"
    try:
        value = json.loads(
            raw.rstrip().decode("utf-8-sig" if line == 1 else "utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_constant,
        )
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{where}: byte {error.start + 1} of the line is not UTF-8. Save the file as UTF-8."
        ) from None
    except json.JSONDecodeError as error:
        raise SourceError(
            f"{where}:{error.colno}: {error.msg}; one JSON object a line is needed. Mend the line."
        ) from None
    except (_RefusedError, RecursionError, ValueError) as error:
        reason = error if isinstance(error, _RefusedError) else "nested too deeply or too large"
        raise SourceError(f"{where}: {reason}; a plain JSON object is needed.") from None
    if not isinstance(value, dict):
        raise SourceError(
            f"{where}: found {shown(value)}; each line must be one JSON object "
            'such as {"image": …, "question": …, "answer": …}.'
        )
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise _RefusedError(f"the key {key!r} stands twice")
    return dict(pairs)


def _constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is no JSON value")
