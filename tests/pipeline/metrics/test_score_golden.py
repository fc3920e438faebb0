"""Every golden file of the official scripts, or of named peers, to the last digit."""

import json
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.metrics.accuracy import Accuracy
from frozen_vqa.pipeline.metrics.named import medical, textvqa, vizwiz
from frozen_vqa.pipeline.metrics.score import score_files
from tests.support.golden import GOLDEN, expected, percents, rounded, score, values

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden files at {GOLDEN}"),
]


@pytest.mark.parametrize(("digits", "key"), [(2, "rounded_to_2"), (12, "n_12")])
def test_vizwiz(digits: int, key: str) -> None:
    found, each = score("vizwiz", "val.json")
    wanted = expected("vizwiz")
    assert found.metric == "vizwiz"
    assert round(found.overall, digits) == wanted[key]["accuracy"]["overall"]
    assert rounded(found.by_answer_type, digits) == wanted[key]["accuracy"]["perAnswerType"]
    assert rounded(each, 2) == wanted["evalQA"]
    assert answerability(found, digits) == wanted[key]["unanswerability"]


def answerability(found: Accuracy, digits: int) -> dict[str, float]:
    names = {"average_precision": "average precision", "f1_score": "F1"}
    return {
        key: round(found.figures[f"unanswerable, {name}"].value, digits)
        for key, name in names.items()
    }


def test_vizwiz_with_hard_confidences() -> None:
    found, _ = score("vizwiz", "val.json", "predictions_hard_answerable.json")
    assert answerability(found, 12) == expected("vizwiz")["hard_answerable_n_12"]


@pytest.mark.parametrize(("folder", "module"), [("vizwiz", vizwiz), ("textvqa", textvqa)])
def test_normal_forms(folder: str, module: Any) -> None:
    for text, normal in expected(folder)["normalise"].items():
        assert module.normalise(text) == normal


def test_textvqa() -> None:
    found, each = score("textvqa", "TextVQA_0.5.1_val.json")
    assert found.overall == 100 * expected("textvqa")["accuracy"]
    assert each == percents(expected("textvqa")["per_question"])


GQA = {
    "structural": "Accuracy / structural type",
    "semantic": "Accuracy / semantic type",
    "steps": "Accuracy / steps number",
    "words": "Accuracy / words number",
}


@pytest.mark.parametrize(
    ("questions", "predictions", "key"),
    [
        ("val_all_questions.json", "val_predictions.json", "all_with_consistency"),
        (
            "val_balanced_questions.json",
            "val_balanced_predictions.json",
            "vlm-evaluation_copy_balanced_only",
        ),
        # The official script stops here; what the entailed questions do not decide is as before.
        (
            "val_all_questions.json",
            "val_balanced_predictions.json",
            "vlm-evaluation_copy_balanced_only",
        ),
    ],
)
def test_gqa(questions: str, predictions: str, key: str) -> None:
    found, each = score("gqa", questions, predictions, questions="val_choices.json")
    exact, printed = expected("gqa")[f"{key}_unrounded"], expected("gqa")[key]
    assert (found.questions, len(each)) == (29, 29)
    figures = {name.partition(" ")[0]: one.value for name, one in found.figures.items()}
    figures |= {"accuracy": found.overall, **found.by_answer_type}
    assert ("consistency" in figures) == (key == "all_with_consistency")
    official = expected("gqa")["all_with_consistency_unrounded"]
    for name, value in figures.items():
        assert value == official[name]
        if exact[name]:  # the copy prints 0 for what it does not compute
            assert (value, round(value, 2)) == (exact[name], printed[name])
    for kind, title in GQA.items():
        groups = found.groups[kind]
        got = {n: {"score": one.value, "questions": one.questions} for n, one in groups.items()}
        assert got == exact[title]
        assert {n: round(one["score"], 2) for n, one in got.items()} == {
            n: one["score"] for n, one in printed[title].items()
        }


AOKVQA = {"MC": "aokvqa", "DA": "aokvqa-da"}


@pytest.mark.parametrize("file", ["", "_incomplete", "_mc_only", "_da_only"])
@pytest.mark.parametrize("kind", AOKVQA)
def test_aokvqa(file: str, kind: str) -> None:
    words = ("aokvqa", "aokvqa_v1p0_val.json", f"predictions{file}.json")
    wanted = expected("aokvqa")[f"predictions{file}"]
    if kind not in wanted:
        with pytest.raises(PipelineError, match="No prediction has an answer under"):
            score(*words, metric=AOKVQA[kind])
        return
    found, each = score(*words, metric=AOKVQA[kind])
    assert found.overall == wanted[kind]
    counts = {"MC": "questions", "DA": "scored_for_DA"}
    assert found.questions == expected("aokvqa")["counts"][counts[kind]]
    if not file:
        per_question = expected("aokvqa")["per_question_predictions"]
        assert each == {name: one[kind] for name, one in per_question.items() if kind in one}


def test_okvqa() -> None:
    questions = "OpenEnded_mscoco_val2014_questions.json"
    found, each = score("okvqa", "mscoco_val2014_annotations.json", questions=questions)
    wanted = expected("okvqa")["official_VQA_tool_2021"]
    assert found.metric == "2021"
    assert found.overall == wanted["rounded_to_2"]["overall"]
    assert found.by_answer_type == wanted["rounded_to_2"]["perAnswerType"]
    assert found.by_question_type == wanted["rounded_to_2"]["perQuestionType"]
    assert each == wanted["evalQA"]


def test_okvqa_by_the_rule_of_lmms_eval() -> None:
    """Which is that of TextVQA; its mean of ten is rounded once, and ours at each step."""
    found, each = score("okvqa", "mscoco_val2014_annotations.json", metric="textvqa")
    wanted = expected("okvqa")["lmms-eval_rule"]
    assert found.overall == 100 * wanted["accuracy"]
    assert rounded(each, 12) == rounded(percents(wanted["per_question"]), 12)


def test_vqa_rad() -> None:
    found, each = score("vqa_rad", "VQA_RAD Dataset Public.json")
    wanted = expected("vqa_rad")["M2I2"]
    assert (found.metric, found.questions) == ("vqa-rad", expected("vqa_rad")["test_questions"])
    assert round(found.overall, 12) == wanted["n_12"]["overall"]
    assert rounded(found.by_question_type, 12) == wanted["n_12"]["perQuestionType"]
    assert rounded(found.by_question_type, 2) == wanted["rounded_to_2"]["perQuestionType"]
    assert each == wanted["evalQA"]
    types, merged = wanted["n_12"]["perAnswerType"], found.groups["answer_type"]
    assert round(merged["OPEN"].value, 12) == types["OPEN"]
    # One of the 17 closed questions is "CLOSED " in the file, a type of its own to M2I2.
    assert merged["CLOSED"].questions == 17
    assert merged["CLOSED"].value == pytest.approx((16 * types["CLOSED"] + types["CLOSED "]) / 17)


SLAKE = {"answer_type": ("open", "closed"), "modality": ("ct", "mri", "x-ray")}
CONTENTS = [
    "abnormality",
    "color",
    "kg",
    "modality",
    "organ",
    "plane",
    "position",
    "quantity",
    "shape",
    "size",
]


@pytest.mark.parametrize("language", ["all", "en", "zh"])
def test_slake(language: str, tmp_path: Path) -> None:
    place = GOLDEN / "slake"
    records = json.loads((place / "test.json").read_text())
    records = [one for one in records if language in ("all", one["q_lang"])]
    ids = {one["qid"] for one in records}
    said = [
        one for one in json.loads((place / "predictions.json").read_text()) if one["qid"] in ids
    ]
    (tmp_path / "a.json").write_text(json.dumps(records))
    (tmp_path / "p.json").write_text(json.dumps(said))
    found, each = score_files(predictions=tmp_path / "p.json", annotations=tmp_path / "a.json")
    wanted = expected("slake")[language]
    assert found.overall == 100 * wanted["slake_accuracy"]
    kinds = {**SLAKE, "content": CONTENTS}
    for kind, names in kinds.items():
        got = {name.lower(): value for name, value in values(found, kind).items()}
        for name in names:
            official = 100 * wanted[f"slake_{name.replace('-', '')}_accuracy"]
            assert got.get(name, 0.0) == official  # 0 for a group without questions
    per_question = expected("slake")["per_question"]
    assert each == {qid: 100.0 * per_question[str(qid)]["is_correct"] for qid in each}


def test_slake_normal_forms() -> None:
    said = json.loads((GOLDEN / "slake" / "predictions.json").read_text())
    per_question = expected("slake")["per_question"]
    for one in said:
        normal = per_question[str(one["qid"])]["prediction_normalized"]
        assert medical.normalise_slake(one["answer"]) == normal


def test_slake_in_english_by_the_rule_of_m2i2() -> None:
    """Which is plain equality after the normalisation of VQA."""
    found, each = score("slake", "test.json", metric="plain")
    wanted = expected("slake")["M2I2_en_evalQA"]
    assert {name: percent for name, percent in each.items() if name in wanted} == wanted
    assert found.groups["language"]["en"].value == expected("slake")["M2I2_en_n_12"]["overall"]
