"""What a worker gets and gives back: one chunk, with all that it needs of the data set.

A worker reads no questions and opens no data set, so its memory does not grow with the plan. A task
has the path of each picture; a picture that is no file, as in `hub:`, comes along as bytes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from frozen_vqa.cache import CacheSpec, Failure
from frozen_vqa.cache.disk.staging import StagedShard
from frozen_vqa.cache.format.records.files import ShardKind
from frozen_vqa.cache.format.shards import Shard
from frozen_vqa.cache.typed_json import Json
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ImageError
from frozen_vqa.pipeline.extract.chunks import QuestionChunk
from frozen_vqa.pipeline.extract.models.several import each_of
from frozen_vqa.pipeline.extract.speed.throughput import Phase
from frozen_vqa.pipeline.sources.example import Id, Picture, Source, VqaExample

OpenEncoders = Callable[[torch.device], tuple[ImageEncoder, TextEncoder]]
"""Opens both encoders on a device; it is sent to the workers, so it has to be picklable."""


@dataclass(frozen=True)
class CarriedPictures(Source):
    """A few pictures of a source, or why there is none, and their places."""

    pictures: Mapping[Id, Picture | ImageError]
    places: Mapping[Id, str]

    def examples(self, split: str) -> list[VqaExample]:
        return []

    def picture(self, image_id: Id) -> Picture:
        found = self.pictures[image_id]
        if isinstance(found, ImageError):
            raise found
        return found

    def where(self, image_id: Id) -> str:
        return self.places[image_id]


@dataclass(frozen=True)
class Task:
    """One chunk to encode, with the facts that its shard records."""

    kind: ShardKind
    key: str
    chunk: Sequence[Id] | QuestionChunk
    source: CarriedPictures
    origin: Mapping[str, Json]

    def __str__(self) -> str:
        """Return what it is for people."""
        names = self.chunk.paths if isinstance(self.chunk, QuestionChunk) else self.chunk
        return f"{self.kind} from {next(iter(names))!r:.60} on"


@dataclass(frozen=True)
class Done:
    """A chunk that is encoded.

    Attributes:
        failures: The pictures that cannot be read.
        seconds: Time of each phase.
        staged: What `stage_shard` returned to a worker that sees the folder of the cache.
        carried: From another worker, what the driver has to store; None if there is nothing.
        pieces: The bytes of `carried`, which are sent without a copy.
    """

    failures: Sequence[Failure]
    seconds: Mapping[Phase, float]
    staged: StagedShard | None = None
    carried: Shard | None = None
    pieces: Sequence[np.ndarray] = ()

    @classmethod
    def carrying(
        cls, shard: Shard | None, failures: Sequence[Failure], seconds: Mapping[Phase, float]
    ) -> "Done":
        """Return a chunk with the bytes of its shard."""
        if not shard:
            return cls(failures, seconds)
        pieces = [np.frombuffer(piece, np.uint8) for piece in shard.pieces]
        return cls(failures, seconds, None, replace(shard, pieces=()), pieces)

    @property
    def shard(self) -> Shard | None:
        """What it carries, whole."""
        return self.carried and replace(self.carried, pieces=[one.data for one in self.pieces])


@dataclass(frozen=True)
class Preparation:
    """What every worker has to agree with before it gets a chunk.

    Attributes:
        witness: A file that the driver has just made in the folder of the cache.
        images, questions: Whether there are any to encode.
        longest: Tokens of the longest question.
        dtypes: The types of all encoders of pictures, and of that of questions.
        versions: Of the packages that make the numbers.
    """

    spec: CacheSpec
    pool: int
    cache: Path
    witness: Path
    batch_size: int
    images: bool
    questions: bool
    longest: int
    dtypes: Sequence[torch.dtype | None]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Settled:
    """What only a device like those of the workers can tell about a new cache.

    Attributes:
        dtypes: As those of `Preparation`.
        origin: The "drift" of `settle_precision`.
    """

    dtypes: Sequence[torch.dtype | None]
    origin: Mapping[str, Json]
    batch_size: int


def carry(source: Source, image_ids: Iterable[Id]) -> CarriedPictures:
    """Return pictures of a source, without those who read it."""
    pictures: dict[Id, Picture | ImageError] = {}
    places = {}
    for image_id in image_ids:
        places[image_id] = source.where(image_id)
        try:
            found = source.picture(image_id)
            pictures[image_id] = found.absolute() if isinstance(found, Path) else found
        except ImageError as error:
            pictures[image_id] = ImageError(str(error))
    return CarriedPictures(pictures, places)


def without_others(chunk: QuestionChunk) -> QuestionChunk:
    """Return a chunk without the tokens of the questions of other chunks."""
    return replace(chunk, questions={text: chunk.questions[text] for text in chunk.paths})


def types_of(images: ImageEncoder, text: TextEncoder) -> list[torch.dtype | None]:
    """Return the type that each encoder computes in; None for one that does not say."""
    return [getattr(one, "compute_dtype", None) for one in (*each_of(images), text)]


def compute_as(
    images: ImageEncoder, text: TextEncoder, dtypes: Sequence[torch.dtype | None]
) -> None:
    """Let all encoders compute in these types."""
    for one, dtype in zip((*each_of(images), text), dtypes, strict=True):
        if dtype:
            one.compute_in(dtype)
