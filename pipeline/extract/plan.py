"""The plan of an extraction: its pictures, its questions, and how many rows and bytes they need.

Without torch, because the questions are read before any encoder is loaded.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from frozen_vqa.cache import CacheSpec, SplitTable
from frozen_vqa.cache.disk.integrity import KnownPictures
from frozen_vqa.cache.large.dicts import LargeDict, distinct
from frozen_vqa.cache.large.lists import LongList
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.extract.prefixes import PrefixTable
from frozen_vqa.pipeline.sources.example import Id, LeftOut, Source, VqaExample, question_list
from frozen_vqa.pipeline.sources.pictures.contents import LARGEST, digests_of
from frozen_vqa.pipeline.system.console import console

if TYPE_CHECKING:
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder

Read = Mapping[str, tuple[Sequence[VqaExample], Sequence[LeftOut]]]
"""The usable questions of some splits, and the others."""

AT_ONCE = 1 << 16
"""Questions whose tokens are found at once; a tokenizer is fast with many."""


@dataclass(frozen=True)
class Plan:
    """The distinct pictures and questions of some splits, in order of first appearance.

    Attributes:
        left_out: Unusable questions by split: first all those that the source left out, whatever
            the limit, then those that do not fit the text model or the other questions.
        image_ids: All image ids, in order of first appearance.
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
    image_ids: Sequence[Id]
    images: Sequence[Id]
    questions: Mapping[str, Sequence[int]]
    tokens: int
    prefixes: int
    shared: bool = True
    names: Mapping[str, str] = field(default_factory=dict)

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
    kept: dict[str, Sequence[VqaExample]] = {}
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
    images, questions = sieve.ids.in_order[1], sieve.tokens
    if sieve.refused:  # whose pictures and texts do not count
        every = partial(chain.from_iterable, kept.values())
        images = distinct(image_id for example in every() for image_id in example.images)
        texts = distinct(text for example in every() for text in example.texts)
        questions = LargeDict.of((text, sieve.tokens[text]) for text in texts)
    table = PrefixTable(shared=text.causal)
    for _, of_question in questions.items():
        table.add(of_question)
    return Plan(
        splits=kept,
        left_out=left_out,
        image_ids=images,
        images=images,
        questions=questions,
        tokens=sieve.kept_tokens,
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
    new = LongList(image_id for image_id in every if str(image_id) not in known.ids)
    digests = digests_of(source, new, known.sizes, LARGEST)
    first = LargeDict[str, str]()
    for image_id, digest in digests.items():
        first.setdefault(digest, known.digests.get(digest) or str(image_id))
    names, images = LargeDict[str, str](), LargeDict[str, Id]()
    for image_id in every:
        name = known.ids.get(str(image_id)) or str(image_id)
        if digest_here := digests.get(image_id):
            name = first[digest_here]
        images.setdefault(names.setdefault(str(image_id), name), image_id)
    if len(images) < len(every):
        console.print(
            f"image ids: {len(every):,}; different pictures, each of which is encoded once: "
            f"{len(images):,}"
        )
    return replace(plan, images=images.in_order[1], names=names)


def with_pictures(
    examples: Sequence[VqaExample], images: Collection[str]
) -> tuple[Sequence[VqaExample], list[tuple[Id, Id]]]:
    """Return the questions whose pictures are all there; the ids of others, with what they lack."""
    kept, without = question_list(), list[tuple[Id, Id]]()
    for example in examples:
        lacks = next((i for i in example.images if str(i) not in images), None)
        if lacks is None:
            kept.append(example)
        else:
            without.append((example.question_id, lacks))
    return kept, without


def split_table(
    plan: Plan,
    examples: Sequence[VqaExample],
    images: Mapping[str, int],
    questions: Mapping[str, int],
) -> SplitTable:
    """Return the table of a split; `images` and `questions` give the rows."""
    groups: dict[str, None] = {}
    choices = several = renamed = False
    for e in examples:
        groups.update(dict.fromkeys(e.groups))
        choices, several = choices or bool(e.choices), several or bool(e.more_images)
        renamed = renamed or any(plan.name(i) != str(i) for i in e.images)
    table = SplitTable(
        question_ids=LongList(),
        image_rows=np.empty(len(examples), np.int64),
        question_rows=np.empty(len(examples), np.int64),
        answers=LongList(),
        question_types=LongList(),
        answer_types=LongList(),
        groups={group: LongList() for group in groups},
        choices=LongList(),
        right_choices=LongList(),
        choice_rows=LongList(),
        more_images=LongList(),
        image_ids=LongList(),
        more_image_ids=LongList(),
    )
    columns: Any = table  # whose lists are filled, side by side, as the questions are read once
    for row, e in enumerate(examples):
        table.image_rows[row] = images[str(e.image_id)]
        table.question_rows[row] = questions[e.question]
        columns.question_ids.append(e.question_id)
        columns.answers.append(e.answers)
        columns.question_types.append(e.question_type)
        columns.answer_types.append(e.answer_type)
        for group, column in columns.groups.items():
            column.append(e.groups.get(group, ""))
        if choices:
            columns.choices.append(e.choices)
            columns.right_choices.append(-1 if e.right_choice is None else e.right_choice)
            columns.choice_rows.append(tuple(questions[text] for text in e.choice_texts))
        if several:
            columns.more_images.append(tuple(images[str(i)] for i in e.more_images))
        if renamed:
            columns.image_ids.append(str(e.image_id))
        if renamed and several:
            columns.more_image_ids.append(tuple(map(str, e.more_images)))
    return table


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
        self.ids = LargeDict[str, Id]()  # a cache knows a picture by its id as text
        self.tokens = LargeDict[str, Sequence[int]]()
        self.kept_tokens = self.refused = 0

    def sift(
        self, split: str, examples: Sequence[VqaExample], limit: int | None
    ) -> tuple[Sequence[VqaExample], list[LeftOut]]:
        """Return the first `limit` usable questions, and the unusable ones before the last."""
        kept = question_list()
        refused: list[LeftOut] = []
        rest = iter(examples)
        most = len(examples) if limit is None else limit
        while batch := list(islice(rest, min(AT_ONCE, most - len(kept)))):
            asked = dict.fromkeys(text for example in batch for text in example.texts)
            new = [text for text in asked if text not in self.tokens]
            for text, tokens in zip(new, self._text.tokens(new), strict=True):
                self.tokens.setdefault(text, tokens)
            for example in batch:
                if fault := self._fault(example):
                    where = f"split {split!r}, question {example.question_id!r}"
                    refused.append(LeftOut(example.question_id, where, fault))
                    self.refused += 1
                else:
                    kept.append(example)
                    self.kept_tokens += sum(len(self.tokens[text]) for text in example.texts)
        return kept.short, refused

    def _fault(self, example: VqaExample) -> str:
        """Return why a question cannot be used; "" if it can."""
        for text in example.texts:
            if fault := length_fault(self.tokens[text], self._text):
                return fault
        for image_id in example.images:
            before = self.ids.setdefault(str(image_id), image_id)
            if before != image_id:
                return (
                    f"image_id {image_id!r} looks like {before!r} of another picture; write both "
                    "as text or both as numbers"
                )
        return ""
