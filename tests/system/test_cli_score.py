"""`score` at the command line: files in the official form, and those that cannot be scored."""

import json
import re
from pathlib import Path

import pytest

from tests.support.command import error_of, run_command
from tests.support.tiny_commands import _home  # noqa: F401  (a fixture)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--predictions", "none.json"), r"none\.json: there is no such file; .*"),
        (("--annotations", "none.json"), r"none\.json: there is no such file; .*"),
        (("--predictions", "cut.json"), r"cut\.json: line 1, column .* It may be cut short: .*"),
        (
            ("--predictions", "few.json"),
            r"few\.json against a\.json: of 2 questions 1 are missing .*",
        ),
    ],
)
def test_files_that_cannot_be_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_official(tmp_path)
    Path("cut.json").write_text('[{"question_id": 1, ')
    Path("few.json").write_text('[{"question_id": 1, "answer": "yes"}]')
    found = run_command(
        *("score", "--predictions", "p.json", "--annotations", "a.json", *words, "--json")
    )
    assert re.fullmatch(said, error_of(found))


def write_official(folder: Path) -> None:
    given = {
        1: ("yes/no", "is it", ["yes"] * 8 + ["no"] * 2),
        2: ("number", "how many", ["2"] * 10),
    }
    annotations = [
        {
            "question_id": question_id,
            "answer_type": answer_type,
            "question_type": question_type,
            "answers": [{"answer": answer} for answer in answers],
        }
        for question_id, (answer_type, question_type, answers) in given.items()
    ]
    predictions = [{"question_id": 2, "answer": "2"}, {"question_id": 1, "answer": "no"}]
    (folder / "a.json").write_text(json.dumps({"annotations": annotations}))
    (folder / "p.json").write_text(json.dumps(predictions))


def test_score(tmp_path: Path) -> None:
    """Two of ten said "no": for them one other did, for the rest two, of the three needed."""
    write_official(tmp_path)
    words = ("score", "--predictions", tmp_path / "p.json", "--annotations", tmp_path / "a.json")
    found = run_command(*words, "--per-question", tmp_path / "each.json", "--json")
    assert found.code == 0
    assert found.json() == {
        "accuracy": {"overall": 80.0, "yes/no": 60.0, "number": 100.0},
        "by_question_type": {"is it": 60.0, "how many": 100.0},
        "groups": {
            "answer_type": {
                "yes/no": {"accuracy": 60.0, "questions": 1},
                "number": {"accuracy": 100.0, "questions": 1},
            },
            "question_type": {
                "is it": {"accuracy": 60.0, "questions": 1},
                "how many": {"accuracy": 100.0, "questions": 1},
            },
        },
        "questions": 2,
        "metric": "2021",
    }
    assert json.loads((tmp_path / "each.json").read_text()) == {"1": 60.0, "2": 100.0}
    assert str(tmp_path / "each.json") in found.err
    plain = run_command(*words)
    assert (plain.code, plain.out) == (0, "")
    assert "overall (2 questions)" in plain.err
    assert "80.00" in plain.err
