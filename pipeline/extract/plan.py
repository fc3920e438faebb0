"""The plan of an extraction: its pictures, its questions, and how many rows and bytes they need.

Without torch, because the questions are read before any encoder is loaded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from frozen_vqa.cache import CacheSpec
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.extract.prefixes import PrefixTable
from frozen_vqa.pipeline.sources.example import Id, LeftOut, Source, VqaExample

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
        questions: Distinct questions, alone and with each of their choices, with their tokens, BOS
            first.
        tokens: Tokens of all these texts; a repeated one counts each time.
    """

    splits: Mapping[str, Sequence[VqaExample]]
    left_out: Mapping[str, Sequence[LeftOut]]
    images: Sequence[Id]
    questions: Mapping[str, Sequence[int]]
    tokens: int
    prefixes: int

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
    questions = {text: sieve.tokens[text] for example in every for text in example.texts}
    table = PrefixTable()
    for tokens in questions.values():
        table.add(tokens)
    return Plan(
        splits=kept,
        left_out=left_out,
        images=list(dict.fromkeys(image for example in every for image in example.images)),
        questions=questions,
        tokens=sum(len(questions[text]) for example in every for text in example.texts),
        prefixes=len(table),
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
