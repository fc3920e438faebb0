"""VQA-RAD, SLAKE and PathVQA, which have no official script, or one whose accuracy nobody reports.

Exact match after a normalisation, as peers do. Sources: M2I2 (pengfeiliHEU/M2I2 at 8073262) for
VQA-RAD and PathVQA, lmms-eval at 75571cf for SLAKE, the authors' evaluation_script.py for the
figures on shared words of PathVQA.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from frozen_vqa.pipeline.metrics.accuracy import Figure, mean
from frozen_vqa.pipeline.metrics.metric import Annotation, Answered, Layout, Metric, equal_to_one
from frozen_vqa.pipeline.metrics.vqa_accuracy import normalise
from frozen_vqa.pipeline.sources.example import Id
from frozen_vqa.pipeline.system.texts import to_json

YES_NO = ("yes", "no")


class _VqaRad(TypedDict):
    qid: Id
    phrase_type: str
    question: str
    answer: str | int
    answer_type: str
    question_type: NotRequired[str]
    image_organ: NotRequired[str]


def _vqa_rad(entry: Mapping[str, Any]) -> Annotation:
    answer, answer_type = str(entry["answer"]), entry["answer_type"].strip()
    return Annotation(
        entry["qid"],
        (answer,),
        entry.get("question_type", ""),
        answer_type,
        groups={"organ": entry.get("image_organ", ""), "phrase": entry["phrase_type"]},
        split="test" if entry["phrase_type"].startswith("test") else "train",
    )


def _yes_or_no(answered: Sequence[Answered]) -> dict[str, Figure]:
    """Return the accuracy where the answer is yes or no, which is "closed" in some papers."""
    scores = [one.score for one in answered if one.question.answers[0].strip().lower() in YES_NO]
    return {"answered yes or no": Figure(100 * mean(scores), len(scores))} if scores else {}


class _Slake(TypedDict):
    qid: Id
    q_lang: str
    question: str
    answer: str
    answer_type: str
    modality: NotRequired[str]
    content_type: NotRequired[str]
    base_type: NotRequired[str]
    location: NotRequired[str]


def _slake(entry: Mapping[str, Any]) -> Annotation:
    return Annotation(
        entry["qid"],
        (entry["answer"],),
        entry.get("base_type", ""),
        entry["answer_type"].strip(),
        groups={
            "language": entry["q_lang"],
            "modality": entry.get("modality", ""),
            "content": entry.get("content_type", ""),
            "location": entry.get("location", ""),
        },
    )


_BRACKETS = re.compile(r"\([^)]*\)|（[^）]*）")
_MARKS = (
    string.punctuation
    + "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～、《》【】"
)
_SPACES = str.maketrans(dict.fromkeys(_MARKS, " "))
_YES, _NO = (
    "yes yeah yep true 是 是的 有 包含 可以 能 会 正常",
    "no nope false 否 不是 没有 无 不包含 不能 不会 不可以 不正常 异常",
)
_SAME = {"x ray": "xray"}
_SAME |= {word: name for name, words in (("yes", _YES), ("no", _NO)) for word in words.split()}


def normalise_slake(answer: str) -> str:
    """Return an answer as lmms-eval compares it: English and Chinese yes and no are one each."""
    text = _BRACKETS.sub(" ", answer.strip().lower()).translate(_SPACES)
    text = " ".join(text.split())
    return _SAME.get(text, text)


class _PathVqa(TypedDict):
    image: str
    question: str
    answer: str


def _path_vqa(entry: Mapping[str, Any]) -> Annotation:
    kind = "CLOSED" if entry["answer"] in YES_NO else "OPEN"
    return Annotation(-1, (entry["answer"],), answer_type=kind)


def _words(text: str) -> Counter[str]:
    return Counter(re.sub("[^a-zA-Z ]", "", text).lower().split())


def shared_words(answer: str, given: str) -> tuple[float, float, float] | None:
    """Return the authors' "exact match", F1 and BLEU-1; None for an answer without letters.

    Their exact match is the share of the answer's words that are in the given one, and their BLEU
    compares the numbers of characters.
    """
    said, true = _words(answer), _words(given)
    if not said:
        return None
    both = [word for word in said if word in true]
    hit = sum(said[word] for word in both)
    missed = sum(count for word, count in true.items() if word not in said)
    precision, recall = hit / said.total(), hit / (hit + missed) if hit else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hit else 0.0
    share = sum((said & true).values()) / said.total()
    brevity = math.exp(1 - len(given) / len(answer)) if len(answer) <= len(given) else 1
    return len(both) / said.total(), f1, brevity * (math.exp(math.log(share)) if share else 1)


def _path_figures(answered: Sequence[Answered]) -> dict[str, Figure]:
    pairs = [(one.answer, one.question.answers[0]) for one in answered if one.question.answers]
    found = [three for answer, given in pairs if (three := shared_words(answer, given))]
    names = ("shared words (the authors' exact match)", "F1 of words", "BLEU-1")
    columns = zip(names, zip(*found, strict=True), strict=True) if found else ()
    return {name: Figure(100 * mean(column), len(column)) for name, column in columns}


def _list_of_texts(layout: Layout, answered: Sequence[Answered]) -> str:
    return to_json([one.answer for one in answered], ensure_ascii=False)


VQA_RAD = Layout(metric="vqa-rad", form=_VqaRad, annotation=_vqa_rad, id_key="qid")
SLAKE = Layout(metric="slake", form=_Slake, annotation=_slake, id_key="qid")
PATH_VQA = Layout(
    metric="pathvqa", form=_PathVqa, annotation=_path_vqa, id_key="", write=_list_of_texts
)
METRICS = (
    Metric(
        name="vqa-rad",
        rule="VQA-RAD accuracy: equal after the official normalisation of VQA",
        layout=VQA_RAD,
        score=equal_to_one(normalise),
        normalise=normalise,
        figures=_yes_or_no,
    ),
    Metric(
        name="slake",
        rule="SLAKE accuracy: equal after the normalisation of lmms-eval",
        layout=SLAKE,
        score=equal_to_one(normalise_slake),
        normalise=normalise_slake,
    ),
    Metric(
        name="pathvqa",
        rule="PathVQA accuracy: equal after the official normalisation of VQA",
        layout=PATH_VQA,
        score=equal_to_one(normalise),
        normalise=normalise,
        figures=_path_figures,
    ),
)
