"""The splits of a Hugging Face data set as tables of files, and which file is which split.

Parquet and Arrow files on this disk are read where they lie. `datasets` would prepare a copy, and
would take it for the file as long as path and time stay the same. All other layouts on this disk
are prepared in a new folder, for that reason too. Sets on the Hub are known by their revision, so
`datasets` prepares them once.
"""

import os
import shutil
import tempfile
import warnings
import weakref
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.typed_json import finite_json
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources import selection, table_budget
from frozen_vqa.pipeline.system.library_files import LARGEST_CARD, require_library_files

UNREADABLE = (OSError, ValueError, OverflowError, pa.ArrowException)
"""What pyarrow raises for a damaged file, and for a value that Python does not have."""


class Rows(Protocol):
    """The rows of one file; `features` has what `datasets` notes of its columns."""

    file: str
    schema: pa.Schema
    features: Mapping[str, Any]
    starts: Sequence[int]  # the first row of each group, and the number of rows

    def batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]: ...

    def group(self, column: str, number: int) -> pa.ChunkedArray:
        """Return the values of one group of rows, which is the least that can be read."""


class ParquetRows:
    """A parquet file, which is opened anew for each reading."""

    def __init__(self, file: Path, features: Mapping[str, Any]) -> None:
        self.file = str(file)
        with table_budget.open_parquet(file) as opened:
            self._metadata, self.schema = opened.metadata, opened.schema_arrow
        self.features = _noted(self.schema) or features
        groups = (self._metadata.row_group(i) for i in range(self._metadata.num_row_groups))
        self.starts: Sequence[int] = [0, *accumulate(group.num_rows for group in groups)]

    def batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        with self._opened() as opened:
            rows = table_budget.rows_at_once(size, opened.metadata, columns)
            yield from opened.iter_batches(rows, columns=list(columns))

    def group(self, column: str, number: int) -> pa.ChunkedArray:
        with self._opened() as opened:
            return opened.read_row_group(number, columns=[column]).column(column)

    def _opened(self) -> pq.ParquetFile:
        opened = pq.ParquetFile(self.file)
        if not opened.metadata.equals(self._metadata):
            opened.close()
            raise SourceError(f"{self.file}: the file was changed meanwhile. Start again.")
        return opened


class TableRows:
    """A table that is mapped from the disk."""

    def __init__(self, file: str, table: pa.Table, features: Mapping[str, Any]) -> None:
        self.file, self._table, self.schema = file, table, table.schema
        self.features = _noted(table.schema) or features
        self.starts: Sequence[int] = [0, table.num_rows]

    def batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        yield from self._table.select(list(columns)).to_batches(max_chunksize=size)

    def group(self, column: str, number: int) -> pa.ChunkedArray:
        return self._table.column(column)


@dataclass(frozen=True)
class Table:
    """All rows of a split, counted through its files."""

    files: Sequence[Rows]

    def locate(self, row: int) -> tuple[int, int, int]:
        """Return the number of the file, the number of the group in it, and the row in that."""
        firsts = [0, *accumulate(rows.starts[-1] for rows in self.files)]
        file = bisect_right(firsts, row) - 1
        starts = self.files[file].starts
        group = bisect_right(starts, row - firsts[file]) - 1
        return file, group, row - firsts[file] - starts[group]


@dataclass(frozen=True)
class Layout:
    """The splits of a data set, and how the files of one are opened."""

    splits: Collection[str]
    open: Callable[[str], Sequence[Rows]]


def find_layout(name: str, path: Path | None, columns: Mapping[str, str]) -> Layout:
    """Return the layout of a set on this disk, or of `name` on the Hub if `path` is None.

    `columns` is by field, and may name columns that are not there.
    """
    import datasets

    if not path:
        return _prepared_layout(datasets.load_dataset_builder(name), columns)
    require_library_files(path, SourceError)
    if files := selection.parquet_files(path):
        return _direct(ParquetRows, files, _noted_in_card(path))
    require_own_files(path)
    os.makedirs(home := Path(datasets.config.HF_DATASETS_CACHE), exist_ok=True)
    made = tempfile.mkdtemp(prefix="frozen-vqa-", dir=home)
    try:
        builder = datasets.load_dataset_builder(name, cache_dir=made)
        layout = _layout_of(builder, columns)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    weakref.finalize(layout, shutil.rmtree, made, ignore_errors=True)
    return layout


def _layout_of(builder: Any, columns: Mapping[str, str]) -> Layout:
    """Return the layout of a builder for files on this disk, in whose folder nothing is yet."""
    from datasets.utils.extract import Extractor

    given = builder.config.data_files or {}
    files = {str(split): [Path(file) for file in given[split]] for split in given}
    suffixes = {file.suffix for some in files.values() for file in some}
    for suffix, read in (".parquet", ParquetRows), (".arrow", _mapped):
        if suffixes == {suffix}:
            return _direct(read, files, builder.info.features or {})
    table_budget.require_unpacked(files.values(), Extractor.infer_extractor_format)
    for file in chain.from_iterable(files.values()):
        table_budget.require_few_columns(file)
    _read_texts_as_written(builder.config, columns)
    return _prepared_layout(builder, columns)


def _prepared_layout(builder: Any, columns: Mapping[str, str]) -> Layout:
    splits = [str(split) for split in builder.info.splits or builder.config.data_files or ()]
    return Layout(splits, lambda split: [_prepared(builder, split, columns)])


def require_own_files(folder: Path) -> None:
    """Raise `SourceError` if a folder names data outside of it, which `datasets` would read."""
    from datasets.config import REPOCARD_FILENAME, REPOYAML_FILENAME
    from huggingface_hub import RepoCard

    for name, around in (REPOCARD_FILENAME, ""), (REPOYAML_FILENAME, "---\n"):
        file = path_in(folder, name)
        if not file.is_file():
            continue
        front = f"{around}{read_file(file, most=LARGEST_CARD).decode()}\n{around}"
        card = RepoCard(front, ignore_metadata_errors=True).data.to_dict()
        for text in _texts_in(card.get("configs")):
            path = Path(os.path.expanduser(text))
            if ":" in text or path.is_absolute() or ".." in path.parts:
                raise SourceError(
                    f"{file}: it names data outside of its folder, {text!r}; copy the files into "
                    f"the folder and name them there"
                )


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | Sequence):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(item)


def _direct(
    read: Callable[[Path, Mapping[str, Any]], Rows],
    files: Mapping[str, Sequence[Path]],
    features: Mapping[str, Any],
) -> Layout:
    return Layout(files, lambda split: [read(file, features) for file in files[split]])


def _prepared(builder: Any, split: str, columns: Mapping[str, str]) -> Rows:
    """Return the rows of a split that `datasets` has prepared."""
    with warnings.catch_warnings():
        # pandas would only warn that it drops the last cells of rows longer than their header.
        warnings.filterwarnings("error", "Length of header or names does not match")
        builder.download_and_prepare()
    data = builder.as_dataset(split=split)
    _require_all_kept(builder.config, data.data.table, columns)
    return TableRows("", data.data.table, data.features)


def _mapped(file: Path, features: Mapping[str, Any]) -> Rows:
    """Return an Arrow file, which is a stream where `datasets` has written it."""
    content = pa.memory_map(str(file))
    try:
        table = pa.ipc.open_stream(content).read_all()
    except pa.ArrowInvalid:
        table = pa.ipc.open_file(content).read_all()
    table_budget.require_proportional(file, {"rows": table.num_rows})
    table.validate(full=True)  # a damaged file must not end the process, nor `nbytes` do so
    table_budget.require_proportional(file, {"bytes": table.nbytes})
    return TableRows(str(file), table, features)


def _noted(schema: pa.Schema) -> dict[str, Any]:
    """Return what `datasets` has noted in a file about its columns, such as names of classes.

    `Features.from_arrow_schema` forgets the note of a column whose type differs, such as one of
    large lists or of small integers.
    """
    import datasets

    note = finite_json((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = (note.get("info") or {}).get("features")
    return dict(datasets.Features.from_dict(features)) if features else {}


def _noted_in_card(path: Path) -> dict[str, Any]:
    """Return what the card of a data set says of its columns, if it has one configuration."""
    from datasets.info import DatasetInfosDict

    folder = path if path.is_dir() else path.parent
    try:
        infos = DatasetInfosDict.from_directory(str(folder))
    except Exception:  # any README may lie there, and columns without notes are refused or plain
        return {}
    return dict(next(iter(infos.values())).features or {}) if len(infos) == 1 else {}


def _read_texts_as_written(config: Any, columns: Mapping[str, str]) -> None:
    """Let a builder of CSV files read the columns of texts as text; `columns` is by field."""
    if not _is_of_csv(config):
        return
    texts = [column for field, column in columns.items() if not _is_id(field)]
    config.converters = dict.fromkeys(texts, str)
    config.keep_default_na = False
    if config.index_col is None:  # else one cell too many in each row would shift all columns
        config.index_col = False


def _require_all_kept(config: Any, table: pa.Table, columns: Mapping[str, str]) -> None:
    """Raise `SourceError` if a prepared table lacks a part of its CSV file."""
    files = config.data_files or {}
    in_folder = "metadata.csv" in {Path(str(file)).name for split in files for file in files[split]}
    if not in_folder and not _is_of_csv(config):
        return
    place = "metadata.csv" if in_folder else "CSV"
    mend = "Write metadata.jsonl" if in_folder else "Fetch the files and give their folder"
    for field, column in columns.items():
        if f"{column}.1" in table.column_names:
            raise SourceError(
                f"{place}: `datasets` names a second column {column!r} '{column}.1', and both are "
                f"there. Rename one of them."
            )
        known = column in table.column_names and not _is_id(field)
        if known and table.column(column).null_count:
            raise SourceError(
                f"{place}: `datasets` reads NA, None, null and an empty cell of column {column!r} "
                f"as nothing. {mend} instead."
            )


def _is_of_csv(config: Any) -> bool:
    return hasattr(config, "converters")


def _is_id(field: str) -> bool:
    return field in ("question_id", "image_id")
