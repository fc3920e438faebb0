"""Every data set in its authors' files goes through all commands; the golden files are read."""

import shutil
from pathlib import Path

import pytest

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support import tiny_commands
from tests.support.command import run_command
from tests.support.official_files import TEXTS
from tests.support.official_layouts import LAYOUTS
from tests.support.repository import DATA

_home = tiny_commands._home

GOLDEN = [
    *(("vizwiz", "val", 60), ("textvqa", "val", 60), ("gqa", "val", 29), ("gqa", "val-all", 40)),
    *(("aokvqa", "val", 48), ("okvqa", "val", 60), ("slake", "test", 40), ("pathvqa", "test", 20)),
    *(("vqa-rad", "test", 40), ("vqa-rad", "train", 6), ("tallyqa", "test", 40)),
    *(("daquar", "test", 39), ("visual7w", "val", 32), ("nlvr2", "val", 60)),
    ("scienceqa", "test", 18),  # of 24, those with a picture
]


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_data_set_goes_through_all_commands(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    for split in ("train", layout.split):
        layout.write(tmp_path / "data", split, TEXTS)
    splits = ("--split", "train", "--split", layout.split)
    checked = run_command("check-data", f"{name}:{tmp_path / 'data'}", *splits, "--json")
    assert (checked.code, checked.json()["splits"][1]["missing"]) == (0, 0)

    extracted = tiny_commands.extract(
        tmp_path, "--dataset", f"{name}:{tmp_path / 'data'}", *splits, "--json"
    )

    assert (extracted.code, extracted.json()["failures"]) == (0, [])
    cache = FeatureCache(tmp_path / "cache")
    table = cache.split(layout.split)
    assert cache.split_record(layout.split).metric == {"okvqa": "2021", "vqav2": "2021"}.get(
        name, name
    )
    row = list(table.question_ids).index(layout.second["question_id"])
    assert table.answers[row] == layout.second["answers"]
    groups = {group: column[row] for group, column in table.groups.items() if column[row]}
    assert groups == layout.second.get("groups", {})
    if "choices" in layout.second:
        assert table.choices[row] == layout.second["choices"]
        assert table.right_choices[row] == layout.second["right_choice"]
        texts = [cache.questions.texts[text] for text in table.choice_rows[row]]
        question = cache.questions.texts[table.question_rows[row]]
        assert texts == [f"{question} {choice}" for choice in table.choices[row]]
    if name == "nlvr2":
        assert [len(rows) for rows in table.more_images] == [1, 1]
    trained = tiny_commands.train(tmp_path, "--val-split", layout.split)
    assert trained.code == 0, trained.err
    evaluated = run_command("evaluate", "--run", tmp_path / "run", "--json")
    counted = len(table) if name != "gqa" else list(table.groups["balanced"]).count("yes")
    assert evaluated.json()["questions"] == counted
    without_wordnet = name == "daquar" and "WordNet" in evaluated.err
    assert evaluated.code == (3 if without_wordnet else 0), evaluated.err
    if name == "pathvqa" or without_wordnet:  # a pickle is no annotation file of `score`
        return
    annotations = layout.split_file
    if name in ("vqav2", "okvqa"):
        annotations = annotations.replace("OpenEnded_", "").replace("questions", "annotations")
    scored = run_command(
        *("score", "--annotations", tmp_path / "data" / annotations, "--json"),
        *("--predictions", evaluated.json()["results"]),
    )
    # Of ScienceQA's questions one has no picture, and the script counts it wrong.
    share = len(table) / scored.json()["questions"] if name == "scienceqa" else 1
    overall = evaluated.json()["accuracy"]["overall"]
    assert scored.json()["accuracy"]["overall"] == pytest.approx(share * overall)
    assert scored.json()["metric"] == evaluated.json()["metric"]


@pytest.mark.data
@pytest.mark.parametrize(("name", "split", "questions"), GOLDEN)
def test_the_golden_files_are_read_whole(
    name: str, split: str, questions: int, tmp_path: Path
) -> None:
    folder = DATA / "golden" / name.replace("-", "_")
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    shutil.copytree(folder, tmp_path / "data")
    source = open_source(f"{name}:{tmp_path / 'data'}")

    assert len(source.examples(split)) == questions
    assert list(source.left_out(split)) == []
