"""The rows of docs/bad-inputs.md about files and splits: a case for each, refused as a whole."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support.bad_inputs import LINE, REFUSED, Row, asked, given, write_official
from tests.support.frozen import Text
from tests.support.pictures import encoded


def refused(write: Callable[[Path], str], *splits: str) -> Any:
    """A case of a data set; `write` returns its SPEC."""

    def make(folder: Path) -> Row:
        with pytest.raises(SourceError) as caught:
            make_plan(open_source(write(folder)), splits=splits or ["train"], text=Text())
        return REFUSED, str(caught.value)

    return make


def of_file(name: str, content: bytes | str, kind: str = "jsonl", *, whole: bool = False) -> Any:
    """A data set whose file `name` has this content."""

    def write(folder: Path) -> str:
        write_official(folder, [asked(1)], [given(1)])
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return f"{kind}:{folder / name if whole else folder}"

    return write


def without(name: str) -> Any:
    def write(folder: Path) -> str:
        write_official(folder, [asked(1)], [given(1)])
        (folder / name).unlink()
        return f"vqav2:{folder}"

    return write


def parquet(**splits: Sequence[int]) -> Any:
    """A data set of one row each, of pictures that differ."""

    def write(folder: Path) -> str:
        for number, (name, image_ids) in enumerate(splits.items()):
            columns = {"question": ["q?"], "answers": ["x"], "image_id": image_ids}
            table = pa.table({**columns, "image": [encoded(Image.new("L", (2, 2), number))]})
            pq.write_table(table, folder / f"{name}.parquet")
        return f"hub:{folder}"

    return write


QUESTION_FILE = "v2_OpenEnded_mscoco_train2014_questions.json"
ANNOTATION_FILE = "v2_mscoco_train2014_annotations.json"
GOOD = json.dumps(LINE) + "\n"

FILES: dict[str, Callable[[Path], Row]] = {
    "no such file or folder": refused(lambda folder: f"jsonl:{folder}/no.jsonl"),
    "named pipe": refused(
        lambda folder: os.mkfifo(folder / "a.jsonl") or f"jsonl:{folder / 'a.jsonl'}"
    ),
    "folder without `.jsonl`": refused(lambda folder: f"jsonl:{folder}"),
    "`.jsonl` that is not UTF-8": refused(
        of_file("train.jsonl", GOOD.encode() + GOOD.replace("dog", "chien né").encode("latin-1"))
    ),
    "`.jsonl` without lines": refused(of_file("train.jsonl", "\n")),
    "no line can be used": refused(of_file("train.jsonl", '{\n{"image": "a.png"}\n')),
    "half of the lines name a split": refused(
        of_file("all.jsonl", GOOD + json.dumps({**LINE, "split": "train"}), whole=True)
    ),
    "split that is not in the folder": refused(of_file("train.jsonl", GOOD), "train", "val"),
    "split that no line names": refused(
        of_file("all.jsonl", json.dumps({**LINE, "split": "train"}), whole=True), "val"
    ),
    "one file as two splits": refused(of_file("all.jsonl", GOOD, whole=True), "train", "val"),
    "split twice": refused(of_file("train.jsonl", GOOD), "train", "train"),
    "`vqav2:` no question file": refused(without(QUESTION_FILE)),
    "`vqav2:` no annotation file": refused(without(ANNOTATION_FILE)),
    "`vqav2:` not UTF-8": refused(of_file(QUESTION_FILE, b'{"questions": ["\xe9"]}', "vqav2")),
    "`vqav2:` truncated JSON": refused(of_file(QUESTION_FILE, '{"questions": [{"qu', "vqav2")),
    "`vqav2:` JSON of the wrong shape": refused(of_file(QUESTION_FILE, "[]", "vqav2")),
    "`vqav2:` key twice in an object": refused(
        of_file(ANNOTATION_FILE, '{"annotations": [], "annotations": []}', "vqav2")
    ),
    "`vqav2:` NaN or Infinity": refused(
        of_file(ANNOTATION_FILE, '{"annotations": [NaN]}', "vqav2")
    ),
    "`vqav2:` empty split": refused(of_file(QUESTION_FILE, '{"questions": []}', "vqav2")),
    "`vqav2:` files of two releases": refused(
        of_file(ANNOTATION_FILE, json.dumps({"annotations": [given(9)]}), "vqav2")
    ),
    "`hub:` no such split": refused(parquet(train=[1]), "test"),
    "`hub:` one split under two names": refused(parquet(validation=[1]), "val", "validation"),
    "`hub:` image ids that start anew in each split": refused(
        parquet(train=[0], val=[0]), "train", "val"
    ),
}
