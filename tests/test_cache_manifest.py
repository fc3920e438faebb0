"""cache.json comes back as it was written, or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest
from caches import make_spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache import CacheDamagedError, CacheError, CacheMismatchError, CacheSpec, Failure
from cache.manifest import FORMAT, FileRecord, Manifest, _body_digest, load_manifest

counts = st.integers(0, 2**50)
texts = st.text(max_size=8)


def records(folder: str) -> st.SearchStrategy[FileRecord]:
    return st.builds(
        FileRecord,
        file=st.integers(0, 99_999).map(lambda n: f"{folder}/{n:05d}.h5"),
        rows=counts,
        bytes=counts,
        xxh3=texts,
        prefixes=counts,
        largest=st.floats(allow_nan=False, allow_infinity=False),
        left_out=counts,
    )


values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
manifests = st.builds(
    Manifest,
    spec=st.builds(
        CacheSpec,
        vision=st.dictionaries(texts, values | st.lists(values, max_size=3), max_size=3),
        text=st.dictionaries(texts, values, max_size=3),
        grid=st.tuples(counts, counts),
        vision_dim=counts,
        text_dim=counts,
        dtype=st.sampled_from(["float16", "float32"]),
    ),
    images=st.lists(records("images"), max_size=3).map(tuple),
    questions=st.lists(records("questions"), max_size=3).map(tuple),
    splits=st.dictionaries(texts, records("splits"), max_size=3),
    failures=st.lists(st.builds(Failure, texts, texts, texts), max_size=3).map(tuple),
)

SMALL = Manifest(
    spec=make_spec(vision={"model": "é", "std": [0.5, 0.25]}),
    images=(FileRecord("images/00000.h5", 3, 4097, "ab12", largest=1.5),),
    questions=(FileRecord("questions/00000.h5", 2, 5000, "cd34", prefixes=7),),
    splits={"val": FileRecord("splits/val.h5", 5, 900, "ef56", left_out=1)},
    failures=(Failure("9", "row 9", "truncated"),),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(manifests)
def test_a_manifest_comes_back_as_it_was(tmp_path: Path, manifest: Manifest) -> None:
    manifest.save(tmp_path)

    assert load_manifest(tmp_path) == manifest
    assert list(load_manifest(tmp_path).splits) == list(manifest.splits)  # in their order


def test_rows_and_bytes_are_summed() -> None:
    manifest = Manifest(
        spec=make_spec(),
        images=(FileRecord("images/0", 3, 10, ""), FileRecord("images/1", 4, 20, "")),
        questions=(
            FileRecord("questions/0", 5, 40, "", prefixes=11),
            FileRecord("questions/1", 6, 80, "", prefixes=13),
        ),
    ).with_split("val", FileRecord("splits/val.h5", 100, 160, ""))

    assert (manifest.image_rows, manifest.question_rows, manifest.prefix_rows) == (7, 11, 24)
    assert manifest.bytes == 10 + 20 + 40 + 80 + 160


@pytest.mark.parametrize(("dtype", "size"), [("float16", 2), ("float32", 4)])
def test_the_size_of_a_row(dtype: str, size: int) -> None:
    spec = make_spec(grid=(3, 5), vision_dim=7, text_dim=11, dtype=dtype)

    assert spec.patches == 15
    assert spec.image_row_bytes == (15 + 1) * 7 * size  # patches and CLS
    assert spec.prefix_row_bytes == 11 * size


def test_another_dtype_is_refused() -> None:
    with pytest.raises(CacheError, match="dtype is 'int8'; it must be one of float16, float32"):
        make_spec(dtype="int8")


def test_no_changed_byte_goes_unnoticed(tmp_path: Path) -> None:
    SMALL.save(tmp_path)
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
    SMALL.save(tmp_path)
    path = tmp_path / "cache.json"
    path.write_text(path.read_text().replace('"float16"', '"float32"'))

    with pytest.raises(CacheDamagedError, match=r"digest does not match its content.*Restore it"):
        load_manifest(tmp_path)


def save_body(directory: Path, **changes: Any) -> None:
    """Write a manifest with other content and the digest that goes with it."""
    SMALL.save(directory)
    path = directory / "cache.json"
    body = {**json.loads(path.read_text()), **changes}
    del body["xxh3"]
    path.write_text(json.dumps(body | {"xxh3": _body_digest(body)}))


def test_a_body_with_its_digest_is_read(tmp_path: Path) -> None:
    save_body(tmp_path)

    assert load_manifest(tmp_path) == SMALL


@pytest.mark.parametrize("version", [FORMAT + 1, 0, "1", None])
def test_another_format_is_refused(version: object, tmp_path: Path) -> None:
    save_body(tmp_path, format=version)

    with pytest.raises(CacheError, match=f"format {version!r}, but this version reads format 1"):
        load_manifest(tmp_path)


def record(**changes: object) -> dict[str, object]:
    return {"file": "images/00000.h5", "rows": 1, "bytes": 2, "xxh3": "", **changes}


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
        {"splits": {"val": record(file="splits/a/b.h5")}},
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


def test_a_missing_cache_says_how_to_make_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for place in (tmp_path, tmp_path / "absent", file):
        with pytest.raises(CacheError, match=f"no cache here.*extract-features --cache {place} "):
            load_manifest(place)


def test_a_manifest_that_cannot_be_read_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "cache.json").mkdir()

    with pytest.raises(CacheError, match=r"cache\.json: cannot be read \(Is a directory\)"):
        load_manifest(tmp_path)


def test_an_equal_spec_is_enough_also_after_json(tmp_path: Path) -> None:
    spec = make_spec(vision={"model": "a", "mean": [0.1, 1 / 3]})
    Manifest(spec=spec).save(tmp_path)

    load_manifest(tmp_path).spec.require(spec, tmp_path)
    spec.require(load_manifest(tmp_path).spec, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "float32"}, "dtype is 'float16', asked for 'float32'"),
        ({"text": {"model": "made-up-text", "layer": -2}}, "text layer is -1, asked for -2"),
        ({"vision": {"model": "made-up-vision"}}, "vision image size is 28, asked for None"),
        (
            {"vision": {"model": "b", "image size": 28, "fit": "crop"}},
            "vision model is 'made-up-vision', asked for 'b'; vision fit is None, asked for 'crop'",
        ),
    ],
)
def test_a_mismatch_names_both_values(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CacheMismatchError) as raised:
        make_spec().require(make_spec(**changes), tmp_path)

    assert str(raised.value).startswith(f"{tmp_path}: this cache was made otherwise: {message}. ")
    assert "give another --cache" in str(raised.value)
