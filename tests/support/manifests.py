"""Made-up records of a cache, and a small manifest of them."""

from pathlib import Path

from frozen_vqa.cache import Failure
from frozen_vqa.cache.format.manifest import Manifest
from frozen_vqa.cache.format.records.files import ShardRecord, SplitRecord
from tests.support.caches import make_spec


def shard(file: str, rows: int = 0, size: int = 0, prefixes: int = 0) -> ShardRecord:
    return ShardRecord(
        file=file,
        rows=rows,
        bytes=size,
        xxh3="ab12",
        datasets={"cls": "float16 3x5 at 4096"},
        structure="cd34",
        names="ef56",
        prefixes=prefixes,
        largest=1.5,
        origin={},
    )


def table(rows: int, size: int) -> SplitRecord:
    return SplitRecord(
        file="splits/val.h5",
        rows=rows,
        bytes=size,
        xxh3="ab12",
        datasets={"image_row": "int64 5 at 2048"},
        left_out=1,
        tokens=31,
        origin={"dataset": "jsonl:/é"},
    )


def save(directory: Path, manifest: Manifest) -> None:
    (directory / "cache.json").write_bytes(manifest.to_json().encode())


SMALL = Manifest(
    spec=make_spec(vision={"model": "é", "std": [0.5, 0.25]}),
    images=(shard("images/00000.h5", 3, 4097),),
    questions=(shard("questions/00000.h5", 2, 5000, 7),),
    splits={"val": table(5, 900)},
    failures=(Failure("9", "row 9", "truncated"),),
)
