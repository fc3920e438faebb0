"""Answers from a file: what may stand in it, and where a setting finds it."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import frozen_vqa.pipeline.answers.vocabulary
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary, load_vocabulary, read_vocabulary
from frozen_vqa.pipeline.config import TrainConfig, load_config
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.metrics.vqa_accuracy import normalise
from frozen_vqa.pipeline.train.sweep_config import load_sweep
from tests.support.answer_files import written

storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@pytest.mark.parametrize(
    ("content", "answers"),
    [
        ("red\nblue\n", ("red", "blue")),
        ("blue\nred", ("blue", "red")),
        ("\ufefft-shirt\r\n größe \r\n2\r\n", ("t-shirt", "größe", "2")),
        ("a dog\rno", ("a dog", "no")),
        ("[sic", None),
        ('["red", " Blue "]', ("red", " Blue ")),
        ('\n [\n"a\\nb"]\n', ("a\nb",)),
        ('"red"\n7\n', ('"red"', "7")),
    ],
    ids=repr,
)
def test_lines_or_a_list(content: str, answers: tuple[str, ...] | None, tmp_path: Path) -> None:
    """In the order of the file, as they are written there; what begins with [ is JSON."""
    path = written(tmp_path, content)
    if answers is None:
        with pytest.raises(ConfigError, match="line 1, column 2"):
            read_vocabulary(path)
    else:
        assert read_vocabulary(path) == Vocabulary(answers)


@settings(max_examples=30)
@given(answers=st.lists(storable, min_size=1, max_size=6, unique_by=normalise))
def test_what_a_run_keeps_is_such_a_file(
    answers: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "answers.json"
    Vocabulary(tuple(answers)).save(path)
    assert read_vocabulary(path) == load_vocabulary(path) == Vocabulary(tuple(answers))


NEEDED = "give one answer a line, or a JSON list of texts"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", f"there is no answer in it; {NEEDED}"),
        ("[]", f"there is no answer in it; {NEEDED}"),
        ("\n", "line 1 is empty; remove it"),
        ("red\n \t\nblue\n", "line 2 is empty; remove it"),
        ("red\nblue\n\n", "line 3 is empty; remove it"),
        (
            "two\nred\n2\n",
            "line 3 ('2') is the same answer as line 1 ('two') to the metric; keep one of them",
        ),
        ("red\nred\n", "line 2 ('red') is the same answer as line 1 ('red')"),
        ('["a dog", "Dog!"]', "entry 2 ('Dog!') is the same answer as entry 1 ('a dog')"),
        (b"red\nbl\xffue\n", "line 2 is not UTF-8; save the file as UTF-8"),
        ("red\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("red\nbl\0ue\n", "line 2 'bl\\x00ue' holds a NUL or half of a surrogate pair"),
        ('["red", "\\ud800"]', "entry 2 '\\ud800' holds a NUL or half of a surrogate pair"),
        ('["red", 7]', "entry 2 is 7; text is needed"),
        ('{"red": 0}', f"line 1 begins an object; {NEEDED}"),
        ('["red",\n"blue"', "line 2, column 7: Expecting ',' delimiter; give one answer a"),
        ("[NaN]", "NaN stands where a value is needed"),
    ],
    ids=repr,
)
def test_what_is_refused(content: str | bytes, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ConfigError, match=re.escape(f"{path}: {said}")) as refused:
        read_vocabulary(path)
    assert "\n" not in str(refused.value)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "not a regular file")):
        with pytest.raises(ConfigError, match=rf"{path}: cannot be read \({reason}"):
            read_vocabulary(path)
    monkeypatch.setattr(frozen_vqa.pipeline.answers.vocabulary, "MOST_BYTES", 8)
    assert len(read_vocabulary(written(tmp_path, "red\nblue"))) == 2
    with pytest.raises(ConfigError, match=r"answers\.txt: cannot be read \(more than 8 bytes\)"):
        read_vocabulary(written(tmp_path, "red\nblue\n"))


def test_a_path_in_a_file_begins_at_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at the command line where the command is given; one that is absolute nowhere else."""
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    file = Path("there/head.toml")
    file.write_text('answers_file = "a.txt"\nmin_answer_count = 9\n')
    assert load_config(file, {}).answers_file == "there/a.txt"
    assert load_config(file, {"answers_file": "b.txt"}).answers_file == "b.txt"
    assert load_config(file, {"answers_file": ""}).answers_file == ""
    sweep = 'answers_file = ["a.txt"]\n[[head]]\n[[head]]\nlr = 0.1\n'
    Path("there/sweep.toml").write_text(sweep)
    for flag, expected in ((None, "there/a.txt"), ("b.txt", "b.txt")):
        heads = load_sweep(Path("there/sweep.toml"), {"answers_file": flag})
        assert [head.answers_file for head in heads.values()] == [expected] * 2
    file.write_text('answers_file = "/a.txt"\n')
    assert load_config(file, {}).answers_file == "/a.txt"
    file.write_text("answers_file = 3\n")
    with pytest.raises(ConfigError, match="answers_file is 3; a text is needed"):
        load_config(file, {})


def test_heads_of_a_sweep_have_the_same_answers(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text('[[head]]\nanswers_file = "a.txt"\n[[head]]\nname = "b"\n')
    with pytest.raises(ConfigError, match=r"answers_file is '.*a\.txt' for one head and '' for"):
        load_sweep(path, {})


def test_a_count_beside_it_is_refused(tmp_path: Path) -> None:
    """Where it wins over a file; a run's own file has every setting."""
    path = tmp_path / "head.toml"
    path.write_text(TrainConfig(answers_file="a.txt", min_answer_count=3).to_toml())
    assert load_config(path, {}).min_answer_count == 3
    said = r"min_answer_count is given, and the answers are those of .*a\.txt; leave one"
    for load in (load_config, load_sweep):
        with pytest.raises(ConfigError, match=said):
            load(path, {"min_answer_count": 3})
