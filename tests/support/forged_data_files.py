"""Forged data sets, pictures, predictions, and files of settings and answers."""

import gzip
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.json
import pyarrow.parquet as pq

from frozen_vqa.pipeline.config import TrainConfig
from tests.support import hostile
from tests.support.forged_cache_files import Change
from tests.support.forged_values import (
    TEXTS,
    below,
    edit_plain,
    forgeries,
    replaced,
    written,
)
from tests.support.hub_data import png
from tests.support.pictures import encoded, noise

LINE = {"image": "a.png", "question": "what is it?", "answer": "a box"}
PICTURE_NAMES = (
    *("../secret/file", "/etc/hostname", "../secret/folder/a.png", "/dev/zero", "/proc/self/mem"),
    *("http://example.org/a.png", "file:///etc/hostname", "a.png\0", "", ".", "..", "~/a.png"),
    *("\x1b[2J.png", "a" * 5000, "secret", "//a.png", "\ud83d.png"),
)


def line(**values: Any) -> str:
    return json.dumps(LINE | values) + "\n"


def in_data(name: str, content: bytes) -> Change:
    return lambda folder: (folder / "data" / name).write_bytes(content)


JSONL: dict[str, Change] = {
    **forgeries(
        "data/train.jsonl",
        below((), ("image", "question", "answer", "answers", "question_id", "question_type")),
        lambda path, change: edit_plain(path, lambda found: [found.update(answers=["a"]),
        found.update(question_id=1, question_type="what"), change(found)]),
        each=6,
    ),
    **{f"image {n!a:.40}": in_data("train.jsonl", line(image=n).encode()) for n in PICTURE_NAMES},
    **written("data/train.jsonl", TEXTS),
    **dict(replaced(["data/train.jsonl", "data"])),
    "answers of 5 MB": in_data("train.jsonl", line(answer="a b's, " * 700_000).encode()),
    "a million answers": in_data(
        "train.jsonl", b'{"image": "a.png", "question": "q", "answers": ["a"' + b', "b"' * 10**6
        + b"]}\n",
    ),
    "a question of 20 MB": in_data("train.jsonl", line(question="what " * (4 << 20)).encode()),
    "a line of 200 MB": in_data("train.jsonl", b"[" + b"1," * (100 << 20)),
    "a million lines": in_data("train.jsonl", b"{}\n" * 10**6),
    "gzip as jsonl": in_data("train.jsonl", gzip.compress(line().encode())),
}  # fmt: skip


def ascii_ppm(side: int) -> bytes:
    return f"P3 {side} {side} 255\n".encode() + b"1 " * (6 << 20)


def big_png(width: int, height: int, *, kept: int = 1000) -> bytes:
    """A PNG of zeros that says it is so large, with this many rows of them."""
    rows = zlib.compress(bytes((width + 1) * min(kept, height)), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )


def text_png(data: bytes) -> bytes:
    """A PNG with a compressed comment."""
    whole, chunk = png("red"), b"a\0\0" + zlib.compress(data, 9)
    made = struct.pack(">I", len(chunk)) + b"zTXt" + chunk
    made += struct.pack(">I", zlib.crc32(b"zTXt" + chunk))
    return whole[:33] + made + whole[33:]


def many(content: bytes, count: int) -> Change:
    def make(folder: Path) -> None:
        for i in range(count):
            (folder / f"data/{i}.png").write_bytes(content)
        lines = "".join(line(image=f"{i}.png", question=f"q{i}") for i in range(count))
        (folder / "data/train.jsonl").write_text(lines)

    return make


PICTURES: dict[str, Change] = {
    name: in_data("a.png", content)
    for name, content in {
        "PPM in ASCII of 10,000": ascii_ppm(10_000),
        "PPM in ASCII of 2,000": ascii_ppm(2_000),
        "PNG of 100,000 by 100,000": big_png(100_000, 100_000),
        "PNG of 44,800 by 44,800": big_png(44_800, 44_800),
        "PNG of 60,000 by 1": big_png(60_000, 1),
        "PNG of 1 by 60,000": big_png(1, 60_000, kept=60_000),
        "PNG of no size": big_png(0, 0),
        "PNG with 60 MB of comment": text_png(bytes(60 << 20)),
        "PNG cut short": png("red")[:50],
        "JPEG cut short": encoded(noise(50, 50), "JPEG")[:600],
        "GIF of 65,535": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\0;",
        "BMP of 2**31": b"BM" + struct.pack("<IIIIiiHH", 99, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24)
        + bytes(40),
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/hostname'/></svg>",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/hostname) run\n%%EOF",
        "PDF": b"%PDF-1.4\n%%EOF",
        "a link to another file": b"../secret/file",
        "WebP cut short": b"RIFF\xff\xff\xff\x7fWEBPVP8 \xff\xff\xff\x7f" + bytes(30),
        "TIFF of many pages": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
        "ICO of ICOs": b"\0\0\1\0\xff\xff" + bytes(4000),
        **{f"text: {n}": c.encode(errors="surrogatepass") if isinstance(c, str) else c
           for n, c in list(TEXTS.items())[:3]},
    }.items()
}  # fmt: skip
PICTURES |= {
    "eight of 49 megapixels": many(encoded(noise(64, 64).resize((7000, 7000)), "JPEG"), 8),
    **dict(replaced(["data/a.png"])),
    **{f"image {n!a:.40}": in_data("train.jsonl", line(image=n).encode()) for n in PICTURE_NAMES},
}

QUESTIONS_FILE = "vqav2/v2_OpenEnded_mscoco_train2014_questions.json"
ANNOTATIONS_FILE = "vqav2/v2_mscoco_train2014_annotations.json"
VQAV2: dict[str, Change] = {
    **forgeries(
        QUESTIONS_FILE,
        [("questions",), *below(("questions", 0), ("question_id", "image_id", "question"))],
        edit_plain,
        each=5,
    ),
    **forgeries(
        ANNOTATIONS_FILE,
        [
            ("annotations",),
            *below(("annotations", 0), ("question_id", "image_id", "answers", "question_type")),
            *below(("annotations", 0), ("answer_type", "multiple_choice_answer")),
            *below(("annotations", 0, "answers", 0), ("answer", "answer_id")),
        ],
        edit_plain,
        each=5,
    ),
    **written(QUESTIONS_FILE, TEXTS),
    **dict(replaced([QUESTIONS_FILE, ANNOTATIONS_FILE, "vqav2/train2014"])),
}


def table(**columns: Any) -> pa.Table:
    base = {
        "question": pa.array(["q?"]),
        "answers": pa.array([["a"]]),
        "image": pa.array([png("red")]),
        "question_id": pa.array([1]),
    }
    return pa.table(base | columns)


def hub(name: str, write: Callable[[Path], object]) -> Change:
    """Write another file of a hub folder in the place of its parquet."""

    def make(folder: Path) -> None:
        (folder / "hub/train.parquet").unlink()
        write(folder / "hub" / name)

    return make


def parquet(**columns: Any) -> Change:
    return hub("train.parquet", lambda path: pq.write_table(table(**columns), path))


def noted(**notes: Any) -> Change:
    """What `datasets` is told of the columns."""
    meta = {"huggingface": json.dumps({"info": {"features": notes}})}
    return hub(
        "train.parquet",
        lambda path: pq.write_table(table().replace_schema_metadata(meta), path),
    )


def bomb(rows: int) -> Change:
    """A parquet of few bytes with many rows, all the same."""

    def write(path: Path) -> None:
        text = pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(rows, np.int32)), pa.array(["x" * 1000])
        )
        columns = {"question": text, "image": text, "answers": text}
        pq.write_table(pa.table(columns), path, compression="zstd")

    return hub("train.parquet", write)


LINKED = ("../secret/file", "/etc/hostname", "http://example.org/a", "\x1b[2J", "a\0b")
HUB: dict[str, Change] = {
    **{
        f"question {name}": parquet(question=pa.array([text]))
        for name, text in list(hostile.STORED.items())[:12]
    },
    **{
        f"question of {kind}": parquet(question=pa.array([value], kind))
        for kind, value in {
            pa.int64(): 1,
            pa.float64(): float("nan"),
            pa.binary(): b"\xff\xfe",
            pa.bool_(): True,
            pa.null(): None,
            pa.timestamp("ns"): 2**62,
            pa.list_(pa.string()): ["a"],
            pa.struct({"a": pa.string()}): {"a": "b"},
        }.items()
    },
    **{
        f"picture at {name!a}": parquet(
            image=pa.array([{"bytes": None, "path": name}],
                           pa.struct({"bytes": pa.binary(), "path": pa.string()}))
        )
        for name in LINKED
    },
    **{f"picture named {name!a}": parquet(image=pa.array([name])) for name in LINKED},
    **{
        f"features {name}": noted(question=value)
        for name, value in {
            "code": {"_type": "os.system"},
            "an unknown type": {"_type": "Evil"},
            "classes": {"_type": "ClassLabel", "names": ["a"] * 3},
            "classes of a file": {"_type": "ClassLabel", "names_file": "../secret/file"},
            "a huge array": {"_type": "Array2D", "shape": [2**31, 2**31], "dtype": "int8"},
            "null": None,
            "a list": [],
        }.items()
    },
    **{
        f"card: {name}": lambda folder, text=text: (folder / "hub/README.md").write_text(
            f"---\n{text}\n---\n"
        )
        for name, text in {
            "elsewhere": "configs:\n- config_name: default\n  data_files: ../secret/file",
            "a host": "configs:\n- config_name: a\n  data_files: https://example.org/a.parquet",
            "python": "a: !!python/object/apply:os.system ['true']",
            "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
                f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n"
                for a, b in zip("abcdefgh", "bcdefghi", strict=True)
            ),
            "brackets": "[" * 20_000,
            "no YAML": "\t: :\x1b[2J",
        }.items()
    },
    "code in the folder": lambda folder: (folder / "hub/hub.py").write_text("raise SystemExit(9)"),
    "a bomb of 10 million rows": bomb(10_000_000),
    "csv": hub("train.csv", lambda p: p.write_text("question,answers,image\nq,a,../secret/file\n")),
    "csv with a formula": hub("train.csv", lambda p: p.write_text("question\n=cmd|' /C x'!A0\n")),
    "csv of one long line": hub("train.csv", lambda p: p.write_text("a," * (4 << 20))),
    "arrow": hub("train.arrow", lambda p: pa.feather.write_feather(table(), str(p))),
    "arrow cut short": hub("train.arrow", lambda p: p.write_bytes(b"ARROW1\0\0" + b"\xff" * 100)),
    "json": hub("train.json", lambda p: p.write_text('[{"question": "q", "image": "/etc/x"}]')),
    "pickle": hub("train.pkl", lambda p: p.write_bytes(b"cos\nsystem\n(S'true'\ntR.")),
    "zip": hub("train.zip", lambda p: p.write_bytes(b"PK\5\6" + bytes(18))),
    "parquet of zeros": hub("train.parquet", lambda p: p.write_bytes(bytes(5000))),
    "parquet with a huge footer": hub(
        "train.parquet", lambda p: p.write_bytes(b"PAR1" + b"\xff\xff\xff\x7fPAR1")
    ),
    "gzip bomb": hub(
        "train.jsonl.gz", lambda p: p.write_bytes(gzip.compress(bytes(500 << 20), 6))
    ),
    **dict(replaced(["hub/train.parquet"])),
}  # fmt: skip

TOML = {
    "null": '""', "true": "true", "-1": "-1", "0": "0", "NaN": "nan", "infinity": "-inf",
    "2**63": str(2**63), "5,000 digits": "9" * 5000, "1e308": "1e308", "a list": "[]",
    "a path": '"../secret/file"', "an escape": '"\\u001b[2J"', "a table": "{a = 1}",
    "a date": "1979-05-27", "a long text": '"' + "x" * 500_000 + '"', "a NUL": '"a\\u0000b"',
    "a tiny": "1e-320", "2**31": str(2**31), "a million": "1000000", "text": '"a"',
}  # fmt: skip


def toml_cases(file: str, *, each: int, first: int) -> dict[str, Change]:
    """Return changes of each setting in a file of them."""
    found: dict[str, Change] = {}
    kinds, at = list(TOML), first
    for field in fields(TrainConfig):
        for _ in range(each):
            kind, at = kinds[at % len(kinds)], at + 1

            def change(folder: Path, name: str = field.name, kind: str = kind) -> None:
                path = folder / file
                kept = [t for t in path.read_text().splitlines() if not t.startswith(f"{name} ")]
                path.write_text("\n".join([f"{name} = {TOML[kind]}", *kept]) + "\n")

            found[f"{file}: {field.name} is {kind}"] = change
    return found


CONFIG: dict[str, Change] = {
    **toml_cases("config.toml", each=3, first=0),
    **written("config.toml", TEXTS | {"many keys": "".join(f"k{i} = 1\n" for i in range(100_000))}),
    **dict(replaced(["config.toml"])),
}
SWEEP: dict[str, Change] = {
    **toml_cases("sweep.toml", each=1, first=7),
    **written(
        "sweep.toml",
        {
            **{f"name {n!a:.30}": f"[[head]]\nname = {json.dumps(n)}\n" for n in (
                "../secret/x", "/etc/x", "", "..", "a/b", "a\0b", "\x1b[2J", "x" * 400, "~")},
            "10**9 heads": "".join(f"{n} = {list(range(1, 11))}\n" for n in
                                   ("seed", "layers", "width", "heads", "lr")),
            "10**6 tables": "[[head]]\n" * 10**5,
            "nested lists": "lr = [[[[1]]]]",
        },
    ),
    **dict(replaced(["sweep.toml"])),
}  # fmt: skip
ANSWERS: dict[str, Change] = {
    **written("answers.txt", TEXTS | {
        "a million": "".join(f"a{i}\n" for i in range(10**6)),
        "one of 20 MB": "a" * (20 << 20),
        "twice": "a\na\n",
        "hostile": "\n".join(t for t in hostile.STORED.values() if "\n" not in t),
    }),
    **dict(replaced(["answers.txt"])),
}  # fmt: skip
SCORE: dict[str, Change] = {
    **forgeries("data/results.json", [(0,), *below((0,), ("question_id", "answer"))], edit_plain,
                each=12),
    **forgeries(
        "data/given.json",
        [
            ("annotations",), ("annotations", 0),
            *below(("annotations", 0), ("question_id", "answers", "question_type", "answer_type")),
            ("annotations", 0, "answers", 0), ("annotations", 0, "answers", 0, "answer"),
        ],
        edit_plain,
        each=6,
    ),
    **written("data/results.json", TEXTS),
    **written("data/given.json", {"many": json.dumps({"annotations": [{}] * 300_000})}),
    **dict(replaced(["data/results.json", "data/given.json"])),
    **{
        f"types {name}": lambda folder, text=text: edit_plain(
            folder / "data/given.json",
            lambda found: found["annotations"][0].update(question_type=text, answer_type=text),
        )
        for name, text in hostile.EVERY.items()
    },
    "an answer of 20 MB": lambda folder: (folder / "data/results.json").write_text(
        json.dumps([{"question_id": 1, "answer": "a b's, " * 3_000_000}])
    ),
}  # fmt: skip
