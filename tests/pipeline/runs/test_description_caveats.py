"""Scores of untrained encoders say so wherever they stand."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from frozen_vqa.pipeline.encoders import tiny
from frozen_vqa.pipeline.report import page
from frozen_vqa.pipeline.runs.card import CARD
from frozen_vqa.pipeline.runs.description import UNTRAINED, caveats_of
from tests.support.command import run_command
from tests.support.tiny_commands import at_home, extract, train


@pytest.mark.parametrize(
    ("vision", "text", "said"),
    [
        ("tiny", "tiny", "both encoders are untrained"),
        ("facebook/dinov2-base", "tiny", "the text encoder is untrained"),
        ("tiny", "meta-llama/Llama-3.2-1B", "the vision encoder is untrained"),
        ("facebook/dinov2-base", "meta-llama/Llama-3.2-1B", ""),
        ("/models/tiny", "tiny-llama", ""),
    ],
)
def test_which_encoders_are_untrained(vision: str, text: str, said: str) -> None:
    found = caveats_of({"vision": {"model": vision}, "text": {"model": text}})
    assert [one.startswith(said) for one in found] == ([True] if said else [])


def test_the_name_is_that_of_the_encoders() -> None:
    assert UNTRAINED == tiny.NAME


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with at_home(tmp_path_factory):
        place = tmp_path_factory.mktemp("caveats")
        assert extract(place, "--split", "train", "--split", "val").code == 0
        yield place


def test_every_output_has_the_caveat(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "BRIEF_MAPS", 2)
    trained = train(place, "--json")
    table = place / "table.md"
    words = ("--compare", place / "run", "--table", table, "--json")
    scored = run_command("evaluate", place / "run", *words)
    assert scored.code == 0, scored.err
    (caveat,) = caveats_of({"vision": {"model": "tiny"}, "text": {"model": "tiny"}})
    scores = json.loads((place / "run" / "evaluation" / "val" / "scores.json").read_text())
    for found in (trained.json(), scored.json(), scores):
        assert found["caveats"] == [caveat]
    for shown in (trained.err, scored.err):
        assert f"warning: {caveat}" in shown
    assert caveat in " ".join(scored.err.split("sign-flip")[1].split())
    assert "untrained encoders" in table.read_text()
    assert caveat[1:] in (place / "run" / CARD).read_text()
    assert caveat[1:] in Path(trained.json()["report"]).read_text()
