"""The files of a data set of Hugging Face: rows are found in them, and damage is one sentence."""

import re
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frozen_vqa.pipeline.errors import ImageError, SourceError
from frozen_vqa.pipeline.sources.hub import HubSource
from frozen_vqa.pipeline.sources.hub_files import require_own_files
from tests.support.hub_data import (
    _offline,  # noqa: F401  (a fixture)
    plain,
)


def columns(first: int, count: int) -> dict[str, list[object]]:
    """Questions whose number stands in each field; the picture is its number as text."""
    numbers = range(first, first + count)
    return {
        "question": [f"q{number}?" for number in numbers],
        "answers": [[str(number)] for number in numbers],
        "image_id": list(numbers),
        "image": [str(number).encode() for number in numbers],
    }


@pytest.mark.parametrize("by_content", [False, True])
def test_each_row_is_found_in_its_file_and_group(tmp_path: Path, by_content: bool) -> None:
    """Files and groups of several lengths, one of them without a row."""
    first = 0
    for file, (count, group) in enumerate([(5, 2), (0, 1), (1, 1), (40, 7), (3, 100)]):
        table = pa.table(columns(first, count), pa.schema(
            [("question", pa.string()), ("answers", pa.list_(pa.string())),
             ("image_id", pa.int64()), ("image", pa.binary())]
        ))  # fmt: skip
        pq.write_table(table, tmp_path / f"train-{file:05}-of-00005.parquet", row_group_size=group)
        first += count
    source = HubSource(str(tmp_path), {"image_id": ""} if by_content else {})

    examples = source.examples("train")

    assert [example.answers for example in examples] == [(str(n),) for n in range(first)]
    for number in [*range(first), *reversed(range(first)), 48, 0, 20, 6]:
        assert source.picture(examples[number].image_id) == str(number).encode()


def test_a_file_that_changes_while_it_is_read_stops_the_source(tmp_path: Path) -> None:
    file = plain(tmp_path / "train.parquet", **columns(0, 3))
    source = HubSource(str(tmp_path))
    source.examples("train")
    plain(file, **columns(0, 4))

    with pytest.raises(SourceError, match=r"train\.parquet: the file was changed meanwhile"):
        source.picture(1)


def test_a_damaged_page_of_pictures_costs_its_pictures(tmp_path: Path) -> None:
    file = plain(tmp_path / "train.parquet", **columns(0, 3))
    chunk = pq.ParquetFile(file).metadata.row_group(0).column(3)
    assert chunk.path_in_schema == "image"
    content = bytearray(file.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    file.write_bytes(content)
    source = HubSource(str(tmp_path))

    assert len(source.examples("train")) == 3
    with pytest.raises(ImageError, match=r"^cannot be read \("):
        source.picture(1)
    with pytest.raises(SourceError, match=r"cannot be loaded \(") as caught:
        HubSource(str(tmp_path), {"image_id": ""}).examples("train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [10, 200, -20])
def test_a_damaged_arrow_file_is_one_sentence(tmp_path: Path, cut: int) -> None:
    table = pa.table(columns(0, 3))
    with pa.ipc.new_file(tmp_path / "train.arrow", table.schema) as file:
        file.write_table(table)
    content = (tmp_path / "train.arrow").read_bytes()
    (tmp_path / "train.arrow").write_bytes(content[:cut])

    with pytest.raises(SourceError, match="cannot be loaded") as caught:
        HubSource(str(tmp_path)).examples("train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("which", [0, 1])
def test_offsets_of_an_arrow_file_that_lead_elsewhere_do_not_end_the_process(
    which: int, tmp_path: Path
) -> None:
    """Of lists, and of lists of lists; pyarrow follows them when it counts bytes."""
    nested = pa.array([[["x"], ["y"]], [["z"]]])
    table = pa.table({"question": ["a", "b"], "answers": [["x", "y"], ["z"]], "more": nested})
    path, offsets = tmp_path / "train.arrow", struct.pack("<3i", 0, 2, 3)
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)
    parts = path.read_bytes().split(offsets)
    assert len(parts) == 3
    forged = [offsets, offsets]
    forged[which] = struct.pack("<3i", 0, 2**30, 2**31 - 256)
    path.write_bytes(parts[0] + forged[0] + parts[1] + forged[1] + parts[2])
    with pytest.raises(SourceError, match="cannot be loaded"):
        HubSource(str(tmp_path), {"image": "question"}).examples("train")


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ("a.parquet", None),
        ("[a.parquet, b/*.parquet]", None),
        ("/etc/passwd", "/etc/passwd"),
        ("../a.parquet", "../a.parquet"),
        ("https://x.org/a.parquet", "https://x.org/a.parquet"),
        ("[a.parquet, ../b.parquet]", "../b.parquet"),
        ("[{split: train, path: a.parquet}, {split: val, path: [b.parquet, ~/c]}]", "~/c"),
    ],
)
@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml"])
def test_a_folder_names_no_data_outside_of_it(
    card: str, files: str, named: str | None, tmp_path: Path
) -> None:
    text = f"configs:\n- config_name: default\n  data_files: {files}\n"
    (tmp_path / card).write_text(f"---\n{text}---\n" if card == "README.md" else text)
    if named is None:
        require_own_files(tmp_path)
    else:
        with pytest.raises(SourceError, match=re.escape(f"data outside of its folder, {named!r}")):
            require_own_files(tmp_path)
