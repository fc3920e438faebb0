"""What a data set has, and what of it will be left out, before any encoder is loaded.

`check-data` shows it, and so does every extraction and `--dry-run` at their head.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozen_vqa.cache import load_manifest
from frozen_vqa.cache.disk.integrity import read_known_pictures
from frozen_vqa.cache.large.dicts import distinct
from frozen_vqa.pipeline.encoders.preprocess import AS_IT_IS, largest_of_16_bits, load_rgb
from frozen_vqa.pipeline.encoders.reading import Reading
from frozen_vqa.pipeline.errors import ConfigError, ImageError
from frozen_vqa.pipeline.extract.decoder import first_readable, look_for
from frozen_vqa.pipeline.extract.plan import Read
from frozen_vqa.pipeline.sources.example import (
    DescribedSource,
    Form,
    Id,
    LeftOut,
    Source,
    VqaExample,
)
from frozen_vqa.pipeline.sources.pictures.contents import LARGEST, digests_of

FREQUENT = 5
"""Answers that are shown with their numbers."""

LOOKED_INTO = 8
"""Pictures of a split whose values are looked at."""

MOST_BITS = 14
"""If values of 16 bits fill no more than these, pictures come out as dark as a quarter of white."""


@dataclass(frozen=True)
class SplitCheck:
    """One split of a data set.

    Attributes:
        form: How it is written; None if its source does not say.
        examples: Its usable questions, and `left_out` the others.
        images: Its pictures, of which `looked` were looked for and `missing` are not there.
        where: The place of the first missing picture, and `cure` a sentence on what to do.
    """

    name: str
    form: Form | None
    examples: Sequence[VqaExample]
    left_out: Sequence[LeftOut]
    images: Sequence[Id]
    looked: int
    missing: int
    where: str = ""
    cure: str = ""

    @property
    def answered(self) -> int:
        return sum(bool(example.answers) for example in self.examples)

    def answers(self) -> Counter[str]:
        """Return how often each answer is given."""
        return Counter(answer for example in self.examples for answer in example.answers)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        answers = self.answers()
        return {
            "split": self.name,
            "form": self.form.kind if self.form else None,
            "place": self.form.place if self.form else None,
            "columns": dict(self.form.columns) if self.form else {},
            "ignored": list(self.form.ignored) if self.form else [],
            "questions": len(self.examples),
            "answered": self.answered,
            "distinct_answers": len(answers),
            "frequent_answers": [list(pair) for pair in answers.most_common(FREQUENT)],
            "pictures": len(self.images),
            "looked_for": self.looked,
            "missing": self.missing,
            "missing_such_as": self.where,
            "cure": self.cure,
            "left_out": [
                {"id": one.question_id, "where": one.where, "reason": one.reason}
                for one in self.left_out
            ],
        }


def splits_of(source: Source) -> Sequence[str]:
    """Return the names of a source's splits; "train" if any name would do."""
    return (source.splits() if isinstance(source, DescribedSource) else ()) or ("train",)


def splits_to_extract(source: Source, dataset: str) -> Sequence[str]:
    """Return all splits of data of one's own; of other data they may be too many to take unasked.

    Raises `ConfigError` for those.
    """
    found = splits_of(source)
    if dataset.startswith(("jsonl:", "wds:")):
        return found
    has = ", ".join(found)
    raise ConfigError(f"{dataset}: name the splits to extract by --split; it has {has}")


def check_data(
    source: Source, read: Read, *, most: int | None = None, limit: int | None = None
) -> list[SplitCheck]:
    """Look for the pictures of the splits that were read.

    Args:
        most: How many pictures of a split to look for, evenly spread; None for all.
        limit: As in `make_plan`.
    """
    return [
        _check_split(source, name, examples[:limit], left_out, most)
        for name, (examples, left_out) in read.items()
    ]


def _check_split(
    source: Source,
    name: str,
    examples: Sequence[VqaExample],
    left_out: Sequence[LeftOut],
    most: int | None,
) -> SplitCheck:
    images = distinct(image for example in examples for image in example.images)
    looked, missing = look_for(source, images, most)
    where, form, cure = source.where(missing[0]) if missing else "", None, ""
    if isinstance(source, DescribedSource):
        form, cure = source.form(name), source.cure(missing[0]) if missing else ""
    return SplitCheck(name, form, examples, left_out, images, looked, len(missing), where, cure)


def count_different(source: Source, image_ids: Sequence[Id]) -> int:
    """Return how many pictures of different content some image ids have."""
    digests = digests_of(source, image_ids, (), LARGEST)
    return len(image_ids) - len(digests) + len(set(digests.values()))


def narrow_bits(source: Source, checks: Sequence[SplitCheck]) -> int | None:
    """Return how many bits the values of 16-bit pictures fill; None if all, or if there are none.

    Some pictures are looked into. Scanners write 12 bits into files of 16, and nothing in the file
    says so.
    """
    largest = 0
    for check in checks:
        step = max(1, len(check.images) // LOOKED_INTO)
        for image_id in check.images[::step][:LOOKED_INTO]:
            try:
                found = largest_of_16_bits(source.picture(image_id))
            except ImageError:
                continue
            largest = max(largest, found or 0)
    bits = largest.bit_length()
    return bits if 0 < bits <= MOST_BITS else None


def require_pictures(
    source: Source,
    checks: Sequence[SplitCheck],
    cache: Path | None,
    reading: Reading = AS_IT_IS,
) -> None:
    """Raise `SourceError` if no picture of a split can be read, and the cache has none of them."""
    stored: Collection[str] | None = None
    new = cache is None or not (cache / "cache.json").exists()
    for check in checks:
        if not new and cache and check.missing == check.looked:
            stored = stored or read_known_pictures(cache, load_manifest(cache)).ids
            if any(str(image_id) in stored for image_id in check.images):
                continue  # what is stored needs no picture any more
        elif not new:
            continue
        first_readable(
            source,
            check.images,
            lambda image_id: load_rgb(source.picture(image_id), reading),
            check.cure,
        )
