"""One door for URLs: what is taken, what is refused, and no credential is ever shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.cache.errors import StoreError
from frozen_vqa.cache.stores.address import is_url, parse_address
from frozen_vqa.cache.stores.open_store import open_store
from frozen_vqa.cache.stores.store import shorten


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("s3://bucket/vqa", "s3://bucket/vqa"),
        ("S3://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket/vqa", "gs://bucket/vqa"),
        ("hf://datasets/user/na.me-1", "hf://datasets/user/na.me-1"),
        ("file:///tmp/x", "file:///tmp/x"),
        ("memory://x/y", "memory://x/y"),
    ],
)
def test_urls_that_are_taken(text: str, found: str) -> None:
    assert is_url(text)
    assert str(parse_address(text)) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("features", "is no URL; it must look like s3://BUCKET/FOLDER"),
        ("ftp://x/y", "no store is known by this name; these are s3://"),
        ("https://x/y", "no store is known by this name"),
        ("s3://key:SECRET@bucket/x", "may hold a password or a token"),
        ("s3://bucket/x?X-Amz-Signature=SECRET", "may hold a password or a token"),
        ("hf://datasets/u/n@SECRET", "may hold a password or a token"),
        ("s3://", "not an address that is taken"),
        ("s3://bucket//x", "not an address that is taken"),
        ("s3://bucket/../x", "not an address that is taken"),
        ("s3://bucket/*", "not an address that is taken"),
        ("s3://a/b::file://c", "not an address that is taken"),
        ("memory://a\x00b", "not an address that is taken"),
        ("file:///tmp/\udcc3\udca9", "no letters in this locale; set LC_ALL=C.UTF-8"),
        ("file://tmp/x", "needs a whole path"),
        ("hf://user/name", "give hf://datasets/USER/NAME"),
        ("hf://datasets/user", "give hf://datasets/USER/NAME"),
    ],
)
def test_urls_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(StoreError) as found:
        parse_address(text)
    assert why in str(found.value)
    assert "SECRET" not in str(found.value)


@given(st.text(max_size=30), st.sampled_from(["s3://", "gs://", "hf://", "file://", "memory://"]))
def test_any_text_is_an_address_or_one_sentence(text: str, protocol: str) -> None:
    try:
        address = parse_address(protocol + text)
    except StoreError:
        return
    assert parse_address(str(address)) == address
    assert not set("@?#\\*") & set(str(address))


def test_a_librarys_words_lose_their_tokens() -> None:
    said = "403 for https://user:SECRET@host/x?X-Amz-Signature=SECRET&b=1\nmore"
    assert shorten(OSError(said)) == "403 for https://…host/x… more"
    assert shorten(TimeoutError()) == "TimeoutError"


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    for protocol in ("s3", "gs"):
        with pytest.raises(StoreError, match=rf"pip install 'frozen-vqa\[{protocol}\]'"):
            open_store(f"{protocol}://bucket/vqa")
