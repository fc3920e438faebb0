"""A file or folder of your own questions, and which file of it is which split.

    DATA/train.csv, DATA/val.jsonl      a file per split, pictures below DATA
    DATA/metadata.csv                   one file, pictures beside it
    DATA/train/metadata.csv             a folder per split, pictures in it
    DATA/questions.json                 any one file, or the only one of a folder

A single file either names a `split` on every line, or on none; then it is one split, under any name
that you ask for. docs/data.md has the forms of a file and the names of its columns.

A line that cannot be used is left out. A fault of the whole file (its encoding, its split, the form
of its answers) refuses the file.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from frozen_vqa.cache.large.lists import LongList
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import Form, VqaExample
from frozen_vqa.pipeline.sources.own.columns import ALIASES, Columns, find_columns
from frozen_vqa.pipeline.sources.own.pictures import PictureFolder
from frozen_vqa.pipeline.sources.own.records import Line, Reader
from frozen_vqa.pipeline.sources.own.tables import SUFFIXES, Table, read_table
from frozen_vqa.pipeline.sources.selection import (
    FileSource,
    Selection,
    did_you_mean,
    require_few_left_out,
    split_like,
)
from frozen_vqa.pipeline.sources.validation import UnusableError, shown

_USUAL = ("train", "val", "test", "test-dev")
METADATA = "metadata"
"""The name of a file that stands in the folder of its pictures, as Hugging Face has it."""


class OwnSource(FileSource):
    """The questions of one file, or of a folder with a file per split.

    A line whose split cannot be read is left out of every split of its file.
    """

    def __init__(
        self,
        path: Path,
        images: Path | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        """Raise `SourceError` if there is no such file, or no file of questions in the folder."""
        super().__init__(path if path.is_dir() else path.parent, images)
        self._path, self._given = path, tuple((columns or {}).items())
        for field in columns or {}:
            if field not in ALIASES:
                raise SourceError(
                    f"--column {field}=…: no field {field!r}; there are {', '.join(ALIASES)}."
                    f"{did_you_mean(field, ALIASES)}"
                )
        self._folder = PictureFolder(self._root, images)
        self._forms: dict[str, Form] = {}
        self._read_as: dict[Path, str] = {}  # the split as which a file without splits was read
        if not (path.is_dir() or path.is_file()):
            found = "this is neither a file nor a folder"
            found = found if path.exists() else "there is no such file or folder"
            raise SourceError(f"jsonl:{path}: {found}. Check the path.")
        self._files = _find_files(path)
        if not self._files:
            raise SourceError(
                f"jsonl:{path}: the folder holds no file of questions; one per split is needed, "
                f"such as {path / 'train.csv'} or {path / 'train.jsonl'}."
            )

    def examples(self, split: str) -> Sequence[VqaExample]:
        name, file = self._file(split)
        lines, (unit, form) = self._read(file)
        selection = Selection(unit, self._pictures)
        for line in self._lines_of(split, name, file, lines):
            selection.add(line.number, line.where, line.question_id, line.example)
        self._forms[split] = form
        return self._finish(split, selection, file)

    def _read(self, file: Path) -> tuple[Sequence[Line], tuple[str, Form]]:
        """Return the lines of a file, what one is called, and how the file is written."""
        table = read_table(file, dict(self._given))
        below = "" if file.parent == self._root else file.parent.name
        reader = Reader(self._given, self._header(file, table), self._folder, below)
        lines, unusable = LongList(pack=Line.packed, unpack=Line.unpacked), 0
        for line in map(reader.read, table.records):
            lines.append(line)
            if isinstance(line.found, UnusableError):
                unusable += 1
                require_few_left_out(unusable, line.where, str(line.found))
        if not lines:
            raise SourceError(f"{file}: there are no questions below the names of the columns.")
        names = tuple(table.columns or reader.names)
        return lines, (table.unit, _form(file, table.kind, names, reader))

    def splits(self) -> list[str]:
        """Return the splits that the files or their lines name; none if they name none."""
        if [*self._files] != [""]:
            return [*self._files]
        ((file,),) = self._files.values()
        lines, _ = self._read(file)
        return list(dict.fromkeys(line.split for line in lines if line.split))

    def form(self, split: str) -> Form:
        return self._forms[split]

    def _file(self, split: str) -> tuple[str, Path]:
        """Return the name of the split in this data set, "" if it is one file, and its file."""
        name = "" if [*self._files] == [""] else split_like(split, self._files)
        if name is None:
            there = ", ".join(self._files)
            (first, *_), *_ = self._files.values()
            raise SourceError(
                f"{self._path}: no split {split!r}: there is no {split}.csv, {split}.jsonl and so "
                f"on. The folder has: {there}. Rename a file, or give one: jsonl:{first}"
            )
        files = self._files[name]
        if len(files) > 1:
            raise SourceError(
                f"{self._path}: split {split!r} is in {' and in '.join(f.name for f in files)}. "
                "Keep one of them."
            )
        return name, files[0]

    def _header(self, file: Path, table: Table) -> Columns | None:
        """Return the columns of a table; None for JSON, whose records each have their own."""
        if table.columns is None:
            return None
        header = find_columns(tuple(table.columns), self._given)
        lost = [name for _, name in self._given if name and name not in table.columns]
        fault = f"there is no column {shown(lost[0])}" if lost else header.fault
        if fault:
            there = ", ".join(map(shown, table.columns))
            raise SourceError(
                f"{file}: {fault}{'' if fault.endswith('?') else '.'} The columns are {there}. "
                "Rename one, or name it by --column, such as --column question=NAME."
            )
        return header

    def _lines_of(self, split: str, name: str, file: Path, lines: Sequence[Line]) -> Iterator[Line]:
        """Yield the lines of `split`, and the unusable lines that may belong to it."""
        if name:
            self._require_one_name(split, file)
            for one in lines:
                if one.split not in (split, name, "", None):
                    one.refuse(f"split is {one.split!r} in the file of {split!r}; move it")
                yield one
            return
        names = Counter(one.split for one in lines if one.split is not None)
        bare = names.pop("", 0)
        named = names.total()
        if named and named == bare:
            raise SourceError(
                f"{file}: half of the {named + bare:,} lines name a split and half do not; "
                "all lines or none must. Put a `split` on each, or write a file per split."
            )
        if named < bare or not named:
            self._require_one_name(split, file)
            fault = "but most lines of the file name none; all or none must"
            for one in lines:
                if one.split:
                    one.refuse(f"split is {one.split!r}, {fault}")
                yield one
            return
        if split not in names:
            raise SourceError(
                f"{file}: no question of split {split!r}; its lines are of: "
                f"{', '.join(sorted(names))}. Ask for one of these."
            )
        for one in lines:
            if one.split == "":
                one.refuse("names no split, but most lines of the file do; all or none must")
            if one.split in (split, "", None):
                yield one

    def _require_one_name(self, split: str, file: Path) -> None:
        before = self._read_as.setdefault(file, split)
        if before != split:
            raise SourceError(
                f"{file}: was read as split {before!r}, so it cannot be {split!r} too. Put a "
                "`split` on each line, or use a file per split; without validation data, train "
                "with --val-fraction 0.1."
            )


def _find_files(path: Path) -> dict[str, list[Path]]:
    """Return the files of questions by split; one under "" if it is none's by its name."""
    if path.is_file():
        return {"": [path]}
    found = _tables_in(path)
    if lone := found.pop(METADATA, None):
        return found or {"": lone}
    if found:
        (name, files), *others = found.items()
        return found if others or split_like(name, _USUAL) else {"": files}
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir())
    tables = {folder.name: _tables_in(folder).get(METADATA, []) for folder in folders}
    return {name: files for name, files in tables.items() if files}


def _tables_in(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file():
            found.setdefault(file.stem, []).append(file)
    return found


def _form(file: Path, kind: str, names: tuple[str, ...], reader: Reader) -> Form:
    """Return what `check-data` says of a file whose records have these names."""
    used = {f: name for f, name in find_columns(names, reader.given).found.items() if name in names}
    return Form(kind, str(file), used, tuple(name for name in names if name not in used.values()))
