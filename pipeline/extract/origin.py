"""The source of a cache, and the command that makes one of its files again; without torch."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import xxhash

from frozen_vqa.cache import CacheSpec, Manifest
from frozen_vqa.cache.format.parts import LAST, Part
from frozen_vqa.cache.stores.address import is_url
from frozen_vqa.cache.typed_json import Json
from frozen_vqa.pipeline.sources.example import VqaExample
from frozen_vqa.pipeline.sources.open_source import OFFICIAL

LOCAL = (*OFFICIAL, "jsonl", "wds")
LARGEST_BATCH = 1 << 16
"""Pictures in a batch that a user may give, and an origin may record."""
_ALWAYS = 6
"""Fields of a question that every digest covers; the others count where one of them is given."""
_NOTHING: tuple[object, ...] = ({}, (), None)
_fields, _further = (
    attrgetter(*names) for names in (VqaExample.__slots__[:_ALWAYS], VqaExample.__slots__[_ALWAYS:])
)


def describe_origin(
    dataset: str,
    columns: Mapping[str, str],
    splits: Mapping[str, Sequence[VqaExample]],
    limit: int | None,
    batch_size: int | None,
    images: Path | None = None,
    annotations: Path | None = None,
) -> dict[str, Json]:
    """Return the facts that a cache records about its source, with absolute paths.

    `splits` has the questions as they were read; the facts have a digest of each split.
    """
    kind, _, rest = dataset.partition(":")
    local = kind in LOCAL and not is_url(rest)
    if local or (kind == "hub" and os.path.exists(os.path.expanduser(rest))):
        dataset = f"{kind}:{Path(os.path.expanduser(rest)).resolve()}"
    return {
        "dataset": dataset,
        "columns": dict(columns),
        "splits": list(splits),
        "digests": {name: _digest(examples) for name, examples in splits.items()},
        "limit": limit,
        "batch_size": batch_size,
        **({"images": str(images.resolve())} if images else {}),
        **({"annotations": str(annotations.resolve())} if annotations else {}),
    }


def of_split(origin: Mapping[str, Any], split: str) -> dict[str, Json]:
    """Return the facts about one split, whose table depends on no other and on no batch size."""
    of_batches = ("batch_size", "drift", "drifts")
    about = {key: value for key, value in origin.items() if key not in of_batches}
    if "digests" in about:
        about["digests"] = {k: v for k, v in origin["digests"].items() if k == split}
    return about | ({"splits": [split]} if about else {})


def rebuild_command(cache: Path, manifest: Manifest, file: str) -> str:
    """Return the command that makes one file of a cache again, as a shell takes it."""
    split = next((n for n, record in manifest.splits.items() if record.file == file), None)
    if split:
        origin = manifest.splits[split].origin
    else:
        kind, index = manifest.find(file)
        origin = manifest.shards(kind)[index].origin
    words = ["frozen-vqa", "extract-features", "--dataset", origin.get("dataset", "DATASET")]
    for field, column in origin.get("columns", {}).items():
        words += ["--column", f"{field}={column}"]
    for option in ("images", "annotations", "limit", "batch_size"):
        if origin.get(option) is not None:
            words += [f"--{option.replace('_', '-')}", str(origin[option])]
    for name in [split] if split else origin.get("splits") or ["SPLIT"]:
        words += ["--split", name]
    words += ["--cache", str(cache), *_encoder_options(manifest.spec)]
    return shlex.join(words if split else [*words, "--rebuild", file])


def _digest(examples: Sequence[VqaExample]) -> str:
    """Return the 128-bit xxh3 digest of questions, their answers, types and ids, in hexadecimal.

    A picture counts with its id: `hub:` without a column of ids makes that from its content, and
    elsewhere stage one compares pictures with their stored thumbnails.
    """
    state = xxhash.xxh3_128()
    for example in examples:
        further = _further(example)
        given = _fields(example) + (further if any(one not in _NOTHING for one in further) else ())
        state.update(json.dumps(given).encode() + b"\n")
    return state.hexdigest()


def _encoder_options(spec: CacheSpec) -> list[str]:
    eyes = list({part.model: part.settings for part in spec.vision_parts}.values())
    options: dict[str, list[Json]] = {
        "--vision-model": [one.get("model") for one in eyes],
        "--vision-layer": _layers(spec.vision_parts),
        "--image-size": [one.get("image size") for one in eyes],
        "--fit": [spec.vision.get("fit")],
        "--text-model": [spec.text.get("model")],
        "--text-layer": [part.layer for part in spec.text_parts],
        "--quantize": [spec.text.get("quantize")],
        "--pool": [spec.vision.get("pool")],
        "--dtype": [spec.dtype],
    }
    words: list[str] = []
    for name, values in options.items():
        for value in values:
            words += [name, str(value)] if value is not None else []
    window = spec.vision.get("window")
    words += ["--window", *map(str, window)] if isinstance(window, list | tuple) else []
    words += ["--reduce-jpegs"] if spec.vision.get("jpeg side") else []
    return [*words, *(["--gpu-jpegs"] if spec.vision.get("jpeg decoder") else [])]


def _layers(parts: Sequence[Part]) -> list[Json]:
    """Return the layers of encoders of pictures; none if it is the last one of each."""
    found = list(dict.fromkeys(part.layer for part in parts))
    return found if found != [LAST] else []
