"""WebDatasets: tar shards of pictures with their questions, here or at URLs.

    wds:DATA                            all tar files of a folder
    wds:DATA/train-{000..099}.tar       shards by their numbers
    wds:s3://BUCKET/{train,val}-{000..099}.tar

A shard's name without its number is its split: train-000.tar is of "train". If no name is a usual
one of a split, all are one split, under any name that you ask for.
"""

import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from frozen_vqa.cache.disk.files import open_regular
from frozen_vqa.cache.errors import StoreError
from frozen_vqa.cache.stores.address import is_url
from frozen_vqa.pipeline.errors import ImageError, SourceError
from frozen_vqa.pipeline.sources.example import Form, Id, LeftOut, Source, VqaExample
from frozen_vqa.pipeline.sources.own.columns import field_of, find_columns
from frozen_vqa.pipeline.sources.own.records import Reader
from frozen_vqa.pipeline.sources.own.tables import Record
from frozen_vqa.pipeline.sources.own.tar_shards import Part, Sample, read_samples
from frozen_vqa.pipeline.sources.pictures.stored import READERS, StoredPicture
from frozen_vqa.pipeline.sources.selection import Selection, split_in, split_like
from frozen_vqa.pipeline.sources.strict_json import NotJsonError, parse_json
from frozen_vqa.pipeline.sources.validation import UnusableError, shown

USUAL = ("train", "val", "test", "test-dev")
MOST_SHARDS = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")


class WdsSource(Source):
    """The samples of tar shards.

    Raises:
        SourceError: if the pattern names no file, or one that is not there.
    """

    def __init__(self, pattern: str, columns: Mapping[str, str] | None = None) -> None:
        self._given = tuple((columns or {}).items())
        self._splits = _by_split(_shards(pattern))
        self._places: dict[str, tuple[str, Part]] = {}  # by shard and name
        self._names: dict[Id, str] = {}  # of the place, by image id
        self._left_out: dict[str, Sequence[LeftOut]] = {}
        self._forms: dict[str, Form] = {}
        self._one = ""
        every = [shard for shards in self._splits.values() for shard in shards]
        # Of texts, because the slashes of a URL count; what is left of a name is cut off.
        common = os.path.dirname(os.path.commonprefix(every))  # noqa: RUF071
        self._root = len(common) + 1 if common else 0

    def splits(self) -> Sequence[str]:
        return [name for name in self._splits if name]

    def examples(self, split: str) -> Sequence[VqaExample]:
        name = "" if [*self._splits] == [""] else split_like(split, self._splits)
        if name is None:
            raise SourceError(
                f"wds: no split {split!r}; the names of the shards have: {', '.join(self._splits)}."
            )
        if not name and self._one not in ("", split):
            raise SourceError(
                f"wds: was read as split {self._one!r}, so it cannot be {split!r} too. Name the "
                f"shards by their splits, such as train-000.tar."
            )
        self._one = "" if name else split
        selection = Selection("question", self._names)
        reader = Reader(self._given, None, _AsItIs())  # type: ignore[arg-type]
        shards = self._splits[name]
        with ThreadPoolExecutor(READERS, thread_name_prefix="shards") as threads:
            samples = threads.map(lambda one: list(read_samples(one, partial(_read, one))), shards)
            each = itertools.starmap(self._of, zip(shards, samples, strict=True))
            records = itertools.chain.from_iterable(each)
            for number, (where, found) in enumerate(records, 1):
                line = reader.read(Record(number, where, found))
                selection.add(number, where, line.question_id, line.example)
        selection.finish(f"wds:{shards[0]}")
        self._left_out[split] = selection.left_out
        used = find_columns(tuple(reader.names), self._given).found
        columns = {field: column for field, column in used.items() if field != "image"}
        self._forms[split] = Form(f"WebDataset of {len(shards):,} shards", shards[0], columns)
        return selection.examples

    def _of(self, shard: str, samples: list[Sample]) -> Iterator[tuple[str, Any]]:
        """Yield the place of each question of a shard, and its fields or what is wrong."""
        for sample in samples:
            where = f"{shard}: {shown(sample.key)}"
            try:
                records = _records(sample)
            except UnusableError as error:
                yield where, error
                continue
            (picture,) = sample.pictures
            name = f"{shard[self._root :]}/{picture.name}"
            if self._places.setdefault(name, (shard, picture)) != (shard, picture):
                yield where, UnusableError("its shard holds another picture of the same name")
                continue
            for record in records:
                own = {key: value for key, value in record.items() if field_of(key) != "image"}
                yield where, own | {"image": name}

    def left_out(self, split: str) -> Sequence[LeftOut]:
        return self._left_out[split]

    def picture(self, image_id: Id) -> StoredPicture | bytes:
        shard, part = self._places[self._names[image_id]]
        if is_url(shard):
            return StoredPicture(shard, part.first, part.size)
        data = _read(shard, part.first, part.size)
        if len(data) < part.size:
            raise ImageError("the shard ends within it")
        return data

    def where(self, image_id: Id) -> str:
        shard, part = self._places[self._names[image_id]]
        return f"{shard}: {shown(part.name)}"

    def form(self, split: str) -> Form:
        return self._forms[split]

    def cure(self, image_id: Id) -> str:
        return ""


class _AsItIs:
    """Stands for the folder of the pictures: a name is that of a part."""

    def find(self, written: str, below: str) -> tuple[str, str]:
        return written, written


def _records(sample: Sample) -> list[Mapping[str, Any]]:
    """Return the questions of a sample; raise `UnusableError` if it has none or no one picture."""
    if sample.fault:
        raise UnusableError(sample.fault)
    if len(sample.pictures) != 1:
        raise UnusableError(f"it has {len(sample.pictures)} pictures; one is needed")
    try:
        texts = {name: data.decode() for name, data in sample.texts.items()}
        found = parse_json(texts["json"]) if "json" in texts else {}
    except UnicodeDecodeError:
        raise UnusableError("a text of it is not UTF-8") from None
    except NotJsonError as error:
        raise UnusableError(f"its json: {error}") from None
    question = texts.get("question.txt", texts.get("txt"))
    beside = {"question": question, "answer": texts.get("answer.txt")}
    beside = {name: text for name, text in beside.items() if text is not None}
    if isinstance(found, dict):
        lists: list[Any] = [one for one in found.values() if _are_records(one)]
        if len(lists) == 1 and "question" not in map(field_of, found):
            return list(lists[0])
        return [beside | found]
    if _are_records(found):
        return list(found)
    raise UnusableError("its json is neither an object nor a list of questions")


def _are_records(value: object) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(one, dict) and "question" in map(field_of, one) for one in value)


def _read(shard: str, first: int, size: int) -> bytes:
    if is_url(shard):
        try:
            return StoredPicture(shard, first).read_up_to(size)
        except ImageError as error:
            raise SourceError(f"{shard}: {error}. Check the pattern.") from None
    try:
        with open_regular(Path(shard)) as file:
            return os.pread(file.fileno(), size, first)
    except OSError as error:
        raise SourceError(f"{shard}: {error.strerror}. Check the pattern.") from None


def _shards(pattern: str) -> list[str]:
    """Return the files that a pattern names, in its order."""
    if not is_url(pattern) and (folder := Path(os.path.expanduser(pattern))).is_dir():
        found = sorted(str(path) for path in folder.glob("*.tar"))
        if not found:
            raise SourceError(f"wds:{pattern}: the folder holds no .tar file.")
        return found
    parts = _BRACES.split(pattern)
    choices = [_choices(part) if i % 2 else [part] for i, part in enumerate(parts)]
    if (count := math.prod(map(len, choices))) > MOST_SHARDS:
        raise SourceError(f"wds:{pattern}: {count:,} shards; the limit is {MOST_SHARDS:,}.")
    found = ["".join(one) for one in itertools.product(*choices)]
    try:
        return [str(StoredPicture(o)) if is_url(o) else os.path.expanduser(o) for o in found]
    except StoreError as error:
        raise SourceError(f"wds: {error}") from None


def _choices(text: str) -> Sequence[str]:
    """Return what a pair of braces stands for: {000..099} or {train,val}."""
    if found := _RANGE.fullmatch(text):
        first, last = int(found[1]), int(found[2])
        if not 0 <= last - first < MOST_SHARDS:
            raise SourceError(f"wds: {{{text}}} is no range of at most {MOST_SHARDS:,} numbers.")
        return [f"{number:0{len(found[1])}d}" for number in range(first, last + 1)]
    return text.split(",")


def _by_split(shards: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for shard in shards:
        found.setdefault(split_in(Path(shard.rpartition("/")[2])), []).append(shard)
    return found if any(split_like(name, USUAL) for name in found) else {"": list(shards)}
