"""A converted cache is what an extraction would have made, however often it was killed."""

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozen_vqa.cache import CacheError, CacheWriter, FeatureCache
from frozen_vqa.cache.format.quantise import dequantise
from frozen_vqa.cache.format.spec import DTYPES, Dtype
from frozen_vqa.pipeline.batches.dataset import FeatureDataset
from frozen_vqa.pipeline.commands.convert_cache import convert_command
from tests.support import conversions
from tests.support.command import run_command
from tests.support.conversions import Wide, extracted
from tests.support.frozen import FinerImages, files
from tests.support.repository import ROOT

# Fixtures; the first is in force in every test.
no_syncs, wide = conversions.no_syncs, conversions.wide


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_from_float32_come_the_bytes_of_an_extraction(
    dtype: str, wide: Wide, tmp_path: Path
) -> None:
    before = files(wide.source)
    found = convert_command(wide.source, cache=tmp_path / "new", dtype=dtype)

    expected = files(extracted(tmp_path / "extracted", dtype)) if dtype != "int8" else wide.int8
    assert files(tmp_path / "new") == expected
    assert files(wide.source) == before
    assert len([name for name in expected if name.startswith("images/")]) == 3
    total = len([name for name in expected if name.startswith(("images/", "questions/"))])
    assert found["shards"] == {"total": total, "converted": total}
    assert (found["from"], found["images"]) == ("float32", 6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pooled_from_float32_come_the_bytes_of_a_pooled_extraction(
    dtype: Dtype, tmp_path: Path
) -> None:
    one_shard: dict[str, Any] = {"images": FinerImages(), "shard_bytes": 1 << 20}
    source = extracted(tmp_path / "source", "float32", **one_shard)
    convert_command(source, cache=tmp_path / "new", dtype=dtype, pool=2)

    assert files(tmp_path / "new") == files(
        extracted(tmp_path / "extracted", dtype, pool=2, **one_shard)
    )
    spec = FeatureCache(tmp_path / "new").spec
    assert (spec.grid, spec.vision["pool"], spec.dtype) == ((2, 3), 2, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pooled_in_the_same_type_come_means_of_what_was_stored(
    dtype: Dtype, tmp_path: Path
) -> None:
    source = extracted(tmp_path / "source", dtype, images=FinerImages())
    convert_command(source, cache=tmp_path / "new", dtype=dtype, pool=2)

    before, after = patches_of(source), patches_of(tmp_path / "new")
    means = before.reshape(6, 2, 2, 3, 2, 5).mean((2, 4), dtype=np.float64).reshape(6, 6, 5)
    largest = np.abs(means).max(-1, keepdims=True)
    steps = {"float32": 2**-21, "float16": 2**-10, "bfloat16": 2**-7, "int8": 1.01 / 127}
    assert (np.abs(after - means) <= steps[dtype] / 2 * largest).all()
    with pytest.raises(CacheError, match=r"new: its patches are pooled already \(2 x 3 are left"):
        convert_command(tmp_path / "new", cache=tmp_path / "newer", dtype=dtype, pool=2)


def patches_of(directory: Path) -> np.ndarray:
    """All patch embeddings of a cache, as floats."""
    questions = (
        FeatureDataset(directory, "train", answers=["x"]),
        FeatureDataset(directory, "val", answers=["x"]),
    )
    found = {item.image_id: item.patch_embeddings for data in questions for item in data}
    return np.stack([found[i].float().numpy() for i in FeatureCache(directory).image_ids()])


def test_from_float16_come_the_same_rows_half_a_scale_away(tmp_path: Path) -> None:
    source = FeatureCache(extracted(tmp_path / "source", "float16"))
    convert_command(source.directory, cache=tmp_path / "new", dtype="int8")

    new = FeatureCache(tmp_path / "new")
    rows = np.arange(6)
    before = np.empty((6, 6, 5), np.float16)
    after, scales = np.empty((6, 6, 5), np.int8), np.empty((6, 6), np.float16)
    source.read_images(rows, before)
    new.read_images(rows, after, scales)
    away = np.abs(dequantise(after, scales) - before)
    assert (away <= 0.501 * scales[..., None].astype(np.float32)).all()
    assert np.abs(after).max() == 127
    np.testing.assert_array_equal(new.questions.hidden_states, source.questions.hidden_states)
    assert new.image_ids() == source.image_ids()
    assert new.manifest.failures == source.manifest.failures
    assert new.manifest.splits == source.manifest.splits  # digests of their bytes among it


def test_a_second_time_nothing_is_done(wide: Wide, tmp_path: Path) -> None:
    convert_command(wide.source, cache=tmp_path, dtype="int8")
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.is_file()}
    found = convert_command(wide.source, cache=tmp_path, dtype="int8")

    assert found["shards"]["converted"] == 0
    changed = {p.name for p, t in times.items() if p.stat().st_mtime_ns != t}
    assert changed <= {".lock"}


def test_what_the_source_has_got_since_is_added(wide: Wide, tmp_path: Path) -> None:
    source, new = tmp_path / "source", tmp_path / "new"
    extracted(source, "float32", "train", bad=(3, 8, 5))
    convert_command(source, cache=new, dtype="int8")
    assert list(FeatureCache(new).manifest.splits) == ["train"]
    extracted(source, "float32")  # with a picture that can be read by now
    convert_command(source, cache=new, dtype="int8")
    convert_command(source, cache=tmp_path / "at once", dtype="int8")

    added, at_once = FeatureCache(new).manifest, FeatureCache(tmp_path / "at once").manifest
    assert (added.images, added.questions) == (at_once.images, at_once.questions)
    assert added.failures == at_once.failures == FeatureCache(source).manifest.failures
    assert [failure.id for failure in added.failures] == ["3", "8", 9]
    for name, record in at_once.splits.items():  # a new version has a file name of its own
        assert replace(added.splits[name], file=record.file) == record


KILL_AT_SYNCS = """
import itertools, os, signal, sys
import h5py  # once, and not in every child
from pathlib import Path
from frozen_vqa.pipeline.commands.convert_cache import convert_command

def die_at(number):
    synced = itertools.count()
    def fsync(handle):
        if next(synced) == number:
            os.kill(os.getpid(), signal.SIGKILL)
    os.fsync = fsync

for number in itertools.count(0, 3):  # by turns one of a file and one of a folder
    child = os.fork()
    if child == 0:
        die_at(number)
        convert_command(Path(sys.argv[1]), cache=Path(sys.argv[2]) / str(number), dtype="int8")
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
        break
"""


@pytest.mark.stops
def test_killed_at_a_sync_a_rerun_ends_in_the_same_bytes(tmp_path: Path) -> None:
    """Forks from a process of its own, because this one may have threads."""
    source = extracted(tmp_path / "source", "float32", shard_bytes=700)
    convert_command(source, cache=tmp_path / "undisturbed", dtype="int8")
    expected = files(tmp_path / "undisturbed")
    assert len([name for name in expected if name.startswith("images/")]) == 2
    subprocess.run(
        [sys.executable, "-c", KILL_AT_SYNCS, source, tmp_path / "killed"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    killed = sorted((tmp_path / "killed").iterdir(), key=lambda path: int(path.name))

    assert files(killed[-1]) == expected  # the one that no sync was left to kill
    assert len(killed) - 1 > 15
    unfinished = 0
    for cache in killed[:-1]:
        unfinished += files(cache) != expected
        convert_command(source, cache=cache, dtype="int8")
        assert files(cache) == expected, f"killed at sync {cache.name}"
    assert unfinished >= len(killed) - 2  # the last kill may be after the last renaming


def test_what_a_stopped_conversion_of_another_cache_left_is_not_taken(
    wide: Wide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    other = extracted(tmp_path / "other", "float32", bad=("a", 6))
    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "adopt", stopped)
        with pytest.raises(KeyboardInterrupt):
            convert_command(other, cache=tmp_path / "new", dtype="int8")
    assert list((tmp_path / "new" / "images").glob("staged-*.shard"))
    convert_command(wide.source, cache=tmp_path / "new", dtype="int8")
    assert files(tmp_path / "new") == wide.int8


def test_a_person_is_told_what_was_done(wide: Wide, tmp_path: Path) -> None:
    words = ("convert-cache", wide.source, "--cache", tmp_path / "new")
    found = run_command(*words, "--dtype", "int8", "--json")

    assert found.code == 0
    said = found.json()
    assert (said["from"], said["dtype"], said["images"]) == ("float32", "int8", 6)
    assert said["bytes"] == FeatureCache(tmp_path / "new").manifest.bytes
    assert f"{said['shards']['total']} shards of {wide.source} converted" in found.err
    assert "convert, bytes: " in found.err
    again = run_command(*words)
    assert (again.code, again.out) == (0, "")
    assert "nothing to convert" in again.err
    refused = run_command(*words, "--dtype", "float16")
    assert refused.code == 1
    assert refused.err.count("\n") == 1


def test_ctrl_c_says_how_to_go_on(
    wide: Wide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("frozen_vqa.pipeline.commands.convert_cache.copy_splits", stopped)
    words = ("convert-cache", wide.source, "--cache", tmp_path / "new")
    found = run_command(*words)
    assert found.code == 130
    assert found.err.endswith(
        f"stopped; every finished shard is stored. To go on: "
        f"{shlex.join(['frozen-vqa', *map(str, words)])}\n"
    )
    assert len(FeatureCache(tmp_path / "new").manifest.images) == 3


def test_a_converted_shard_is_made_again_from_its_pictures(wide: Wide, tmp_path: Path) -> None:
    """The command that verify-cache prints is that of an extraction into int8."""
    convert_command(wide.source, cache=tmp_path, dtype="int8")
    (tmp_path / "images/00001.h5").unlink()
    found = run_command("verify-cache", tmp_path, "--json").json()["damaged"]

    (one,) = found
    assert "extract-features --dataset shapes" in one["rebuild"]
    assert "--dtype int8 --rebuild images/00001.h5" in one["rebuild"]
