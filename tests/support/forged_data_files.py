"""Forged data sets: jsonl, VQAv2, and folders as the Hub has them."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.json
import pyarrow.parquet as pq

from tests.support import hostile
from tests.support.forged_cache_files import Change
from tests.support.forged_pictures import PICTURE_NAMES, in_data, line
from tests.support.forged_values import (
    TEXTS,
    below,
    edit_plain,
    forgeries,
    replaced,
    written,
)
from tests.support.hub_data import png

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
    "a million columns": lambda folder: (folder / "data/train.jsonl").rename(
        folder / "data/train.csv"
    ).write_text(",".join(f"a{i}" for i in range(10**6))),
    "other keys in each line": in_data(
        "train.jsonl",
        "".join(
            json.dumps({f"{line} {key}": 1 for key in range(100)}) + "\n" for line in range(10**4)
        ).encode(),
    ),
    "a million lines": in_data("train.jsonl", b"{}\n" * 10**6),
    "gzip as jsonl": in_data("train.jsonl", gzip.compress(line().encode())),
}  # fmt: skip


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
    "csv with a row of a million cells": hub(
        "train.csv", lambda p: p.write_text("question,answers,image\n" + "a," * 10**6 + "\n")
    ),
    "csv whose names have line breaks": hub(
        "train.csv", lambda p: p.write_text('"a\nb",' * 10**6 + "\n")
    ),
    "json with a million keys": hub(
        "train.json", lambda p: p.write_text(json.dumps([dict.fromkeys(map(str, range(10**6)), 1)]))
    ),
    "jsonl with other keys in each line": hub(
        "train.jsonl",
        lambda p: p.write_text(
            "".join(
                json.dumps({f"{line} {key}": 1 for key in range(100)}) + "\n"
                for line in range(10**4)
            )
        ),
    ),
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
