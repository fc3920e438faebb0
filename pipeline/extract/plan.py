"""The plan of an extraction: its pictures, its questions, and how many rows and bytes they need.

Without torch, because the questions are read before any encoder is loaded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from frozen_vqa.cache import CacheSpec, SplitTable
from frozen_vqa.cache.disk.integrity import KnownPictures
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.extract.prefixes import PrefixTable
from frozen_vqa.pipeline.sources.example import Id, LeftOut, Source, VqaExample
from frozen_vqa.pipeline.sources.pictures.contents import LARGEST, digests_of
from frozen_vqa.pipeline.system.console import console

if TYPE_CHECKING:
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder

Read = Mapping[str, tuple[Sequence[VqaExample], Sequence[LeftOut]]]
"""The usable questions of some splits, and the others."""


@dataclass(frozen=True)
class Plan:
    """The distinct pictures and questions of some splits, in order of first appearance.

    Attributes:
        left_out: Unusable questions by split: first all those that the source left out, whatever
            the limit, then those that do not fit the text model or the other questions.
        images: One image id of each picture, the first. Before `merge_same_pictures` compares the
            pictures, each id counts as one.
        names: The id under which a cache has the picture, or will have it, by the image id as text.
        questions: Distinct questions, alone and with each of their choices, with their tokens, BOS
            first.
        tokens: Tokens of all these texts; a repeated one counts each time.
        prefixes: Rows of hidden states that they need.
        shared: Whether questions share the rows of their common beginnings.
    """

    splits: Mapping[str, Sequence[VqaExample]]
    left_out: Mapping[str, Sequence[LeftOut]]
    images: Sequence[Id]
    questions: Mapping[str, Sequence[int]]
    tokens: int
    prefixes: int
    shared: bool = True
    names: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def image_ids(self) -> Sequence[Id]:
        """All image ids, in order of first appearance."""
        every = (example for examples in self.splits.values() for example in examples)
        return list(dict.fromkeys(image for example in every for image in example.images))

    def name(self, image_id: Id) -> str:
        """Return the id under which a cache has the picture of an image id."""
        return self.names.get(str(image_id), str(image_id))

    def picture_counts(self) -> dict[str, int]:
        """Return the number of pictures and of their ids, for reports."""
        return {"total": len(self.images), "ids": len(self.names) or len(self.images)}

    @property
    def question_count(self) -> int:
        """Questions of all splits."""
        return sum(len(examples) for examples in self.splits.values())

    def feature_bytes(self, spec: CacheSpec) -> int:
        """Return the bytes of all features, stored already or not."""
        return len(self.images) * spec.image_row_bytes + self.prefixes * spec.prefix_row_bytes

    def counts(self) -> dict[str, int]:
        """Return the amount of text, for reports."""
        return {
            "total": self.question_count,
            "distinct": len(self.questions),
            "tokens": self.tokens,
            "prefixes": self.prefixes,
        }


def read_questions(source: Source, splits: Sequence[str]) -> Read:
    """Read the questions of the given splits.

    Raises:
        SourceError: if a split is given twice or cannot be read.
    """
    if repeated := sorted({name for name in splits if splits.count(name) > 1}):
        raise SourceError(f"--split {repeated[0]} is given twice; give each split once.")
    return {name: (source.examples(name), source.left_out(name)) for name in splits}


def make_plan(
    source: Source,
    *,
    splits: Sequence[str],
    text: "TextEncoder",
    limit: int | None = None,
    read: Read | None = None,
) -> Plan:
    """Read the questions of the given splits and find the distinct pictures, texts and prefixes.

    Args:
        source: The data set that has the splits.
        text: The encoder whose tokens decide which prefixes are distinct.
        limit: Take at most this many usable questions of each split, from its start.
        read: What `read_questions` returned for this source and these splits, if it was called.

    Raises:
        SourceError: if a split is given twice, cannot be read, or has no usable question.
    """
    sieve = _Sieve(text)
    kept: dict[str, list[VqaExample]] = {}
    left_out: dict[str, list[LeftOut]] = {}
    for name, (examples, unusable) in (read or read_questions(source, splits)).items():
        kept[name], refused = sieve.sift(name, examples, limit)
        left_out[name] = [*unusable, *refused]
        if not kept[name]:
            first = refused[0] if refused else None
            found = f"; the first, {first.question_id!r}: {first.reason}" if first else ""
            raise SourceError(
                f"split {name!r} has no question that can be used{found}. Check the data set."
            )
    every = [example for examples in kept.values() for example in examples]
    images = dict.fromkeys(image for example in every for image in example.images)
    questions = {text: sieve.tokens[text] for example in every for text in example.texts}
    table = PrefixTable(shared=text.causal)
    for tokens in questions.values():
        table.add(tokens)
    return Plan(
        splits=kept,
        left_out=left_out,
        images=list(images),
        questions=questions,
        tokens=sum(len(questions[text]) for example in every for text in example.texts),
        prefixes=len(table),
        shared=text.causal,
    )


def merge_same_pictures(plan: Plan, source: Source, known: KnownPictures | None = None) -> Plan:
    """Return the plan with one id for each picture, whatever it is called.

    An id that the cache knows means the picture that it meant before, so nothing is read for it. Of
    the others, those with equal content are one picture, and one whose content is stored is that
    picture. So the result depends on the data and the stored rows alone.
    """
    known, every = known or KnownPictures(), plan.image_ids
    new = [image_id for image_id in every if str(image_id) not in known.ids]
    digests = digests_of(source, new, known.sizes, LARGEST)
    first = dict(known.digests)
    names = {str(image_id): known.ids.get(str(image_id), str(image_id)) for image_id in every}
    for image_id, digest in digests.items():
        names[str(image_id)] = first.setdefault(digest, str(image_id))
    images: dict[str, Id] = {}
    for image_id in every:
        images.setdefault(names[str(image_id)], image_id)
    if len(images) < len(every):
        console.print(
            f"image ids: {len(every):,}; different pictures, each of which is encoded once: "
            f"{len(images):,}"
        )
    return replace(plan, images=list(images.values()), names=names)


def split_table(
    plan: Plan,
    examples: Sequence[VqaExample],
    images: Mapping[str, int],
    questions: Mapping[str, int],
) -> SplitTable:
    """Return the table of a split; `images` and `questions` give the rows."""
    groups = dict.fromkeys(group for example in examples for group in example.groups)
    choices = any(example.choices for example in examples)
    several = any(example.more_images for example in examples)
    renamed = any(plan.name(i) != str(i) for example in examples for i in example.images)
    return SplitTable(
        question_ids=[e.question_id for e in examples],
        image_rows=np.array([images[str(e.image_id)] for e in examples], dtype=np.int64),
        question_rows=np.array([questions[e.question] for e in examples], dtype=np.int64),
        answers=[e.answers for e in examples],
        question_types=[e.question_type for e in examples],
        answer_types=[e.answer_type for e in examples],
        groups={group: [e.groups.get(group, "") for e in examples] for group in groups},
        choices=[e.choices for e in examples if choices],
        right_choices=[
            -1 if e.right_choice is None else e.right_choice for e in examples if choices
        ],
        choice_rows=[tuple(questions[t] for t in e.choice_texts) for e in examples if choices],
        more_images=[tuple(images[str(i)] for i in e.more_images) for e in examples if several],
        image_ids=[str(e.image_id) for e in examples if renamed],
        more_image_ids=[tuple(map(str, e.more_images)) for e in examples if renamed and several],
    )


def length_fault(tokens: Sequence[int], text: "TextEncoder") -> str:
    """Return why a text encoder cannot read a question of these tokens; "" if it can."""
    if len(tokens) <= text.max_tokens:
        return ""
    return (
        f"the question has {len(tokens):,} tokens, and {text.name} reads at most "
        f"{text.max_tokens:,}; shorten it, or choose another text model"
    )


class _Sieve:
    """Separates the questions of all splits into usable and unusable ones."""

    def __init__(self, text: "TextEncoder") -> None:
        self._text = text
        self._ids: dict[str, Id] = {}  # a cache knows a picture by its id as text
        self.tokens: dict[str, Sequence[int]] = {}

    def sift(
        self, split: str, examples: Sequence[VqaExample], limit: int | None
    ) -> tuple[list[VqaExample], list[LeftOut]]:
        """Return the first `limit` usable questions, and the unusable ones before the last."""
        kept: list[VqaExample] = []
        refused: list[LeftOut] = []
        rest = iter(examples)
        while batch := list(islice(rest, None if limit is None else limit - len(kept))):
            asked = dict.fromkeys(text for example in batch for text in example.texts)
            new = [text for text in asked if text not in self.tokens]
            self.tokens.update(zip(new, self._text.tokens(new), strict=True))
            for example in batch:
                if fault := self._fault(example):
                    where = f"split {split!r}, question {example.question_id!r}"
                    refused.append(LeftOut(example.question_id, where, fault))
                else:
                    kept.append(example)
        return kept, refused

    def _fault(self, example: VqaExample) -> str:
        """Return why a question cannot be used; "" if it can."""
        for text in example.texts:
            if fault := length_fault(self.tokens[text], self._text):
                return fault
        for image_id in example.images:
            before = self._ids.setdefault(str(image_id), image_id)
            if before != image_id:
                return (
                    f"image_id {image_id!r} looks like {before!r} of another picture; write both "
                    "as text or both as numbers"
                )
        return ""
