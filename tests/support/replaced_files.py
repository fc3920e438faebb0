"""Data sets of every kind that is read from this disk, each with one question and its answer."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, DatasetDict

from tests.support.hub_data import plain, png
from tests.support.vqav2_files import annotation, question
from tests.support.vqav2_files import write as write_vqav2

Write = Callable[[Path, str], str]
"""Writes a data set whose answer is a word of three letters, and returns its SPEC."""

LINE = {"image": "a.png", "question": "q?", "image_id": 1}


def _jsonl(folder: Path, answer: str) -> str:
    (folder / "train.jsonl").write_text(json.dumps({**LINE, "answer": answer}))
    return f"jsonl:{folder}"


def _vqav2(folder: Path, answer: str) -> str:
    write_vqav2(folder, "train", [question(1, 1)], [annotation(1, 1, [answer])])
    return f"vqav2:{folder}"


def _parquet(folder: Path, answer: str) -> str:
    picture = {"image": [png("red")], "question": ["q?"], "image_id": [1]}
    plain(folder / "train.parquet", **picture, answers=[answer])
    return f"hub:{folder}"


def _nested_parquet(folder: Path, answer: str) -> str:
    _parquet(folder / "deep" / "train", answer)
    return f"hub:{folder}"


def _json(folder: Path, answer: str) -> str:
    (folder / "train.json").write_text(json.dumps({**LINE, "answers": answer}))
    return f"hub:{folder}"


def _csv(folder: Path, answer: str) -> str:
    (folder / "train.csv").write_text(f"image,question,image_id,answers\na.png,q?,1,{answer}\n")
    return f"hub:{folder}"


def _arrow(folder: Path, answer: str) -> str:
    table = pa.table({"image": ["a.png"], "question": ["q?"], "image_id": [1], "answers": [answer]})
    with pa.ipc.new_file(folder / "train.arrow", table.schema) as file:
        file.write_table(table)
    return f"hub:{folder}"


def _imagefolder(folder: Path, answer: str) -> str:
    (folder / "train").mkdir(exist_ok=True)
    (folder / "train" / "a.png").write_bytes(png("red"))
    line = {"file_name": "a.png", "question": "q?", "image_id": 1, "answers": answer}
    (folder / "train" / "metadata.jsonl").write_text(json.dumps(line))
    return f"hub:{folder}"


def _saved(folder: Path, answer: str) -> str:
    rows = Dataset.from_list([{**LINE, "answers": answer}])
    DatasetDict({"train": rows}).save_to_disk(folder / "saved")
    return f"hub:{folder / 'saved'}"


KINDS: dict[str, Write] = {
    "`jsonl:`": _jsonl,
    "`vqav2:`": _vqav2,
    "`hub:` parquet": _parquet,
    "`hub:` parquet in folders": _nested_parquet,
    "`hub:` JSON": _json,
    "`hub:` CSV": _csv,
    "`hub:` Arrow": _arrow,
    "`hub:` pictures with `metadata.jsonl`": _imagefolder,
    "`hub:` saved by `save_to_disk`": _saved,
}


def replace(write: Write, folder: Path, answer: str) -> None:
    """Write a data set over another one, so that each file keeps its name, size and times."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    before = {file: file.stat() for file in files}
    write(folder, answer)
    for file, was in before.items():
        assert file.stat().st_size == was.st_size, file
        os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
