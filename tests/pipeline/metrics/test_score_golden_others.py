"""The golden files from PathVQA on; see `test_score_golden.py`."""

import importlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.metrics.find import METRICS
from frozen_vqa.pipeline.metrics.metric import Answered
from frozen_vqa.pipeline.metrics.named import daquar, medical, scienceqa
from frozen_vqa.pipeline.metrics.records import annotations_of, read_content, results_of
from frozen_vqa.pipeline.metrics.score import score_files
from tests.support.golden import GOLDEN, expected, score

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden files at {GOLDEN}"),
]


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
    "simple": ("part", "simple (not amt)"),
    "complex": ("part", "complex (amt)"),
    "by_flag_simple": ("simple", "yes"),
    "by_flag_complex": ("simple", "no"),
}


def test_tallyqa() -> None:
    wanted = expected("tallyqa")
    found, _ = score("tallyqa", "test.json")
    everything = wanted["all_by_the_same_two_functions"]
    assert found.overall == everything["accuracy"]
    assert found.figures["RMSE"].value == everything["rmse"]
    for key, (kind, name) in TALLYQA.items():
        assert found.groups[kind][name].value == wanted[key]["accuracy"]
        error = found.figures[f"RMSE, {kind}: {name}"]
        assert (error.value, error.unit) == (wanted[key]["rmse"], "")
    counts = wanted["counts"]
    assert found.groups["part"]["simple (not amt)"].questions == counts["simple"]
    assert found.groups["part"]["complex (amt)"].questions == counts["complex (data_source amt)"]


@pytest.mark.parametrize("guess", ["0", "1", "2"])
def test_tallyqa_always_the_same_number(guess: str, tmp_path: Path) -> None:
    records = json.loads((GOLDEN / "tallyqa" / "test.json").read_text())
    said = [{"question_id": one["question_id"], "answer": int(guess)} for one in records]
    (tmp_path / "p.json").write_text(json.dumps(said))
    annotations = GOLDEN / "tallyqa" / "test.json"
    found, _ = score_files(predictions=tmp_path / "p.json", annotations=annotations)
    for key in ("simple", "complex"):
        wanted = expected("tallyqa")[f"{key}_guess"][guess]
        kind, name = TALLYQA[key]
        assert found.groups[kind][name].value == wanted["accuracy"]
        assert found.figures[f"RMSE, {kind}: {name}"].value == wanted["rmse"]


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


RESULTS = [
    ("okvqa", "2021", "mscoco_val2014_annotations.json", "predictions.json"),
    ("vizwiz", "vizwiz", "val.json", "predictions.json"),
    ("textvqa", "textvqa", "TextVQA_0.5.1_val.json", "predictions.json"),
    ("gqa", "gqa", "val_all_questions.json", "val_predictions.json"),
    ("aokvqa", "aokvqa", "aokvqa_v1p0_val.json", "predictions_mc_only.json"),
    ("aokvqa", "aokvqa-da", "aokvqa_v1p0_val.json", "predictions_da_only.json"),
    ("vqa_rad", "vqa-rad", "VQA_RAD Dataset Public.json", "predictions.json"),
    ("slake", "slake", "test.json", "predictions.json"),
    ("pathvqa", "pathvqa", "test_qa.json", "predictions.json"),
    ("tallyqa", "tallyqa", "test.json", "predictions.json"),
    ("daquar", "daquar", "qa.894.raw.test.format_triple", "predictions.txt"),
    ("visual7w", "visual7w", "dataset_v7w_telling.json", "predictions.json"),
    ("nlvr2", "nlvr2", "dev.json", "predictions.csv"),
    ("scienceqa", "scienceqa", "problems.json", "answers.jsonl"),
]


@pytest.mark.parametrize(("folder", "metric", "annotations", "predictions"), RESULTS)
def test_results_are_written_as_the_scripts_read_them(
    folder: str, metric: str, annotations: str, predictions: str
) -> None:
    """What is read from a golden file and written again is the file, less what nobody reads."""
    layout = METRICS[metric].layout
    content = read_content(GOLDEN / folder / annotations)
    questions = {
        str(one.question_id): one
        for one in annotations_of(GOLDEN / folder / annotations, content, layout)
    }
    golden = read_content(GOLDEN / folder / predictions)
    entries = [
        (questions[str(name)], entry)
        for name, entry in results_of(GOLDEN / folder / predictions, golden, layout)
        if str(name) in questions
    ]
    answered = []
    for question, entry in entries:
        more = {"answerable": entry["answerable"]} if folder == "vizwiz" else {}
        answered.append(Answered(question, str(layout.read(layout, entry, question)), 0.0, more))
    text = layout.write(layout, answered)
    if layout.line:
        assert text.splitlines() == list(golden)
        return
    lines = layout.results.endswith("jsonl")
    written = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
    if isinstance(written, dict):
        assert written == golden
        return
    for ours, (_, entry), theirs in zip(written, entries, golden, strict=False):
        wanted = entry if isinstance(theirs, dict) else theirs
        assert ours == read_alike(ours, wanted)


def read_alike(ours: Any, golden: Any) -> Any:
    """Return the golden entry with the one answer and the fields that we write."""
    if not isinstance(golden, dict):
        return golden
    found = {key: golden[key] for key in ours}
    if "candidates" in found:
        found["candidates"] = found["candidates"][:1]
    if "prompt" in found:  # a text names a choice in several ways, of which a letter is one
        found["prompt"] = "<image>"
        found["text"] = ours["text"]
    return found
