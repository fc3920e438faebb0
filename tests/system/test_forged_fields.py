"""Every field of every file of ours, with every wrong value: a right result, or one sentence.

The digests fit, as those of a stranger do. Model folders are in
`tests/pipeline/encoders/test_shape.py`.
"""

import json
import os
import shutil
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache.format.manifest import _digest_body
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.pretrained import VqaHead
from frozen_vqa.pipeline.runs.sealed import read_sealed, seal_json
from frozen_vqa.pipeline.runs.sealed import seal as seal_tensors
from frozen_vqa.pipeline.runs.weights import CURRENT
from tests.support.attack import Attacked, Taken
from tests.support.command import run_command
from tests.support.heads import seal
from tests.support.tiny_commands import at_home, train
from tests.support.waiting import within
from tests.support.wrong_values import forgeries

Write = Callable[[Path, Any], object]


def _manifest(path: Path, body: Any) -> None:
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if name != "xxh3"}
        body["xxh3"] = _digest_body(body)
    path.write_text(json.dumps(body))


def _sealed(path: Path, body: Any) -> None:
    if isinstance(body, dict):
        path.write_bytes(seal_json({k: v for k, v in body.items() if k != "xxh3"}))
    else:
        path.write_text(json.dumps(body))


def _meaning(path: Path, body: Any) -> None:
    path.write_text(json.dumps(body))
    seal(path.parent)


def _toml(path: Path, body: Any) -> None:
    body = body if isinstance(body, dict) else {"x": body}
    # JSON's spelling of texts, numbers and lists is TOML's too; a file that is no TOML is one more.
    path.write_text("".join(f"{json.dumps(k)} = {json.dumps(v)}\n" for k, v in body.items()))
    seal(path.parent)


def _plain(path: Path, body: Any) -> None:
    path.write_text(json.dumps(body) + "\n")


def _record(path: Path, body: Any) -> None:
    tensors, _ = read_sealed(path, "weights")
    path.write_bytes(seal_tensors(tensors, body))


def _read_record(path: Path) -> Any:
    return read_sealed(path, "weights")[1]


def _read_json(path: Path) -> Any:
    lines = path.read_text().splitlines()
    return json.loads(lines[0] if path.suffix == ".jsonl" else "".join(lines))


def _read_toml(path: Path) -> Any:
    return tomllib.loads(path.read_text())


STATE = "run/state/state.safetensors"
EVALUATE, RESUME = "evaluate --run run --cache cache", "train-head --cache cache --run run --resume"
ASK = "ask --run run --image a.png --question What? --json"
INSPECT = ("inspect-cache cache", "inspect-cache cache --json")
FILES: dict[str, tuple[Callable[[Path], Any], Write, int, Sequence[str]]] = {
    "cache/cache.json": (
        *(_read_json, _manifest, 601),
        (*INSPECT, "verify-cache cache", "convert-cache cache --cache new", EVALUATE),
    ),
    "cache/extractions.jsonl": (_read_json, _plain, 53, INSPECT),
    "run/config.json": (_read_json, _meaning, 151, (EVALUATE, ASK, RESUME)),
    "run/config.toml": (_read_toml, _toml, 151, (EVALUATE, RESUME)),
    "run/answers.json": (_read_json, _meaning, 11, (EVALUATE,)),
    "run/run.json": (_read_json, _sealed, 67, (EVALUATE, RESUME, "evaluate --run run", "publish")),
    "run/environment.json": (_read_json, _plain, 199, (EVALUATE,)),
    "run/evaluation/val/scores.json": (_read_json, _sealed, 97, ("evaluate --run run",)),
    f"run/{CURRENT}": (_read_record, _record, 29, (EVALUATE,)),
    STATE: (_read_record, _record, 307, (RESUME,)),
}
"""How a file is read and forged, one of how many forgeries is tried at once, and who reads it."""


@pytest.fixture(scope="module")
def stopped(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like `place`, whose run was stopped in its training."""
    stopped = tmp_path_factory.mktemp("stopped")
    shutil.copytree(place / "cache", stopped / "cache")
    with at_home(tmp_path_factory), pytest.MonkeyPatch.context() as patch:
        patch.setattr("frozen_vqa.pipeline.train.loop.finish_run", lambda *_: None)
        assert train(stopped).code == 0
    return stopped


def _run(words: str) -> None:
    if words == "publish":
        with suppress(RunError):
            VqaHead.from_pretrained("run").save_pretrained("published")
        return
    said = words.split()
    Attacked(said, run_command(*said), (), (), Taken()).require_harmless()


@pytest.mark.parametrize("all_of_them", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FILES)
def test_a_wrong_value_is_one_sentence_or_does_no_harm(
    name: str,
    all_of_them: bool,
    place: Path,
    stopped: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.chdir(tmp_path)
    source = stopped if name == STATE else place
    for part in ("cache", "run"):
        shutil.copytree(source / part, part)
    shutil.copy(place / "data" / "a.png", "a.png")
    read, write, every, commands = FILES[name]
    if "scores.json" in name:
        assert run_command(*EVALUATE.split()).code == 0
    kept, body = tmp_path / "kept", read(Path(name))
    shutil.copytree("run", kept)
    whole, tried = Path(name).read_bytes(), 0
    for label, forged in forgeries(body, 1 if all_of_them else every):
        try:
            write(Path(name), forged)
        except (ValueError, TypeError, RecursionError):  # it cannot be written at all
            forged = None
        for words in commands if forged is not None else ():
            try:
                with within(20), at_home(tmp_path_factory):
                    _run(words)
            except BaseException as error:
                error.add_note(f"{name}, {label}: {words}")
                raise
            tried += 1
        for folder in ("run", "new", "published"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, "run")
        Path(name).write_bytes(whole)
    assert tried > 1
