"""Caches whose records fill pages, with made-up records or real shards."""

from pathlib import Path

import pytest

from frozen_vqa.cache import Manifest
from frozen_vqa.cache.disk import pages
from frozen_vqa.cache.disk.pages import fill_pages
from frozen_vqa.cache.format.small_files import small_files
from tests.support.caches import make_spec
from tests.support.manifests import shard

PAGE = 3


def small_pages(monkeypatch: pytest.MonkeyPatch, size: int = PAGE) -> None:
    monkeypatch.setattr(pages, "PAGE", size)


def made_up(images: int, questions: int = 0) -> Manifest:
    """A manifest of so many shards, each of its own size."""
    return Manifest(
        spec=make_spec(),
        images=[shard(f"images/{i:05d}.h5", i, 5000 + i) for i in range(images)],
        questions=[shard(f"questions/{i:05d}.h5", 1, 900 + i, i) for i in range(questions)],
    )


def write(directory: Path, manifest: Manifest) -> Manifest:
    """Write cache.json with its pages and copies; return what it holds."""

    def put(name: str, data: bytes) -> None:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)

    filled = fill_pages(directory, manifest, put)
    for name, data in small_files(filled).items():
        put(name, data)
    return filled
