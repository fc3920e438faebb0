"""Parquet files whose footers lie: refused with an error, before anything is unpacked."""

import os
import signal
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources import table_budget
from frozen_vqa.pipeline.sources.hub_files import UNREADABLE, ParquetRows

TABLE = pa.table({"question": ["what", "who"], "image": [{"bytes": b"1"}, {"bytes": b"2"}]})


def read(file: Path) -> None:
    try:
        rows = ParquetRows(file, {})
        for _ in rows.batches(rows.schema.names, 10):
            pass
    except (SourceError, *UNREADABLE):
        pass


def changed(data: bytes, masks: Iterable[int]) -> Iterable[bytes]:
    """Yield a file for each byte of the footer and each mask."""
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for place in range(footer, len(data)):
        for mask in masks:
            yield data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


@pytest.mark.parametrize(
    "masks",
    [(2, 6), pytest.param([1 << bit for bit in range(8)], marks=pytest.mark.slow)],
    ids=["few", "every bit"],
)
def test_no_byte_of_the_footer_ends_the_process(tmp_path: Path, masks: Iterable[int]) -> None:
    pq.write_table(TABLE, file := tmp_path / "a.parquet")
    data = file.read_bytes()
    if not (child := os.fork()):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what C++ says when it ends the process
        signal.alarm(600)
        try:
            for forged in changed(data, masks):
                file.write_bytes(forged)
                read(file)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_file_without_a_column_is_read(tmp_path: Path) -> None:
    pq.write_table(TABLE.select([]), file := tmp_path / "a.parquet")
    table_budget.open_parquet(file).close()


def test_a_file_of_nothing_but_groups_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_budget, "FREE_GROUPS", 10)
    table = pa.table({"a": pa.array([1] * 40, pa.int8())})
    pq.write_table(table, file := tmp_path / "a.parquet", row_group_size=1)
    with pytest.raises(SourceError, match=r"hold 40 groups; the limit .* is 1\d\."):
        table_budget.open_parquet(file)
    pq.write_table(table, file, row_group_size=4)
    table_budget.open_parquet(file).close()


def test_a_footer_whose_rows_are_not_those_of_its_groups_is_refused(tmp_path: Path) -> None:
    pq.write_table(TABLE.slice(0, 1), one := tmp_path / "one.parquet")
    pq.write_table(TABLE, file := tmp_path / "two.parquet")
    metadata = pq.read_metadata(file)
    data = file.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    rows = data.index(b"\x16\x04\x19\x1c", footer)  # num_rows 2, and a list of one group
    file.write_bytes(data[: rows + 1] + b"\x06" + data[rows + 2 :])
    assert (metadata.num_rows, pq.read_metadata(file).num_rows) == (2, 3)
    with pytest.raises(SourceError, match=r"holds 3 rows, and its groups say 2\."):
        table_budget.open_parquet(file)
    table_budget.open_parquet(one).close()
