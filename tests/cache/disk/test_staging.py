"""Staged chunks are used if they are those that are wanted, whoever made them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache import CacheBusyError, CacheError, CacheWriter, FeatureCache, load_manifest
from frozen_vqa.cache.disk.staging import STAGED, chunk_key, read_staged, stage_shard
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.shards import image_shard
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.extract.chunks import find_missing_work
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.feature_encoder import FeatureEncoder
from frozen_vqa.pipeline.extract.models.several import cache_spec
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.extract.speed.batch_size import BatchSize
from frozen_vqa.pipeline.extract.speed.throughput import PhaseTimer
from frozen_vqa.pipeline.sources.example import Id, VqaExample
from frozen_vqa.pipeline.system.ranks import Ranks
from tests.support.frozen import BAD, Images, Source, Text, files, picture

IMAGE_IDS: list[Id] = [7, "a", 3, 9, 5, 4, 8, 6]
QUESTIONS = {"val": [VqaExample(i, image, f"ab{i}", ("x",)) for i, image in enumerate(IMAGE_IDS)]}
SHARD_BYTES = 450


def source_of(*bad: Id) -> Source:
    pictures = {image_id: picture(seed) for seed, image_id in enumerate(IMAGE_IDS)}
    return Source(QUESTIONS, pictures | dict.fromkeys(bad, BAD))


def run(cache: Path, *, source: Source | None = None, **settings: Any) -> tuple[Images, Text]:
    source, images, text = source or source_of(), Images(), Text()
    plan = make_plan(source, splits=["val"], text=text)
    how: dict[str, Any] = {"dtype": "float32", "batch_size": 2, "shard_bytes": SHARD_BYTES}
    extract(source, plan, cache=cache, images=images, text=text, **how | settings)
    return images, text


class Outliving(Ranks):
    """The second of two ranks; when it has done its part, the first is found to be dead."""

    calls = 0

    def wait(self) -> None:
        Outliving.calls += 1
        if Outliving.calls % 3 == 0:
            raise PipelineError("another rank has stopped")


def second_rank(cache: Path, *, source: Source | None = None, **settings: Any) -> None:
    with CacheWriter(cache, cache_spec(Images(), Text(), "float32")):
        pass
    with pytest.raises(PipelineError, match="another rank"):
        run(cache, source=source, ranks=Outliving(1, 2), **settings)


def staged(cache: Path) -> set[str]:
    return {name for name in files(cache) if STAGED.fullmatch(Path(name).name)}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    run(tmp_path / "whole")
    return files(tmp_path / "whole")


def test_what_a_dead_extraction_has_finished_is_not_made_again(
    whole: dict[str, bytes], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    second_rank(cache)
    done = staged(cache)
    assert len([name for name in done if name.startswith("images/")]) == 2  # one chunk of three
    images, _ = run(cache)

    assert len(images.encoded) == 5  # eight pictures, three to a chunk
    assert files(cache) == whole


def test_chunks_of_another_extraction_are_not_taken_for_ours(
    whole: dict[str, bytes], tmp_path: Path
) -> None:
    """A rank that outlives its job lays aside what its own plan said, under its own name."""
    cache = tmp_path / "cache"
    other = source_of()
    other.splits = {"val": QUESTIONS["val"][::-1]}
    second_rank(cache, source=other)
    second_rank(cache, origin={"dataset": "other"})
    assert staged(cache)
    images, _ = run(cache)

    assert len(images.encoded) == 8
    assert files(cache) == whole  # and what nobody took is gone


@pytest.mark.parametrize("suffix", ["shard", "json"])
@pytest.mark.parametrize(
    "change",
    [lambda d: d[:-1], lambda d: bytes(len(d)), lambda d: b"{}", lambda d: b"[" * 200_000],
)
def test_a_chunk_that_is_not_whole_is_made_again(
    change: Callable[[bytes], bytes], suffix: str, whole: dict[str, bytes], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    second_rank(cache)
    for name in staged(cache):
        if name.endswith(suffix):
            (cache / name).write_bytes(change((cache / name).read_bytes()))
    images, _ = run(cache)

    assert len(images.encoded) == 8
    assert files(cache) == whole


def test_a_record_that_was_changed_is_not_believed(whole: dict[str, bytes], tmp_path: Path) -> None:
    """The shard beside it is whole, so only the digest of the record itself can tell."""
    cache = tmp_path / "cache"
    second_rank(cache)
    for path in cache.glob("*/staged-*.json"):
        sealed = json.loads(path.read_bytes())
        body = json.loads(sealed["staged"])
        body["record"]["rows"] += 1
        path.write_text(json.dumps({**sealed, "staged": json.dumps(body)}))
    images, _ = run(cache)

    assert len(images.encoded) == 8
    assert files(cache) == whole


@pytest.mark.parametrize(
    "lie",
    [
        {"rows": 2**60},
        {"rows": 1},
        {"rows": -1},
        {"bytes": 7},
        {"prefixes": 2**60},
        {"names": "0" * 32},
        {"datasets": {"cls": "float16 9999999999x9 at 4096"}},
    ],
    ids=str,
)
def test_a_record_that_lies_about_its_bytes_is_not_believed(
    lie: dict[str, object], whole: dict[str, bytes], tmp_path: Path
) -> None:
    """A stranger can give it the digest that goes with it; a manifest with it could not be read."""
    cache = tmp_path / "cache"
    second_rank(cache)
    for path in cache.glob("images/staged-*.json"):
        body = json.loads(json.loads(path.read_bytes())["staged"])
        body["record"] |= lie
        text = json.dumps(body)
        path.write_text(json.dumps({"staged": text, "xxh3": digest(text.encode())}))
    run(cache)

    assert files(cache) == whole


def test_what_could_not_be_read_is_tried_again(whole: dict[str, bytes], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    second_rank(cache, source=source_of(9))
    run(cache)

    assert files(cache) == whole


def test_the_name_of_a_chunk_tells_all_that_fixes_it() -> None:
    spec = cache_spec(Images(), Text(), "float32")
    keys = {
        chunk_key(spec, {}, ["a"]),
        chunk_key(spec, {}, ["a", "b"]),
        chunk_key(spec, {}, ["ab"]),
        chunk_key(spec, {"dataset": "x"}, ["a"]),
        chunk_key(cache_spec(Images(), Text(), "float16"), {}, ["a"]),
        chunk_key(cache_spec(Images(scale=2), Text(), "float32"), {}, ["a"]),
    }
    assert len(keys) == 6


def test_a_writer_that_has_lost_its_lock_changes_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    spec = cache_spec(Images(), Text(), "float32")
    source = source_of()
    plan = make_plan(source, splits=["val"], text=Text())
    first = CacheWriter(cache, spec).__enter__()
    work = find_missing_work(plan, cache, first.manifest, shard_bytes=SHARD_BYTES, origin={})
    key, ids = next(iter(work.images.items()))
    encoder = FeatureEncoder(source, plan, Images(), Text(), "float32")  # type: ignore[arg-type]
    new = next(encoder.encode_images([ids], BatchSize(2), PhaseTimer())).new
    (cache / ".lock").unlink()  # somebody tidies up
    run(cache)  # and starts another
    first.manifest = load_manifest(cache)
    before = files(cache)
    stage_shard(cache, key, image_shard(spec, new), kind="images")

    for change in (
        lambda: first.adopt("images", [key]),
        lambda: first.replace_shard(0, image_shard(spec, new)),
        lambda: first.__exit__(None, None, None),
    ):
        with pytest.raises(CacheBusyError, match="no longer holds the writers' lock"):
            change()
        left = staged(cache)
        assert len(left) == 2
        assert {name: data for name, data in files(cache).items() if name not in left} == before


def test_a_name_that_no_split_can_have_is_refused_before_any_work(tmp_path: Path) -> None:
    for name in ("a/b", "x" * 250, "tab\there", ".", ""):
        source = source_of()
        source.splits = {name: QUESTIONS["val"]}
        images = Images()
        plan = make_plan(source, splits=[name], text=Text())
        with pytest.raises(CacheError, match="a file cannot have this name"):
            extract(source, plan, cache=tmp_path / "cache", images=images, text=Text())
        assert images.encoded == []
        assert not (tmp_path / "cache").exists()
    longest = "x" * 236
    source.splits = {longest: QUESTIONS["val"]}
    plan = make_plan(source, splits=[longest], text=Text())
    extract(source, plan, cache=tmp_path / "cache", images=Images(), text=Text())
    assert len(FeatureCache(tmp_path / "cache").split(longest)) == 8


@pytest.mark.parametrize(
    "body",
    [
        "[" * 10**5,
        '{"record": null, "names": 5, "failures": []}',
        '{"record": null, "names": [[1]], "failures": []}',
    ],
)
def test_a_record_from_elsewhere_is_not_believed(body: str, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for text in (body, json.dumps({"staged": body, "xxh3": digest(body.encode())})):
        (folder / "staged-0123456789abcdef.json").write_text(text)
        assert read_staged(tmp_path, "images", "0123456789abcdef") is None


def test_a_record_or_shard_too_large_to_read_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    with (folder / "staged-0123456789abcdef.json").open("wb") as file:
        file.truncate(65 << 20)
    assert read_staged(tmp_path, "images", "0123456789abcdef") is None

    def too_large(path: Path, most: int | None = None) -> bytes:
        raise MemoryError

    monkeypatch.setattr("frozen_vqa.cache.disk.staging.read_file", too_large)
    assert read_staged(tmp_path, "images", "0123456789abcdef") is None
