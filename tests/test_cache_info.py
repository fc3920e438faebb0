"""What `inspect-cache` and `verify-cache` say of a cache."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from caches import PATCHES, TEXT_DIM, VISION_DIM, make_spec

from cache import CacheError, CacheWriter, Failure, SplitTable
from cache.writer import NewQuestions
from pipeline.cache_info import inspect_command, verify_command

ROOT = Path(__file__).parents[1]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    cache = tmp_path / "a [bold] cache"  # brackets are no markup
    rng = np.random.default_rng(2)
    patches = rng.random((3, PATCHES, VISION_DIM)).astype(np.float16)
    patches[1, 2, 3] = -12.5
    states = rng.random((4, TEXT_DIM)).astype(np.float16)
    split = SplitTable([1], np.array([0]), np.array([1]), [("yes",)], [""], [""])
    with CacheWriter(cache, make_spec()) as writer:
        writer.add_images(["1", "2"], patches[:2], patches[:2, 0])
        bad = [Failure("9", "[9].jpg", "truncated")]
        writer.add_images(["3"], patches[2:], patches[2:, 0], failures=bad)
        paths = [[0, 1], [0, 2, 3]]
        parents = np.array([-1, 0, 0, 2])
        writer.add_questions(NewQuestions(["a", "b"], paths, parents, np.arange(4), states))
        writer.set_split("train", split, left_out=1_234)
        writer.set_split("val", split, left_out=0)
    return cache


def lines(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_what_a_cache_holds(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = inspect_command(directory)

    assert found == {
        "cache": str(directory),
        "settings": {
            "vision model": "made-up-vision",
            "vision image size": 28,
            "text model": "made-up-text",
            "text layer": -1,
            "dtype": "float16",
        },
        "images": {"rows": 3, "shards": 2},
        "questions": {"distinct": 2, "prefixes": 4, "shards": 1},
        "splits": {
            "train": {"questions": 1, "left_out": 1234},
            "val": {"questions": 1, "left_out": 0},
        },
        "failures": [{"image_id": "9", "where": "[9].jpg", "reason": "truncated"}],
        "largest": 12.5,
        "bytes": sum(path.stat().st_size for path in directory.glob("*/*.h5")),
    }
    shown = " ".join(lines(capsys).split())
    for words in ("made-up-vision", "3 pictures, 2 x 3 patches", "2 distinct, 4 prefixes",
                  "1,234 left out", "12.5"):  # fmt: skip
        assert words in shown


def test_an_empty_cache_can_be_looked_at(tmp_path: Path) -> None:
    with CacheWriter(tmp_path, make_spec()) as writer:
        writer.add_images([], np.empty(0), np.empty(0), failures=[Failure("1", "x", "gone")])

    found = inspect_command(tmp_path)
    assert (found["images"]["rows"], found["largest"], found["splits"]) == (0, 0.0, {})
    assert verify_command(tmp_path)["damaged"] == []


def test_a_sound_cache_is_said_to_be_sound(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify_command(directory) == {"cache": str(directory), "files": 5, "damaged": []}
    assert f"{directory}: 5 files" in lines(capsys)


def test_every_damaged_file_is_named(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = directory / "images" / "00001.h5"
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)
    (directory / "splits" / "val.h5").unlink()

    found = verify_command(directory)
    shown = lines(capsys)
    assert found["files"] == 5
    assert [problem.split(": ")[0] for problem in found["damaged"]] == [
        str(shard),
        str(directory / "splits" / "val.h5"),
    ]
    assert "digest differs" in found["damaged"][0]
    assert "is missing" in found["damaged"][1]
    assert all(problem in shown for problem in found["damaged"])
    assert "all sound" not in shown


@pytest.mark.parametrize("command", [inspect_command, verify_command])
def test_no_cache_is_one_sentence(command: object, tmp_path: Path) -> None:
    assert callable(command)
    with pytest.raises(CacheError, match="there is no cache here"):
        command(tmp_path)


def test_torch_is_not_needed() -> None:
    code = "import sys, pipeline.cache_info; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
