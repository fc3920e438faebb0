"""A manifest that claims more than is there: what is allocated is what is there."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from frozen_vqa.cache import load_manifest
from frozen_vqa.cache.errors import CacheError
from frozen_vqa.cache.format.manifest import LARGEST_CACHE, Manifest, parse_manifest
from frozen_vqa.cache.format.records.files import KINDS, ShardKind
from tests.support.attack import attack
from tests.support.command import error_of, run_command
from tests.support.tiny_commands import _home  # noqa: F401 - a fixture

ROWS = 10**10
"""A list, or an array of numbers, of so many fills 80 GB."""

ON_A_PART = (
    "evaluate --run @/run --cache @/cache --cluster-by folder",
    "train-head --cache @/cache --run @/new --epochs 1 --width 8 --min-answer-count 1 "
    "--train-split train --val-fraction 0.3",
    "inspect-cache @/cache",
    "verify-cache @/cache --sample 2",
)


def claiming(cache: Path, **claims: int) -> Manifest:
    """Return the manifest of a part that says that it lacks one shard of so many rows."""
    manifest = load_manifest(cache)
    size = ROWS * manifest.spec.image_row_bytes
    record = replace(manifest.images[0], file="images/00099.h5", rows=ROWS, bytes=size, **claims)
    more = manifest.with_shard("images", len(manifest.images), record)
    return replace(more, absent=(record.file,))


@pytest.mark.parametrize("command", ON_A_PART)
def test_rows_that_a_part_lacks_take_no_memory(place: Path, tmp_path: Path, command: str) -> None:
    for name in ("cache", "run"):
        shutil.copytree(place / name, tmp_path / name)
    text = claiming(tmp_path / "cache").to_json()
    for name in ("cache.json", "cache.copy.json"):
        (tmp_path / "cache" / name).write_text(text)
    writes = [tmp_path / "run", tmp_path / "new"]
    found = attack(*command.replace("@", str(tmp_path)).split(), place=tmp_path, writes=writes)
    found.require_harmless()
    asks_for_folders = "folder" in command
    assert found.finished.code == asks_for_folders, found.finished.err
    if asks_for_folders:
        assert "no picture of this split has a folder" in error_of(found.finished)


def test_shards_of_a_url_that_nobody_has_seen_take_no_memory(place: Path, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/there"
    assert run_command("push", place / "cache", "--to", url).code == 0
    manifest = load_manifest(place / "cache")
    size = ROWS * manifest.spec.prefix_row_bytes
    record = replace(manifest.questions[0], file="questions/00099.h5", prefixes=ROWS, bytes=size)
    forged = manifest.with_shard("questions", len(manifest.questions), record)
    (tmp_path / "there/cache.json").write_text(forged.to_json())
    words = ("train-head", "--cache", url, "--run", tmp_path / "new", "--stage", tmp_path / "stage")
    writes = [tmp_path / "new", tmp_path / "stage"]
    found = attack(*words, "--min-answer-count", 1, place=tmp_path, writes=writes)
    assert "hidden states of 128 numbers, which do not fit" in found.require_harmless()


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_of_absurd_sums_is_refused(kind: ShardKind, place: Path, tmp_path: Path) -> None:
    manifest = load_manifest(place / "cache")
    for number in range(5):
        record = replace(manifest.shards(kind)[0], file=f"{kind}/9{number:04}.h5", bytes=2**48 - 1)
        manifest = manifest.with_shard(kind, len(manifest.shards(kind)), record)
    with pytest.raises(CacheError, match=rf"a cache has at most {LARGEST_CACHE:,}"):
        parse_manifest(tmp_path / "cache.json", manifest.to_json().encode())
