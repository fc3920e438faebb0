"""Texts from data and paths through every command: whole and harmless wherever they come out."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from frozen_vqa.cache import CacheWriter, Failure, FeatureCache, load_manifest
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.ask import asked
from frozen_vqa.pipeline.ask.asker import Asker
from frozen_vqa.pipeline.commands.tables import show_comparison, to_latex
from frozen_vqa.pipeline.pictures.contact_sheet import Tile, contact_sheet
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.system.texts import markdown, printable, valid
from tests.support.caches import Row, make_cache
from tests.support.command import Finished, error_of, run_command
from tests.support.evaluations import make_rows
from tests.support.heads import make_run
from tests.support.hostile import EVERY, PATHS, STORED, is_harmless, shows
from tests.support.pictures import noise
from tests.support.resuming import CPU

FOLDER = os.fsdecode(b"a\xff\x1b[31m\n[red]|`_") + "\u202e[@] \t"
"""A path of everything at once."""
TEXTS = list(STORED.values())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache and a run whose every text is hostile, in a folder of such a name."""
    place = tmp_path_factory.mktemp("hostile") / FOLDER
    rows = [Row(i % 3, i % 2, (text,) * 10, f"q{text}", f"a{text}") for i, text in enumerate(TEXTS)]
    made = make_cache(place / "cache", {"train": rows, "val": rows, "[red]|`": rows})
    with CacheWriter(made.directory, load_manifest(made.directory).spec) as writer:
        table = FeatureCache(made.directory).split("val")
        ids = [f"{i}{text}" for i, text in enumerate(TEXTS)]
        failures = [Failure(text, f"{text}:1", text, "val") for text in TEXTS[:3]]
        origin = {"dataset": f"jsonl:{place}"}
        writer.set_split("val", replace(table, question_ids=ids), failures=failures, origin=origin)
    make_run(made, place / "run", vocabulary=Vocabulary(tuple(TEXTS)))
    return place


def ran(*words: object) -> Finished:
    found = run_command(*words, "--json")
    assert found.code == 0, found.err
    assert is_harmless(found.err)
    assert_valid(found.out)
    return found


def assert_valid(text: str) -> None:
    """JSON that a strict reader takes: UTF-8, and no half of a surrogate pair."""
    json.dumps(json.loads(text), ensure_ascii=False).encode()


def test_inspect_and_verify(place: Path) -> None:
    found = ran("inspect-cache", place / "cache")
    for text in (str(place / "cache"), f"jsonl:{place}", "[red]|`", *TEXTS[:3]):
        assert shows(found.err, text)
    assert found.json()["cache"] == valid(str(place / "cache"))
    assert shows(ran("verify-cache", place / "cache").err, str(place / "cache"))
    failures = (place / "cache/failures.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["reason"] for line in failures.split("\n") if line] == TEXTS[:3]


def test_convert(place: Path, tmp_path: Path) -> None:
    target = tmp_path / FOLDER
    assert shows(ran("convert-cache", place / "cache", "--cache", target).err, str(target))


def test_evaluate_and_score(place: Path, tmp_path: Path) -> None:
    run, table, split = place / "run", tmp_path / FOLDER, "[red]|`"
    words = ("evaluate", "--run", run, "--split", split, "--table", f"{table}.md")
    found = ran(*words, "--save-logits")
    for text in (str(run), split, *(f"q{t}" for t in TEXTS), *(f"a{t}" for t in TEXTS)):
        assert shows(found.err, text)
    assert set(found.json()["accuracy"]) == {"overall", *(f"a{text}" for text in TEXTS)}
    folder = run / "evaluation" / split
    for name in ("results.json", "scores.json"):
        assert_valid((folder / name).read_text(encoding="utf-8"))
    page = Path(f"{table}.md").read_text(encoding="utf-8")
    assert all(f" a{markdown(text)} |" in page for text in TEXTS)
    assert len(page.splitlines()) == 5  # ours, an empty line, head, rule, row

    annotations = tmp_path / "annotations.json"
    given = json.loads((folder / "results.json").read_text())
    entries = [
        {**entry, "question_type": text, "answer_type": text, "answers": [{"answer": text}]}
        for entry, text in zip(given, TEXTS, strict=True)
    ]
    annotations.write_text(json.dumps({"annotations": entries}))
    each = tmp_path / f"{FOLDER}.json"
    words = ("score", "--predictions", folder / "results.json", "--annotations", annotations)
    found = ran(*words, "--per-question", each)
    assert all(shows(found.err, text) for text in (str(folder), str(each), *TEXTS))
    assert_valid(each.read_text(encoding="utf-8"))


def test_score_spells_what_no_file_could_hold(tmp_path: Path) -> None:
    """A results file is anybody's, so it can hold halves of surrogate pairs and NUL."""
    ids = [f"{i}{text}" for i, text in enumerate(EVERY.values())]
    predictions = [{"question_id": i, "answer": i} for i in ids]
    entries = [
        {"question_id": i, "question_type": i, "answer_type": i, "answers": [{"answer": i}]}
        for i in ids
    ]
    (tmp_path / "p.json").write_text(json.dumps(predictions))
    (tmp_path / "a.json").write_text(json.dumps({"annotations": entries}))
    words = ("score", "--predictions", tmp_path / "p.json", "--annotations", tmp_path / "a.json")
    found = ran(*words, "--per-question", tmp_path / "each.json")
    assert all(shows(found.err, text) for text in ids)
    assert set(json.loads((tmp_path / "each.json").read_text())) == set(map(valid, ids))

    (tmp_path / "p.json").write_text(json.dumps(predictions[1:] + predictions[-1:]))
    refused = run_command(*words)
    assert is_harmless(refused.err)
    assert error_of(refused)


def test_train_and_the_card(place: Path, tmp_path: Path) -> None:
    run = tmp_path / FOLDER
    head = ("--epochs", 1, "--width", 16, "--fusion", "concat", "--min-answer-count", 1)
    found = ran(
        *("train-head", "--cache", place / "cache", "--run", run, *head),
        *("--val-split", "[red]|`", "--train-split", "val"),
    )
    assert shows(found.err, str(run))
    assert "on [red]|`" in found.err
    assert load_run(run, CPU).cache == str((place / "cache").resolve())  # its path survives
    ran("evaluate", "--run", run)
    card = (run / "README.md").read_text(encoding="utf-8")
    assert is_harmless(card)
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows[:4]}) == 1
    assert f"jsonl:{markdown(place.name)}" in card
    for text in TEXTS:
        assert markdown(f"a{text}") in card
    refused = run_command("train-head", "--cache", place / "cache", "--run", run, *head)
    assert error_of(refused).startswith(f"{printable(str(run))}: there is a run in this folder")


def test_ask(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(text, 0.5) for text in TEXTS]
    monkeypatch.setattr(asked, "load_file", lambda image, *_: image)
    monkeypatch.setattr(Asker, "__init__", lambda *_: None)
    monkeypatch.setattr(Asker, "logits", lambda *_: [0])
    monkeypatch.setattr(Asker, "rank", lambda *_: answers)
    for name in ("not UTF-8", "colour", "line break", "markup"):
        text = EVERY[name]
        question = "what?" if name == "not UTF-8" else text  # which is refused
        found = ran("ask", "--run", place / "run", "--image", text, "--question", question)
        assert found.json()["question"] == valid(question)
    shown = found.err.splitlines()[: len(TEXTS)]
    assert shown == [f" 50.0 %  {printable(text)}".rstrip("\n") for text in TEXTS]


def test_a_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = make_rows()
    assert theirs.differences
    differences = [replace(theirs.differences[0], group=text) for text in EVERY.values()]
    show_comparison(ours.group, theirs.group, differences)
    found = capsys.readouterr().err
    assert is_harmless(found)
    assert all(shows(found, text) for text in EVERY.values())


def test_a_table_in_latex() -> None:
    page = to_latex([["", "b"], *([text, text] for text in EVERY.values())])
    assert is_harmless(page)
    assert page.count("\n") == 6 + len(EVERY)


def test_the_contact_sheet(tmp_path: Path) -> None:
    tiles = [Tile(noise(8, 8), text, text, [("a", text), ("b", "c")]) for text in EVERY.values()]
    contact_sheet(tiles, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size


def test_an_error_is_one_line_whatever_it_names(tmp_path: Path) -> None:
    for text in PATHS.values():
        found = run_command("inspect-cache", tmp_path / text)
        assert is_harmless(found.err)
        assert error_of(found).startswith(printable(f"{tmp_path / text}: there is no cache here"))
