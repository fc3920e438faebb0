"""JSON files: read strictly, refused in one sentence."""

import codecs
import gc
import gzip
import os
from pathlib import Path

import pytest

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.strict_json import NotJsonError, entries_in, parse_json, read_json
from tests.support.waiting import within


@pytest.mark.parametrize("name", ["plain.json", "packed.json.gz", "packed-without-ending.json"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_read_json(tmp_path: Path, name: str, mark: bytes) -> None:
    data = mark + '{"a": [1, 2.5, "é", null, true]}'.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if "packed" in name else data)
    assert read_json(tmp_path / name) == {"a": [1, 2.5, "é", None, True]}
    assert read_json(str(tmp_path / name)) == {"a": [1, 2.5, "é", None, True]}


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", r"line 1, column 1: Expecting value; .* It may be cut short"),
        (b'{"a": [1,\n 2', r"line 2, column 3: .*; valid JSON is needed\. It may be cut short"),
        (b'{"a": "b', r"line 1, column 7: Unterminated string.* It may be cut short"),
        (b'{"a": 1,\n b: 2}', r"line 2, column 2: .* Mend it there"),
        (b"{} {}", r"line 1, column 4: Extra data.* Mend it there"),
        (b'{"a": 1, "b": {"c": 1, "d": 2, "c": 1}}', "the key 'c' occurs twice in one object"),
        (b"[NaN]", "NaN stands where a value is needed"),
        (b"[-Infinity]", "-Infinity stands where a value is needed"),
        (b"[1e999]", "the number 1e999 is too large"),
        (b"[" * 200_000, "brackets nest too deeply"),
        (b"[" + b"9" * 5000 + b"]", "an integer has thousands of digits"),
        (b'["\xff"]', r"byte 2 is not UTF-8; JSON in UTF-8 is needed\. Save it as UTF-8"),
        ('["é"]'.encode("utf-16"), "byte 0 is not UTF-8"),
        (gzip.compress(b'{"a": 1}' * 9, mtime=0)[:-12], "gzip data is damaged or cut short"),
        (gzip.compress(b"[1]", mtime=0)[:-1] + b"\xff", "gzip data is damaged or cut short"),
        (b"\x1f\x8b\x08\x00 no gzip at all", "gzip data is damaged or cut short"),
    ],
)
def test_read_json_refuses(tmp_path: Path, data: bytes, match: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=match) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_read_json_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.json: there is no such file; .* is needed"):
        read_json(tmp_path / "none.json")
    with pytest.raises(SourceError, match="this is a folder"):
        read_json(tmp_path)
    with pytest.raises(SourceError, match="reading failed"):
        read_json(f"{tmp_path}/a\0b")
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match=r"reading failed \(Not a directory\)"):
        read_json(tmp_path / "file" / "below.json")
    os.mkfifo(tmp_path / "pipe")
    with within(20), pytest.raises(SourceError, match=r"reading failed \(not a regular file\)"):
        read_json(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("[]", "found list; "),
        ("null", "found NoneType; "),
        ("{}", "found keys none; "),
        ('{"questions": {}, "info": 1}', "found keys 'questions', 'info'; "),
        ('{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1}', "keys 'a', 'b', 'c', 'd', 'e', …; "),
    ],
)
def test_a_file_without_the_list_is_refused(tmp_path: Path, content: str, found: str) -> None:
    (tmp_path / "a.json").write_text(content)

    with pytest.raises(SourceError, match=found) as caught:
        entries_in(tmp_path / "a.json", "questions")
    assert str(caught.value).endswith(
        "an object with a list under 'questions' is needed. Check that this is the right file."
    )


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("content", ["[1]", "["])
def test_the_garbage_collector_is_as_it_was(tmp_path: Path, on: bool, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    try:
        (gc.enable if on else gc.disable)()
        if content == "[1]":
            assert read_json(tmp_path / "a.json") == [1]
        else:
            with pytest.raises(SourceError):
                read_json(tmp_path / "a.json")
        assert gc.isenabled() == on
    finally:
        gc.enable()


def test_one_text_is_parsed_as_strictly() -> None:
    assert parse_json('{"a": [1, 2.5]}') == {"a": [1, 2.5]}
    with pytest.raises(NotJsonError, match="the key 'a' occurs twice"):
        parse_json('{"a": 1, "a": 1}')
    with pytest.raises(NotJsonError, match=r"^column 2: Expecting") as caught:
        parse_json("[\n }")
    assert caught.value.line == 2
