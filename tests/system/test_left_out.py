"""Why questions are left out: from where it is found to the score, and never for another reason."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frozen_vqa.cache import FeatureCache, load_manifest
from frozen_vqa.cache.left_out import left_out_of
from frozen_vqa.pipeline.commands.tables import show_evaluation
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.metrics.score import score_files
from frozen_vqa.pipeline.runs.run import Run, load_run
from frozen_vqa.pipeline.sources.own.source import OwnSource
from tests.support.caches import Made
from tests.support.frozen import BAD, Images, Text, picture
from tests.support.heads import make_run
from tests.support.resuming import CPU

KINDS: dict[str, dict[str, Any]] = {
    "usable": {},
    "blank": {"question": " "},
    "wrong type": {"answer_type": 7},
    "no id": {"question_id": 1.5},
    "repeated": {"question_id": 0},
    "no picture": {"image": "bad.png"},
}
UNUSABLE = ("blank", "wrong type", "no id", "repeated")
kinds = st.lists(st.sampled_from(sorted(KINDS)), max_size=7)


def write_split(folder: Path, split: str, kinds: Sequence[str]) -> None:
    """Questions 0, 1, 2, ..., of which the first is usable: both splits have the same ids."""
    lines = [
        {"question_id": i, "image": "a.png", "question": f"{split}{i}", "answer": "red"}
        | KINDS[kind]
        for i, kind in enumerate(["usable", *kinds])
    ]
    (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))


def extracted(folder: Path, train: Sequence[str], val: Sequence[str]) -> Made:
    (folder / "a.png").write_bytes(picture(0))
    (folder / "bad.png").write_bytes(BAD)
    write_split(folder, "train", train)
    write_split(folder, "val", val)
    source, text = OwnSource(folder), Text()
    plan = make_plan(source, splits=["train", "val"], text=text)
    extract(source, plan, cache=folder / "cache", images=Images(), text=text, batch_size=2)  # type: ignore[arg-type]
    return Made(folder / "cache", None, (), {})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("head")
    make_run(extracted(folder, [], []), folder / "run")
    return load_run(folder / "run", CPU)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(train=kinds, val=kinds)
def test_the_reason_is_the_true_one(
    train: list[str], val: list[str], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        cache = extracted(folder, train, val)
        found = evaluate(run, FeatureCache(cache.directory), "val")
        capsys.readouterr()
        show_evaluation(found)
        said = capsys.readouterr().err
        unusable = sum(kind in UNUSABLE for kind in val)
        lost = val.count("no picture")
        assert found.to_json()["left_out"] == unusable + lost
        assert found.to_json()["left_out_because"] == {
            "unusable": unusable,
            "without_picture": lost,
        }
        assert ("because they cannot be used; the first is" in said) == bool(unusable)
        assert ("because their pictures cannot be read; the first is" in said) == bool(lost)
        assert ("val.jsonl:" in said, "train.jsonl" in said) == (bool(unusable), False)
        # The results are of all questions that have an id, as `score` and the official tool ask.
        ids = [i for i, k in enumerate(["usable", *val]) if k not in ("no id", "repeated")]
        annotations = [{"question_id": i, "answers": [{"answer": "red"}]} for i in ids]
        (folder / "a.json").write_text(json.dumps({"annotations": annotations}))
        whole, each = score_files(predictions=found.results, annotations=folder / "a.json")
        assert whole.questions == len(ids) == len(found.answers) + len(found.left_out.ids)
        empty = {i for i, answer in read_answers(found.results).items() if not answer}
        assert empty == {i for i in ids if i and val[i - 1] != "usable"}
        assert {each[i] for i in empty} <= {0.0}
        if empty:
            assert f"with them the accuracy is {whole.overall:.2f} %" in said
        assert ("the results lack" in said) == ("no id" in val)


def read_answers(path: Path) -> dict[int, str]:
    return {entry["question_id"]: entry["answer"] for entry in json.loads(path.read_text())}


def test_a_cache_that_has_not_noted_the_ids(tmp_path: Path) -> None:
    """As those of before: the number and the reason are known, the ids are not."""
    cache = extracted(tmp_path, ["no picture"], ["blank", "no picture", "no picture"])
    manifest = load_manifest(cache.directory)
    record = manifest.splits["val"]
    assert record.origin["without_picture"] == [[2, "bad.png"], [3, "bad.png"]]
    object.__setattr__(record, "origin", {})
    found = left_out_of(manifest, "val", [0])
    assert (len(found.unusable), found.without_picture, found.unknown) == (1, 2, 2)
    assert found.ids == [1]
