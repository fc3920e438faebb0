"""What validates a training if the user names nothing: "val", what is like it, or a part."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.caches import Row, make_cache
from tests.support.command import Finished, run_command

ROWS = [Row(image, question, ("red",)) for image in range(10) for question in range(2)]


def trained(place: Path, splits: Sequence[str], *words: object) -> Finished:
    made = make_cache(place / "cache", dict.fromkeys(splits, ROWS))
    sizes = ("--width", 8, "--epochs", 1, "--min-answer-count", 1, "--no-report")
    return run_command("train-head", made.directory, "--run", place / "run", *sizes, *words)


@pytest.mark.parametrize(
    ("splits", "words", "validates", "said"),
    [
        (("train", "val"), (), "val", False),
        (("train", "validation", "test"), (), "validation", False),
        (("train",), (), "train@0.1", True),
        (("train", "test"), (), "train@0.1", True),
        (("train",), ("--val-fraction", 0.1), "train@0.1", False),
        (("train",), ("--val-fraction", 0.5), "train@0.5", False),
        (("train", "test"), ("--val-split", "test"), "test", False),
    ],
)
def test_what_validates(
    splits: Sequence[str], words: Sequence[object], validates: str, said: bool, tmp_path: Path
) -> None:
    found = trained(tmp_path, splits, *words)
    assert found.code == 0, found.err
    assert f" on {validates}, " in found.err
    note = f"{tmp_path / 'cache'}: no split 'val', so 10 % of the pictures of 'train' are held out"
    assert (note in found.err) == said


def test_a_split_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    found = trained(tmp_path, ["train"], "--val-split", "val")
    assert (found.code, "there is no split 'val' to choose" in found.err) == (1, True)
    assert not (tmp_path / "run").exists()
