"""The `inspect-cache` and `verify-cache` commands, without torch."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from cache import FeatureCache
from pipeline.display import console, progress, size


def inspect_command(path: Path) -> dict[str, Any]:
    """Show what a cache holds, from its manifest alone."""
    manifest = FeatureCache(path).manifest
    spec = manifest.spec
    table = Table("", "", title=str(path), show_header=False)
    for name, value in spec.settings().items():
        table.add_row(name, str(value))
    table.add_section()
    rows = f"{manifest.image_rows:,} pictures, {spec.grid[0]} x {spec.grid[1]} patches"
    table.add_row("images", f"{rows} of {spec.vision_dim} numbers, {len(manifest.images)} shards")
    rows = f"{manifest.question_rows:,} distinct, {manifest.prefix_rows:,} prefixes"
    table.add_row(
        "questions", f"{rows} of {spec.text_dim} numbers, {len(manifest.questions)} shards"
    )
    for name, record in manifest.splits.items():
        left = f", {record.left_out:,} left out" if record.left_out else ""
        table.add_row(f"split {name}", f"{record.rows:,} questions{left}")
    table.add_row("unreadable", f"{len(manifest.failures):,} pictures")
    largest = max((r.largest for r in (*manifest.images, *manifest.questions)), default=0.0)
    table.add_row("largest value", f"{largest:g}")
    table.add_row("on disk", size(manifest.bytes))
    console.print(table)
    return {
        "cache": str(path),
        "settings": spec.settings(),
        "images": {"rows": manifest.image_rows, "shards": len(manifest.images)},
        "questions": {
            "distinct": manifest.question_rows,
            "prefixes": manifest.prefix_rows,
            "shards": len(manifest.questions),
        },
        "splits": {
            name: {"questions": record.rows, "left_out": record.left_out}
            for name, record in manifest.splits.items()
        },
        "failures": [asdict(failure) for failure in manifest.failures],
        "largest": largest,
        "bytes": manifest.bytes,
    }


def verify_command(path: Path) -> dict[str, Any]:
    """Compare every byte of a cache with the digests in its manifest."""
    cache = FeatureCache(path)
    damaged: list[str] = []
    with progress("verify", len(cache.files())) as advance:
        for record in cache.files():
            problem = cache.problem_with(record)
            damaged += [problem] if problem else []
            advance()
    for problem in damaged:
        console.print(problem, markup=False, soft_wrap=True)
    if not damaged:
        console.print(
            f"{path}: {len(cache.files())} files, {size(cache.manifest.bytes)}, all sound",
            soft_wrap=True,
        )
    return {"cache": str(path), "files": len(cache.files()), "damaged": damaged}
