"""What data sets in their authors' files share: splits, records, fields, and the names of pictures.

A subclass says where its files lie and which key is which field. It overrides `records` where a
file is no list, and `fields` where a field needs more than its key. A faulty record costs no other.
"""

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import Form, Id, LeftOut, VqaExample
from frozen_vqa.pipeline.sources.own.pictures import PictureFolder
from frozen_vqa.pipeline.sources.own.tables import Record, read_lines
from frozen_vqa.pipeline.sources.selection import FileSource, Selection, did_you_mean
from frozen_vqa.pipeline.sources.strict_json import entries_in, json_bytes, members_in
from frozen_vqa.pipeline.sources.validation import (
    UnusableError,
    id_or_none,
    make_example,
    require_fields,
    shown,
    text_of,
)

NEEDED = ("question_id", "image_id", "question")


class OfficialSource(FileSource):
    """A data set in its official files.

    Attributes:
        name: What stands before the colon of `--dataset`, and `title` what people call it.
        metric: The name of its metric.
        get_it: Where its files come from.
        unpacked: The folder that its archive makes; it may be there or not.
        files: By split the file of its questions; of several names, the first that is there.
        keys: The key of a record by the field of `VqaExample`.
        groups: The key of a record by the name of a group.
        tail: How many parts of a picture's path tell it from the others, from its end.
        blanks: Whether an answer may be blank, as a few are in several sets.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    metric: str | None
    get_it: ClassVar[str]
    unpacked: ClassVar[str] = ""
    files: Mapping[str, Sequence[str]]
    keys: ClassVar[Mapping[str, str]]
    groups: ClassVar[Mapping[str, str]] = {}
    tail: ClassVar[int] = 1
    blanks: ClassVar[bool] = True

    def __init__(self, root: Path, images: Path | None = None) -> None:
        """Raise `SourceError` if there is no such folder; no file is read yet."""
        if not root.is_dir():
            raise SourceError(f"{self.name}:{root}: there is no such folder. Check the path.")
        inside = path_in(root, self.unpacked) if self.unpacked else root
        super().__init__(inside if inside.is_dir() else root, images)
        self._folder, self._elsewhere = PictureFolder(self._image_root), images is not None
        self._found: dict[str, str] = {}  # the file by the official path of a picture

    def records(self, split: str, file: Path) -> Iterable[Record]:
        """Return the records of a split."""
        return listed(file)

    def fields(self, split: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a question; null is none. May raise `UnusableError`."""
        found = {field: entry.get(key) for field, key in self.keys.items()}
        return found | {"groups": {name: entry.get(key) for name, key in self.groups.items()}}

    @abstractmethod
    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        """Return the official path of the picture, below the folder of the data."""

    def without_question(self, asked: set[Id | None]) -> Sequence[LeftOut]:
        """Return what the files of the split hold beside its questions, once these are known."""
        return ()

    def examples(self, split: str) -> Sequence[VqaExample]:
        file = self._file(split)
        selection = Selection("entry", self._pictures)
        for record in self.records(split, file):
            make = partial(self._example, split, record.found)
            selection.add(record.number, record.where, self._id_in(record.found), make)
        asked = selection.numbers.keys() | {fault.question_id for fault in selection.left_out}
        selection.left_out += self.without_question(asked)
        return self._finish(split, selection, file)

    def splits(self) -> list[str]:
        """Return the splits whose file is there."""
        return [split for split in self.files if self._there(split)]

    def form(self, split: str) -> Form:
        return Form(f"{self.title}'s official files", str(self._file(split)))

    def _example(
        self, split: str, entry: Mapping[str, Any] | UnusableError
    ) -> tuple[VqaExample, str]:
        if isinstance(entry, UnusableError):
            raise entry
        require_fields(entry, list(dict.fromkeys(self.keys[field] for field in NEEDED)))
        picture = self._picture(self.path(split, entry))
        return make_example(self.fields(split, entry), blanks=self.blanks), picture

    def _picture(self, path: str) -> str:
        """Return the path of a picture's file; raise `UnusableError` if it leaves the folder."""
        if path not in self._found:
            if path.rpartition("/")[2].startswith("._"):
                raise UnusableError(f"image {shown(path)} is a side file of macOS, no picture")
            file = self._folder.find(path)[1]
            ends = _ends(file, self.tail) if self._elsewhere else ()
            there = (end for end in ends if os.path.exists(path_in(self._image_root, end)))
            self._found[path] = next(there, file)
        return self._found[path]

    def _id_in(self, entry: Mapping[str, Any] | UnusableError) -> Id | None:
        key = self.keys["question_id"]
        return None if isinstance(entry, UnusableError) else id_or_none(entry.get(key))

    def _there(self, split: str) -> Path | None:
        files = (path_in(self._root, name) for name in self.files[split])
        return next((file for file in files if file.exists()), None)

    def _file(self, split: str) -> Path:
        """Return the file of a split, once it is known to be there."""
        there = f"Splits in the folder: {', '.join(self.splits()) or 'none'}."
        if split not in self.files:
            raise SourceError(
                f"{self.name}:{self._root}: no split {split!r}; {self.title} has "
                f"{', '.join(self.files)}.{did_you_mean(split, self.files)} {there}"
            )
        if file := self._there(split):
            return file
        raise self.missing(split, self.files[split], there)

    def missing(self, split: str, names: Sequence[str], more: str) -> SourceError:
        """Return the error for a file of a split that has none of these names."""
        return SourceError(
            f"{self.name}:{self._root}: split {split!r} needs {' or '.join(names)}, which is not "
            f"there. {more} Get it from {self.get_it} and unpack it there."
        )


def _ends(path: str, tail: int) -> Iterator[str]:
    """Yield a path and its ends, the longest first, down to that of `tail` parts."""
    parts = path.split("/")
    return ("/".join(parts[first:]) for first in range(len(parts) - tail + 1))


def listed(file: Path, key: str | None = None) -> Iterator[Record]:
    """Yield the entries of the list in a file, or of that under `key` of its object."""
    return numbered(file, entries_in(file, key), f" of {key}" if key else "")


def numbered(file: Path, entries: Sequence[Any], of_what: str = "") -> Iterator[Record]:
    """Yield the entries of a list, which must have one."""
    if not entries:
        raise SourceError(
            f"{file}: the list{of_what} is empty; at least one is needed. Use the official file."
        )
    for number, entry in enumerate(entries):
        yield Record(number, f"{file}: entry {number}", _object(entry))


def lines(file: Path) -> Iterator[Record]:
    """Yield the lines of a file of JSON lines."""
    return read_lines(json_bytes(file), file)


def keyed(file: Path, key: str) -> Iterator[Record]:
    """Yield the members of the object in a file, one at a time; `key` is that of their names."""
    for number, (name, entry) in enumerate(members_in(file)):
        found = _object(entry)
        if not isinstance(found, UnusableError):
            found = {**found, key: name}
        yield Record(number, f"{file}: entry {shown(name)}", found)


def _object(entry: object) -> Mapping[str, Any] | UnusableError:
    if isinstance(entry, dict):
        return entry
    return UnusableError(f"found {shown(entry)}; an object is needed")


def part_of(entry: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object under a key; an absent one is empty."""
    found = entry.get(key)
    if not isinstance(found, dict | None):
        raise UnusableError(f"{key} is {shown(found)}; an object is needed")
    return found or {}


def spelled(answer: object) -> object:
    """Return an answer as text if it is a whole number, true or false."""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return str(answer) if isinstance(answer, int) else answer


def flag(entry: Mapping[str, Any], key: str, name: str = "") -> dict[str, str]:
    """Return the group of a key that is true or false, or 1 or 0; nothing if it is absent."""
    if entry.get(key) is None:
        return {}
    if entry[key] not in (True, False):
        raise UnusableError(f"{key} is {shown(entry[key])}; true or false is needed")
    return {name or key: "yes" if entry[key] else "no"}


def coco_path(folder: str, image_id: object, name: str = "COCO_{}_") -> str:
    """Return the path of a picture of COCO; its folder stands in its name in COCO 2014 and 2015."""
    if not isinstance(id_or_none(image_id), int):
        raise UnusableError(f"image_id is {shown(image_id)}; a whole number is needed")
    return f"{folder}/{name.format(folder)}{image_id:012d}.jpg"


def name_in(entry: Mapping[str, Any], key: str) -> str:
    """Return the name under a key, which becomes part of a path."""
    require_fields(entry, (key,))
    return text_of(entry[key], key)
