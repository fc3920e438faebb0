"""Every golden file of the official scripts, or of named peers, to the last digit."""

import importlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.metrics.accuracy import Accuracy
from frozen_vqa.pipeline.metrics.named import daquar, medical, scienceqa, textvqa, vizwiz
from frozen_vqa.pipeline.metrics.score import score_files
from tests.support.repository import DATA

GOLDEN = DATA / "golden"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden files at {GOLDEN}"),
]


def score(
    folder: str, annotations: str, predictions: str = "predictions.json", **how: Any
) -> tuple[Accuracy, dict[str, float]]:
    place = GOLDEN / folder
    paths = {name: place / file for name, file in how.items() if name == "questions"}
    found, each = score_files(
        predictions=place / predictions, annotations=place / annotations, **{**how, **paths}
    )
    return found, {str(name): percent for name, percent in each.items()}


def expected(folder: str) -> Any:
    return json.loads((GOLDEN / folder / "expected.json").read_text())


def values(found: Accuracy, kind: str) -> dict[str, float]:
    return {name: one.value for name, one in found.groups[kind].items()}


def rounded(figures: Mapping[str, float], digits: int) -> dict[str, float]:
    return {name: round(value, digits) for name, value in figures.items()}


def percents(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: 100 * share for name, share in shares.items()}


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


def test_pathvqa() -> None:
    found, each = score("pathvqa", "test_qa.json")
    wanted = expected("pathvqa")
    assert found.overall == wanted["M2I2_n_12"]["overall"]
    closed = wanted["M2I2_n_12"]["perAnswerType"]["yes/no"]
    assert round(found.by_answer_type["CLOSED"], 12) == closed
    assert each == wanted["M2I2_evalQA"]
    means = wanted["mean_over_the_questions_with_a_number"]
    for name, key in (
        ("shared words (the authors' exact match)", "exact_match"),
        ("F1 of words", "f1"),
    ):
        assert found.figures[name].value == 100 * means[key]
        assert found.figures[name].questions == means["n"]
    texts = json.loads((GOLDEN / "pathvqa" / "predictions.json").read_text())
    records = json.loads((GOLDEN / "pathvqa" / "test_qa.json").read_text())
    for text, record, official in zip(texts, records, wanted["per_question"], strict=True):
        three = medical.shared_words(text, record["answer"])
        if three is None:
            assert official["bleu1"] == "ZeroDivisionError"
        else:
            exact_match, f1, bleu = three
            assert (exact_match, f1) == (official["exact_match"], official["f1"])
            assert bleu == float(official["bleu1"])


TALLYQA = {
    "simple": "simple (not amt)",
    "complex": "complex (amt)",
    "by_flag_simple": "simple by issimple",
    "by_flag_complex": "complex by issimple",
}


def test_tallyqa() -> None:
    wanted = expected("tallyqa")
    found, _ = score("tallyqa", "test.json")
    everything = wanted["all_by_the_same_two_functions"]
    assert found.overall == everything["accuracy"]
    assert found.figures["RMSE"].value == everything["rmse"]
    for key, name in TALLYQA.items():
        assert found.figures[name].value == wanted[key]["accuracy"]
        assert found.figures[f"RMSE, {name}"].value == wanted[key]["rmse"]
    counts = wanted["counts"]
    assert found.figures["simple (not amt)"].questions == counts["simple"]
    assert found.figures["complex (amt)"].questions == counts["complex (data_source amt)"]


@pytest.mark.parametrize("guess", ["0", "1", "2"])
def test_tallyqa_always_the_same_number(guess: str, tmp_path: Path) -> None:
    records = json.loads((GOLDEN / "tallyqa" / "test.json").read_text())
    said = [{"question_id": one["question_id"], "answer": int(guess)} for one in records]
    (tmp_path / "p.json").write_text(json.dumps(said))
    annotations = GOLDEN / "tallyqa" / "test.json"
    found, _ = score_files(predictions=tmp_path / "p.json", annotations=annotations)
    for key in ("simple", "complex"):
        wanted = expected("tallyqa")[f"{key}_guess"][guess]
        assert found.figures[TALLYQA[key]].value == wanted["accuracy"]
        assert found.figures[f"RMSE, {TALLYQA[key]}"].value == wanted["rmse"]


def has_wordnet() -> bool:
    try:
        importlib.import_module("nltk.corpus").wordnet.synsets("noun")
    except (ImportError, LookupError, OSError):
        return False
    return True


DAQUAR = [
    ("qa.894.raw.test.format_triple", "predictions.txt"),
    ("truth.txt", "predictions.json"),
]


@pytest.mark.parametrize(("annotations", "predictions"), DAQUAR)
def test_daquar(annotations: str, predictions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs no WordNet: equal sets, without normalisation."""
    monkeypatch.setattr(daquar, "wu_palmer", lambda one, other: 0.0)
    found, each = score("daquar", annotations, predictions)
    wanted = expected("daquar")
    assert found.metric == "daquar"
    assert found.questions == wanted["questions"]
    assert found.overall == 100 * wanted["accuracy"]
    assert list(each.values()) == [100 * one for one in wanted["per_question_accuracy"]]
    assert f"final score is {found.overall:.2f}%" == wanted["accuracy_printed"][-1]
    figure = found.figures["accuracy, mean of classes"]
    assert figure.value == 100 * wanted["class_mean_accuracy"]


@pytest.mark.skipif(not has_wordnet(), reason="nltk or its WordNet is not installed")
@pytest.mark.parametrize(("annotations", "predictions"), DAQUAR)
def test_wups(annotations: str, predictions: str) -> None:
    found, _ = score("daquar", annotations, predictions)
    wanted = expected("daquar")
    for threshold in daquar.THRESHOLDS:
        figure = found.figures[f"WUPS@{threshold}"]
        assert figure.value == 100 * wanted[f"wups_{threshold}"]
        assert f"final score is {figure.value:.2f}%" == wanted[f"wups_{threshold}_printed"][-1] or (
            f"wups_{threshold}_printed" not in wanted
        )
        # The order of the official sum is that of a set of Python 2, so its last bit is chance.
        classes = found.figures[f"WUPS@{threshold}, mean of classes"].value
        official = 100 * wanted[f"class_mean_wups_{threshold}"]
        assert classes == pytest.approx(official, rel=1e-15)
    near = {threshold: daquar.near_from(threshold) for threshold in daquar.THRESHOLDS}
    texts = (GOLDEN / "daquar" / "predictions.txt").read_text().splitlines()
    truth = (GOLDEN / "daquar" / "truth.txt").read_text().splitlines()
    for threshold, similarity in near.items():
        got = [daquar.fuzzy(a, b, similarity) for a, b in zip(texts, truth, strict=True)]
        assert got == wanted[f"per_question_wups_{threshold}"]


def test_visual7w() -> None:
    found, _ = score("visual7w", "dataset_v7w_telling.json")
    wanted = expected("visual7w")
    one = wanted["predictions mode=mc topk=5"]
    assert (found.overall, found.questions) == (100 * one["overall"], one["evaluated"])
    assert round(found.overall / 100, 3) == one["overall_3_places"]
    assert one["per_type"] == {
        name: {"correct": round(group.value * group.questions / 100), "total": group.questions}
        for name, group in found.groups["question_type"].items()
    }
    any_of_two = found.figures["any of the first 2 candidates"].value
    assert any_of_two == 100 * wanted["predictions mode=open topk=2"]["overall"]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("some_missing", "of 32 questions 7 are missing"),  # the official script forgives these
        ("duplicated", "6 question ids occur more than once"),
        ("wrong_split", r"1 are unknown \(500000\)"),
    ],
)
def test_visual7w_takes_all_questions_of_one_split(file: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        score("visual7w", "dataset_v7w_telling.json", f"predictions_{file}.json")


@pytest.mark.parametrize(
    "file",
    ["predictions.csv", "predictions.json", "predictions_extra.csv", "predictions_duplicate.csv"],
)
def test_nlvr2(file: str) -> None:
    found, _ = score("nlvr2", "dev.json", file)
    wanted = expected("nlvr2")[Path(file).stem]
    assert found.overall == 100 * wanted["accuracy"]
    assert found.figures["consistency"].value == 100 * wanted["consistency"]
    assert found.questions == expected("nlvr2")["examples"]


@pytest.mark.parametrize(
    ("file", "ids"),
    [("missing", ["dev-11-2-0", "dev-11-3-0"]), ("missing_but_extra", ["dev-11-3-0"])],
)
def test_nlvr2_names_what_is_missing(file: str, ids: Iterable[str]) -> None:
    with pytest.raises(PipelineError, match=r"are missing") as caught:
        score("nlvr2", "dev.json", f"predictions_{file}.csv")
    for name in ids:
        assert name in str(caught.value)
        assert name in expected("nlvr2")[f"predictions_{file}"]["output"]


@pytest.mark.parametrize("file", ["answers.jsonl", "predictions.json"])
def test_scienceqa(file: str) -> None:
    found, each = score("scienceqa", "problems.json", file)
    llava, lmms = expected("scienceqa")["LLaVA_eval_science_qa"], expected("scienceqa")
    assert (found.overall, found.questions) == (llava["acc"], llava["count"])
    assert sum(each.values()) == 100 * llava["correct"]
    assert found.figures["IMG"].questions == lmms["counts"]["with_image"]
    if file.endswith(".jsonl"):
        img = found.figures["<image> in the prompt"].value
        assert f"IMG-Accuracy: {img:.2f}%" in llava["printed"]
        assert f"Accuracy: {found.overall:.2f}%" in llava["printed"]
        figure = found.figures["read as lmms-eval does, answered ones"]
        assert figure.value == 100 * lmms["lmms-eval_utils"]["mean_over_answered"]
        assert figure.questions == len(lmms["lmms-eval_utils"]["per_question"])


def test_scienceqa_reads_each_answer_as_llava_does() -> None:
    place = GOLDEN / "scienceqa"
    problems = json.loads((place / "problems.json").read_text())
    said = json.loads((place / "predictions.json").read_text())
    parsed = expected("scienceqa")["LLaVA_eval_science_qa"]["parsed_index_per_question"]
    for name, text in said.items():
        assert scienceqa.choice_of(text, problems[name]["choices"]) == parsed[name]
    assert {name for name in parsed if name not in said} == {"160"}
    assert parsed["160"] == -1
