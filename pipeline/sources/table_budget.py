"""Budgets for files of tables: what one may hold, before its rows are in memory.

A file is a stranger's word, so its rows, values and bytes are compared with its own size.
"""

import csv
import io
import mmap
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Sized
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frozen_vqa.cache.disk.files import open_regular
from frozen_vqa.pipeline.errors import SourceError

if TYPE_CHECKING:  # it takes its time, and CSV and JSON do without
    import pyarrow.parquet as pq

FREE_ROWS, FREE_BYTES, MOST_PACKED = 1_000_000, 64 << 20, 100
"""What a table's file may hold, whatever its size: rows, and bytes. Beyond these, a row needs a
byte of the file, and a byte of the file unpacks to so many at most."""

FREE_GROUPS, GROUP_BYTES = 10_000, 1000
"""Groups of rows that a parquet file may have, and then one for so many bytes."""

BUFFER = 4096
"""Bytes of a column that are read at once while it is opened; by default, all of its group are."""

AT_ONCE, FEW = 256 << 20, 16
"""Bytes of rows that are read at once, or so few rows. A column may hold one text as long as all of
a group, and repeat it in each row."""


MOST_COLUMNS, MOST_HEADER = 10_000, 1 << 20
"""Columns of a CSV or JSON file, and bytes of the row with their names."""

_STRING = re.compile(rb'"((?:[^"\\]|\\.)*+)(?:"(\s*+:)?)?', re.DOTALL)
"""A text in JSON, whether it ends or not, so that no byte is looked at twice. A key has a colon."""


def require_proportional(file: Path, counts: Mapping[str, int]) -> None:
    """Raise `SourceError` if a table's file says that it holds far more than its size lets expect.

    `counts` may have "rows", "values" of one column in one group of rows, "groups" of rows, and
    "bytes" unpacked.
    """
    size = os.path.getsize(file)
    limits = {
        "rows": FREE_ROWS + size,
        "values": FREE_ROWS + 4 * size,
        "groups": FREE_GROUPS + size // GROUP_BYTES,
        "bytes": FREE_BYTES + MOST_PACKED * size,
    }
    for what, found in counts.items():
        if found > limits[what]:
            how = "in larger groups" if what == "groups" else "without compression"
            raise SourceError(
                f"{file}: its {size:,} bytes say that they hold {found:,} {what}; the limit for a "
                f"file of this size is {limits[what]:,}. If you trust it, write it {how}."
            )


def open_parquet(file: Path) -> "pq.ParquetFile":
    """Open a parquet file whose own figures are believable.

    Close it after use. Raise `SourceError` if they are not, and what pyarrow raises if it is no
    parquet file, or describes a column as none can be.
    """
    import pyarrow.parquet as pq

    opened = pq.ParquetFile(str(file), buffer_size=BUFFER)
    try:
        metadata = opened.metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        counts = {
            "groups": len(groups),
            "rows": metadata.num_rows,
            "bytes": sum(group.total_byte_size for group in groups),
        }
        require_proportional(file, counts)
        if (rows := sum(group.num_rows for group in groups)) != metadata.num_rows:
            raise SourceError(
                f"{file}: it says that it holds {metadata.num_rows:,} rows, and its groups say "
                f"{rows:,}. Write the file again."
            )
        _require_columns(opened)
        columns = (group.column(i) for group in groups for i in range(group.num_columns))
        values = max((column.num_values for column in columns), default=0)
        require_proportional(file, {"values": values})
    except BaseException:
        opened.close()
        raise
    return opened


def _require_columns(opened: "pq.ParquetFile") -> None:
    """Let pyarrow raise its error where the footer describes a column as none can be.

    The first look at such a column through `metadata` would end the process, because it throws
    what Python cannot catch. A reader of the column raises, and taking no row of it unpacks none.
    """
    columns = list(range(opened.metadata.num_columns))
    for group in range(opened.num_row_groups if columns else 0):  # it divides by 0 without any
        next(opened.reader.iter_batches(0, [group], columns, use_threads=False), None)


def rows_at_once(size: int, metadata: Any, names: Collection[str]) -> int:
    """Return how many rows of some columns to read at once, at most `size`."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = (group.column(i) for group in groups for i in range(group.num_columns))
    asked = (one for one in columns if one.path_in_schema.partition(".")[0] in names)
    largest = max((one.total_uncompressed_size for one in asked), default=1)
    return min(size, max(FEW, AT_ONCE // max(1, largest)))


def require_unpacked(files: Iterable[Sequence[Path]], form_of: Callable[[Path], object]) -> None:
    """Raise `SourceError` for a packed file, which `datasets` would unpack to any size."""
    for file in (file for some in files for file in some):
        if os.path.isfile(file) and (form := form_of(file)):
            raise SourceError(
                f"{file}: it is packed ({form}), and may unpack to any size. Unpack it there."
            )


def require_few_names(names: Sized, where: object) -> None:
    """Raise `SourceError` if there are more columns than anybody has."""
    if len(names) > MOST_COLUMNS:
        raise SourceError(
            f"{where}: more than {MOST_COLUMNS:,} columns, or too long names or cells. Keep the "
            "columns of the questions."
        )


def require_few_columns(file: Path) -> None:
    """Do so for a CSV or JSON file that `datasets` reads, which takes 0.2 ms for each column."""
    with open_regular(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        if delimiter := {".csv": ",", ".tsv": "\t"}.get(file.suffix):
            begin = opened.read(MOST_HEADER)
            count = _cells_in(begin, delimiter, whole=len(begin) == size)
        elif file.suffix in (".json", ".jsonl") and size:
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
                count = _keys_in(data)
        else:
            return
    require_few_names(range(count), file)


def _cells_in(begin: bytes, delimiter: str, *, whole: bool) -> int:
    """Return the cells of the first two rows, of which pandas makes columns; too many if cut."""
    lines = io.StringIO(begin.decode(errors="replace"), newline="")
    try:
        rows = list(islice(csv.reader(lines, delimiter=delimiter), 2))
    except csv.Error:  # a cell is longer than csv takes
        return MOST_COLUMNS + 1
    return max(map(len, rows), default=0) if whole or lines.read(1) else MOST_COLUMNS + 1


def _keys_in(data: mmap.mmap) -> int:
    """Return how many different keys JSON has, counted until they are too many."""
    keys: set[bytes] = set()
    for found in _STRING.finditer(data):
        keys |= {found[1]} if found[2] else set()
        if len(keys) > MOST_COLUMNS:
            break
    return len(keys)
