"""The readers of ours, each with a valid file, and with what makes its digests anew."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fuzz.files import (
    Mutate,
    arrow,
    change_json_line,
    change_setting,
    change_text,
    column,
    front_matter,
    indexed,
    listed,
    model_tensors,
    packed,
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
from benchmarks.fuzz.reading import (
    answered,
    curve,
    encoded_picture,
    encoded_text,
    environments,
    examples,
    scored,
    sized,
    weights,
)
from benchmarks.torture.flips import everything
from frozen_vqa.cache.disk.lock import read_holder
from frozen_vqa.cache.disk.staging import read_staged
from frozen_vqa.cache.writer import own_cache
from frozen_vqa.pipeline.answers.vocabulary import load_vocabulary, read_vocabulary
from frozen_vqa.pipeline.config import load_config, load_run_config
from frozen_vqa.pipeline.evaluate.logits import load_logits
from frozen_vqa.pipeline.extract.speed.throughput import read_throughputs
from frozen_vqa.pipeline.runs.card import owns_card
from frozen_vqa.pipeline.runs.folder import own_run
from frozen_vqa.pipeline.runs.state import recover_state
from frozen_vqa.pipeline.train.sweep_config import load_sweep
from tests.support.forged import edit_sealed
from tests.support.forged_cache_files import edit_manifest
from tests.support.forged_run_files import edit_meaning
from tests.support.forged_values import edit_plain


@dataclass(frozen=True)
class Reader:
    """One file: the parts of the valid folder it needs, who reads it, and how it is changed."""

    parts: Sequence[str]
    file: str
    read: Callable[[Path], Any]
    mutations: Sequence[Mutate] = field(default_factory=tuple)
    sealed: bool = False  # its digest tells every change of its bytes that is not sealed anew


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
    "mark of a cache": Reader(
        ("cache",),
        "cache/.frozen-vqa",
        lambda at: own_cache(at / "cache").names(),
        (raw, partial(plain_text, change_text)),
    ),
    "lock": Reader(RUN, "finished/.lock", lambda at: read_holder(at / "finished/.lock"), PLAIN),
    "metrics.jsonl": Reader(
        RUN, "finished/metrics.jsonl", lambda at: curve(at / "finished"), LINES
    ),
    "environment.json": Reader(
        RUN, "finished/environment.json", lambda at: environments(at / "finished"), PLAIN
    ),
    "card": Reader(
        RUN,
        "finished/README.md",
        lambda at: owns_card(at / "finished"),
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
    "own JSON list": Reader(
        ("data",), "data/train.jsonl", lambda at: examples("jsonl", at / "data"), (listed,)
    ),
    "own CSV": Reader(
        ("csv",),
        "csv/train.csv",
        lambda at: examples("jsonl", at / "csv"),
        (raw, partial(plain_text, change_text)),
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
    "VQAv2 questions in gzip": Reader(
        ("vqav2",),
        "vqav2/v2_OpenEnded_mscoco_train2014_questions.json",
        lambda at: examples("vqav2", at / "vqav2"),
        (packed,),
    ),
    "Arrow": Reader(
        ("hub",), "hub/train.parquet", lambda at: examples("hub", at / "hub"), (arrow,)
    ),
    "card of a data set": Reader(
        ("hub",), "hub/README.md", lambda at: examples("hub", at / "hub"), (front_matter,)
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
        f"vision {file}": Reader(
            ("vision",), f"vision/{file}", lambda at: encoded_picture(at / "vision"), how
        )
        for file, how in {
            "model.safetensors": (raw, model_tensors),
            "model.safetensors.index.json": (indexed,),
        }.items()
    },
    "text model.safetensors": Reader(
        ("text",),
        "text/model.safetensors",
        lambda at: encoded_text(at / "text"),
        (raw, model_tensors),
    ),
    **{
        f"text {file}": Reader(
            ("text",), f"text/{file}", lambda at: encoded_text(at / "text"), PLAIN
        )
        for file in ("config.json", "tokenizer.json", "tokenizer_config.json")
    },
}
