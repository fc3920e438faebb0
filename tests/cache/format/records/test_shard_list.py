"""A list of shards is that of its records, however many of them lie in pages."""

import pickle
from pathlib import Path

import pytest

from frozen_vqa.cache.disk import integrity, pages
from frozen_vqa.cache.disk.integrity import load_manifest
from frozen_vqa.cache.format.records.files import PageRecord
from frozen_vqa.cache.format.records.pages import COLUMNS
from tests.support.manifests import shard
from tests.support.paged import PAGE, made_up, small_pages, write


@pytest.mark.parametrize("count", [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 3 * PAGE + 2])
def test_a_list_is_that_of_its_records(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pages(monkeypatch)
    made = made_up(count, count + 1)
    write(tmp_path, made)
    found = load_manifest(tmp_path)
    assert found == made
    assert len(found.pages) == count // PAGE + (count + 1) // PAGE
    shards, records = found.shards("images"), tuple(made.images)
    assert (len(shards), tuple(shards), shards) == (count, records, records)
    assert [shards[place] for place in range(-count, count)] == [*records, *records]
    for part in (slice(1, None), slice(None, -1), slice(None, None, -2), slice(2, PAGE + 1)):
        assert shards[part] == records[part]
    for name in COLUMNS:
        assert shards.column(name) == [getattr(record, name) for record in records]
    for name in ("rows", "bytes", "prefixes"):
        assert shards.total(name) == sum(getattr(record, name) for record in records)
    for beyond in (count, -count - 1):
        with pytest.raises(IndexError):
            shards[beyond]
    more = shards.with_shard(count, new := shard("images/00009.h5", 1, 5000))
    assert more == (*records, new)
    assert more != shards


def test_a_page_is_read_when_a_record_of_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pages(monkeypatch)
    write(tmp_path, made := made_up(4 * PAGE + 1))
    read: list[str] = []

    def counted(directory: Path, record: PageRecord) -> bytes:
        read.append(record.file[-6])
        return pages.read_page(directory, record)

    monkeypatch.setattr(integrity, "read_page", counted)
    manifest = load_manifest(tmp_path)
    assert (manifest.image_rows, manifest.bytes) == (made.image_rows, made.bytes)
    assert manifest.images[-1] == made.images[-1]
    assert manifest.to_json()
    assert read == []
    for place in (PAGE, PAGE + 1, PAGE):
        assert manifest.images[place] == made.images[place]
    assert read == ["1"]
    copied = load_manifest(tmp_path)
    assert manifest == copied  # of the same pages, which need not be compared
    assert manifest.file_names
    assert sorted(read) == ["0", "1", "2", "3"]
    monkeypatch.undo()
    sent = pickle.dumps(copied := load_manifest(tmp_path))
    assert copied.images[0] == made.images[0]
    assert len(pickle.dumps(copied)) == len(sent)  # without the pages that it has read since
    assert pickle.loads(sent).images[0] == made.images[0]
