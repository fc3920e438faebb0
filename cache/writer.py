"""Stage one's side of the cache: adds whole shards, one atomic file at a time.

A shard is the unit of work. Its bytes are made in memory and laid aside, by this process or by
others (aside.py); the one writer renames them into place in their order, and then the manifest
names them. A process killed in between leaves a file that no manifest names, which the next run
makes again with the same bytes.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path, PurePath
from types import TracebackType

from cache.aside import (
    LEFTOVER,
    Laid,
    cannot_write,
    laid_aside,
    lay_aside,
    record_path,
    shard_path,
)
from cache.errors import CacheError
from cache.files import digest, make_directory, sync_directory, write_atomically
from cache.lock import WriterLock, sole_writer
from cache.manifest import (
    COPY,
    FAILURES,
    NAME,
    Failure,
    Manifest,
    ShardKind,
    SplitRecord,
    load_manifest,
    same_bytes,
    small_files,
)
from cache.shards import NewImages, NewQuestions, Shard, image_shard, question_shard
from cache.spec import CacheSpec, Json
from cache.splits import SplitTable


class CacheWriter:
    """Adds pictures, questions and splits to a cache; holds its lock while open.

    Args:
        directory: Made if it does not exist.
        spec: What the cache holds or shall hold.

    Raises:
        CacheMismatchError: if the cache holds something else.
        CacheBusyError: if another process is writing to it.
    """

    def __init__(self, directory: Path, spec: CacheSpec) -> None:
        self.directory = directory
        self.manifest = Manifest(spec=spec)
        self._stack = ExitStack()
        self._lock: WriterLock
        self._adopted: dict[ShardKind, int] = {"images": 0, "questions": 0}

    def __enter__(self) -> "CacheWriter":
        with ExitStack() as stack:
            try:
                make_directory(self.directory)
                self._lock = stack.enter_context(sole_writer(self.directory))
            except OSError as error:
                raise CacheError(
                    f"{self.directory}: a cache cannot be written here ({error.strerror}). "
                    f"Give another --cache."
                ) from error
            if (self.directory / NAME).exists() or (self.directory / COPY).exists():
                stored = load_manifest(self.directory)
                stored.spec.require(self.manifest.spec, self.directory)
                self.manifest = stored
            else:
                self._require_no_shards()
            self._remove_leftovers()
            # At once, so that shards without a manifest are never the work of a kill.
            self._commit(self.manifest)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            if kind is None:
                self._remove_leftovers()

    def add_images(self, new: NewImages, *, failures: Sequence[Failure] = ()) -> None:
        """Write one image shard and, in the same commit, which pictures it had to leave out.

        Raises:
            CacheError: if a number is not finite, or the disk is full.
        """
        shard = image_shard(self.manifest.spec, new) if new.image_ids else None
        chunk = self._adopted["images"]
        lay_aside(self.directory, chunk, shard, kind="images", failures=failures)
        self.adopt("images")

    def add_questions(self, new: NewQuestions) -> None:
        """Write one question shard.

        Raises:
            CacheError: if a number is not finite, or the disk is full.
        """
        shard = question_shard(self.manifest.spec, new)
        lay_aside(self.directory, self._adopted["questions"], shard, kind="questions")
        self.adopt("questions")

    def adopt(self, kind: ShardKind) -> int:
        """Make chunks that were laid aside part of the cache; return how many there are by now.

        They are taken in their order, up to the first that is not done: whoever made them, the
        cache is that of a single process.
        """
        manifest, first = self.manifest, self._adopted[kind]
        chunk = first
        while (laid := laid_aside(self.directory, kind, chunk)) is not None:
            manifest = self._take(manifest, kind, chunk, laid)
            chunk += 1
        if chunk > first:
            try:
                sync_directory(self.directory / kind)
            except OSError as error:
                raise cannot_write(self.directory / kind, error) from error
            self._commit(manifest)
            for done in range(first, chunk):
                record_path(self.directory, kind, done).unlink()
            self._adopted[kind] = chunk
        return chunk

    def _take(self, manifest: Manifest, kind: ShardKind, chunk: int, laid: Laid) -> Manifest:
        if kind == "images":
            manifest = replace(manifest, failures=_merged(manifest.failures, laid))
        if laid.record is None:
            return manifest
        index = len(manifest.shards(kind))
        record = replace(laid.record, file=f"{kind}/{index:05d}.h5")
        try:
            shard_path(self.directory, kind, chunk).replace(self.directory / record.file)
        except OSError as error:
            raise cannot_write(self.directory / record.file, error) from error
        return manifest.with_shard(kind, index, record)

    def replace_shard(self, index: int, shard: Shard) -> bool:
        """Put a shard that was made again in its place; return whether its bytes are the same.

        Raises:
            CacheError: if it holds other rows, for the splits point at them.
        """
        old = self.manifest.shards(shard.kind)[index]
        record = replace(shard.record, file=old.file)
        if (record.names, record.prefixes) != (old.names, old.prefixes):
            raise CacheError(
                f"{self.directory / old.file}: what was made again holds other rows than the "
                f"shard that it should replace, so the data set has changed since. Extract into "
                f"another --cache."
            )
        self._lock.require()
        self._write(old.file, shard.data)
        self._commit(self.manifest.with_shard(shard.kind, index, record))
        return record == old

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

        The old version stays until the manifest names the new one, under another file name.

        Args:
            name: Of the split.
            table: Its questions.
            left_out: Questions of the data set that are not in the table.
            failures: Those of them that could not be used; they replace what was known before.
            tokens: Tokens of all its questions.
            origin: Where the questions came from.

        Raises:
            CacheError: if its name cannot be a file's, or the disk is full.
        """
        if name != PurePath(name).name or "\0" in name:
            raise CacheError(f"split {name!r}: its name must do for a file, so without '/'")
        data = table.to_hdf5()
        file = self._split_file(name, digest(data))
        self._lock.require()
        self._write(file, data)
        record = SplitRecord(
            file=file,
            rows=len(table),
            bytes=len(data),
            xxh3=digest(data),
            left_out=left_out,
            tokens=tokens,
            origin=dict(origin or {}),
        )
        others = (failure for failure in self.manifest.failures if failure.split != name)
        manifest = replace(self.manifest, failures=(*others, *failures))
        self._commit(manifest.with_split(name, record))

    def _split_file(self, name: str, xxh3: str) -> str:
        """Return the file for a split: its own if this is stored already, else one that is free."""
        stored = self.manifest.splits.get(name)
        if stored is not None and stored.xxh3 == xxh3:
            return stored.file
        taken = {record.file for record in self.manifest.splits.values()}
        file, version = f"splits/{name}.h5", 2
        while file in taken:
            file, version = f"splits/{name}~{version}.h5", version + 1
        return file

    def _write(self, name: str, data: bytes) -> None:
        try:
            write_atomically(self.directory / name, data)
        except OSError as error:
            raise cannot_write(self.directory / name, error) from error

    def _commit(self, manifest: Manifest) -> None:
        """Write the manifest, its copy, and the list of failures for people."""
        self._lock.require()
        for name, data in small_files(manifest).items():
            path = self.directory / name
            if same_bytes(path, data):
                continue
            if data:
                self._write(name, data)
            else:
                path.unlink()
        self.manifest = manifest

    def _require_no_shards(self) -> None:
        shards = [p for p in self.directory.glob("*/*.h5") if LEFTOVER.fullmatch(p.name)]
        if shards:
            raise CacheError(
                f"{self.directory}: there are {len(shards)} shards here, but neither {NAME} nor "
                f"{COPY}. Bring one of these back, or give another --cache."
            )

    def _remove_leftovers(self) -> None:
        """Remove what no manifest names: work of a killed writer, and old versions of splits.

        A person may keep other things beside it, so only names that we give are touched.
        """
        named = {record.file for record in self.manifest.files}
        versions = "|".join(re.escape(name) for name in self.manifest.splits)
        patterns = {
            "": re.compile(rf"({re.escape(NAME)}|{re.escape(COPY)}|{FAILURES})\.partial"),
            "images": LEFTOVER,
            "questions": LEFTOVER,
            "splits": re.compile(rf"({versions})(~\d+)?\.h5(\.partial)?"),
        }
        for folder, pattern in patterns.items():
            for path in (self.directory / folder).glob("*"):
                if pattern.fullmatch(path.name) and f"{folder}/{path.name}" not in named:
                    path.unlink()


def _merged(known: Sequence[Failure], laid: Laid) -> tuple[Failure, ...]:
    """Return all failures; one that fails again keeps its place, so that it changes no byte."""
    stored = set(laid.names)
    pictures = {f.id: f for f in (*known, *laid.failures) if not f.split}
    questions = [failure for failure in known if failure.split]
    return (*(f for key, f in pictures.items() if key not in stored), *questions)
