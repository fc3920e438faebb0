"""Stage one's side of the cache: adds whole shards, one atomic file at a time.

A shard is the unit of work. Its bytes are made in memory, written under a temporary name, synced
and renamed; then the manifest names it. A process killed in between leaves a file that no manifest
names, which the next run writes again with the same bytes.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from types import TracebackType

import numpy as np

from cache.errors import CacheError
from cache.files import digest, remove_partial_files, row_digests, write_atomically
from cache.hdf5 import Hdf5File, column_datasets, hdf5_bytes, text_datasets
from cache.lock import sole_writer
from cache.manifest import FOLDERS, NAME, CacheSpec, Failure, FileRecord, Manifest, load_manifest
from cache.splits import SplitTable


@dataclass(frozen=True)
class NewQuestions:
    """Distinct questions to be added, with the prefixes that no earlier row holds.

    Attributes:
        texts: The questions.
        paths: Per question the cache-wide rows of its prefixes, first token first.
        parents: (prefixes,) row of the prefix that is one token shorter; -1 at the first token.
        tokens: (prefixes,) last token of each prefix.
        hidden_states: (prefixes, text_dim) in the dtype of the cache.
    """

    texts: Sequence[str]
    paths: Sequence[Sequence[int]]
    parents: np.ndarray
    tokens: np.ndarray
    hidden_states: np.ndarray


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

    def __enter__(self) -> "CacheWriter":
        with ExitStack() as stack:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                stack.enter_context(sole_writer(self.directory))
            except OSError as error:
                raise CacheError(
                    f"{self.directory}: a cache cannot be written here ({error.strerror}). "
                    f"Give another --cache."
                ) from error
            if (self.directory / NAME).exists():
                stored = load_manifest(self.directory)
                stored.spec.require(self.manifest.spec, self.directory)
                self.manifest = stored
            remove_partial_files(self.directory, (NAME, *(f"{folder}/*.h5" for folder in FOLDERS)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def image_rows(self) -> dict[str, int]:
        """Return the row of every stored picture by image id."""
        ids: list[str] = []
        for record in self.manifest.images:
            with Hdf5File(self.directory / record.file) as file:
                ids += file.texts("image_id")
        return {image_id: row for row, image_id in enumerate(ids)}

    def question_rows(self) -> dict[str, int]:
        """Return the row of every stored question by text."""
        texts: list[str] = []
        for record in self.manifest.questions:
            with Hdf5File(self.directory / record.file) as file:
                texts += file.texts("question")
        return {text: row for row, text in enumerate(texts)}

    def prefixes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return parent row and last token of every stored prefix, both (prefixes,)."""
        parents, tokens = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for record in self.manifest.questions:
            with Hdf5File(self.directory / record.file) as file:
                parents.append(file.column("prefix_parent"))
                tokens.append(file.column("prefix_token"))
        return np.concatenate(parents), np.concatenate(tokens)

    def add_images(
        self,
        image_ids: Sequence[str],
        patch_embeddings: np.ndarray,
        cls: np.ndarray,
        *,
        failures: Sequence[Failure] = (),
    ) -> None:
        """Write one image shard and, in the same commit, which pictures it had to leave out.

        Args:
            image_ids: One per row.
            patch_embeddings: (rows, patches, vision_dim) in the dtype of the cache.
            cls: (rows, vision_dim) in the dtype of the cache.
            failures: Pictures of this shard that could not be read; they take the place of what is
                known of the same pictures.

        Raises:
            CacheError: if a number is not finite, or the disk is full.
        """
        kept = self._failures_without(image_ids, failures)
        if not image_ids:
            self._commit(replace(self.manifest, failures=kept))
            return
        spec = self.manifest.spec
        _require_shape(patch_embeddings, (len(image_ids), spec.patches, spec.vision_dim), spec)
        _require_shape(cls, (len(image_ids), spec.vision_dim), spec)
        largest = max(
            _largest(patch_embeddings, image_ids, "patch embeddings of image"),
            _largest(cls, image_ids, "CLS vector of image"),
        )
        record = self._write(
            f"images/{len(self.manifest.images):05d}.h5",
            hdf5_bytes(
                {
                    "patch_embeddings": patch_embeddings,
                    "patch_embeddings_xxh3": row_digests(patch_embeddings),
                    "cls": cls,
                    "cls_xxh3": row_digests(cls),
                    **text_datasets("image_id", image_ids),
                }
            ),
            rows=len(image_ids),
        )
        record = replace(record, largest=largest)
        images = (*self.manifest.images, record)
        self._commit(replace(self.manifest, images=images, failures=kept))

    def add_questions(self, new: NewQuestions) -> None:
        """Write one question shard.

        Raises:
            CacheError: if a number is not finite, or the disk is full.
        """
        spec = self.manifest.spec
        prefixes = len(new.parents)
        _require_shape(new.hidden_states, (prefixes, spec.text_dim), spec)
        largest = _largest(new.hidden_states, range(prefixes), "hidden state of prefix")
        offsets = np.zeros(len(new.paths) + 1, dtype=np.int64)
        np.cumsum([len(path) for path in new.paths], out=offsets[1:])
        record = self._write(
            f"questions/{len(self.manifest.questions):05d}.h5",
            hdf5_bytes(
                {
                    "hidden_states": new.hidden_states,
                    "hidden_states_xxh3": row_digests(new.hidden_states),
                    **column_datasets("prefix_parent", np.asarray(new.parents, dtype=np.int64)),
                    **column_datasets("prefix_token", np.asarray(new.tokens, dtype=np.int64)),
                    **column_datasets(
                        "path_rows", np.array([r for p in new.paths for r in p], dtype=np.int64)
                    ),
                    **column_datasets("path_offsets", offsets),
                    **text_datasets("question", new.texts),
                }
            ),
            rows=len(new.texts),
        )
        record = replace(record, prefixes=prefixes, largest=largest)
        self._commit(replace(self.manifest, questions=(*self.manifest.questions, record)))

    def set_split(self, name: str, table: SplitTable, *, left_out: int) -> None:
        """Write a split, or replace it by another version of itself.

        Raises:
            CacheError: if its name cannot be a file's, or the disk is full.
        """
        if name != PurePath(name).name:
            raise CacheError(f"split {name!r}: its name must do for a file, so without '/'")
        record = self._write(f"splits/{name}.h5", table.to_hdf5(), rows=len(table))
        self._commit(self.manifest.with_split(name, replace(record, left_out=left_out)))

    def _failures_without(
        self, image_ids: Sequence[str], new: Sequence[Failure]
    ) -> tuple[Failure, ...]:
        # One that fails again keeps its place, so that trying again changes no byte.
        merged = {failure.image_id: failure for failure in (*self.manifest.failures, *new)}
        stored = set(image_ids)
        return tuple(failure for key, failure in merged.items() if key not in stored)

    def _write(self, name: str, data: bytes, *, rows: int) -> FileRecord:
        try:
            write_atomically(self.directory / name, data)
        except OSError as error:
            raise _cannot_write(self.directory / name, error) from error
        return FileRecord(file=name, rows=rows, bytes=len(data), xxh3=digest(data))

    def _commit(self, manifest: Manifest) -> None:
        try:
            manifest.save(self.directory)
        except OSError as error:
            raise _cannot_write(self.directory / NAME, error) from error
        self.manifest = manifest


def _cannot_write(path: Path, error: OSError) -> CacheError:
    return CacheError(
        f"{path}: cannot be written ({error.strerror}). What was stored before is whole; "
        f"make room and run the same command to go on."
    )


def _require_shape(array: np.ndarray, shape: tuple[int, ...], spec: CacheSpec) -> None:
    if array.shape != shape or array.dtype != spec.dtype:
        raise ValueError(f"got {array.dtype} {array.shape}, this cache needs {spec.dtype} {shape}")


def _largest(rows: np.ndarray, names: Sequence[object], what: str) -> float:
    """Return the largest absolute value, or say which row is not finite."""
    finite = np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
    if not finite.all():
        bad = [str(names[i]) for i in np.flatnonzero(~finite)[:5]]
        raise CacheError(
            f"{what} {', '.join(bad)} is not finite in {rows.dtype}; nothing was written. "
            f"Values beyond 65,504 do not fit float16: extract with --dtype float32."
        )
    return float(np.abs(rows).max(initial=0))
