"""What `inspect-cache` and `verify-cache` say of a cache."""

import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

import frozen_vqa.pipeline.commands.inspect_cache
from frozen_vqa.cache import CacheError, CacheWriter, Failure, SplitTable, load_manifest
from frozen_vqa.cache.format.shards import NewQuestions
from frozen_vqa.cache.verify import verify
from frozen_vqa.pipeline.commands.inspect_cache import inspect_command, verify_command
from tests.support.caches import (
    PATCHES,
    TEXT_DIM,
    VISION_DIM,
    add_images,
    add_questions,
    make_spec,
    new_images,
)
from tests.support.hostile import shows
from tests.support.repository import ROOT

ORIGIN = {
    "dataset": "jsonl:/my data",
    "columns": {"question": "query"},
    "splits": ["train", "val"],
    "limit": 7,
    "batch_size": 3,
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    cache = tmp_path / "a [bold] cache"  # brackets are no markup
    rng = np.random.default_rng(2)
    patches = rng.random((3, PATCHES, VISION_DIM)).astype(np.float16)
    patches[1, 2, 3] = -12.5
    states = rng.random((4, TEXT_DIM)).astype(np.float16)
    split = SplitTable([1], np.array([0]), np.array([1]), [("yes",)], [""], [""])
    with CacheWriter(cache, make_spec()) as writer:
        add_images(writer, new_images(["1", "2"], patches[:2], patches[:2, 0]), origin=ORIGIN)
        bad = [Failure("9", "[9].jpg", "truncated")]
        add_images(writer, new_images(["3"], patches[2:], patches[2:, 0]), failures=bad)
        paths = [[0, 1], [0, 2, 3]]
        parents = np.array([-1, 0, 0, 2])
        add_questions(writer, NewQuestions(["a", "b"], paths, parents, np.arange(4), states))
        writer.set_split("train", split, left_out=1_234, tokens=3, origin=ORIGIN)
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
        "parts": {"vision": ["made-up-vision"], "text": ["made-up-text"]},
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
            "train": {"questions": 1, "left_out": 1234, "tokens": 3, "origin": ORIGIN},
            "val": {"questions": 1, "left_out": 0, "tokens": 0, "origin": {}},
        },
        "failures": [{"kind": "image", "id": "9", "where": "[9].jpg", "reason": "truncated"}],
        "largest": {
            "images/00000.h5": 12.5,
            "images/00001.h5": found["largest"]["images/00001.h5"],
            "questions/00000.h5": found["largest"]["questions/00000.h5"],
        },
        "bytes": sum(path.stat().st_size for path in directory.glob("*/*.h5")),
        # Two questions, each with its picture (patches and CLS), and three tokens, in float16.
        "naive_bytes": 2 * (PATCHES + 1) * VISION_DIM * 2 + 3 * TEXT_DIM * 2,
        "extractions": [],
    }
    assert 0 < found["largest"]["images/00001.h5"] <= 1
    output = lines(capsys)
    for words in ("made-up-vision", "3 pictures, 2 x 3 patches", "2 distinct, 4 prefixes",
                  "1,234 left out (0 unusable, 1,234 without a picture), from jsonl:/my data",
                  "to 12.5 by shard",
                  "1 pictures, 0 questions", "[9].jpg: truncated"):  # fmt: skip
        assert shows(output, words)


def test_an_empty_cache_can_be_looked_at(tmp_path: Path) -> None:
    with CacheWriter(tmp_path, make_spec()) as writer:
        add_images(
            writer, new_images([], np.empty(0), np.empty(0)), failures=[Failure("1", "x", "gone")]
        )

    found = inspect_command(tmp_path)
    assert (found["images"]["rows"], found["largest"], found["splits"]) == (0, {}, {})
    assert verify_command(tmp_path)["damaged"] == []


def test_a_sound_cache_is_said_to_be_sound(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = verify_command(directory)
    assert (found["files"], found["damaged"]) == (5, [])
    assert found["bytes"] == sum(path.stat().st_size for path in directory.glob("*/*.h5"))
    assert f"{directory}: 5 files" in lines(capsys)


def test_every_damaged_file_is_named_with_what_mends_it(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = directory / "images" / "00000.h5"
    with h5py.File(shard, "r+") as file:
        for name, row in (("patch_embeddings", 1), ("cls", 0)):
            file[name][row] = file[name][row] + 1
    (directory / "splits" / "val.h5").unlink()
    (directory / "failures.jsonl").write_text("{}")

    found = verify_command(directory)
    shown = lines(capsys)
    assert found["files"] == 5
    rows, gone, listed = found["damaged"]
    command = (
        f"frozen-vqa extract-features --dataset 'jsonl:/my data' --column question=query --limit 7 "
        f"--batch-size 3 --split train --split val --cache "
        f"'{directory}' --vision-model made-up-vision --image-size 28 --text-model made-up-text "
        f"--text-layer -1 --dtype float16 --rebuild images/00000.h5"
    )
    assert rows == {
        "file": "images/00000.h5",
        "reason": "2 rows are not what was written",
        "rows": [0, 1],
        "names": ["1", "2"],
        "rebuild": command,
    }
    assert (gone["file"], gone["reason"]) == ("splits/val.h5", "the file is missing")
    assert "--split val --cache" in gone["rebuild"]
    assert "--rebuild" not in gone["rebuild"]  # the extraction itself writes splits again
    assert listed["file"] == "failures.jsonl"
    for words in (f"{shard}: 2 rows", "names: 1, 2", f"to make it again: {command}"):
        assert words in shown
    assert "all sound" not in shown


def test_what_a_cache_of_somebody_says_is_not_obeyed_by_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with CacheWriter(tmp_path, make_spec(vision={"model": "a\x1b[2Jb"})) as writer:
        failure = Failure("1", "\x1b]0;title\x07", "line\rover", "")
        add_images(writer, new_images([], np.empty(0), np.empty(0)), failures=[failure])
    inspect_command(tmp_path)

    shown = lines(capsys)
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert "a\\x1b[2Jb" in shown
    assert "line\\rover" in shown


def test_an_extraction_that_goes_on_meanwhile_is_no_damage(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A split is replaced and its old file removed after verify has read the manifest."""
    old = load_manifest(directory)
    split = SplitTable([1, 2], np.array([0, 1]), np.array([1, 0]), [(), ()], [""] * 2, [""] * 2)
    with CacheWriter(directory, make_spec()) as writer:
        writer.set_split("val", split)
    assert not (directory / "splits" / "val.h5").exists()
    answers = iter([old])
    monkeypatch.setattr(
        frozen_vqa.pipeline.commands.inspect_cache,
        "load_manifest",
        lambda path: next(answers, load_manifest(path)),
    )

    assert verify_command(directory)["damaged"] == []


def test_ctrl_c_does_not_wait_for_all_files(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def slow(*words: object) -> None:
        asked.append(words)
        stop = words[-1]
        assert isinstance(stop, threading.Event)
        if len(asked) > 1:
            assert stop.wait(60), "nobody said stop"

    monkeypatch.setattr("frozen_vqa.cache.verify.check_file", slow)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    found = verify(directory, load_manifest(directory))
    next(found)
    found.close()  # what an exception in the loop does
    assert len(asked) <= 2  # of five files


@pytest.mark.parametrize("command", [inspect_command, verify_command])
def test_no_cache_is_one_sentence(command: object, tmp_path: Path) -> None:
    assert callable(command)
    with pytest.raises(CacheError, match="there is no cache here"):
        command(tmp_path)


def test_torch_is_not_needed() -> None:
    module = "frozen_vqa.pipeline.commands.inspect_cache"
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
