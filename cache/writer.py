"""Stage one's side of the cache: adds whole shards, one atomic file at a time.

A shard is the unit of work. This process or others make its bytes in memory and stage them
(disk/staging.py). The one writer renames them into place in their order, and then the manifest
names them. A process killed in between leaves a file that no manifest names, and the next run makes
it again with the same bytes.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from frozen_vqa.cache.disk.files import same_bytes, sync_directory, write_atomically
from frozen_vqa.cache.disk.folders import OwnFolder
from frozen_vqa.cache.disk.integrity import load_manifest, require_whole
from frozen_vqa.cache.disk.lock import WriterLock, sole_writer
from frozen_vqa.cache.disk.pages import fill_pages, free_name, mend_pages, replace_record
from frozen_vqa.cache.disk.staging import (
    StagedShard,
    explain_errors,
    forget_failures,
    read_staged,
    remove_staged,
    staged_paths,
)
from frozen_vqa.cache.errors import CacheError, explain_write_errors
from frozen_vqa.cache.format.digests import Buffer, digest
from frozen_vqa.cache.format.manifest import COPY, NAME, Failure, Manifest
from frozen_vqa.cache.format.records.files import FOLDERS, ShardKind, SplitRecord
from frozen_vqa.cache.format.shards import Shard
from frozen_vqa.cache.format.small_files import SMALL_FILES, small_files
from frozen_vqa.cache.format.spec import CacheSpec
from frozen_vqa.cache.format.splits import SplitTable
from frozen_vqa.cache.names import path_in, require_split_name
from frozen_vqa.cache.typed_json import Json


class CacheWriter:
    """Adds pictures, questions and splits to a new or old cache; holds its lock while open.

    Entering raises `CacheMismatchError` if the cache holds something else than `spec` says, and
    `CacheBusyError` if another process is writing to it.
    """

    def __init__(self, directory: Path, spec: CacheSpec) -> None:
        self.directory = directory
        self.manifest = Manifest(spec=spec)
        self._own = own_cache(directory)
        self._stack = ExitStack()
        self._lock: WriterLock

    def __enter__(self) -> "CacheWriter":
        with ExitStack() as stack:
            with explain_write_errors(self.directory, CacheError, "Give another --cache."):
                self._own.claim(known_files(self._own))
                self._own.require_real(*FOLDERS)
                self._lock = stack.enter_context(sole_writer(self.directory))
            if (self.directory / NAME).exists() or (self.directory / COPY).exists():
                stored = load_manifest(self.directory)
                if not stored.is_empty:  # else it is as good as new
                    stored.spec.require(self.manifest.spec, self.directory)
                    require_whole(self.directory, stored)
                    self.manifest = stored
            else:
                self._require_new()
            self._remove_leftovers()
            mend_pages(self.directory, self.manifest, self._write_changed)
            forget_failures(self.directory)
            # At once, so that shards without a manifest are never the work of a kill.
            self._commit(self.manifest)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stack:
            if kind is None:
                self._lock.require()
                self._remove_leftovers()
                with explain_errors(self.directory):
                    remove_staged(self.directory)

    def adopt(
        self, kind: ShardKind, keys: Sequence[str], known: Mapping[str, StagedShard] | None = None
    ) -> int:
        """Make staged chunks part of the cache; return how many.

        They are taken in the order of their keys, up to the first that is not done. So the cache is
        that of a single process, whichever processes made the chunks. Those that this process has
        staged itself are `known`, and are not read again.
        """
        self._lock.require()
        manifest, done = self.manifest, 0
        with explain_errors(path_in(self.directory, kind)):
            for key in keys:
                staged = (known or {}).get(key) or read_staged(self.directory, kind, key)
                if staged is None:
                    break
                manifest = self._take(manifest, kind, key, staged)
                done += 1
            if done:
                sync_directory(path_in(self.directory, kind))
                self._commit(manifest)
                for key in keys[:done]:
                    staged_paths(self.directory, kind, key)[1].unlink()
        return done

    def _take(self, manifest: Manifest, kind: ShardKind, key: str, staged: StagedShard) -> Manifest:
        if kind == "images":
            manifest = replace(manifest, failures=_merge_failures(manifest.failures, staged))
        if staged.record is None:
            return manifest
        index = len(manifest.shards(kind))
        record = replace(staged.record, file=f"{kind}/{index:05d}.h5")
        # With the next ones, or each of a hundred thousand would write the names of all again.
        if record.file not in self._own.names():
            ahead = range(index, index + 1 + index // 8)
            self._own.note(*(f"{kind}/{number:05d}.h5" for number in ahead))
        staged_paths(self.directory, kind, key)[0].replace(path_in(self.directory, record.file))
        return manifest.with_shard(kind, index, record)

    def replace_shard(self, index: int, shard: Shard) -> bool:
        """Put a rebuilt shard in its place; return whether its bytes are the same.

        Other bytes get another file name, so that a kill leaves the old shard as it was. Raise
        `CacheError` if it holds other rows, because the splits point at them.
        """
        shards = self.manifest.shards(shard.kind)
        old = shards[index]
        if (shard.record.names, shard.record.prefixes) != (old.names, old.prefixes):
            raise CacheError(
                f"{path_in(self.directory, old.file)}: the rebuilt shard holds other rows than the "
                f"one that it should replace, so the data set has changed since. Extract into "
                f"another --cache."
            )
        same = shard.record.xxh3 == old.xxh3
        file = old.file
        if not same:
            file = free_name(f"{shard.kind}/{index:05d}.h5", shards.column("file"))
        self._write(file, *shard.pieces)
        # Where its rows came from has not changed, whatever was named to find them again.
        record = replace(shard.record, file=file, origin=old.origin)
        shards = replace_record(shards, shard.kind, index, record, self._write)
        self._commit(self.manifest.with_shards(shard.kind, shards))
        return same

    def set_split(
        self,
        name: str,
        table: SplitTable,
        *,
        left_out: int = 0,
        failures: Sequence[Failure] = (),
        tokens: int = 0,
        origin: Mapping[str, Json] | None = None,
    ) -> None:
        """Write a split, or replace it by another version of itself.

        The new version has another file name, and the old one stays until the manifest names it.
        The failures are questions left out of the table; they replace those known before. Raise
        `CacheError` if no file can have the split's name, or the disk is full.
        """
        require_split_name(name)
        new = table.to_hdf5()
        xxh3, stored = digest(*new.pieces), self.manifest.splits.get(name)
        taken = [record.file for record in self.manifest.splits.values()]
        same = stored and stored.xxh3 == xxh3
        file = stored.file if stored and same else free_name(f"splits/{name}.h5", taken)
        self._write(file, *new.pieces)
        record = SplitRecord(
            file=file,
            rows=len(table),
            bytes=new.nbytes,
            xxh3=xxh3,
            datasets=new.datasets,
            left_out=left_out,
            tokens=tokens,
            origin=dict(origin or {}),
        )
        # Some may have failed before they were like a stored one.
        failed = {f.id for f in self.manifest.failures if not f.split}
        named = failed.intersection(image_id for image_id, _ in table.named_pictures())
        others = (f for f in self.manifest.failures if f.split != name)
        others = (f for f in others if f.split or f.id not in named)
        splits = {**self.manifest.splits, name: record}
        self._commit(replace(self.manifest, splits=splits, failures=(*others, *failures)))

    def _write(self, name: str, *pieces: Buffer) -> None:
        self._lock.require()
        with explain_errors(path_in(self.directory, name)):
            self._own.note(name)
            write_atomically(path_in(self.directory, name), *pieces)

    def _commit(self, manifest: Manifest) -> None:
        """Write full pages, the manifest, its copy, and the list of failures for people."""
        self._lock.require()
        manifest = fill_pages(self.directory, manifest, self._write)
        for name, data in small_files(manifest).items():
            self._write_changed(name, data)
        self.manifest = manifest

    def _write_changed(self, name: str, data: bytes) -> None:
        path = path_in(self.directory, name)
        with suppress(OSError):  # what cannot be read is written again
            if same_bytes(path, data):
                return
        if data:
            self._write(name, data)
        else:
            with explain_errors(path):
                path.unlink()

    def _require_new(self) -> None:
        """Refuse to make a cache among files that may be somebody's, or those of another cache."""
        for name in FOLDERS:
            folder = path_in(self.directory, name)
            with explain_errors(folder):
                if folder.is_dir() and any(folder.iterdir()):
                    raise CacheError(
                        f"{self.directory}: the folder {name!r} is there and not empty, but "
                        f"neither {NAME} nor {COPY} is. If it is a cache, bring one of these "
                        f"back; if not, give another --cache."
                    )

    def _remove_leftovers(self) -> None:
        """Remove what we wrote and no manifest names: a killed writer's, and old versions."""
        named = self.manifest.file_names | SMALL_FILES
        with explain_errors(self.directory):
            self._own.remove(self._own.names() - named)
            self._own.remove_partials()


def own_cache(directory: Path, option: str = "--cache") -> OwnFolder:
    """Return what tells which files of a cache are ours; staged ones tell by their names."""
    return OwnFolder(directory, "a cache", CacheError, option)


def require_own_cache(directory: Path) -> None:
    """Raise `CacheError` if a folder is not ours, so no cache; this writes nothing."""
    own = own_cache(directory)
    with explain_write_errors(directory, CacheError, "Give another --cache."):
        own.require(known_files(own))
        own.require_real(*FOLDERS)


def remove_cache(directory: Path) -> None:
    """Remove a cache's files but not its folder; raise `CacheError` if that is not ours."""
    own = own_cache(directory)
    with explain_errors(directory):
        own.claim(known_files(own))
        own.require_real(*FOLDERS)
        with sole_writer(directory):
            remove_staged(directory)
            own.remove(own.names())


def known_files(own: OwnFolder) -> set[str]:
    """Return the files of a cache without a mark, as a copy may be: those of its manifest."""
    if own.is_marked() or not any(path_in(own.path, name).exists() for name in (NAME, COPY)):
        return set()
    manifest = load_manifest(own.path)  # its digest tells it from somebody's file of that name
    return manifest.file_names | SMALL_FILES


def _merge_failures(known: Sequence[Failure], staged: StagedShard) -> tuple[Failure, ...]:
    """Return all failures; one that fails again keeps its place, so that it changes no byte."""
    stored = set(staged.names)
    pictures = {f.id: f for f in (*known, *staged.failures) if not f.split}
    questions = [failure for failure in known if failure.split]
    return (*(f for key, f in pictures.items() if key not in stored), *questions)
