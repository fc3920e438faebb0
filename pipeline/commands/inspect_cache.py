"""The `inspect-cache` and `verify-cache` commands, without torch."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from frozen_vqa.cache import Manifest, load_manifest
from frozen_vqa.cache.arrivals import arrivals_of, shown
from frozen_vqa.cache.format.parts import Part, labels
from frozen_vqa.cache.format.records.files import KINDS
from frozen_vqa.cache.left_out import left_out_of
from frozen_vqa.cache.verify import Damage, check_copies, check_file, draw_files, verify
from frozen_vqa.pipeline.extract.origin import rebuild_command
from frozen_vqa.pipeline.extract.speed.throughput import read_throughputs
from frozen_vqa.pipeline.system.console import console, progress, size

SHOWN = 5


def naive_bytes(manifest: Manifest) -> int:
    """Return the bytes of a cache that would store both features of every question separately."""
    spec = manifest.spec
    return sum(
        record.rows * spec.image_row_bytes + record.tokens * spec.prefix_row_bytes
        for record in manifest.splits.values()
    )


def inspect_command(path: Path) -> dict[str, Any]:
    """Show the content of a cache, from its manifest alone, and the speed of its extraction."""
    manifest = load_manifest(path)
    spec = manifest.spec
    table = Table("", "", title=shown(path), show_header=False)

    def add(name: str, value: object) -> None:
        table.add_row(name, str(value))

    for name, value in spec.settings().items():
        add(name, value)
    table.add_section()
    rows = f"{manifest.image_rows:,} pictures, {spec.grid[0]} x {spec.grid[1]} patches"
    add(
        "images",
        f"{rows} of {spec.vision_dim} numbers{_parts(spec.vision_parts)}, "
        f"{len(manifest.images)} shards",
    )
    rows = f"{manifest.question_rows:,} distinct, {manifest.prefix_rows:,} prefixes"
    add(
        "questions",
        f"{rows} of {spec.text_dim} numbers{_parts(spec.text_parts)}, "
        f"{len(manifest.questions)} shards",
    )
    for name, record in manifest.splits.items():
        found = left_out_of(manifest, name, ())
        reasons = f"{len(found.unusable):,} unusable, {found.without_picture:,} without a picture"
        left = f", {len(found):,} left out ({reasons})" if found else ""
        dataset = record.origin.get("dataset")
        origin = f", from {dataset}" if dataset else ""
        add(f"split {name}", f"{record.rows:,} questions{left}{origin}")
    table.add_section()
    for kind in KINDS:
        values = sorted(set(manifest.shards(kind).column("largest")))
        span = " to ".join(f"{value:g}" for value in (values[:1] + values[1:][-1:]))
        add(f"largest value, {kind}", f"{span} by shard" if values[1:] else span or "-")
    for name, drift in _drifts(manifest):
        add(f"drift{name}", f"patch embeddings are {drift:.2%} (relative L2) from those of float32")
    naive = naive_bytes(manifest)
    ratio = f" ({naive / manifest.bytes:.1f} times as much)" if manifest.bytes and naive else ""
    if manifest.absent:
        add("a part", f"{len(manifest.absent):,} shards of pictures are not here")
    add("on disk", size(manifest.bytes))
    add("stored per question", size(naive) + ratio)
    pictures = sum(not failure.split for failure in manifest.failures)
    add("failures", f"{pictures:,} pictures, {len(manifest.failures) - pictures:,} questions")
    runs = read_throughputs(path, SHOWN)
    for run in runs[-1:]:
        add(f"last extraction, {run.started}", run)
    console.show(table)
    for failure in manifest.failures[:SHOWN]:
        console.show(f"  {failure.where}: {failure.reason}")
    if len(manifest.failures) > SHOWN:
        more = len(manifest.failures) - SHOWN
        console.show(f"  and {more:,} more in {path / 'failures.jsonl'}")
    return _inspected(path, manifest, naive) | {"extractions": [run.to_json() for run in runs]}


def _inspected(path: Path, manifest: Manifest, naive: int) -> dict[str, Any]:
    return {
        "cache": shown(path),
        "settings": manifest.spec.settings(),
        "parts": {
            "vision": labels(manifest.spec.vision_parts),
            "text": labels(manifest.spec.text_parts),
        },
        "images": {"rows": manifest.image_rows, "shards": len(manifest.images)},
        "questions": {
            "distinct": manifest.question_rows,
            "prefixes": manifest.prefix_rows,
            "shards": len(manifest.questions),
        },
        "splits": {
            name: {
                "questions": record.rows,
                "left_out": record.left_out,
                "tokens": record.tokens,
                "origin": dict(record.origin),
            }
            for name, record in manifest.splits.items()
        },
        "failures": [failure.to_json() for failure in manifest.failures],
        "largest": {
            file: value
            for shards in map(manifest.shards, KINDS)
            for file, value in zip(shards.column("file"), shards.column("largest"), strict=True)
        },
        "bytes": manifest.bytes,
        "naive_bytes": naive,
    }


def _parts(parts: Sequence[Part]) -> str:
    """Return the names and sizes of parts, if there are several."""
    if len(parts) == 1:
        return ""
    each = (f"{name} {part.dim}" for name, part in zip(labels(parts), parts, strict=True))
    return f" ({', '.join(each)})"


def _drifts(manifest: Manifest) -> list[tuple[str, float]]:
    """Return the drifts that shards record, after the encoder's name if there are several."""
    origins = manifest.shards("images").origins()
    found = {("", origin.get("drift", 0.0)) for origin in origins} - {("", 0.0)}
    for origin in origins:
        found |= {(f" of {name}", one) for name, one in origin.get("drifts", {}).items()}
    return sorted(found)


def verify_command(path: Path, sample: int | None = None) -> dict[str, Any]:
    """Compare every byte of a cache with its digests; name the damaged files and the remedies.

    With `sample`, read so many shards and splits only, drawn by chance.
    """
    manifest = load_manifest(path)
    every = len(manifest.images) + len(manifest.questions) + len(manifest.splits)
    read = manifest.files if sample is None else draw_files(manifest, sample)
    files, total = {record.file for record in read}, sum(record.bytes for record in read)
    damaged: list[Damage] = []
    with progress("verify, bytes", total) as advance:
        for record, damage in verify(path, manifest, read):
            damaged += [damage] if damage else []
            advance(record.bytes, note=f"{len(damaged)} files damaged" if damaged else "")
    if damaged or check_copies(path, manifest):
        manifest, damaged = _still_damaged(path, damaged)
        files |= set() if sample else {record.file for record in manifest.files}
    found = [asdict(d) | {"rebuild": _remedy(path, manifest, d.file)} for d in damaged]
    found += [{"file": d.file, "reason": d.reason} for d in check_copies(path, manifest)]
    for one in found:
        _show(path, one)
    if not found:
        of = f" of {every:,}" if len(files) < every else ""
        console.show(f"{shown(path)}: {len(files):,}{of} files, {size(total)}, all sound")
    return {"cache": shown(path), "files": len(files), "bytes": total, "damaged": found}


def _still_damaged(path: Path, damaged: Sequence[Damage]) -> tuple[Manifest, list[Damage]]:
    """Check the damaged files again, in order: an extraction may have changed the cache."""
    time.sleep(0.2)  # it writes its small files one after the other
    manifest = load_manifest(path)
    files = {damage.file for damage in damaged}
    if arrivals := arrivals_of(path):  # at the URL they may be whole
        for record in manifest.files:
            if record.file in files:
                arrivals.forget(record)
    again = (check_file(path, manifest, r) for r in manifest.files if r.file in files)
    return manifest, [damage for damage in again if damage]


def _remedy(path: Path, manifest: Manifest, file: str) -> str:
    """Return the command that makes a damaged file again, or sends it again to a URL."""
    if arrivals := arrivals_of(path):
        return shlex.join(["frozen-vqa", "push", "CACHE", "--to", arrivals.address])
    return rebuild_command(path, manifest, file)


def _show(path: Path, found: dict[str, Any]) -> None:
    console.show(f"{shown(path)}/{found['file']}: {found['reason']}")
    for what in ("rows", "names"):
        if found.get(what):
            some = ", ".join(map(str, found[what][:SHOWN]))
            more = f", and {len(found[what]) - SHOWN:,} more" if len(found[what]) > SHOWN else ""
            console.show(f"  {what}: {some}{more}")
    if "rebuild" in found:
        console.show(f"  to make it again: {found['rebuild']}")
