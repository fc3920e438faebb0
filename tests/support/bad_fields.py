"""Rows of docs/bad-inputs.md: fields of our files that a stranger wrote, with digests that fit."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from frozen_vqa.cache import CacheError
from frozen_vqa.cache.format.manifest import _digest_body, parse_manifest
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.runs.sealed import seal_json
from tests.support.bad_inputs import REFUSED, STORED, Row
from tests.support.caches import Row as Question
from tests.support.caches import make_cache
from tests.support.heads import make_run, seal
from tests.support.manifests import SMALL

Change = Callable[[dict[str, Any]], object]


def _cache(change: Change, folder: Path) -> Row:
    body = json.loads(SMALL.to_json())
    del body["xxh3"]
    change(body)
    data = json.dumps({**body, "xxh3": _digest_body(body)}).encode()
    try:
        parse_manifest(folder / "cache.json", data)
    except CacheError as error:
        return REFUSED, str(error)
    return STORED, ""


def _run(file: str, change: Change, folder: Path) -> Row:
    run = folder / "run"
    make_run(make_cache(folder / "cache", {"train": [Question(0, 0, ("red",))]}), run)
    body = json.loads((run / file).read_bytes())
    body.pop("xxh3", None) if isinstance(body, dict) else None
    change(body)
    sealed = file == "run.json"
    (run / file).write_bytes(seal_json(body) if sealed else json.dumps(body).encode())
    seal(run)
    try:
        load_run(run, torch.device("cpu"))
    except RunError as error:
        return REFUSED, str(error)
    return STORED, ""


def _set(*place: Any) -> Change:
    *path, key, value = place

    def change(body: Any) -> None:
        for one in path:
            body = body[one]
        body[key] = value

    return change


FIELDS: dict[str, Callable[[Path], Row]] = {
    "a cache whose `rows` are -1": partial(_cache, _set("images", 0, "rows", -1)),
    "a cache whose `largest` is a text": partial(_cache, _set("images", 0, "largest", "x")),
    "a cache whose `grid` has three sides": partial(_cache, _set("spec", "grid", [2, 2, 2])),
    "a cache with a field of no version": partial(_cache, _set("images", 0, "colour", "red")),
    "a cache whose origin names no columns": partial(
        _cache, _set("splits", "val", "origin", "columns", ["image"])
    ),
    "a cache with a setting beyond any float": partial(
        _cache, _set("spec", "vision", "x", 10**400)
    ),
    "a run of a cache whose path holds a NUL": partial(_run, "run.json", _set("cache", "a\0b")),
    "a run whose `splits` are lists": partial(_run, "run.json", _set("splits", {"train": []})),
    "a run whose `grid` is fractions": partial(
        _run, "config.json", _set("model", "grid", [1.5, 2])
    ),
    "a run whose `grid` is missing": partial(_run, "config.json", lambda b: b["model"].pop("grid")),
    "a run whose `encoders` are a list": partial(_run, "config.json", _set("encoders", [])),
    "a run whose `dtype` is a list": partial(_run, "config.json", _set("dtype", ["float16"])),
    "answers that are no texts": partial(_run, "answers.json", _set(1, ["blue"])),
}
