"""The readers of ours, each with a valid file, and with what makes its digests anew."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.fuzz.files import (
    Mutate,
    change_json_line,
    change_setting,
    change_text,
    column,
    plain_text,
    raw,
    raw_state,
    recorded,
    sealed_bytes,
    sealed_settings,
    staged_record,
    state,
    structured,
    tensors,
)
from benchmarks.torture.flips import everything
from frozen_vqa.cache.disk.staging import read_staged
from frozen_vqa.pipeline.answers.vocabulary import load_vocabulary, read_vocabulary
from frozen_vqa.pipeline.config import load_config, load_run_config
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.evaluate.logits import load_logits
from frozen_vqa.pipeline.extract.throughput import read_throughputs
from frozen_vqa.pipeline.metrics.score import score_files
from frozen_vqa.pipeline.runs.card import render_card
from frozen_vqa.pipeline.runs.folder import own_run
from frozen_vqa.pipeline.runs.run import load_run, read_outcome
from frozen_vqa.pipeline.runs.state import recover_state
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.train.sweep_config import load_sweep
from tests.support.forged import edit_sealed
from tests.support.forged_cache_files import edit_manifest
from tests.support.forged_run_files import edit_meaning
from tests.support.forged_values import edit_plain

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Reader:
    """One file: the parts of the valid folder it needs, who reads it, and how it is changed."""

    parts: Sequence[str]
    file: str
    read: Callable[[Path], Any]
    mutations: Sequence[Mutate] = field(default_factory=tuple)
    sealed: bool = False  # its digest tells every change of its bytes that is not sealed anew


def weights(run: Path) -> Any:
    """Load a run, and return what decides its answers."""
    found = load_run(run, CPU)
    return [found.config, found.dtype, found.vocabulary.answers, found.model.state_dict()]


def answered(run: Path) -> Any:
    """Return what the outcome and the card of a run say."""
    outcome = read_outcome(run)
    return [outcome, render_card(run, outcome) if outcome else ""]


def examples(kind: str, path: Path) -> Any:
    """Return the questions of a data set, and what is left out."""
    source = open_source(f"{kind}:{path}")
    return [source.examples("train"), source.left_out("train")]


def sized(path: Path) -> Any:
    """Return the size of a picture."""
    return load_rgb(path).size


def encoded_picture(folder: Path) -> Any:
    """Return the features of a picture by a model of this folder."""
    encoder = ImageEncoder(str(folder), device=CPU)
    picture = Image.new("RGB", (40, 30), "red")
    with torch.inference_mode():
        return encoder.encode(np.asarray(encoder.pixels(picture))[np.newaxis])


def encoded_text(folder: Path) -> Any:
    """Return the features of a question by a model of this folder."""
    encoder = TextEncoder(str(folder), device=CPU)
    with torch.inference_mode():
        return encoder.encode(encoder.tokens(["What colour is it?"]))


def scored(data: Path) -> Any:
    """Return the official scores of predictions."""
    found = score_files(
        predictions=data / "results.json",
        annotations=data / "given.json",
        questions=None,
        metric=None,
    )
    return [found[0].to_json(), found[1]]


PLAIN = (raw, partial(structured, edit_plain))
LINES = (raw, partial(plain_text, change_json_line))
RUN = ("cache", "finished")
CHUNK = "extracted/cache/images/staged-0123456789abcdef.json"

READERS: dict[str, Reader] = {
    "manifest": Reader(
        ("cache",),
        "cache/cache.json",
        lambda at: everything(at / "cache"),
        (raw, partial(structured, edit_manifest)),
        sealed=True,
    ),
    **{
        name: Reader(
            ("cache",), f"cache/{file}", lambda at: everything(at / "cache"), (raw, recorded), True
        )
        for name, file in {
            "shard of pictures": "images/00000.h5",
            "shard of questions": "questions/00000.h5",
            "split": "splits/val.h5",
        }.items()
    },
    "staged chunk": Reader(
        ("extracted",),
        CHUNK,
        lambda at: read_staged(at / "extracted/cache", "images", "0123456789abcdef"),
        (staged_record,),
    ),
    "extractions.jsonl": Reader(
        ("extracted",),
        "extracted/cache/extractions.jsonl",
        lambda at: read_throughputs(at / "extracted/cache", 5),
        LINES,
    ),
    "weights": Reader(
        RUN, "finished/model.safetensors", lambda at: weights(at / "finished"), (raw, tensors), True
    ),
    "state": Reader(
        ("stopped",),
        "stopped/state/state.safetensors",
        lambda at: vars(recover_state(at / "stopped")),
        (raw_state, state),
        True,
    ),
    "config.json": Reader(
        RUN,
        "finished/config.json",
        lambda at: weights(at / "finished"),
        (raw, sealed_bytes, partial(structured, edit_meaning)),
    ),
    "config.toml": Reader(
        RUN,
        "finished/config.toml",
        lambda at: [load_run_config(at / "finished"), weights(at / "finished")],
        (sealed_settings, sealed_bytes),
    ),
    "answers.json": Reader(
        RUN,
        "finished/answers.json",
        lambda at: [load_vocabulary(at / "finished/answers.json"), weights(at / "finished")],
        (sealed_bytes, partial(structured, edit_meaning)),
    ),
    "run.json": Reader(
        RUN,
        "finished/run.json",
        lambda at: [answered(at / "finished"), weights(at / "finished")],
        (raw, partial(structured, edit_sealed)),
        True,
    ),
    "scores.json": Reader(
        RUN,
        "finished/evaluation/val/scores.json",
        lambda at: answered(at / "finished"),
        (raw, partial(structured, edit_sealed)),
    ),
    "logits": Reader(
        RUN,
        "finished/evaluation/val/logits.safetensors",
        lambda at: load_logits(at / "finished/evaluation/val/logits.safetensors"),
        (raw, tensors),
        True,
    ),
    "mark of a folder": Reader(
        RUN,
        "finished/.frozen-vqa",
        lambda at: own_run(at / "finished").names(),
        (raw, partial(plain_text, change_text)),
    ),
    "settings": Reader(
        ("config.toml",),
        "config.toml",
        lambda at: load_config(at / "config.toml", {}),
        (raw, partial(plain_text, change_setting)),
    ),
    "sweep": Reader(
        ("sweep.toml",),
        "sweep.toml",
        lambda at: load_sweep(at / "sweep.toml", {}),
        (raw, partial(plain_text, change_setting)),
    ),
    "file of answers": Reader(
        ("answers.txt",),
        "answers.txt",
        lambda at: read_vocabulary(at / "answers.txt"),
        (raw, partial(plain_text, change_text)),
    ),
    "jsonl": Reader(
        ("data",), "data/train.jsonl", lambda at: examples("jsonl", at / "data"), LINES
    ),
    "VQAv2 questions": Reader(
        ("vqav2",),
        "vqav2/v2_OpenEnded_mscoco_train2014_questions.json",
        lambda at: examples("vqav2", at / "vqav2"),
        PLAIN,
    ),
    "VQAv2 annotations": Reader(
        ("vqav2",),
        "vqav2/v2_mscoco_train2014_annotations.json",
        lambda at: examples("vqav2", at / "vqav2"),
        PLAIN,
    ),
    "parquet": Reader(
        ("hub",), "hub/train.parquet", lambda at: examples("hub", at / "hub"), (raw, column)
    ),
    "csv": Reader(
        ("csv",),
        "csv/train.csv",
        lambda at: examples("hub", at / "csv"),
        (raw, partial(plain_text, change_text)),
    ),
    "predictions": Reader(("data",), "data/results.json", lambda at: scored(at / "data"), PLAIN),
    "annotations": Reader(("data",), "data/given.json", lambda at: scored(at / "data"), PLAIN),
    **{
        f"picture in {form}": Reader(
            ("pictures",),
            f"pictures/a.{form}",
            lambda at, form=form: sized(at / f"pictures/a.{form}"),  # type: ignore[misc]
            (raw,),
        )
        for form in ("png", "jpeg", "gif", "tiff", "webp", "bmp", "ppm")
    },
    **{
        f"vision {file}": Reader(
            ("vision",), f"vision/{file}", lambda at: encoded_picture(at / "vision"), PLAIN
        )
        for file in ("config.json", "preprocessor_config.json")
    },
    **{
        f"text {file}": Reader(
            ("text",), f"text/{file}", lambda at: encoded_text(at / "text"), PLAIN
        )
        for file in ("config.json", "tokenizer.json", "tokenizer_config.json")
    },
}
