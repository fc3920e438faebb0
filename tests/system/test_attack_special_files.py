"""A pipe, a device, a socket, a folder or a terabyte of zeros holds no command up, wherever it is.

The table has every file that a command may open, because each of a stranger's folders is laid out
whole. Each file is in turn replaced, and the command then ends with a sentence or a right result.
"""

import json
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from frozen_vqa import VqaHead
from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.pipeline.config import make_config
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import ImageError, PipelineError
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.train.train import train
from tests.support import tiny_commands
from tests.support.bad_inputs_page import stay_offline
from tests.support.caches import Made
from tests.support.command import error_of, run_command
from tests.support.pictures import encoded, noise
from tests.support.resuming import CPU
from tests.support.waiting import within

_home = tiny_commands._home  # a fixture

HOLE = 1 << 40


def _hole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(HOLE)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # its name has to be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a full device": lambda path: path.symlink_to("/dev/full"),
    "a socket": _socket,
    "a folder": Path.mkdir,
    "a terabyte of zeros": _hole,
}


Use = Callable[[Path], object]
LAYOUTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Use]] = {}
"""By name: what of the stranger's folder is used, which other files may be there, and the use."""


def _uses(name: str, *parts: str, also: tuple[str, ...] = ()) -> Callable[[Use], Use]:
    def keep(use: Use) -> Use:
        LAYOUTS[name] = parts, also, use
        return use

    return keep


def _command(*words: object) -> None:
    found = run_command(*words)
    assert found.code in (0, 1, 3)
    if found.code == 1:
        error_of(found)


HEAD = ("--epochs", 1, "--width", 8, "--fusion", "concat", "--min-answer-count", 1)


@_uses("evaluate", "run", "cache", also=("run/evaluation/val/logits.safetensors",))
def _evaluate(p: Path) -> None:
    _command("evaluate", "--run", p / "run", "--cache", p / "cache", "--save-logits")


@_uses("resume", "run")
def _resume(p: Path) -> None:
    words = ("train-head", "--cache", p / "cache", *HEAD, "--run", p / "run", "--resume")
    _command(*words)


@_uses("overwrite", "run")
def _overwrite(p: Path) -> None:
    words = ("train-head", "--cache", p / "cache", *HEAD, "--run", p / "run", "--overwrite")
    _command(*words)


@_uses("publish", "run")
def _publish(p: Path) -> None:
    VqaHead.from_pretrained(p / "run").save_pretrained(p / "new")


@_uses("caches", "cache")
def _caches(p: Path) -> None:
    verified = run_command("verify-cache", p / "cache")
    assert "Traceback" not in verified.err
    _command("inspect-cache", p / "cache")
    _command("convert-cache", p / "cache", "--cache", p / "new", "--dtype", "int8")


@_uses("settings", "a.toml", "sweep.toml", "answers.txt")
def _settings(p: Path) -> None:
    train = ("train-head", "--cache", p / "cache", *HEAD[:-2])
    _command(*train, "--run", p / "new/a", "--config", p / "a.toml")
    _command(*train, "--run", p / "new/sweep", "--sweep", p / "sweep.toml")


@_uses("score", "said.json", "truth.json", "asked.json", also=("each.json",))
def _score(p: Path) -> None:
    words = ("score", "--predictions", p / "said.json", "--annotations", p / "truth.json")
    words = (*words, "--questions", p / "asked.json", "--per-question", p / "each.json")
    _command(*words)


def _read(spec: str, split: str) -> None:
    source = open_source(spec)
    for example in source.examples(split):
        with suppress(ImageError):
            load_rgb(source.picture(example.image_id))


@_uses("jsonl", "jsonl")
def _jsonl(p: Path) -> None:
    _read(f"jsonl:{p / 'jsonl'}", "val")


@_uses("vqav2", "vqav2")
def _vqav2(p: Path) -> None:
    _read(f"vqav2:{p / 'vqav2'}", "val")


CARDS = ("README.md", ".huggingface.yaml", "dataset_infos.json")


@_uses("hub", "hub", also=tuple(f"hub/{kind}/{n}" for kind in ("csv", "parquet") for n in CARDS))
def _hub(p: Path) -> None:
    faults = []
    for kind in sorted((p / "hub").iterdir()):
        try:
            _read(f"hub:{kind}", "val")
        except PipelineError as error:
            faults.append(error)
    _read(f"hub:{p / 'hub/parquet/val.parquet'}", "val")
    if faults:
        raise faults[0]


PROBED = (
    *("generation_config.json", "adapter_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "chat_template.jinja", "chat_template.json", "tokenizer.model"),
    *("processor_config.json", "model.safetensors.index.json", "vocab.json", "merges.txt"),
)


@_uses("text model", "text", also=tuple(f"text/{name}" for name in PROBED))
def _text(p: Path) -> None:
    encoder = TextEncoder(str(p / "text"))
    assert encoder.settings
    encoder.encode(encoder.tokens(["What?"]))


@_uses("vision model", "vision", also=tuple(f"vision/{name}" for name in PROBED))
def _vision(p: Path) -> None:
    encoder = ImageEncoder(str(p / "vision"))
    assert encoder.settings
    encoder.encode(np.zeros((1, 112, 112, 3), np.uint8))


@pytest.fixture(scope="module")
def stranger(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has all that commands read."""
    p = tmp_path_factory.mktemp("stranger")
    shutil.copytree(scenes.directory, p / "cache")
    (p / "cache/extractions.jsonl").write_text("{}\n")
    config = make_config({"epochs": 1, "width": 8, "fusion": "concat", "min_answer_count": 1})
    train(p / "cache", p / "run", config=config, device=CPU)
    evaluate(load_run(p / "run", CPU), FeatureCache(p / "cache"), "val", keep_logits=True)
    (p / "answers.txt").write_text("red\nblue\n")
    (p / "a.toml").write_text('answers_file = "answers.txt"\n')
    (p / "sweep.toml").write_text('answers_file = "answers.txt"\n')
    asked = {"question_id": 1, "image_id": 1, "question": "Is it?"}
    answered = {"question_id": 1, "image_id": 1, "answers": [{"answer": "red"}]}
    (p / "said.json").write_text('[{"question_id": 1, "answer": "red"}]')
    (p / "asked.json").write_text(json.dumps({"questions": [asked]}))
    (p / "truth.json").write_text(json.dumps({"annotations": [answered]}))
    picture = encoded(noise(4, 4))
    (p / "jsonl").mkdir()
    (p / "jsonl/a.png").write_bytes(picture)
    line = {"image": "a.png", "question": "What?", "answer": "red"}
    (p / "jsonl/val.jsonl").write_text(json.dumps(line))
    (p / "vqav2/val2014").mkdir(parents=True)
    (p / "vqav2/val2014/COCO_val2014_000000000001.jpg").write_bytes(picture)
    for kind, name in (
        ("questions", "OpenEnded_mscoco_val2014"),
        ("annotations", "mscoco_val2014"),
    ):
        file = p / f"vqav2/v2_{name}_{kind}.json"
        file.write_text(json.dumps({kind: [{**asked, **answered}]}))
    table = Dataset.from_dict(
        {"image": [picture], "question": ["Why?"], "answers": [["a"]], "image_id": [1]}
    )
    for kind in ("parquet", "arrow", "csv", "json"):
        (p / "hub" / kind).mkdir(parents=True)
    table.to_parquet(p / "hub/parquet/val.parquet")
    table.save_to_disk(p / "hub/saved")
    (p / "hub/saved/data-00000-of-00001.arrow").rename(p / "hub/arrow/val.arrow")
    shutil.rmtree(p / "hub/saved")
    (p / "hub/csv/val.csv").write_text("image,question,answers\na.png,Why?,a\n")
    (p / "hub/csv/a.png").write_bytes(picture)
    (p / "hub/json/val.json").write_text(json.dumps({**line, "answers": ["a"]}))
    for part in ("vision", "text"):
        shutil.copytree(tiny_checkpoint(part), p / part)
    return p


def _files(place: Path, parts: tuple[str, ...], also: tuple[str, ...]) -> list[str]:
    found = [file for part in parts for file in (place / part, *(place / part).rglob("*"))]
    return sorted({*also, *(str(f.relative_to(place)) for f in found if not f.is_dir())})


def _try(
    use: str, kind: str, name: str, stranger: Path, place: Path, patch: pytest.MonkeyPatch
) -> None:
    stay_offline(patch, place.parent / "datasets")
    patch.setattr(os, "fsync", lambda _: None)
    shutil.copytree(stranger, place, copy_function=os.link)
    (place / name).unlink(missing_ok=True)
    KINDS[kind](place / name)
    print(use, kind, name)  # of a failure
    with within(20), suppress(PipelineError, CacheError):
        LAYOUTS[use][2](place)
    shutil.rmtree(place)


@pytest.mark.parametrize("use", LAYOUTS)
def test_no_file_that_is_none_holds_a_command_up(
    use: str, stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of the files, each of another kind."""
    parts, also, _ = LAYOUTS[use]
    for number, name in enumerate(_files(stranger, parts, also)[::3]):
        kind = list(KINDS)[number % len(KINDS)]
        _try(use, kind, name, stranger, tmp_path / str(number), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use", LAYOUTS)
def test_no_file_of_any_kind_holds_a_command_up(
    use: str, kind: str, stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, also, _ = LAYOUTS[use]
    for number, name in enumerate(_files(stranger, parts, also)):
        _try(use, kind, name, stranger, tmp_path / str(number), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("use", LAYOUTS)
def test_the_folder_is_a_good_one(
    use: str, stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or each use would end before it opens what it should."""
    stay_offline(monkeypatch, tmp_path / "datasets")
    shutil.copytree(stranger, tmp_path / "place")
    LAYOUTS[use][2](tmp_path / "place")
