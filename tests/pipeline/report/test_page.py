"""The report as a file: its structure, its numbers, and nothing in it but what we put there."""

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache import CacheWriter, FeatureCache, load_manifest
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.model.config import FUSIONS, Fusion
from frozen_vqa.pipeline.report.attention import see_split
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.system.texts import printable
from tests.support.caches import Made, Row, make_cache
from tests.support.command import run_command
from tests.support.heads import make_run
from tests.support.hostile import STORED
from tests.support.report_page import Page, read_page, unpack
from tests.support.resuming import CPU

ANSWERS = Vocabulary(("red", "blue"))
HOSTILE = [
    *STORED.values(),
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "]]><!--<script>",
    "x" * 5_000,
]


def reported(run: Path, *words: object) -> Page:
    found = run_command("evaluate", "--run", run, "--report", *words, "--json")
    assert found.code == 0, found.err
    path = Path(found.json()["report"])
    assert path == next((run / "evaluation").rglob("report.html"))
    assert found.err.splitlines()[-1] == f"report: {printable(str(path))}"
    return read_page(path)


@pytest.fixture
def place(scenes: Made, tmp_path: Path) -> Path:
    make_run(scenes, tmp_path / "co", vocabulary=ANSWERS, seed=6)
    make_run(scenes, tmp_path / "concat", vocabulary=ANSWERS, fusion="concat", seed=0)
    return tmp_path


def test_the_numbers_are_those_of_the_scores(place: Path) -> None:
    page = reported(place / "co", "--compare", place / "concat", "--shuffle-images")
    folder = place / "co/evaluation/val"
    scores = json.loads((folder / "scores.json").read_text())
    flat = " ".join(page.text.split())
    assert f"Accuracy {scores['accuracy']['overall']:.2f} %" in flat
    assert f"Ceiling {scores['ceiling']:.2f} %" in flat
    for name, value in {**scores["accuracy"], **scores["by_question_type"]}.items():
        assert re.search(rf"{re.escape(name)} [\d,]+ {value:.2f} ", flat), name
    results = json.loads((folder / "results.json").read_text())
    data, cards = page.data["data"], page.data["data"]["cards"]
    assert data["runs"] == ["co", "concat"]  # the control has no answers to show
    assert cards["id"] == [str(entry["question_id"]) for entry in results]
    said = [data["answers"][i] for i in cards["said"][0]]
    assert said == [entry["answer"] for entry in results]
    assert said == [data["answers"][top[0]] for top in cards["top"]]
    assert 100 * np.mean(cards["scores"][0]) == pytest.approx(
        scores["accuracy"]["overall"], abs=0.006
    )
    assert "co (shuffled-images)" in page.text


def test_the_maps_are_those_of_the_forward_pass(place: Path, scenes: Made) -> None:
    page = reported(place / "co")
    cache = FeatureCache(scenes.directory)
    seen = see_split(load_run(place / "co", CPU), cache, cache.split("val"), set(range(32)))
    grid, places = page.data["data"]["grid"], page.data["data"]["map"]
    assert sorted(places) == list(range(32))
    for row, number in enumerate(places):
        entry, attended = page.data["maps"][number], seen.attended[row]
        for name, weights in (("looks", attended.to_patches), ("hears", attended.to_words)):
            assert weights is not None
            flat = weights.reshape(-1, grid[0] * grid[1])  # each token is a word here
            assert unpack(entry[name], flat.shape[1]) == pytest.approx(flat, abs=0.003)
        assert len(entry["words"]) == len(attended.to_patches)
        assert entry["whole"] == pytest.approx(seen.probabilities[row, 0], abs=1e-4)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("split", ["val", "test"])  # "test" has no answers
def test_every_fusion_has_a_report(
    scenes: Made, tmp_path: Path, fusion: Fusion, split: str
) -> None:
    make_run(scenes, tmp_path / "run", vocabulary=ANSWERS, fusion=fusion)
    page = reported(tmp_path / "run", "--split", split)
    attends = fusion in ("co-attention", "text-to-image")
    assert bool(page.data["maps"]) == attends
    assert ("has no attention" in page.text) == (not attends)
    assert ("Calibration" in page.text) == (split == "val")
    assert "The cache does not say which data set its pictures are from." in page.text
    hears = [entry["hears"] is not None for entry in page.data["maps"]]
    assert all(heard == (fusion == "co-attention") for heard in hears)


def test_nothing_is_asked_of_a_network_and_no_other_script_may_run(place: Path) -> None:
    page = reported(place / "co")
    text = next((place / "co").rglob("report.html")).read_text()
    policy = next(value for _, name, value in page.attributes if value.startswith("default-src"))
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    for kind, part in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:; ")
    links = [value for _, name, value in page.attributes if name in ("href", "src", "action")]
    assert all(value.startswith(("#", "data:")) for value in links)
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert not re.search(r"https?:", re.sub(r"http://www\.w3\.org/2000/svg", "", text))


def test_texts_of_data_are_shown_and_nothing_else(tmp_path: Path) -> None:
    rows = [Row(i % 3, i % 2, (t,) * 10, f"q{t}", f"a{t}") for i, t in enumerate(HOSTILE)]
    made = make_cache(tmp_path / "cache", {"train": rows, "val": rows})
    with CacheWriter(made.directory, load_manifest(made.directory).spec) as writer:
        table = FeatureCache(made.directory).split("val")
        ids = [f"{i}{text}" for i, text in enumerate(HOSTILE)]
        hostile = type(table)(**{**vars(table), "question_ids": ids})
        writer.set_split("val", hostile, origin={"dataset": "jsonl:</script><script>"})
    name = "<title><script>alert(1)<!-- \x1b[31m"
    plain = [Row(i % 3, i % 2, ("a",) * 10, "q", "a") for i in range(len(HOSTILE))]
    quiet = make_cache(tmp_path / "quiet", {"train": plain, "val": plain})
    make_run(quiet, tmp_path / "plain", vocabulary=Vocabulary(("a",)))
    make_run(made, tmp_path / name, vocabulary=Vocabulary(tuple(HOSTILE)))
    page, harmless = reported(tmp_path / name), reported(tmp_path / "plain")
    assert set(page.tags) == set(harmless.tags)
    assert page.tags["script"] == 4
    names = {(tag, name) for tag, name, _ in harmless.attributes}
    assert {(tag, name) for tag, name, _ in page.attributes} == names
    data = page.data["data"]
    for text in HOSTILE:
        spelled = printable(text)
        assert f"{spelled} \u00d710" in data["truths"]
        for kind, known in (("q", data["kinds"]), ("a", data["types"])):
            assert kind + spelled in known
            assert kind + spelled in page.text
    assert all(
        letter.isprintable() or letter in "\n\u200c\u200d\u00a0\u3000" for letter in page.text
    )
    assert "a{{ 7 * 7 }}{% raw %}" in page.text


def test_a_report_is_ours_and_replaces_none_of_somebody_else(place: Path) -> None:
    (place / "co/evaluation/val").mkdir(parents=True)
    theirs = place / "co/evaluation/val/report.html"
    theirs.write_text("mine")
    found = run_command("evaluate", "--run", place / "co", "--report", "--json")
    assert found.code == 3
    assert theirs.read_text() == "mine"
    assert f"warning: {theirs}: frozen-vqa did not write this file" in found.err
    assert found.json()["not_written"]
    assert "report" not in found.json()
    theirs.unlink()
    reported(place / "co")
    assert "evaluation/val/report.html" in (place / "co/.frozen-vqa").read_text().splitlines()
    reported(place / "co")  # and is written again


def test_the_same_evaluation_gives_the_same_bytes(place: Path) -> None:
    path = place / "co/evaluation/val/report.html"
    reported(place / "co")
    before = path.read_bytes()
    reported(place / "co")
    assert path.read_bytes() == before


def test_seeds_are_one_side_and_an_ensemble_is_another(place: Path, scenes: Made) -> None:
    make_run(scenes, place / "again", vocabulary=ANSWERS, seed=8)
    seeds = reported(place / "co", "--run", place / "again", "--compare", place / "concat")
    assert "co (2 seeds)" in seeds.text
    assert seeds.data["data"]["runs"] == ["co", "concat"]
    assert not (place / "again/evaluation/val/report.html").exists()
    together = reported(place / "co", "--ensemble", place / "again")
    assert "co (ensemble)" in together.text
    assert together.data["data"]["runs"] == ["co"]
