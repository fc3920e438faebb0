"""The rows of docs/bad-inputs.md about `score` with files of other data sets than VQAv2."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.bad_inputs import REFUSED, SCORED, Row
from tests.support.command import error_of, run_command
from tests.support.official_sets import SETS, write_set

Change = Callable[[Any], Any]


def scored(
    name: str,
    *,
    annotations: Change | None = None,
    predictions: Change | None = None,
    words: str = "",
    notes: bool = False,
) -> Callable[[Path], Row]:
    """A case of the small set of a metric, with one of its files changed."""

    def make(folder: Path) -> Row:
        paths, wanted = write_set(folder, name), SETS[name]
        contents = (wanted.annotations, wanted.predictions)
        for path, content, change in zip(paths, contents, (annotations, predictions), strict=True):
            if change:
                made = change(json.loads(json.dumps(content)))
                path.write_text(made if isinstance(made, str) else json.dumps(made))
        command = ["score", "--annotations", paths[0], "--predictions", paths[1], "--json"]
        found = run_command(*command, *words.replace("@", str(folder)).split())
        if notes:
            assert found.code == 0, found
            return SCORED, "; ".join(found.json()["notes"])
        return REFUSED, error_of(found)

    return make


def first(**fields: Any) -> Change:
    """Change fields of the first entry; None removes one."""

    def change(content: Any) -> Any:
        entries = content if isinstance(content, list) else next(iter(content.values()))
        entry = entries[0] if isinstance(entries, list) else entries
        for key, value in fields.items():
            entry.pop(key, None)
            if value is not None:
                entry[key] = value
        return content

    return change


def again(content: Any) -> Any:
    """The first entry twice."""
    return [*content, content[0]]


def less(content: Any) -> Any:
    """All but the first entry."""
    return dict(list(content.items())[1:]) if isinstance(content, dict) else content[1:]


METRICS: dict[str, Callable[[Path], Row]] = {
    "VizWiz: an entry without a picture": scored("vizwiz", annotations=first(image=None)),
    "VizWiz: answers that are texts": scored("vizwiz", annotations=first(answers=["tea"])),
    "VizWiz: an annotation twice": scored("vizwiz", annotations=again),
    "VizWiz: a missing prediction": scored("vizwiz", predictions=less),
    "VizWiz: a prediction twice": scored("vizwiz", predictions=again),
    "VizWiz: an answer that is a list": scored("vizwiz", predictions=first(answer=["tea"])),
    "VizWiz: a prediction without a picture": scored("vizwiz", predictions=first(image=None)),
    "VizWiz: an unknown picture": scored(
        "vizwiz", predictions=lambda c: [*c, {"image": "no.jpg", "answer": "tea"}], notes=True
    ),
    "VizWiz: annotations of another data set": scored(
        "vizwiz", annotations=lambda c: [{"picture": 1}], words="--metric vizwiz"
    ),
    "VizWiz: predictions that are one text": scored("vizwiz", predictions=lambda c: '"tea"'),
    "VizWiz: predictions that are CSV": scored("vizwiz", predictions=lambda c: "a.jpg,tea\n"),
    "TextVQA: answers that are objects": scored(
        "textvqa", annotations=first(answers=[{"answer": "a"}])
    ),
    "TextVQA: an unknown question": scored(
        "textvqa", predictions=lambda c: [*c, {"question_id": 9, "answer": "a"}]
    ),
    "GQA: no types": scored("gqa", annotations=first(types=None)),
    "GQA: a balanced question without a prediction": scored("gqa", predictions=less),
    "GQA: choices that are no file": scored("gqa", words="--questions @/none.json"),
    "CLEVR: an answer that is a list": scored("clevr", annotations=first(answer=[3])),
    "CLEVR: a question file": scored("clevr", words="--questions @/annotations"),
    "A-OKVQA: a right choice that is none": scored(
        "aokvqa", annotations=first(correct_choice_idx=4)
    ),
    "A-OKVQA: a missing prediction": scored("aokvqa", predictions=less, notes=True),
    "A-OKVQA: only the other kind of answer": scored(
        "aokvqa", predictions=lambda c: {name: {"direct_answer": "tea"} for name in c}
    ),
    "VQA-RAD: an answer that is null": scored("vqa-rad", annotations=first(answer=None)),
    "VQA-RAD: a training question": scored(
        "vqa-rad", predictions=lambda c: [*c, {"qid": 2, "answer": "no"}]
    ),
    "PathVQA: too few answers": scored("pathvqa", predictions=less),
    "TallyQA: a count that is no number": scored("tallyqa", predictions=first(answer="many")),
    "TallyQA: a count of 400 digits": scored("tallyqa", predictions=first(answer="1" * 400)),
    "TallyQA: a count that is half": scored("tallyqa", predictions=first(answer=1.5)),
    "Visual7W: questions of two splits": scored(
        "visual7w", predictions=lambda c: [*c, {"qa_id": 2, "candidates": [{"answer": "Tea."}]}]
    ),
    "Visual7W: no candidates": scored("visual7w", predictions=first(candidates=None)),
    "NLVR2: a line without a label": scored(
        "nlvr2", predictions=lambda c: c.replace("dev-0-0-0,true", "dev-0-0-0")
    ),
    "NLVR2: a repeated line": scored(
        "nlvr2", predictions=lambda c: c + "dev-0-0-0,False\n", notes=True
    ),
    "NLVR2: an annotation that is cut short": scored("nlvr2", annotations=lambda c: c[:-9]),
    "ScienceQA: an answer beyond its choices": scored("scienceqa", annotations=first(answer=2)),
    "DAQUAR: too many answers": scored(
        "daquar", predictions=lambda c: c + "chair\n", words="--metric plain"
    ),
}
