"""Pictures at URLs: the same features as from files, each asked for once, many at a time."""

import json
import pickle
import threading
from pathlib import Path

import pytest

from frozen_vqa.cache import Failure, load_manifest
from frozen_vqa.cache.errors import StoreError
from frozen_vqa.pipeline.extract.decoder import look_for
from frozen_vqa.pipeline.extract.extract import Report, extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.own.source import OwnSource
from frozen_vqa.pipeline.sources.pictures.contents import digests_of
from frozen_vqa.pipeline.sources.pictures.stored import READERS, StoredPicture
from tests.support.bad_stored_pictures import put
from tests.support.frozen import Images, Text, picture
from tests.support.stores import Flaky, empty, memory

__all__ = ["empty"]
PICTURES = 12


def url(number: int) -> str:
    return f"memory://bucket/pictures/{number}.png"


def write(folder: Path, *, at_urls: bool, gone: int | None = None) -> OwnSource:
    """Write pictures beside a table or into the memory; the ids of both are the same."""
    folder.mkdir()
    rows = []
    for number in range(PICTURES):
        path = url(number) if at_urls else f"{number}.png"
        if number != gone and at_urls:
            put(path, picture(number))
        elif number != gone:
            (folder / path).write_bytes(picture(number))
        rows.append({"image": path, "image_id": number, "question": "a?", "answer": "b"})
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return OwnSource(folder / "train.jsonl")


def run(source: OwnSource, cache: Path) -> Report:
    text = Text()
    plan = make_plan(source, splits=["train"], text=text)
    return extract(source, plan, cache=cache, images=Images(), text=text, batch_size=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_the_same_bytes_as_from_files_and_each_is_read_once(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(write(tmp_path / "files", at_urls=False), tmp_path / "local")
    source = write(tmp_path / "urls", at_urls=True)
    with memory(monkeypatch, Flaky(fails=0.1 * seed, seed=seed)) as files:
        run(source, tmp_path / "stored")
        assert files.asked == {"cat_file": PICTURES + files.failed}
    mine, theirs = (load_manifest(tmp_path / name).files for name in ("local", "stored"))
    assert [one.xxh3 for one in mine] == [one.xxh3 for one in theirs]
    with memory(monkeypatch) as files:  # a few are compared, and no others are asked for
        run(source, tmp_path / "stored")
        assert files.asked["cat_file"] <= 8


def test_one_that_is_gone_is_listed_and_a_store_that_is_gone_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "urls", at_urls=True, gone=5)
    with memory(monkeypatch):
        source.examples("train")
        assert look_for(source, range(PICTURES)) == (PICTURES, [5])
        report = run(source, tmp_path / "stored")
    assert report.failures == [Failure("5", url(5), "the store has no such object")]
    for flaky in (Flaky(fails=1.0), Flaky(refuses=(".png",))):
        with memory(monkeypatch, flaky), pytest.raises(StoreError):
            run(source, tmp_path / "other")
        assert not load_manifest(tmp_path / "other").failures


def test_access_that_ends_in_the_middle_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "urls", at_urls=True)
    with memory(monkeypatch) as files:
        source.examples("train")
        source.picture(0).read(10)  # type: ignore[union-attr]
        files.refuses = (".png",)
        with pytest.raises(StoreError, match="gives no access"):
            run(source, tmp_path / "stored")
    assert not load_manifest(tmp_path / "stored").failures


def test_many_are_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(READERS)

    class Slow(Flaky):
        def __getattr__(self, name: str) -> object:
            together.wait(20)  # raises unless as many wait
            return super().__getattr__(name)

    rows = [{"image": url(i), "question": "a?", "answer": "b"} for i in range(READERS)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = OwnSource(tmp_path / "a.jsonl")
    ids = [example.image_id for example in source.examples("train")]
    put(url(0), b"x")
    monkeypatch.setattr("frozen_vqa.cache.stores.bucket.BucketStore._path", lambda _, name: name)
    with memory(monkeypatch, Slow()):
        assert len(look_for(source, ids)[1]) == READERS


def test_a_url_counts_in_place_of_the_content(monkeypatch: pytest.MonkeyPatch) -> None:
    class Two(OwnSource):
        def __init__(self) -> None: ...

        def picture(self, image_id: object) -> StoredPicture:
            return StoredPicture(url(int(str(image_id)) % 2))

    with memory(monkeypatch) as files:
        assert digests_of(Two(), range(4), (), 100) == {i: url(i % 2) for i in range(4)}
        assert not files.asked
    one = StoredPicture("S3://bucket/a b.png")
    assert pickle.loads(pickle.dumps(one)) == one
    assert str(one) == "s3://bucket/a b.png"
