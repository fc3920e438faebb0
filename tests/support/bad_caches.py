"""The rows of docs/bad-inputs.md about caches: each file of one, changed in each way."""

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from frozen_vqa.cache import CacheError, CacheWriter, Failure, FeatureCache, load_manifest
from frozen_vqa.cache.verify import check_copies
from tests.support.bad_inputs import REFUSED, Row
from tests.support.caches import make_spec
from tests.support.several_shards import ROWS, SPLIT, read, write

TOLD = "found by `verify-cache`, exit 1"
READ = {
    "shard of pictures": "images/00000.h5",
    "shard of questions": "questions/00000.h5",
    "table of a split": "splits/val.h5",
    "`cache.json`": "cache.json",
}
COPIES = {"`cache.copy.json`": "cache.copy.json", "`failures.jsonl`": "failures.jsonl"}


def anew(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


def edit(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


CHANGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": edit(lambda data: b""),
    "one bit flipped": edit(lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]),
    "cut short": edit(lambda data: data[:-5]),
    "longer": edit(lambda data: data + b"\n?"),
    "all zeros": edit(lambda data: bytes(len(data))),
    "a folder": anew(Path.mkdir),
    "a pipe": anew(os.mkfifo),
    "a link to nothing": anew(lambda path: path.symlink_to("nothing")),
    "a link to itself": anew(lambda path: path.symlink_to(path.name)),
}


@cache
def whole() -> tempfile.TemporaryDirectory:
    """A sound cache, which cases copy."""
    made = tempfile.TemporaryDirectory()
    write(Path(made.name))
    with CacheWriter(Path(made.name), make_spec()) as writer:
        failures = [Failure(7, "row 7", "question is missing", "val")]
        writer.set_split("val", SPLIT, left_out=1, failures=failures)
    return made


def case(file: str, change: Callable[[Path], object]) -> Callable[[Path], Row]:
    def make(folder: Path) -> Row:
        directory = folder / "features"
        shutil.copytree(whole().name, directory)
        change(directory / file)
        try:
            features = FeatureCache(directory)
            features.split("val")
            read(features, list(range(ROWS)))
            for row in range(len(features.questions.texts)):
                features.questions.states(row)
        except CacheError as error:
            return REFUSED, str(error)
        (damage,) = check_copies(directory, load_manifest(directory))
        return TOLD, f"{directory / damage.file}: {damage.reason}"

    return make


CACHES = {
    f"{what}: {how}": case(file, change)
    for what, file in {**READ, **COPIES}.items()
    for how, change in CHANGES.items()
}
