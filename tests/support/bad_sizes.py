"""Rows of docs/bad-inputs.md: small files that would take much memory or time, each of its kind."""

import gzip
import json
import shutil
import struct
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from frozen_vqa.cache.errors import CacheError
from frozen_vqa.cache.format.manifest import Manifest, parse_manifest
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import ModelError, SourceError
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.sources.strict_json import read_json
from tests.support.bad_inputs import LEFT_OUT, LINE, REFUSED, STORED, Row
from tests.support.bad_pictures import picture
from tests.support.caches import make_spec
from tests.support.pictures import encoded
from tests.support.raw_pictures import png_chunk

Case = Callable[[Path], Row]


def scans(edge: int = 7000, count: int = 40) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded(Image.new("L", (edge, edge)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda")) : -2]
    return data[:-2] + scan * count + data[-2:]


def chunks(count: int = 60_000) -> bytes:
    data = encoded(Image.new("L", (8, 8)))
    return data[:33] + png_chunk(b"abCd", b"") * count + data[33:]


def segments(count: int = 60_000) -> bytes:
    data = encoded(Image.new("L", (8, 8)), "JPEG")
    return data[:2] + b"\xff\xfe\0\3a" * count + data[2:]


def run_lengths(edge: int = 1001) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, edge, edge, 1, 8, 1, 2, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1080, 0, 0, 1078) + head + bytes(1024) + b"\0\1"


def _json(content: bytes, folder: Path) -> Row:
    (folder / "q.json").write_bytes(content)
    try:
        read_json(folder / "q.json")
    except SourceError as error:
        return REFUSED, str(error)
    return STORED, ""


def _line(line: str, folder: Path) -> Row:
    (folder / "train.jsonl").write_text(f"{json.dumps(LINE)}\n{line}\n{json.dumps(LINE)}\n")
    source = open_source(f"jsonl:{folder}")
    assert len(source.examples("train")) == 2
    (one,) = source.left_out("train")
    return LEFT_OUT, f"{one.where}: {one.reason}"


def _table(columns: Callable[[], dict[str, Any]], folder: Path) -> Row:
    table = {"question": ["q"], "answers": ["x"], "image_id": [1], "image": ["a.png"]} | columns()
    lean = {"use_dictionary": ["answers.list.element"], "write_statistics": False}
    pq.write_table(pa.table(table), folder / "train.parquet", compression="zstd", **lean)
    return _examples(folder)


def _examples(folder: Path) -> Row:
    try:
        open_source(f"hub:{folder}").examples("train")
    except SourceError as error:
        return REFUSED, str(error)
    return STORED, ""


def _many_rows() -> dict[str, Any]:
    names = ("question", "answers", "image_id", "image")
    return dict.fromkeys(names, pa.array(np.zeros(2_000_000, np.int8)))


def _many_answers() -> dict[str, Any]:
    one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2_000_000, np.int8)), ["x"])
    return {"answers": pa.ListArray.from_arrays(pa.array([0, len(one)], pa.int32()), one)}


def _packed(folder: Path) -> Row:
    (folder / "train.csv.gz").write_bytes(gzip.compress(b"question\nq\n"))
    return _examples(folder)


def _wide(name: str, text: str, folder: Path) -> Row:
    (folder / name).write_text(text)
    return _examples(folder)


def _padded(folder: Path) -> Row:
    place = folder / "model"
    shutil.copytree(tiny_checkpoint("vision"), place)
    with (place / "model.safetensors").open("ab") as file:
        file.truncate(5 << 30)  # of a disk that stores no zeros
    try:
        ImageEncoder(str(place)).weights  # noqa: B018
    except ModelError as error:
        return REFUSED, str(error)
    return STORED, ""


def _manifest(content: Callable[[], bytes], folder: Path) -> Row:
    try:
        parse_manifest(folder / "cache.json", content())
    except CacheError as error:
        return REFUSED, str(error)
    return STORED, ""


def _splits() -> bytes:
    text = Manifest(make_spec()).to_json()
    body = json.loads(text) | {"splits": {f"s{i}": {} for i in range(60_000)}}
    from frozen_vqa.cache.format.manifest import _digest_body

    del body["xxh3"]
    return json.dumps(body | {"xxh3": _digest_body(body)}).encode()


def model(part: str, file: str, change: Callable[[dict[str, Any]], object], folder: Path) -> Row:
    """A case of a tiny encoder, one of whose files was changed."""
    place = folder / "model"
    shutil.copytree(tiny_checkpoint(part), place)
    content = json.loads((place / file).read_text(encoding="utf-8"))
    change(content)
    (place / file).write_text(json.dumps(content), encoding="utf-8")
    kind = TextEncoder if part == "text" else ImageEncoder
    try:
        kind(str(place)).weights  # noqa: B018
    except ModelError as error:
        return REFUSED, str(error)
    return STORED, ""


def _replace(steps: Sequence[tuple[str, str]]) -> dict[str, Any]:
    made = [{"type": "Replace", "pattern": {"String": old}, "content": new} for old, new in steps]
    return {"normalizer": {"type": "Sequence", "normalizers": made}}


def _split(expression: str) -> dict[str, Any]:
    return {
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": expression},
            "behavior": "Isolated",
            "invert": False,
        }
    }


BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": False,
}
TOKENIZERS: dict[str, dict[str, Any]] = {
    "longer replacements": _replace([("e", "e" * 100)] * 4),
    "a replacement of nothing": _replace([("", "ab")]),
    "an expression that tries all": _split("(a|aa|a?a)+$"),
    "nested repeats": _split("((a{1,1000}){1,1000}){1,1000}b"),
    "a long prefix": {"normalizer": {"type": "Prepend", "prepend": "a" * 10**6}},
    "many steps": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTE_LEVEL] * 30}},
}
CONFIGS: dict[str, tuple[str, str, Any]] = {
    "hidden size": ("text", "hidden_size", 65_536),
    "layers": ("text", "num_hidden_layers", 100_000),
    "vocabulary": ("text", "vocab_size", 10**9),
    "inner size": ("text", "intermediate_size", 10**8),
    "hidden size of pictures": ("vision", "hidden_size", 65_536),
    "layers of pictures": ("vision", "num_hidden_layers", 100_000),
    "image size": ("vision", "image_size", 44_800),
    "inner size of pictures": ("vision", "mlp_ratio", 10**6),
    "channels": ("vision", "num_channels", 10**7),
}

SIZES: dict[str, Case] = {
    "picture: JPEG of 40 scans of 49 megapixels": picture(scans()),
    "picture: JPEG of 60,000 comments": picture(segments()),
    "picture: PNG of 60,000 empty chunks": picture(chunks()),
    "picture: PPM as text, of 1.2 megapixels": picture(b"P1 1200 1000\n" + b"1" * 1_200_000),
    "picture: PPM of 254 levels, of 1.2 megapixels": picture(
        b"P5 1200 1000 254\n" + bytes(1_200_000)
    ),
    "picture: BMP with run lengths, of 1 megapixel": picture(run_lengths()),
    "JSON: nothing but brackets": partial(_json, b"[],[]," * 1_000_000),
    "JSON: gzip that unpacks to 70 MB": partial(_json, gzip.compress(bytes(1_000_000)) * 70),
    "JSON: an integer of 5,000 digits": partial(_json, b"9" * 5000),
    "JSON: a line of a megabyte": partial(_line, '{"image": "' + "a" * 10**6),
    "JSON: a question of 100,001 letters": partial(
        _line, json.dumps(LINE | {"question": "a" * 100_001})
    ),
    "JSON: an answer of 100,001 letters": partial(
        _line, json.dumps(LINE | {"answer": "a" * 100_001})
    ),
    "parquet: two million rows in a few kilobytes": partial(_table, _many_rows),
    "parquet: two million answers of a question": partial(_table, _many_answers),
    "parquet: a text of 80 MB": partial(_table, lambda: {"question": ["q" * 80_000_000]}),
    "`hub:` a packed file": _packed,
    "CSV: 10,001 columns": partial(_wide, "train.csv", "a," * 10_000 + "a\n"),
    "CSV: a first row of 10,001 cells": partial(_wide, "train.csv", "a\n" + "b," * 10_000 + "b\n"),
    "JSON of `hub:`: 10,001 keys": partial(
        _wide, "train.json", json.dumps([dict.fromkeys(map(str, range(10_001)), 1)])
    ),
    "cache.json: nothing but brackets": partial(_manifest, lambda: b"[],[]," * 1_000_000),
    "cache.json: 60,000 splits": partial(_manifest, _splits),
    **{
        f"model: {name} of {value:,}": partial(
            model,
            part,
            "config.json",
            lambda found, key=key, value=value: found.update({key: value}),
        )
        for name, (part, key, value) in CONFIGS.items()
    },
    "model: 5 GB of zeros behind its weights": _padded,
    **{
        f"tokenizer: {name}": partial(
            model, "text", "tokenizer.json", lambda found, change=change: found.update(change)
        )
        for name, change in TOKENIZERS.items()
    },
}
