"""The questions that a split of a data set has and its table lacks, each with its reason.

Stage one knows two reasons: the question itself cannot be used, or its picture cannot be read. The
manifest lists the faults (`Failure`). Which questions had a faulty picture stands in the origin of
their split, because a list of pictures alone does not tell.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from frozen_vqa.cache.format.manifest import Failure, Manifest
from frozen_vqa.cache.format.records.files import Id
from frozen_vqa.cache.typed_json import Json

ORIGIN_KEY = "without_picture"


@dataclass(frozen=True)
class LeftOutQuestions:
    """What a split lacks, by reason.

    Attributes:
        unusable: Questions that cannot be used: the fault of each.
        without_picture: Number of questions whose picture cannot be read.
        ids: The ids of both kinds that are known and not in the table.
        unknown: Number of questions whose id is not known.
        picture: The first picture that cannot be read, as an example.
    """

    unusable: Sequence[Failure] = ()
    without_picture: int = 0
    ids: Sequence[Id] = ()
    unknown: int = 0
    picture: Failure | None = None

    def __len__(self) -> int:
        return len(self.unusable) + self.without_picture

    def describe(self) -> list[str]:
        """Return a sentence for each reason, with its first case."""
        first = self.unusable[0] if self.unusable else None
        reasons = [
            (len(self.unusable), "they cannot be used", first),
            (self.without_picture, "their pictures cannot be read", self.picture),
        ]
        return [
            f"{number:,} questions are left out because {why}"
            + (f"; the first is {one.where}: {one.reason}" if one else "")
            for number, why, one in reasons
            if number
        ]

    def to_json(self) -> dict[str, int]:
        return {"unusable": len(self.unusable), "without_picture": self.without_picture}


NONE = LeftOutQuestions()


def note_pictures(questions: Iterable[tuple[Id, Id]]) -> dict[str, Json]:
    """Return what an origin says of questions whose picture cannot be read: (question, image)."""
    pairs: list[Json] = [[question_id, str(image_id)] for question_id, image_id in questions]
    return {ORIGIN_KEY: pairs} if pairs else {}


def left_out_of(manifest: Manifest, split: str, answered: Iterable[Id]) -> LeftOutQuestions:
    """Return what a split lacks; `answered` are the ids in its table.

    An id of a table may be among the faults too, because only the first question of an id is kept.
    """
    record = manifest.splits[split]
    unusable = [failure for failure in manifest.failures if failure.split == split]
    pictures = dict(record.origin.get(ORIGIN_KEY, ()))
    known, without_picture = set(answered), max(0, record.left_out - len(unusable))
    ids = dict.fromkeys([*(failure.id for failure in unusable), *pictures])
    faults = {failure.id: failure for failure in manifest.failures if not failure.split}
    return LeftOutQuestions(
        unusable=unusable,
        without_picture=without_picture,
        ids=[found for found in ids if found is not None and found not in known],
        unknown=sum(failure.id is None for failure in unusable)
        + max(0, without_picture - len(pictures)),
        picture=next((faults[image] for image in pictures.values() if image in faults), None),
    )
