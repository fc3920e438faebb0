"""Your own data in five minutes: each usual form reaches a trained head and a score."""

from pathlib import Path

import pytest

from tests.support.command import error_of, run_command
from tests.support.own_data import OWN
from tests.support.tiny_commands import TINY, _home, train  # noqa: F401


@pytest.mark.parametrize("name", OWN)
def test_own_data_reach_a_score_with_at_most_one_message(name: str, tmp_path: Path) -> None:
    (folder := tmp_path / "data").mkdir()
    data = OWN[name](folder)
    splits = [word for split in data.splits for word in ("--split", split)]
    words = ["--dataset", data.spec, *splits, "--cache", tmp_path / "cache", *TINY]

    messages = 0
    extracted = run_command("extract-features", *words)
    if data.message:
        assert data.message in error_of(extracted)
        assert not (tmp_path / "cache" / "cache.json").exists()
        extracted, messages = run_command("extract-features", *words, *data.told), 1
    assert extracted.code == 0, extracted.err

    options = () if "val" in data.splits else ("--val-fraction", 0.3)
    trained = train(tmp_path, *options, "--json")
    assert trained.code == 0, trained.err
    scored = run_command("evaluate", "--run", tmp_path / "run", "--json")

    assert scored.code == 0, scored.err
    found = scored.json()
    assert found["questions"] == (9 if "val" in data.splits else 6)
    assert not found["trained_on"]
    assert messages <= 1
