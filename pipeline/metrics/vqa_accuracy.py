"""The official VQA accuracy, to the last digit, and plain accuracy for other data sets.

    given answers ─┐
                   ├─ question_score ── accuracy ── Accuracy (percent, overall and by type)
    prediction ────┘

The rules are those of GT-Vision-Lab/VQA, PythonEvaluationTools/vqaEvaluation/vqaEval.py: "2021" is
commit a013f00; "2017" is its parent, which most published numbers used. That tool runs on Python 2.
Where a later Python would give another result (`sum`, `round`, `\\d`, `lower`, `split`, `strip`),
this module does as Python 2.7 does.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Literal

from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.metrics.python2_text import lower_words, strip

Rules = Literal["2021", "2017", "plain"]
"""How a question is scored; see `question_score`."""

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_CENT = Decimal("0.01")
_DIGIT_COMMA_DIGIT = re.compile("[0-9],[0-9]")
# The official pattern tries to keep periods between digits, but its look-behind is mistyped and
# always holds. It also passes the flag re.UNICODE, which is 32, where `sub` takes its count.
_PERIOD = re.compile(r"\.(?![0-9])")
_PERIODS_REMOVED = 32

_ARTICLES = frozenset({"a", "an", "the"})
_DIGITS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4"}
_DIGITS |= {"five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"}

# The official table maps each of these words, less one apostrophe, to the word itself. This table
# lacks its keys with a capital (input is in lower case) and its words that map to themselves.
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
    might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
    you've
"""
_CONTRACTIONS = {
    word[:i] + word[i + 1 :]: word
    for word in _CONTRACTED.split()
    for i, letter in enumerate(word)
    if letter == "'"
}
_CONTRACTIONS["somebody'd"] = "somebodyd"  # the wrong way round in the official table too


def _clean(answer: str) -> str:
    return strip(answer.replace("\n", " ").replace("\t", " "))


@lru_cache(maxsize=1 << 18)
def _without_punctuation(answer: str) -> str:
    has_number = _DIGIT_COMMA_DIGIT.search(answer) is not None
    text = answer
    for mark in _PUNCTUATION:
        if mark in answer:
            alone = has_number or f"{mark} " in answer or f" {mark}" in answer
            text = text.replace(mark, "" if alone else " ")
    return _PERIOD.sub("", text, count=_PERIODS_REMOVED)


@lru_cache(maxsize=1 << 18)
def normalise(answer: str) -> str:
    """Return `answer` as the official tool rewrites it before comparing.

    It turns line ends and tabs into spaces, strips the ends, removes punctuation and articles,
    lowers the case, turns number words to ten into digits and puts missing apostrophes back. It
    keeps the quirks of the official tool, such as "1,000-2,000" → "10002000": compare the result,
    but do not show it. Case and spaces are those of Unicode 5.2, as in Python 2.7.

    Source: GT-Vision-Lab/VQA, vqaEval.py at a013f00, `processPunctuation`, `processDigitArticle`.
    """
    words = (_DIGITS.get(w, w) for w in lower_words(_without_punctuation(_clean(answer))))
    return " ".join(_CONTRACTIONS.get(w, w) for w in words if w not in _ARTICLES)


def question_score(prediction: str, answers: Sequence[str], *, rules: Rules) -> float:
    """Return the score in [0, 1] of one predicted answer; `answers` are all given ones, as written.

    Under "2021" and "2017" it is the mean, over the given answers, of min(1, n/3), where n of the
    *other* given answers equal the prediction: 0, 0.3, 0.6, 0.9, 1 for 0, 1, 2, 3 and more of ten.
    The two differ in what they compare:

    - "2021" normalises both sides unless all given answers are one text. Then it normalises
      neither, and case counts.
    - "2017" always normalises the prediction. Of the given answers it only removes the punctuation,
      and only if they differ.

    "plain" is 1 if the normalised prediction equals a normalised given answer, else 0. Only "plain"
    can reach 1 where a question has one or two answers.

    Raises:
        MetricError: if `answers` is empty.
        ValueError: if `rules` is none of the three.

    Source: GT-Vision-Lab/VQA, vqaEval.py, `evaluate` at a013f00 (2021) and at its parent (2017).
    """
    if not answers:
        raise MetricError(
            "A question has no given answers, and a score needs at least one. "
            "Score a split that has answers, such as val."
        )
    if rules == "plain":
        return float(normalise(prediction) in map(normalise, answers))
    if rules == "2017":
        predicted, given = normalise(prediction), list(answers)
        if len(set(given)) > 1:
            given = [_without_punctuation(answer) for answer in given]
    elif rules == "2021":
        predicted, given = _clean(prediction), [_clean(answer) for answer in answers]
        if len(set(given)) > 1:
            predicted, given = normalise(predicted), [normalise(answer) for answer in given]
    else:
        raise ValueError(f"unknown rules {rules!r}; known are '2021', '2017' and 'plain'")
    matches = given.count(predicted)
    total = 0.0
    for answer in given:  # in the order given, because the last bit of the sum depends on it
        others = matches - (answer == predicted)
        total += min(1.0, others / 3)
    return total / len(given)


def percent(score: float, rules: Rules) -> float:
    """Return `score`, in [0, 1], as percent with two decimals.

    An exact half, such as 3.125, becomes 3.13, because the official tool runs on Python 2. Under
    "2017" it becomes 3.12, the even neighbour, because other projects use those rules in Python 3
    copies of the tool.

    Source: GT-Vision-Lab/VQA, vqaEval.py at a013f00, `setEvalQA`.
    """
    return _round(100 * score, rules)


def _round(value: float, rules: Rules) -> float:
    if rules == "2017":
        return round(value, 2)
    return float(Decimal(value).quantize(_CENT, ROUND_HALF_UP))


def _mean_percent(scores: Sequence[float], rules: Rules) -> float:
    total = 0.0
    for score in scores:  # not `sum`, which rounds differently from Python 3.12 on
        total += score
    return _round(100 * total / len(scores), rules)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Scores of a set of questions, in percent rounded to two decimals.

    Means by type are in order of first occurrence, and empty without types.
    """

    overall: float
    by_answer_type: dict[str, float]
    by_question_type: dict[str, float]
    questions: int
    rules: Rules

    def to_json(self) -> dict[str, object]:
        """Return a JSON object: accuracy (overall and by answer type), by_question_type, …"""
        overall = {"overall": self.overall}
        return {
            "accuracy": overall | self.by_answer_type | overall,
            "by_question_type": dict(self.by_question_type),
            "questions": self.questions,
            "metric": self.rules,
        }


def _by_type(scores: Sequence[float], types: Sequence[str], rules: Rules) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for score, kind in zip(scores, types, strict=True):
        if kind:
            groups.setdefault(kind, []).append(score)
    return {kind: _mean_percent(group, rules) for kind, group in groups.items()}


def accuracy(
    scores: Sequence[float],
    answer_types: Sequence[str],
    question_types: Sequence[str],
    rules: Rules,
) -> Accuracy:
    """Return the mean scores, over all questions and by type.

    Args:
        scores: One score in [0, 1] per question, in the order of the annotation file.
        answer_types, question_types: One per question; one with "" is in no type's mean.
        rules: The rules that made `scores`. Here they only decide how exact halves are rounded.

    Raises:
        MetricError: if there are no questions.
        ValueError: if the three lengths differ.

    Source: GT-Vision-Lab/VQA, vqaEval.py at a013f00, `setAccuracy`.
    """
    if not scores:
        raise MetricError(
            "There are no questions to score, and a mean needs at least one. "
            "Choose a split that has questions with answers."
        )
    return Accuracy(
        overall=_mean_percent(scores, rules),
        by_answer_type=_by_type(scores, answer_types, rules),
        by_question_type=_by_type(scores, question_types, rules),
        questions=len(scores),
        rules=rules,
    )


def pick_rules(answer_counts: Iterable[int], requested: Rules | None) -> Rules:
    """Return `requested` if given; else "2021", or "plain" if a question has under ten answers."""
    if requested is not None:
        return requested
    return "2021" if all(count >= 10 for count in answer_counts) else "plain"
