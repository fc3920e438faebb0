"""What stage one has to do: which pictures, which questions, how many rows and bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.encoders import TextEncoder
from pipeline.errors import SourceError
from pipeline.examples import Id, Source, VqaExample
from pipeline.prefixes import PrefixTable


@dataclass(frozen=True)
class Plan:
    """The distinct pictures and questions of some splits, in order of first appearance.

    Attributes:
        splits: Questions by split.
        images: Distinct image ids.
        questions: Distinct questions with their tokens, BOS first.
        tokens: Tokens of all questions, repeated ones counted each time.
        prefixes: Distinct token prefixes.
    """

    splits: Mapping[str, Sequence[VqaExample]]
    images: Sequence[Id]
    questions: Mapping[str, Sequence[int]]
    tokens: int
    prefixes: int
    left_out: Mapping[str, Sequence] = field(default_factory=dict)

    @property
    def question_count(self) -> int:
        """Questions of all splits."""
        return sum(len(examples) for examples in self.splits.values())

    def counts(self) -> dict[str, int]:
        """Return how much text there is, for reports."""
        return {
            "total": self.question_count,
            "distinct": len(self.questions),
            "tokens": self.tokens,
            "prefixes": self.prefixes,
        }


def make_plan(
    source: Source, *, splits: Sequence[str], text: TextEncoder, limit: int | None = None
) -> Plan:
    """Read the questions of the asked splits and find what is distinct in them.

    Args:
        source: Where they come from.
        splits: Names of splits.
        text: Whose tokens decide which prefixes are distinct.
        limit: Take only the first questions of each split.

    Raises:
        SourceError: if a split is asked for twice, is empty, or two pictures share an id.
    """
    if repeated := sorted({name for name in splits if splits.count(name) > 1}):
        raise SourceError(f"--split {repeated[0]} is given twice; give each split once")
    examples = {name: source.examples(name)[:limit] for name in splits}
    for name, found in examples.items():
        if not found:
            raise SourceError(f"split {name!r} has no questions; nothing can be extracted from it")
    every = [example for found in examples.values() for example in found]
    texts = list(dict.fromkeys(example.question for example in every))
    tokens = dict(zip(texts, text.tokens(texts), strict=True))
    table = PrefixTable()
    for question in tokens.values():
        table.add(question)
    images = dict.fromkeys(example.image_id for example in every)
    by_key: dict[str, Id] = {}
    for image_id in images:
        if by_key.setdefault(str(image_id), image_id) != image_id:
            raise SourceError(f"image ids {image_id!r} and {by_key[str(image_id)]!r} look alike")
    return Plan(
        splits=examples,
        images=list(images),
        questions=tokens,
        tokens=sum(len(tokens[example.question]) for example in every),
        prefixes=len(table),
    )
