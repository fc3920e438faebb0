"""Where questions and pictures come from: the SPEC of `--dataset`, and the official VQAv2 files.

    vqav2:PATH          official JSON files beside train2014/, val2014/, test2015/   (here)
    jsonl:PATH          a file, or a folder of <split>.jsonl                         jsonl.py
    hub:NAME_OR_PATH    a Hugging Face data set, or parquet on this disk             hub.py
    shapes[:N]          generated scenes, N of them                                  shapes.py

The checks that all sources share are at the end. Nothing here opens a picture.
"""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import SourceError
from pipeline.examples import Id, Source, VqaExample
from pipeline.official import Annotation, read_annotations, read_json

FORMS = {
    "vqav2": "vqav2:PATH",
    "jsonl": "jsonl:PATH",
    "hub": "hub:NAME_OR_PATH",
    "shapes": "shapes[:N]",
}

# split: (name in the question file, folder of the pictures, whether answers are published)
_VQAV2 = {
    "train": ("train2014", "train2014", True),
    "val": ("val2014", "val2014", True),
    "test": ("test2015", "test2015", False),
    "test-dev": ("test-dev2015", "test2015", False),
}
_SPLIT_NAMES = (
    ("train", "training"),
    ("val", "validation", "valid", "dev"),
    ("test-dev", "testdev", "test_dev"),
    ("test", "testing"),
)
_SHOWN = 5


def open_source(spec: str, *, columns: Mapping[str, str] | None = None) -> Source:
    """Return the source that `spec` names.

    Args:
        spec: One of the four forms above.
        columns: For `hub:` only, which column of the data set holds a field, such as
            {"question": "query"}; see `pipeline/hub.py`.

    Raises:
        SourceError: if `spec` is none of the forms, or what it names is not there.
    """
    kind, colon, rest = spec.partition(":")
    if kind not in FORMS or (kind != "shapes" and not rest) or (colon and not rest):
        raise SourceError(_bad_spec(spec, kind))
    if columns and kind != "hub":
        raise SourceError(f"{spec}: --column is for hub: data sets only. Leave it out.")
    if kind == "vqav2":
        return Vqav2Source(Path(rest).expanduser())
    # These import late, for `datasets` alone takes seconds.
    if kind == "jsonl":
        from pipeline.jsonl import JsonlSource

        return JsonlSource(Path(rest).expanduser())
    if kind == "hub":
        from pipeline.hub import HubSource

        return HubSource(rest, columns)
    from pipeline.shapes import ShapesSource

    if not rest:
        return ShapesSource()
    if not (rest.isascii() and rest.isdigit() and 0 < len(rest) < 10 and int(rest)):
        raise SourceError(f"{spec}: {rest!r} is no number of images. Write shapes:500, say.")
    return ShapesSource(images=int(rest))


def _bad_spec(spec: str, kind: str) -> str:
    forms = ", ".join(FORMS.values())
    if kind in FORMS:
        return f"dataset {spec!r}: nothing follows {kind!r}; needed is {FORMS[kind]}."
    close = difflib.get_close_matches(kind.lower(), FORMS, n=1)
    if close:
        hint = f" Did you mean {spec.replace(kind, close[0], 1)!r}?"
    elif Path(spec).suffix in (".jsonl", ".json") or Path(spec).is_dir():
        hint = f" Did you mean {'jsonl:' + spec!r}?"
    else:
        hint = ""
    return f"dataset {spec!r} is none of {forms}.{hint}"


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

    def examples(self, split: str) -> list[VqaExample]:
        """Return the questions of "train", "val", "test" or "test-dev" in their official order.

        The test splits have no answers.

        Raises:
            SourceError: if a file is missing, damaged, or does not belong to the other.
        """
        name, folder, answered = self._split(split)
        questions = self._questions(split)
        annotations = self._annotations(name, list(questions)) if answered else {}
        for record in questions.values():
            before = self._folders.setdefault(record["image_id"], folder)
            if before != folder:
                raise SourceError(
                    f"{self._root}: image_id {record['image_id']} is in {before} and in {folder}; "
                    "one id must mean one picture. Check that the files are the official ones."
                )
        nothing = Annotation(question_id=0, answers=())
        return [
            VqaExample(
                question_id=question_id,
                image_id=record["image_id"],
                question=record["question"],
                answers=annotations.get(question_id, nothing).answers,
                question_type=annotations.get(question_id, nothing).question_type,
                answer_type=annotations.get(question_id, nothing).answer_type,
            )
            for question_id, record in questions.items()
        ]

    def picture(self, image_id: Id) -> Path:
        """Return the file of a picture."""
        folder = self._folders[image_id]
        return self._root / folder / f"COCO_{folder}_{image_id:012d}.jpg"

    def where(self, image_id: Id) -> str:
        """Return the path of a picture."""
        return str(self.picture(image_id))

    def _question_file(self, split: str) -> Path:
        return self._root / f"v2_OpenEnded_mscoco_{_VQAV2[split][0]}_questions.json"

    def _split(self, split: str) -> tuple[str, str, bool]:
        """Return the row of the table, once the question file is known to be there."""
        here = [other for other in _VQAV2 if self._question_file(other).is_file()]
        there = f"Splits in the folder: {', '.join(here) or 'none'}."
        if split not in _VQAV2:
            raise SourceError(
                f"vqav2:{self._root}: no split {split!r}; VQAv2 has {', '.join(_VQAV2)}."
                f"{did_you_mean(split, _VQAV2)} {there}"
            )
        if split not in here:
            raise SourceError(
                f"vqav2:{self._root}: split {split!r} needs {self._question_file(split).name}, "
                f"which is not there. {there} Get it from https://visualqa.org/download.html and "
                "unzip it there."
            )
        return _VQAV2[split]

    def _questions(self, split: str) -> dict[Id, dict[str, Any]]:
        """Return the records of the question file by id."""
        file = self._question_file(split)
        content = read_json(file)
        entries = content.get("questions") if isinstance(content, dict) else None
        if not isinstance(entries, list) or not entries:
            raise SourceError(
                f"{file}: no list of questions under 'questions'. Use the official file."
            )
        questions: dict[Id, dict[str, Any]] = {}
        for number, entry in enumerate(entries):
            where = f"{file}: entry {number} (counted from 0)"
            if not isinstance(entry, dict):
                raise SourceError(f"{where} is {shown(entry)}; an object is needed.")
            question_id = id_of(entry.get("question_id"), "question_id", where)
            image_id = id_of(entry.get("image_id"), "image_id", where)
            if not isinstance(image_id, int):
                raise SourceError(f"{where}: image_id is {shown(image_id)}; a number is needed.")
            text_of(entry.get("question"), "question", where)
            if question_id in questions:
                raise SourceError(
                    f"{where}: question_id {shown(question_id)} was used before; each must occur "
                    "once. Use the official file."
                )
            questions[question_id] = entry
        return questions

    def _annotations(self, name: str, question_ids: Collection[Id]) -> dict[Id, Annotation]:
        """Return the annotations by question id; exactly those of the questions."""
        file = self._root / f"v2_mscoco_{name}_annotations.json"
        if not file.is_file():
            raise SourceError(
                f"vqav2:{self._root}: {file.name} is not there, and the questions of {name} need "
                "their answers. Get it from https://visualqa.org/download.html and unzip it there."
            )
        annotations = {entry.question_id: entry for entry in read_annotations(file)}
        missing = [i for i in question_ids if i not in annotations]
        extra = sorted(annotations.keys() - set(question_ids), key=str)
        if missing or extra:
            sample = ", ".join(map(str, [*missing, *extra][:_SHOWN]))
            raise SourceError(
                f"{file}: {len(missing)} questions have no annotation and {len(extra)} annotations "
                f"have no question (such as {sample}). Use question and annotation files of one "
                "release."
            )
        return annotations


def split_like(split: str, known: Collection[str]) -> str | None:
    """Return the one of `known` that `split` means: itself, or the same under another usual name.

    "val" finds "validation", and "test-dev" finds "testdev".
    """
    if split in known:
        return split
    names = next((names for names in _SPLIT_NAMES if split in names), ())
    found = [name for name in known if name in names]
    return found[0] if len(found) == 1 else None


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return " Did you mean …?" with the nearest known name, or nothing."""
    near = split_like(name, known) or next(iter(difflib.get_close_matches(name, known, n=1)), None)
    return f" Did you mean {near!r}?" if near else ""


def text_of(value: object, field: str, where: str) -> str:
    """Return `value` if it is text that can be stored.

    Raises:
        SourceError: if it is no text, or holds NUL or half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise SourceError(f"{where}: {field} is {shown(value)}; text is needed.")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise SourceError(
            f"{where}: {field} {shown(value)} holds a NUL or half of a surrogate pair, which is "
            "no text. Remove that character."
        )
    return value


def answers_of(value: object, where: str) -> tuple[str, ...]:
    """Return one answer or a list of them as texts; None means that none are given.

    Raises:
        SourceError: if an answer is neither text nor a whole number.
    """
    if value is None:
        return ()
    given = value if isinstance(value, list | tuple) else [value]
    return tuple(
        str(answer)
        if isinstance(answer, int) and not isinstance(answer, bool)
        else text_of(answer, "an answer", where)
        for answer in given
    )


def id_of(value: object, field: str, where: str) -> Id:
    """Return `value` if it is an id that a cache can hold.

    Raises:
        SourceError: if it is neither text nor a whole number of 64 bits.
    """
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, str) and value:
        return text_of(value, field, where)
    raise SourceError(
        f"{where}: {field} is {shown(value)}; text or a whole number of 64 bits is needed."
    )


def shown(value: object) -> str:
    """Return a value for a message: short, and in characters that any terminal can print."""
    shown = ascii(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
