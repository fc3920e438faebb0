"""What is not converted: other caches in the way, damaged rows, numbers that do not fit."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache import CacheDamagedError, CacheError, CacheMismatchError
from frozen_vqa.cache.convert import NARROWER
from frozen_vqa.cache.format.spec import DTYPES
from frozen_vqa.pipeline.commands.convert_cache import convert_command
from tests.support import conversions
from tests.support.caches import Row, extent_of, make_cache, make_spec
from tests.support.conversions import Wide, extracted
from tests.support.frozen import Images, files

# Fixtures; the first is in force in every test.
no_syncs, wide = conversions.no_syncs, conversions.wide


@pytest.mark.parametrize(
    ("stored", "asked"),
    [(stored, asked) for stored in DTYPES for asked in DTYPES if asked not in NARROWER[stored]],
)
def test_more_digits_cannot_be_had(stored: str, asked: str, tmp_path: Path) -> None:
    make_cache(tmp_path / "old", {"val": [Row(0, 0)]}, spec=make_spec(dtype=stored))
    message = f"old: its features are stored as {stored} and cannot become {asked}. A cache can"
    with pytest.raises(CacheError, match=message):
        convert_command(tmp_path / "old", cache=tmp_path / "new", dtype=asked)
    assert not (tmp_path / "new").exists()


def of_another_dtype(place: Path, source: Path) -> str:
    convert_command(source, cache=place, dtype="float16")
    return "dtype is 'float16', asked for 'int8'"


def of_other_pictures(place: Path, source: Path) -> str:
    extracted(place, "int8", bad=("a", 6))  # as many
    return re.escape(f"{place}: it holds other images than {source}")


def of_other_origin(place: Path, source: Path) -> str:
    """The ids are the same, and what they are of is not."""
    extracted(place, "int8", origin={"dataset": "others"})
    return re.escape(f"{place}: it holds other images than {source}")


@pytest.mark.parametrize("fill", [of_another_dtype, of_other_pictures, of_other_origin])
def test_a_cache_that_holds_something_else_is_refused(
    fill: Callable[[Path, Path], str], wide: Wide, tmp_path: Path
) -> None:
    message = fill(tmp_path / "there", wide.source)
    before = files(tmp_path / "there")
    with pytest.raises(CacheMismatchError, match=message):
        convert_command(wide.source, cache=tmp_path / "there", dtype="int8")
    assert files(tmp_path / "there") == before


@pytest.mark.parametrize(
    ("file", "dataset"),
    [
        ("images/00001.h5", "patch_embeddings"),
        ("images/00001.h5", "cls"),
        ("questions/00000.h5", "hidden_states"),
    ],
)
def test_a_damaged_row_is_not_converted(
    file: str, dataset: str, wide: Wide, tmp_path: Path
) -> None:
    source = shutil.copytree(wide.source, tmp_path / "source")
    data = bytearray((source / file).read_bytes())
    offset, row_bytes = extent_of(source / file, dataset)
    data[offset + row_bytes] ^= 1  # in row 1
    (source / file).write_bytes(data)

    with pytest.raises(CacheDamagedError, match=rf"{file}: row 1 differs.*verify-cache"):
        convert_command(source, cache=tmp_path / "new", dtype="int8")
    (source / file).write_bytes((wide.source / file).read_bytes())
    convert_command(source, cache=tmp_path / "new", dtype="int8")
    assert files(tmp_path / "new") == wide.int8


def test_what_float16_cannot_hold_is_refused_with_its_picture(tmp_path: Path) -> None:
    extracted(tmp_path / "source", "float32", images=Images(scale=1e5))
    message = "patch embeddings of image '7' .*not finite in float16, .*--dtype bfloat16"
    with pytest.raises(CacheError, match=message):
        convert_command(tmp_path / "source", cache=tmp_path / "new", dtype="float16")
    convert_command(tmp_path / "source", cache=tmp_path / "wide", dtype="bfloat16")


def test_a_disk_that_is_too_small_is_refused_before_any_work(
    wide: Wide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage: Any = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(CacheError, match=r"new: the missing features need .*, but 100 B are free"):
        convert_command(wide.source, cache=tmp_path / "new", dtype="int8")
    assert set(files(tmp_path / "new")) == {"cache.json", "cache.copy.json"}
