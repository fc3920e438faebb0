"""Reads the pictures of a data set and fits them to the image encoder, within one budget of memory.

Threads decode a few batches ahead of the encoder. So the encoder seldom waits, and memory holds
`AHEAD` batches of pixels more than the one that is encoded.
"""

import os
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from frozen_vqa.cache import CacheMismatchError, Failure, Manifest
from frozen_vqa.cache.disk.integrity import open_shard
from frozen_vqa.cache.format.shards import (
    CONTENT,
    THUMBNAIL,
    describe_content,
    read_pictures,
)
from frozen_vqa.cache.large.lists import LongList
from frozen_vqa.pipeline.encoders.preprocess import fit_rgb
from frozen_vqa.pipeline.errors import ImageError, SourceError
from frozen_vqa.pipeline.extract.models.several import shown
from frozen_vqa.pipeline.extract.throughput import PhaseTimer
from frozen_vqa.pipeline.sources.example import Id, Source
from frozen_vqa.pipeline.sources.pictures.contents import kind_of
from frozen_vqa.pipeline.sources.pictures.stored import READERS, StoredPicture, no_waits
from frozen_vqa.pipeline.system.device import usable_cores

if TYPE_CHECKING:  # these import torch, and the command looks at pictures before it does
    from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
    from frozen_vqa.pipeline.extract.batch_size import BatchSize

T = TypeVar("T")

DECODERS = min(64, max(4, usable_cores()))
"""Threads that read and resize pictures while the encoder works, which a GPU does faster."""

AHEAD = 3
"""Batches that are decoded before the encoder asks for them."""

SPOT_CHECKS = 8
"""Stored pictures that are compared with those of the data set."""

DIFFERENT = 16
"""Grey levels of 255; decoders of one picture differ by one or two in a thumbnail."""

LOOKED_AT = 256
"""Pictures whose files are looked for before any work; a hundredth missing shows in 92 of 100."""


AT_ONCE = 4096
"""Pictures at URLs that are asked for before the next ones are."""


def look_for(
    source: Source, image_ids: Sequence[Id], most: int | None = None
) -> tuple[int, list[Id]]:
    """Look for the files of at most `most` pictures, evenly spread over all.

    Returns:
        How many were looked for, and those that are missing.
    """
    most = len(image_ids) if most is None else most
    step = max(1, len(image_ids) // max(1, most))
    looked = image_ids[::step][:most]
    look, missing = partial(_is_there, source), []
    with ThreadPoolExecutor(READERS) as threads:
        each = threads.map if _are_stored(source, looked) else map  # a file is found at once
        for first in range(0, len(looked), AT_ONCE):
            part = looked[first : first + AT_ONCE]
            missing += [i for i, there in zip(part, each(look, part), strict=True) if not there]
    return len(looked), missing


def _is_there(source: Source, image_id: Id) -> bool:
    try:
        picture = source.picture(image_id)
    except ImageError:
        return False
    if isinstance(picture, StoredPicture):
        return picture.is_there()
    return not isinstance(picture, Path) or os.path.exists(picture)


def _are_stored(source: Source, image_ids: Sequence[Id]) -> bool:
    """Whether pictures lie at URLs, as the first one does."""
    return bool(image_ids) and issubclass(kind_of(source, image_ids[0]), StoredPicture)


def first_readable(
    source: Source, image_ids: Sequence[Id], read: Callable[[Id], T], cure: str = ""
) -> T:
    """Return what `read` returns for the first picture that it can read, or raise `SourceError`.

    `cure` says what to do if it can read none.
    """
    reason = ""
    for image_id in image_ids:
        try:
            return read(image_id)
        except ImageError as error:
            reason = reason or f"{source.where(image_id)}: {error}"
    raise SourceError(
        f"none of the {len(image_ids):,} pictures can be read; the first is {reason}. "
        f"{cure or 'Check the paths of the data set.'}"
    )


def grey_thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Return what tells one picture from another: (side, side, 3) uint8 -> (THUMBNAIL,)."""
    grey = Image.fromarray(pixels).convert("L").resize((8, 8), Image.Resampling.BOX)
    return np.asarray(grey).reshape(THUMBNAIL)


def stored_thumbnails(cache: Path, manifest: Manifest, rows: Sequence[int]) -> np.ndarray:
    """Return the thumbnails of stored pictures: (rows, THUMBNAIL)."""
    first_rows = np.cumsum([0, *manifest.shards("images").column("rows")])
    shards = np.searchsorted(first_rows, rows, side="right") - 1
    found = np.zeros((len(rows), THUMBNAIL), np.uint8)
    for index in np.unique(shards).tolist():
        record = manifest.images[index]
        _, thumbnails, _ = read_pictures(open_shard(cache, "images", record), record.rows)
        inside = shards == index
        found[inside] = thumbnails[np.asarray(rows)[inside] - first_rows[index]]
    return found


def is_same_picture(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two thumbnails may be of one picture."""
    return bool(np.abs(one.astype(int) - other).max() <= DIFFERENT)


@dataclass(frozen=True)
class DecodedPicture:
    """A picture as the encoder takes it.

    Attributes:
        pixels: (side, side, 3) uint8; of several encoders as `ImageEncoders.pixels` has them.
        thumbnail: (THUMBNAIL,) uint8, the mean grey of 8 x 8 fields.
        content: (CONTENT,) uint8, what tells the bytes that were decoded; zeros if there are none.
    """

    image_id: str
    pixels: np.ndarray
    thumbnail: np.ndarray
    content: np.ndarray


class PictureDecoder:
    """Turns the image ids of a source into pixels of an encoder's size and fit."""

    def __init__(self, source: Source, encoder: "ImageEncoder") -> None:
        self._source, self._encoder = source, encoder

    def decode(self, image_id: Id) -> DecodedPicture:
        """Read one picture, or raise `ImageError`."""
        picture = self._source.picture(image_id)
        content = np.zeros(CONTENT, np.uint8)

        def note(data: bytes) -> None:
            content[:] = describe_content(data)

        pixels = fit_rgb(picture, self._encoder.pixels, self._encoder.reading, note)
        thumbnail = grey_thumbnail(shown(self._encoder, pixels))
        return DecodedPicture(str(image_id), pixels, thumbnail, content)

    def first_pixels(self, image_ids: Sequence[Id]) -> np.ndarray:
        """Return the pixels of the first picture that can be read, or raise `SourceError`."""
        return first_readable(self._source, image_ids, self.decode).pixels

    def decode_batches(
        self, chunks: Collection[Sequence[Id]], batch_size: "BatchSize", timer: PhaseTimer
    ) -> Generator[list[DecodedPicture | Failure], None, None]:
        """Yield pictures in batches, none of them across two chunks; close it to end its threads.

        `batch_size` may shrink meanwhile. The timer counts "reading" and "waiting".
        """

        def decode(image_id: Id) -> DecodedPicture | Failure:
            try:
                with timer.measure("reading"):
                    return self.decode(image_id)
            except ImageError as error:
                return Failure(str(image_id), self._source.where(image_id), str(error))

        def submit() -> Iterator[list[Future[DecodedPicture | Failure]]]:
            for chunk in chunks:
                first = 0
                while first < len(chunk):
                    ids = chunk[first : first + batch_size.now]
                    first += len(ids)
                    yield [threads.submit(decode, image_id) for image_id in ids]

        stored = _are_stored(self._source, next(iter(chunks), ()))
        count = READERS if stored else DECODERS
        threads = ThreadPoolExecutor(count, thread_name_prefix="decode")
        ahead: deque[list[Future[DecodedPicture | Failure]]] = deque()
        try:
            batches = submit()
            ahead.extend(islice(batches, AHEAD))
            while ahead:
                ahead.extend(islice(batches, 1))
                with timer.measure("waiting"):
                    done = [future.result() for future in ahead[0]]
                ahead.popleft()
                yield done
        finally:
            unfinished = any(not future.done() for batch in ahead for future in batch)
            with no_waits() if unfinished else nullcontext():
                threads.shutdown(cancel_futures=True)

    def require_same(
        self, image_ids: Sequence[Id], rows: Mapping[str, int], cache: Path, manifest: Manifest
    ) -> None:
        """Compare a few stored pictures with those that the data set has under their ids.

        `rows` gives the row of every stored picture.

        Raises:
            CacheMismatchError: if one is another picture.
        """
        known = LongList(image_id for image_id in image_ids if str(image_id) in rows)
        count = min(SPOT_CHECKS, len(known))
        chosen = [known[i * len(known) // count] for i in range(count)]
        every = stored_thumbnails(cache, manifest, [rows[str(image_id)] for image_id in chosen])
        for image_id, stored in zip(chosen, every, strict=True):
            try:
                now = self.decode(image_id).thumbnail
            except ImageError:  # the file is gone by now, and its features are still good
                continue
            if not is_same_picture(stored, now):
                raise CacheMismatchError(
                    f"{self._source.where(image_id)}: the cache {cache} holds another picture as "
                    f"image {str(image_id)!r}. A cache knows pictures by their ids: give this data "
                    f"set another --cache."
                )
