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
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache, partial
from typing import Literal

from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.metrics.accuracy import ANSWER_TYPE, QUESTION_TYPE, Accuracy, summarise
from frozen_vqa.pipeline.metrics.python2_text import lower_words, strip

Rules = Literal["2021", "2017", "plain"]
"""How a question is scored; see `question_score`."""

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_CENT = Decimal("0.01")
_DIGIT_COMMA_DIGIT = re.compile("[0-9],[0-9]")
# The official pattern tries to keep periods between digits, but its look-behind is mistyped and
# always holds. It also passes the flag re.UNICODE, which is 32, where `sub` takes its count.
_PERIOD = re.compile(r"\.(?![0-9])")
_ANY_DIGIT_COMMA_DIGIT, _ANY_PERIOD = re.compile(r"\d,\d"), re.compile(r"\.(?!\d)")  # Python 3
_PERIODS_REMOVED = 32

_ARTICLES = frozenset({"a", "an", "the"})
_DIGITS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4"}
_DIGITS |= {"five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"}

# The official table maps each of these words, less one apostrophe, to the word itself. This table
# lacks its keys with a capital (input is in lower case) and its words that map to themselves.
CONTRACTED = """
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
    for word in CONTRACTED.split()
    for i, letter in enumerate(word)
    if letter == "'"
}
_CONTRACTIONS["somebody'd"] = "somebodyd"  # the wrong way round in the official table too


def _clean(answer: str) -> str:
    return strip(answer.replace("\n", " ").replace("\t", " "))


@lru_cache(maxsize=1 << 18)
def _without_punctuation(answer: str) -> str:
    return _remove_punctuation(answer, _DIGIT_COMMA_DIGIT, _PERIOD)


def _remove_punctuation(answer: str, number: re.Pattern[str], period: re.Pattern[str]) -> str:
    has_number = number.search(answer) is not None
    text = answer
    for mark in _PUNCTUATION:
        if mark in answer:
            alone = has_number or f"{mark} " in answer or f" {mark}" in answer
            text = text.replace(mark, "" if alone else " ")
    return period.sub("", text, count=_PERIODS_REMOVED)


def _rewrite(words: Iterable[str], contractions: Mapping[str, str]) -> str:
    digits = (_DIGITS.get(word, word) for word in words)
    return " ".join(contractions.get(w, w) for w in digits if w not in _ARTICLES)


@lru_cache(maxsize=1 << 18)
def normalise(answer: str) -> str:
    """Return `answer` as the official tool rewrites it before comparing.

    It turns line ends and tabs into spaces, strips the ends, removes punctuation and articles,
    lowers the case, turns number words to ten into digits and puts missing apostrophes back. It
    keeps the quirks of the official tool, such as "1,000-2,000" → "10002000": compare the result,
    but do not show it. Case and spaces are those of Unicode 5.2, as in Python 2.7.

    Source: GT-Vision-Lab/VQA, vqaEval.py at a013f00, `processPunctuation`, `processDigitArticle`.
    """
    return _rewrite(lower_words(_without_punctuation(_clean(answer))), _CONTRACTIONS)


def normalise_python3(answer: str, contractions: Mapping[str, str] = _CONTRACTIONS) -> str:
    """Return `answer` as copies of the official tool rewrite it that run on Python 3.

    Case, spaces and digits are those of this Python.
    """
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    text = _remove_punctuation(text, _ANY_DIGIT_COMMA_DIGIT, _ANY_PERIOD)
    return _rewrite(text.lower().split(), contractions)


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
    return leave_one_out_mean(predicted, given)


def leave_one_out_mean(predicted: str, given: Sequence[str]) -> float:
    """Return the mean, over the given answers, of min(1, n/3) for n of the others.

    It is that of `leave_one_out`, with the last bit of the official sum.
    """
    matches = given.count(predicted)
    total = 0.0
    for answer in given:  # in the order given, because the last bit of the sum depends on it
        others = matches - (answer == predicted)
        total += min(1.0, others / 3)
    return total / len(given)


def leave_one_out(matches: int, given: int) -> float:
    """Return the mean of min(1, n/3) over the subsets that leave out one of `given` answers.

    n is how many of the `matches` remain. With ten answers: 0, 0.3, 0.6, 0.9, then 1.

    Source: Antol et al., VQA: Visual Question Answering, ICCV 2015, section 3, and vqaEval.py.
    """
    kept, lost = min(1.0, matches / 3), min(1.0, (matches - 1) / 3)
    return ((given - matches) * kept + matches * lost) / given if matches else 0.0


def percent(score: float, rules: Rules) -> float:
    """Return `score`, in [0, 1], as percent with two decimals.

    An exact half, such as 3.125, becomes 3.13, because the official tool runs on Python 2. Under
    "2017" it becomes 3.12, the even neighbour, because other projects use those rules in Python 3
    copies of the tool.

    Source: GT-Vision-Lab/VQA, vqaEval.py at a013f00, `setEvalQA`.
    """
    if rules == "2017":
        return round(100 * score, 2)
    return float(Decimal(100 * score).quantize(_CENT, ROUND_HALF_UP))


def accuracy(
    scores: Sequence[float],
    answer_types: Sequence[str],
    question_types: Sequence[str],
    rules: Rules,
) -> Accuracy:
    """Return the mean scores, over all questions and by type, in percent with two decimals.

    Args:
        scores: One score in [0, 1] per question, in the order of the annotation file.
        answer_types, question_types: One per question; one with "" is in no type's mean.
        rules: The rules that made `scores`. Here they only decide how exact halves are rounded.

    Raises:
        MetricError: if there are no questions.
        ValueError: if the three lengths differ.

    Source: GT-Vision-Lab/VQA, vqaEval.py at a013f00, `setAccuracy`.
    """
    kinds = {ANSWER_TYPE: answer_types, QUESTION_TYPE: question_types}
    return summarise(scores, kinds, metric=rules, percent=partial(percent, rules=rules))
