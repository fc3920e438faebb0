"""Pages of the manifest on the disk, each beside its copy.

A page is written before the manifest names it, and never again: a shard that is rebuilt with other
bytes gives a new version under another name. So a kill leaves the old list or the new one.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

from frozen_vqa.cache.arrivals import arrivals_of
from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.manifest import PAGE, Manifest
from frozen_vqa.cache.format.records.files import KINDS, PageRecord, ShardKind, ShardRecord
from frozen_vqa.cache.format.records.pages import page_bytes, page_record
from frozen_vqa.cache.format.records.shard_list import PageSource, ShardList
from frozen_vqa.cache.names import path_in

Write = Callable[[str, bytes], None]
"""Writes a file of the cache by its name."""


def read_page(directory: Path, record: PageRecord) -> bytes:
    """Return the bytes of a page, from its copy if it is not what was written.

    Raise `CacheDamagedError` if neither is.
    """
    arrivals = arrivals_of(directory)
    places = [path_in(directory, name) for name in (record.file, record.copy)]
    for path in [arrivals.bring(record)] if arrivals else places:
        with suppress(OSError):
            data = read_file(path, most=record.bytes)
            if digest(data) == record.xxh3:
                return data
    raise CacheDamagedError(
        f"{path_in(directory, record.file)}: it is missing or not what was written, and so is its "
        f"copy, {path_in(directory, record.copy).name}. They list {record.shards:,} shards. Bring "
        f"one of the two back from another copy of the cache, or run the extract-features command "
        f"that made it again, with another --cache."
    )


def fill_pages(directory: Path, manifest: Manifest, write: Write) -> Manifest:
    """Move the records of shards that fill a page into one, so that cache.json stays small."""
    for kind in KINDS:
        shards = manifest.shards(kind)
        while len(shards.last) >= PAGE:
            page = _write_page(shards, kind, len(shards.pages), shards.last[:PAGE], write)
            source = shards.source or PageSource(directory, manifest.spec, kind, read_page)
            shards = replace(shards, source=source).with_page(len(shards.pages), page)
        manifest = manifest.with_shards(kind, shards)
    return manifest


def replace_record(
    shards: ShardList, kind: ShardKind, index: int, record: ShardRecord, write: Write
) -> ShardList:
    """Return a list with another record, in a new version of its page if it is in one."""
    if index >= shards.paged:
        return shards.with_shard(index, record)
    if record == shards[index]:
        return shards
    number, place = shards.place(index)
    records = [*shards.page(number)]
    records[place] = record
    return shards.with_page(number, _write_page(shards, kind, number, records, write))


def mend_pages(directory: Path, manifest: Manifest, write: Write) -> None:
    """Write pages and copies of which the other one alone is whole."""
    for page in manifest.pages:
        data = read_page(directory, page)
        for name in (page.file, page.copy):
            write(name, data)


def _write_page(
    shards: ShardList, kind: ShardKind, number: int, records: Sequence[ShardRecord], write: Write
) -> PageRecord:
    file = free_name(f"manifest/{kind}-{number:05d}.json", [page.file for page in shards.pages])
    page = page_record(file, records, data := page_bytes(records))
    for name in (page.file, page.copy):
        write(name, data)
    return page


def free_name(file: str, taken: Collection[str]) -> str:
    """Return a name that is not `taken`, for a new version of a file."""
    stem, _, ending = file.rpartition(".")
    versions = (f"{stem}~{number}.{ending}" for number in count(2))
    return next(name for name in chain([file], versions) if name not in taken)
