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

from frozen_vqa.cache.aside import (
    ASIDE,
    Laid,
    forget_failures,
    laid_aside,
    record_path,
    shard_path,
    writing,
)
from frozen_vqa.cache.errors import CacheError
from frozen_vqa.cache.files import digest, make_directory, sync_directory, write_atomically
from frozen_vqa.cache.lock import WriterLock, sole_writer
from frozen_vqa.cache.manifest import (
    COPY,
    FAILURES,
    FOLDERS,
    NAME,
    Failure,
    Manifest,
    ShardKind,
    SplitRecord,
    load_manifest,
    same_bytes,
    small_files,
)
from frozen_vqa.cache.shards import Shard
from frozen_vqa.cache.spec import CacheSpec, Json
from frozen_vqa.cache.splits import SplitTable

PARTIAL = r"(\.partial)?"
LONGEST = 255 - len("~999999.h5.partial")
"""Bytes of a split's name: its file, while it is written, has at most 255."""


def require_split_name(name: str) -> None:
    """Raise `CacheError` unless a split can have this name, which becomes a file's."""
    fits = name.isprintable() and len(name.encode()) <= LONGEST
    if not (name and name == PurePath(name).name and fits):
        raise CacheError(
            f"split {name!r}: its name must do for a file: without '/' and control characters, at "
            f"most {LONGEST} bytes"
        )


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
                if stored.files:  # else it is as good as new
                    stored.spec.require(self.manifest.spec, self.directory)
                    self.manifest = stored
            else:
                self._require_new()
            self._remove_leftovers()
            forget_failures(self.directory)
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
                self._lock.require()
                self._remove_leftovers(asides=True)

    def adopt(self, kind: ShardKind, keys: Sequence[str]) -> int:
        """Make chunks that were laid aside part of the cache; return how many.

        They are taken in the order of their keys, up to the first that is not done: whoever made
        them, the cache is that of a single process.
        """
        self._lock.require()
        manifest, done = self.manifest, 0
        with writing(self.directory / kind):
            for key in keys:
                laid = laid_aside(self.directory, kind, key)
                if laid is None:
                    break
                manifest = self._take(manifest, kind, key, laid)
                done += 1
            if done:
                sync_directory(self.directory / kind)
                self._commit(manifest)
                for key in keys[:done]:
                    record_path(self.directory, kind, key).unlink()
        return done

    def _take(self, manifest: Manifest, kind: ShardKind, key: str, laid: Laid) -> Manifest:
        if kind == "images":
            manifest = replace(manifest, failures=_merged(manifest.failures, laid))
        if laid.record is None:
            return manifest
        index = len(manifest.shards(kind))
        record = replace(laid.record, file=f"{kind}/{index:05d}.h5")
        shard_path(self.directory, kind, key).replace(self.directory / record.file)
        return manifest.with_shard(kind, index, record)

    def replace_shard(self, index: int, shard: Shard) -> bool:
        """Put a shard that was made again in its place; return whether its bytes are the same.

        Other bytes get another file name: killed in between, the old shard is what it was.

        Raises:
            CacheError: if it holds other rows, for the splits point at them.
        """
        old = self.manifest.shards(shard.kind)[index]
        if (shard.record.names, shard.record.prefixes) != (old.names, old.prefixes):
            raise CacheError(
                f"{self.directory / old.file}: what was made again holds other rows than the "
                f"shard that it should replace, so the data set has changed since. Extract into "
                f"another --cache."
            )
        same = shard.record.xxh3 == old.xxh3
        file = old.file if same else self._free(f"{shard.kind}/{index:05d}")
        self._write(file, shard.data)
        # Where its rows came from has not changed, whatever was named to find them again.
        record = replace(shard.record, file=file, origin=old.origin)
        self._commit(self.manifest.with_shard(shard.kind, index, record))
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
        require_split_name(name)
        data = table.to_hdf5()
        stored = self.manifest.splits.get(name)
        same = stored is not None and stored.xxh3 == digest(data)
        file = stored.file if stored and same else self._free(f"splits/{name}")
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

    def _free(self, stem: str) -> str:
        """Return a file name that the manifest does not use, for a new version of a file."""
        taken = {record.file for record in self.manifest.files}
        file, version = f"{stem}.h5", 2
        while file in taken:
            file, version = f"{stem}~{version}.h5", version + 1
        return file

    def _write(self, name: str, data: bytes) -> None:
        self._lock.require()
        with writing(self.directory / name):
            write_atomically(self.directory / name, data)

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
                with writing(path):
                    path.unlink()
        self.manifest = manifest

    def _require_new(self) -> None:
        """Refuse to make a cache where something is already: it may be somebody's, or a cache's."""
        for folder in FOLDERS:
            with writing(self.directory / folder):
                if (self.directory / folder).is_dir() and any((self.directory / folder).iterdir()):
                    raise CacheError(
                        f"{self.directory}: the folder {folder!r} is there and not empty, but "
                        f"neither {NAME} nor {COPY} is. If it is a cache, bring one of these "
                        f"back; if not, give another --cache."
                    )

    def _remove_leftovers(self, *, asides: bool = False) -> None:
        """Remove what no manifest names: work of a killed writer, and old versions of splits.

        Chunks that were laid aside stay until an extraction has ended; the next one may use them.
        A person may keep other things beside it, so only names that we give are touched.
        """
        named = {record.file for record in self.manifest.files}
        versions = "|".join(re.escape(name) for name in self.manifest.splits)
        shard = re.compile(rf"\d{{5,}}(~\d+)?\.h5{PARTIAL}")
        patterns = {
            "": re.compile(rf"({re.escape(NAME)}|{re.escape(COPY)}|{FAILURES}){PARTIAL}"),
            "images": shard,
            "questions": shard,
            "splits": re.compile(rf"({versions})(~\d+)?\.h5{PARTIAL}"),
        }
        for folder, pattern in patterns.items():
            with writing(self.directory / folder):
                for path in (self.directory / folder).glob("*"):
                    ours = pattern.fullmatch(path.name) or (asides and ASIDE.fullmatch(path.name))
                    kept = f"{folder}/{path.name}" in named or path.name in (NAME, COPY, FAILURES)
                    if ours and not kept and (path.is_file() or path.is_symlink()):
                        path.unlink()


def _merged(known: Sequence[Failure], laid: Laid) -> tuple[Failure, ...]:
    """Return all failures; one that fails again keeps its place, so that it changes no byte."""
    stored = set(laid.names)
    pictures = {f.id: f for f in (*known, *laid.failures) if not f.split}
    questions = [failure for failure in known if failure.split]
    return (*(f for key, f in pictures.items() if key not in stored), *questions)
