"""A cache of five pictures and two questions as the writer makes it, and what it then holds."""

from pathlib import Path

import numpy as np

from frozen_vqa.cache import CacheWriter, SplitTable
from frozen_vqa.cache.disk.integrity import load_manifest
from frozen_vqa.cache.disk.row_names import read_names
from frozen_vqa.cache.format.records.files import ShardKind
from frozen_vqa.cache.format.shards import NewQuestions
from tests.support.caches import (
    PATCHES,
    TEXT_DIM,
    VISION_DIM,
    add_images,
    add_questions,
    make_spec,
    new_images,
)

RNG = np.random.default_rng(0)
PICTURES = RNG.standard_normal((5, PATCHES, VISION_DIM)).astype(np.float16)
CLS = RNG.standard_normal((5, VISION_DIM)).astype(np.float16)
STATES = RNG.standard_normal((4, TEXT_DIM)).astype(np.float16)
EMPTY = {"cache.json", "cache.copy.json"}
IDS = ["3", "eins", "ü", "", "5"]

# "a b" and "a c", then the longer "a b d" and "a", which has no prefix of its own.
FIRST = NewQuestions(
    ["a b", "a c"], [[0, 1], [0, 2]], np.array([-1, 0, 0]), np.array([9, 8, 7]), STATES[:3]
)
SECOND = NewQuestions(["a b d"], [[0, 1, 3]], np.array([1]), np.array([6]), STATES[3:])
NOTHING_NEW = NewQuestions(
    ["a"], [[0]], np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, TEXT_DIM), np.float16)
)
SPLIT = SplitTable([1, 2], np.array([0, 4]), np.array([1, 0]), [("yes",), ()], ["", ""], ["", ""])


def tree(directory: Path) -> dict[str, bytes]:
    files = (
        path
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith((".lock", ".frozen-vqa"))
    )
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def write(directory: Path) -> None:
    with CacheWriter(directory, make_spec()) as writer:
        add_images(writer, new_images(IDS[:3], PICTURES[:3], CLS[:3]))
        add_images(writer, new_images(IDS[3:], PICTURES[3:], CLS[3:]))
        add_questions(writer, FIRST)
        origin = {"dataset": "jsonl:DATA"}
        writer.set_split("val", SPLIT, left_out=2, tokens=9, origin=origin)


def names(directory: Path, kind: ShardKind) -> list[str]:
    return read_names(directory, load_manifest(directory), kind)
