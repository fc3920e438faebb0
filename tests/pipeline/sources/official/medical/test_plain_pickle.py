"""A pickle of a stranger gives plain values, or one sentence; it never runs anything."""

import os
import pickle
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.official.medical.plain_pickle import read_plain_pickle

values = st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text(max_size=5)
plain = values | st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values)
records = st.lists(plain, max_size=6)
quick = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(records, st.integers(1, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_back(tmp_path: Path, content: list[Any], protocol: int) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    assert read_plain_pickle(tmp_path / "a.pkl") == content


def test_bytes_of_python_2_are_read_as_utf8(tmp_path: Path) -> None:
    text = "œdema é"
    data = text.encode()
    short = b"U" + bytes([len(data)]) + data  # SHORT_BINSTRING, which Python 3 writes no more
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02]" + short + b"a.")
    assert read_plain_pickle(tmp_path / "a.pkl") == [text]


@settings(quick, max_examples=60)
@given(records, st.data())
def test_a_spoilt_pickle_is_refused_in_a_sentence(
    tmp_path: Path, content: list[Any], data: st.DataObject
) -> None:
    spoilt = bytearray(pickle.dumps(content, protocol=data.draw(st.integers(1, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.pkl").write_bytes(spoilt[: data.draw(st.integers(0, len(spoilt)))])
    with suppress(SourceError):  # whose kind alone is the promise here
        assert isinstance(read_plain_pickle(tmp_path / "a.pkl"), list)


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


HUGE = (2**40).to_bytes(8, "little")


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps([Runs()]),
        pickle.dumps([Runs()], protocol=0),
        pickle.dumps([Path("x")]),
        b"cos\nmkdir\n(S'ran'\ntR.",
        b"(S'ran'\nios\nmkdir\n.",
        b"\x80\x05\x96" + HUGE + b".",  # a bytearray of a terabyte
        b"\x80\x05]r\xff\xff\xff\xff.",  # a memo of four billion places
        b"\x80\x04\x95" + HUGE + b"].",  # a frame of a terabyte
        b"\x80\x04\x8d" + HUGE + b"ab.",
        b"\x8b\xff\xff\xff\x7f.",  # a whole number of two billion bytes
        b"I" + b"9" * 100_000 + b"\n.",
        b"(" * 100_000 + b".",
        pickle.dumps({"a": 1}),
        b"",
    ],
)
def test_what_a_pickle_names_or_claims_is_not_believed(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(content)
    began = time.process_time()

    if content.endswith((b"].", b"\xff\xff\xff\xff.")):  # the claim itself does no harm
        assert read_plain_pickle(tmp_path / "a.pkl") == []
    else:
        with pytest.raises(SourceError, match=r"a\.pkl: no plain list of questions"):
            read_plain_pickle(tmp_path / "a.pkl")
    assert not (tmp_path / "ran").exists()
    assert time.process_time() - began < 5
