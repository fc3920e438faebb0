"""Forged files of caches and of extractions: manifests, shards, splits, links, staged chunks."""

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, is_typeddict

from frozen_vqa.cache import CacheSpec
from frozen_vqa.cache.disk.integrity import load_manifest
from frozen_vqa.cache.disk.row_names import read_names
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.manifest import _digest_body
from frozen_vqa.cache.format.records.files import ShardRecord, SplitRecord
from frozen_vqa.pipeline.extract.throughput import Throughput
from tests.support import hostile
from tests.support.caches import Row, make_cache
from tests.support.forged_values import TEXTS, Edit, below, forgeries, replaced, written

Change = Callable[[Path], object]


def edit_manifest(path: Path, change: Callable[[Any], object]) -> None:
    """Change a manifest, with the digest of what it holds now, and its copy."""
    value = json.loads(path.read_bytes())
    value.pop("xxh3")
    change(value)
    if isinstance(value, dict):
        value["xxh3"] = _digest_body(value)
    for name in ("cache.json", "cache.copy.json"):
        path.with_name(name).write_text(json.dumps(value))


def names(kind: type) -> list[str]:
    return list(kind.__annotations__) if is_typeddict(kind) else [one.name for one in fields(kind)]


PLACES = [
    *below((), ("format", "spec", "images", "questions", "splits", "failures")),
    *below(("spec",), names(CacheSpec)),
    *below(("images", 0), names(ShardRecord)),
    *below(("questions", 0), names(ShardRecord)),
    *below(("splits", "val"), names(SplitRecord)),
    *below(("images", 0, "datasets"), ("patch_embeddings", "image_id_utf8")),
    *below(("spec", "vision"), ("model", "image size")),
]

ELSEWHERE = (
    "../secret/folder",
    "../../secret/x",
    "/etc/x",
    "..",
    ".",
    "",
    "a/b",
    "a/../../secret/folder",
    "val\0",
    "\x1b[31mred",
    "x" * 300,
    "é" * 200,
    "-rf",
    "~root",
    "$HOME",
    "con\nfig",
    "\ud83d",
)
"""Names that could become paths."""


def renamed(name: str) -> Change:
    """Give the split `val` another name."""
    return lambda folder: edit_manifest(
        folder / "cache/cache.json",
        lambda found: found["splits"].update({name: found["splits"].pop("val")}),
    )


def pointing(kind: str, file: str) -> Change:
    def point(found: Any) -> None:
        record = found["splits"]["val"] if kind == "splits" else found[kind][0]
        record["file"] = file

    return lambda folder: edit_manifest(folder / "cache/cache.json", point)


FILES = (
    "../secret/file",
    "images/../../secret/folder/00000.h5",
    "/etc/hostname",
    "images/00000.h5\0",
    "images//00000.h5",
    "splits/../cache.json",
    "images/\x1b[2J.h5",
    "images",
)


def shard(file: str, change: Callable[[bytes], bytes]) -> Change:
    """Change the bytes of a file, and let the manifest record them as they are now."""

    def forge(folder: Path) -> None:
        path = folder / "cache" / file
        data = change(path.read_bytes())
        path.write_bytes(data)

        def record(found: Any) -> None:
            for one in (*found["images"], *found["questions"], *found["splits"].values()):
                if one["file"] == file:
                    one.update(bytes=len(data), xxh3=digest(data))

        edit_manifest(folder / "cache/cache.json", record)

    return forge


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "no bytes": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "ones": lambda data: b"\xff" * len(data),
    "twice": lambda data: data + data,
    "its end turned": lambda data: data[: len(data) // 2] + data[: len(data) // 2 - 1 : -1],
    "huge numbers": lambda data: data[:2048] + b"\x7f" * (len(data) - 2048),
    "a megabyte more": lambda data: data + bytes(1 << 20),
}


def with_texts(text: str) -> Change:
    """A whole cache whose types and names are hostile."""

    def forge(folder: Path) -> None:
        shutil.rmtree(folder / "cache")
        rows = [Row(i, i, (text or "a",) * 10, text, text) for i in range(2)]
        make_cache(folder / "cache", {"train": rows, "val": rows}, dataset=text)

    return forge


def many_splits(folder: Path) -> None:
    def more(found: Any) -> None:
        found["splits"] |= {f"s{i}": found["splits"]["val"] for i in range(60_000)}

    edit_manifest(folder / "cache/cache.json", more)


def many_failures(folder: Path) -> None:
    one = {"id": 1, "where": "x" * 50, "reason": "y" * 50, "split": ""}
    edit_manifest(folder / "cache/cache.json", lambda found: found.update(failures=[one] * 200_000))


CACHE: dict[str, Change] = {
    **forgeries("cache/cache.json", PLACES, edit_manifest, each=2),
    **{f"split named {name!a:.40}": renamed(name) for name in ELSEWHERE},
    **{
        f"{kind} in {file!a}": pointing(kind, file)
        for kind in ("images", "splits")
        for file in FILES
    },
    **written("cache/cache.json", TEXTS),
    **written("cache/.frozen-vqa", TEXTS | {"a path": "../secret/file\n/etc/hostname\n"}),
    **{
        f"{file} of {name}": shard(file, change)
        for file in ("images/00000.h5", "questions/00000.h5", "splits/val.h5")
        for name, change in BYTES.items()
    },
    **{f"texts that are {name}": with_texts(text) for name, text in hostile.STORED.items()},
    **dict(
        replaced(
            f"cache/{name}"
            for name in (
                *("cache.json", "cache.copy.json", ".frozen-vqa", ".lock"),
                *("images", "splits", "images/00000.h5", "questions/00000.h5", "splits/val.h5"),
            )
        )
    ),
    "60,000 splits": many_splits,
    "200,000 failures": many_failures,
    "63 MB of brackets": lambda f: (f / "cache/cache.json").write_bytes(b"[" * (63 << 20)),
    "63 MB of numbers": lambda f: (f / "cache/cache.json").write_bytes(
        b"[" + b"1," * (31 << 20) + b"1]"
    ),
}

CHUNK = "extracted/cache/images/staged-0123456789abcdef"


def staged(change: Callable[[Any], object]) -> Change:
    """Leave a staged chunk in the cache, which nothing there asks for."""

    def forge(folder: Path) -> None:
        shard = (folder / "extracted/cache/images/00000.h5").read_bytes()
        (folder / f"{CHUNK}.shard").write_bytes(shard)
        manifest = load_manifest(folder / "extracted/cache")
        names = read_names(folder / "extracted/cache", manifest, "images")
        record = {"record": vars(manifest.images[0]), "names": names, "failures": []}
        change(record)
        body = json.dumps(record)
        sealed = {"staged": body, "xxh3": digest(body.encode(errors="surrogatepass"))}
        (folder / f"{CHUNK}.json").write_text(json.dumps(sealed))

    return forge


def _edit_staged(path: Path, change: Callable[[Any], object]) -> None:
    staged(change)(path.parents[3])


def _edit_log(path: Path, change: Callable[[Any], object]) -> None:
    line = json.loads(path.read_text().splitlines()[-1])
    change(line)
    path.write_text(json.dumps(line) + "\n")


def _edit_extracted(path: Path, change: Callable[[Any], object]) -> None:
    edit_manifest(path, change)


EXTRACTED: Edit = _edit_extracted
EXTRACTION: dict[str, Change] = {
    **forgeries(
        f"{CHUNK}.json",
        below((), ("record", "names", "failures")) + below(("record",), names(ShardRecord)),
        _edit_staged,
        each=2,
    ),
    **forgeries(
        "extracted/cache/extractions.jsonl", below((), names(Throughput)), _edit_log, each=2
    ),
    **forgeries(
        "extracted/cache/cache.json",
        [
            *below(("failures", 0), ("id", "where", "reason", "split")),
            *below(("images", 0, "origin"), ("dataset",)),
            *below(("splits", "train", "origin"), ("dataset",)),
        ],
        EXTRACTED,
        each=4,
    ),
    **written("extracted/cache/extractions.jsonl", TEXTS),
    **dict(
        replaced(
            f"extracted/cache/{name}"
            for name in (
                *("extractions.jsonl", "failures.jsonl", "images", "questions", "splits"),
                *("images/staged-0123456789abcdef.json", "splits/train.h5"),
            )
        )
    ),
}
