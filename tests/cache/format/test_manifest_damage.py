"""A cache.json that was changed, or is none, is refused."""

import json
import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache import CacheDamagedError, CacheError
from frozen_vqa.cache.disk.integrity import load_manifest
from frozen_vqa.cache.format.manifest import (
    FORMAT,
    MOST_SHARDS,
    MOST_SPLITS,
    Manifest,
    _digest_body,
    require_few,
)
from tests.support.caches import make_spec
from tests.support.manifests import SMALL, save, shard, table


def test_no_changed_byte_goes_unnoticed(tmp_path: Path) -> None:
    save(tmp_path, SMALL)
    path = tmp_path / "cache.json"
    data = path.read_bytes()
    refused = 0
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        try:
            found = load_manifest(tmp_path)
        except CacheError:
            refused += 1
        else:
            assert found == SMALL  # as when white space became other white space
    assert refused > len(data) / 2
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(CacheDamagedError, match="not a cache manifest"):
            load_manifest(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"7", b"null", b'{"format": 1}', b"\xff", b"[" * 10**5]
)
def test_a_file_that_is_no_manifest_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_bytes(data)

    with pytest.raises(CacheDamagedError, match=r"cache\.json: not a cache manifest"):
        load_manifest(tmp_path)


def test_a_changed_value_is_told_from_a_file_that_is_no_manifest(tmp_path: Path) -> None:
    save(tmp_path, SMALL)
    path = tmp_path / "cache.json"
    path.write_text(path.read_text().replace('"float16"', '"float32"'))

    with pytest.raises(
        CacheDamagedError,
        match=r"its content has another digest.*`cp .*cache.copy.json .*verify-cache",
    ):
        load_manifest(tmp_path)


def save_body(directory: Path, **changes: Any) -> None:
    """Write a manifest with other content and the digest that goes with it."""
    save(directory, SMALL)
    path = directory / "cache.json"
    body = {**json.loads(path.read_text()), **changes}
    del body["xxh3"]
    path.write_text(json.dumps(body | {"xxh3": _digest_body(body)}))


def test_a_body_with_its_digest_is_read(tmp_path: Path) -> None:
    save_body(tmp_path)

    assert load_manifest(tmp_path) == SMALL


@pytest.mark.parametrize(
    ("version", "made_by"),
    [
        (2, "An older version made it and still reads it"),
        (FORMAT + 1, "A newer version made it: update this one"),
        (0, "No version writes such a one"),
        ("1", "No version writes such a one"),
        (None, "No version writes such a one"),
    ],
)
def test_another_format_is_refused(version: object, made_by: str, tmp_path: Path) -> None:
    save_body(tmp_path, format=version)

    with pytest.raises(
        CacheError,
        match=rf"format {version!r}, .* reads formats 5 and {FORMAT}\. {made_by}.*\. Or run the "
        r"extract-features command .* another --cache\.$",
    ):
        load_manifest(tmp_path)


def record(**changes: object) -> dict[str, object]:
    return {**vars(shard("images/00000.h5", 1, 2000)), **changes}


def split_record(**changes: object) -> dict[str, object]:
    return {**vars(table(1, 2)), **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": {}},
        {"spec": None},
        {"images": 7},
        {"images": [record(colour="red")]},
        {"images": [{"file": "images/00000.h5"}]},
        {"images": [record(file="../../secret")]},
        {"images": [record(file="/etc/passwd")]},
        {"images": [record(file="images/..")]},
        {"questions": [record(file="elsewhere/00000.h5")]},
        *(
            {"splits": {name: split_record()}}
            for name in ("", ".", "..", "../val", "/val", "a/b", "val\0", "\x1b[2J", "v" * 300)
        ),
        {"splits": {"val": split_record(file="splits/a/b.h5")}},
        {"splits": {"val": split_record(file="images/00000.h5")}},
        {"splits": {"val": split_record(origin="jsonl:DATA")}},
        {"splits": {"val": split_record(rows=1.0)}},
        {"images": [record(largest="[red]")]},
        {"images": [record(largest=float("nan"))]},
        {"images": [record(largest=10**400)]},
        {"images": [record(rows=True)]},
        {"images": [record(origin={"limit": float("nan")})]},
        {"images": [record(file="images/\u0660\u0660\u0660\u0660\u0660.h5")]},
        {"splits": {"val": split_record(tokens=10**400)}},
        {"splits": {"val": split_record(left_out=-1)}},
        {"spec": {**vars(make_spec()), "grid": [True, True]}},
        {"images": [record(file="images/" + "0" * 300 + ".h5")]},
        {"images": [record(file="images/mine.h5")]},
        {"splits": {"val": split_record(file="splits/a\x1b[2Jb.h5")}},
        {"splits": {"val": split_record(file="splits/\ud800.h5")}},
        {"images": [record(rows=-1)]},
        {"images": [record(bytes=2**60)]},
        {"images": [record(xxh3=None)]},
        {"images": [record(datasets=None)]},
        {"splits": {"val": split_record(datasets=[])}},
        {"images": [record(file="images/a\0b")]},
        {"spec": {**vars(make_spec()), "grid": [2**40, 2**40]}},
        {"spec": {**vars(make_spec()), "vision_dim": 0}},
        {"spec": {**vars(make_spec()), "vision": []}},
        {"failures": [{"id": 1.5, "where": "", "reason": ""}]},
        {"failures": [{"id": 1, "where": None, "reason": ""}]},
        {"splits": []},
        {"failures": [{"image_id": "1"}]},
    ],
)
def test_a_manifest_from_elsewhere_with_other_entries_is_refused(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    save_body(tmp_path, **changes)

    with pytest.raises(CacheDamagedError, match=r"cache\.json: not a cache manifest"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_number_beyond_all_floats_is_refused(number: str, tmp_path: Path) -> None:
    """Python reads it as infinity, which `inspect-cache --json` could not print."""
    save_body(tmp_path, images=[record(origin={"limit": float(number)})])
    path = tmp_path / "cache.json"
    path.write_text(path.read_text().replace(json.dumps(float(number)), number))

    with pytest.raises(CacheDamagedError, match=r"not a cache manifest \(a number in it is"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("changes", [{"k" * 10**6: 1}, {"file": "0" * 10**6}])
def test_a_message_about_a_manifest_from_elsewhere_is_short(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    save_body(tmp_path, images=[record(**changes)])

    with pytest.raises(CacheDamagedError, match="not a cache manifest") as raised:
        load_manifest(tmp_path)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_no_reader_takes_is_not_written(number: float) -> None:
    spec = replace(make_spec(), vision={"mean": [0.5, number]})
    with pytest.raises(CacheError, match=r"not finite .*records only finite ones\. Give another"):
        Manifest(spec=spec).to_json()


@pytest.mark.parametrize("what", ["splits", "images", "spec"])
def test_other_entries_are_what_is_refused(what: str, tmp_path: Path) -> None:
    """The entries that the test above spoils are read when they are whole."""
    whole = {"splits": {"val": split_record()}, "images": [record()], "spec": vars(make_spec())}
    save_body(tmp_path, **{what: whole[what]})

    load_manifest(tmp_path)


def test_a_missing_manifest_with_a_copy_says_how_to_bring_it_back(tmp_path: Path) -> None:
    (tmp_path / "cache.copy.json").write_bytes(SMALL.to_json().encode())
    with pytest.raises(CacheDamagedError, match=r"it is missing, but its copy .*`cp ") as raised:
        load_manifest(tmp_path)

    command = str(raised.value).split("`")[1]
    subprocess.run(shlex.split(command), check=True)
    assert load_manifest(tmp_path) == SMALL


def test_a_manifest_beyond_all_measure_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "cache.json").open("wb") as file:
        file.truncate(65 << 20)

    with pytest.raises(CacheError, match=r"cannot be read \(more than 67,108,864 bytes\)"):
        load_manifest(tmp_path)


def test_a_deep_manifest_is_refused(tmp_path: Path) -> None:
    for depth in (500, 990, 2000, 10**5):
        deep = "[" * depth + "]" * depth
        (tmp_path / "cache.json").write_text(f'{{"format": {FORMAT}, "xxh3": "", "spec": {deep}}}')
        with pytest.raises(CacheDamagedError):
            load_manifest(tmp_path)


def test_a_pipe_in_place_of_a_manifest_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cache.json")

    with pytest.raises(CacheError, match=r"cache\.json: cannot be read \(not a regular file\)"):
        load_manifest(tmp_path)


def test_a_missing_cache_says_how_to_make_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for place in (tmp_path, tmp_path / "absent", file):
        with pytest.raises(CacheError, match=f"{place}: .*cache.*extract-features --cache FOLDER"):
            load_manifest(place)


def test_a_manifest_that_cannot_be_read_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "cache.json").mkdir()

    with pytest.raises(CacheError, match=r"cache\.json: cannot be read \(not a regular file\)"):
        load_manifest(tmp_path)


@pytest.mark.parametrize(("splits", "shards"), [(MOST_SPLITS + 1, 0), (0, MOST_SHARDS + 1)])
def test_a_cache_has_no_more_splits_and_shards_than_commands_can_go_through(
    splits: int, shards: int
) -> None:
    require_few(MOST_SPLITS, MOST_SHARDS)
    with pytest.raises(CacheError, match=f"{splits:,} splits and {shards:,} shards; a cache has"):
        require_few(splits, shards)
