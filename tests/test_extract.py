"""Stage one: everything is encoded once, and ends in the same bytes however often it is stopped."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import torch
from frozen import BAD, TEXT_DIM, VISION_DIM, Images, Source, Text, files, picture

from cache import CacheBusyError, CacheError, CacheMismatchError, CacheWriter, FeatureCache
from cache.aside import lay_aside
from cache.manifest import load_manifest
from cache.quantise import quantise
from cache.verify import check_file
from pipeline import throughput
from pipeline.batch_size import choose_batch_size
from pipeline.encoders import ImageEncoder, TextEncoder
from pipeline.errors import ImageError, ModelError
from pipeline.examples import Id, VqaExample
from pipeline.extract import Report, cache_spec, expected_bytes, extract
from pipeline.images import load_rgb
from pipeline.plan import Plan, make_plan
from pipeline.throughput import logged

HERE = Path(__file__).parent
SHARD_BYTES = 450  # three pictures or six states, in float32
OPTIONS: dict[str, Any] = {"dtype": "float32", "batch_size": 2, "shard_bytes": SHARD_BYTES}
IMAGE_BYTES = (6 + 1) * VISION_DIM * 4
STATE_BYTES = TEXT_DIM * 4

TRAIN = [
    VqaExample(11, 7, "ab", ("yes", "no", "yes"), "is", "yes/no"),
    VqaExample(12, 7, "abc", ("2",)),  # begins like the one before
    VqaExample(13, "a", "xy", ()),
    VqaExample("x", 3, "ab", ("red",)),  # a question that was asked before
    VqaExample(15, 9, "b", ("café",)),
    VqaExample(16, 5, "xyz", ("no",)),
    VqaExample(17, 4, "azzz", ("no",)),
]
VAL = [
    VqaExample(11, 7, "ab", ("no",)),
    VqaExample(12, 8, "x", ()),  # the beginning of one that is stored
    VqaExample(13, 6, "new", ("yes",)),
    VqaExample(14, 3, "a", ("yes",)),
]
IMAGE_IDS: list[Id] = [7, "a", 3, 9, 5, 4, 8, 6]
TRAIN_IDS, VAL_IDS = IMAGE_IDS[:6], IMAGE_IDS[6:]


@pytest.fixture(autouse=True)
def no_spot_checks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored pictures are read again to be compared; tests of what is read leave that out."""
    if "spot_checks" not in request.keywords:
        monkeypatch.setattr("pipeline.extract_images.SPOT_CHECKS", 0)


class Extraction(NamedTuple):
    report: Report
    source: Source
    images: Images
    text: Text


def source_of(*bad: Id) -> Source:
    pictures = {image_id: picture(seed) for seed, image_id in enumerate(IMAGE_IDS)}
    return Source({"train": TRAIN, "val": VAL}, pictures | dict.fromkeys(bad, BAD))


def plan_of(source: Source, *splits: str, text: Text | None = None) -> Plan:
    return make_plan(source, splits=splits or ("train", "val"), text=text or Text())


def run(
    cache: Path,
    *splits: str,
    bad: tuple[Id, ...] = (),
    images: Images | None = None,
    text: Text | None = None,
    **settings: Any,
) -> Extraction:
    source, images, text = source_of(*bad), images or Images(), text or Text()
    plan = plan_of(source, *splits)
    options = OPTIONS | settings
    report = extract(source, plan, cache=cache, images=images, text=text, **options)
    return Extraction(report, source, images, text)


def shards(cache: Path) -> dict[str, bytes]:
    """All of a cache but what tells the batch size."""
    return {name: data for name, data in files(cache).items() if name.endswith(".h5")}


def pixels_of(*image_ids: Id) -> list[bytes]:
    pictures = source_of().pictures
    return [Images().pixels(load_rgb(pictures[i])).tobytes() for i in image_ids]


def check_cache(directory: Path, *splits: str, left_out: tuple[Id, ...] = ()) -> None:
    """Compare all that a reader finds with what the encoders say of each question alone."""
    cache = FeatureCache(directory)
    source = source_of()
    for name in splits or ("train", "val"):
        table = cache.split(name)
        examples = [e for e in source.examples(name) if e.image_id not in left_out]
        assert table.question_ids == [e.question_id for e in examples]
        assert table.answers == [e.answers for e in examples]
        assert table.question_types == [e.question_type for e in examples]
        assert table.answer_types == [e.answer_type for e in examples]
        patches = np.empty((len(examples), 6, VISION_DIM), dtype=cache.spec.dtype)
        cache.read_images(table.image_rows, patches)
        ids = cache.image_ids()
        for i, example in enumerate(examples):
            picture = Images().pixels(load_rgb(source.pictures[example.image_id]))
            expected, cls = (x[0].numpy() for x in Images().encode(picture[None]))
            np.testing.assert_array_equal(patches[i], expected.astype(cache.spec.dtype))
            np.testing.assert_array_equal(
                cls_of(directory, table.image_rows[i]), cls.astype(cache.spec.dtype)
            )
            row = table.question_rows[i]
            assert ids[table.image_rows[i]] == str(example.image_id)
            assert cache.questions.texts[row] == example.question
            states = Text().states(Text().tokens([example.question])[0])
            np.testing.assert_array_equal(
                cache.questions.states(row), states.astype(cache.spec.dtype)
            )
    assert [check_file(directory, cache.manifest, r) for r in cache.manifest.files] == [None] * len(
        cache.manifest.files
    )


def cls_of(directory: Path, row: int) -> np.ndarray:
    for record in load_manifest(directory).images:
        if row < record.rows:
            with h5py.File(directory / record.file) as file:
                return file["cls"][row]
        row -= record.rows
    raise IndexError


def prefixes_of(*questions: str) -> set[bytes]:
    return {question.encode()[:i] for question in questions for i in range(len(question) + 1)}


def test_everything_is_stored_once_and_comes_back(tmp_path: Path) -> None:
    report, source, images, text = run(tmp_path)

    check_cache(tmp_path)
    assert source.read == IMAGE_IDS
    assert images.encoded == pixels_of(*IMAGE_IDS)
    assert FeatureCache(tmp_path).image_ids() == [str(image_id) for image_id in IMAGE_IDS]
    assert len(set(text.encoded)) == len(text.encoded)
    manifest = load_manifest(tmp_path)
    every = [e.question for e in TRAIN + VAL]
    assert len(manifest.images) == 3
    assert len(manifest.questions) > 1
    assert manifest.prefix_rows == len(prefixes_of(*every))
    assert report.to_json() == {
        "images": {"total": 8, "encoded": 8, "skipped": 0},
        "questions": {
            "total": len(every),
            "distinct": len(set(every)),
            "tokens": sum(len(q) + 1 for q in every),
            "prefixes": len(prefixes_of(*every)),
            "skipped": 0,
        },
        "bytes": sum(len(d) for name, d in files(tmp_path).items() if name.endswith(".h5")),
        "seconds": report.to_json()["seconds"],
        "left_out": 0,
        "failures": [],
        "extraction": logged(tmp_path, 1)[0].to_json(),
    }


def test_a_question_is_not_run_when_a_longer_one_tells_its_states(tmp_path: Path) -> None:
    text = run(tmp_path, shard_bytes=10**6).text

    said = [bytes(tokens[1:]).decode() for tokens in text.encoded]
    assert sorted(said) == ["abc", "azzz", "b", "new", "xyz"]  # not ab, xy, x, a
    assert sorted(text.batches) == [1, 1, 3]  # by length: b, azzz, and the three of equal length


def test_many_questions_of_one_length_make_batches_of_fixed_size(tmp_path: Path) -> None:
    """Of a fixed size, because the size of a batch may change the last bit of a state."""
    source, text = source_of(), Text()
    texts = [f"{i:02}" for i in range(70)] + [f"no {i}" for i in range(5)]
    source.splits = {"val": [VqaExample(i, 7, q, ()) for i, q in enumerate(texts)]}
    plan = plan_of(source, "val")
    extract(source, plan, cache=tmp_path, images=Images(), text=text, dtype="float32")

    assert text.batches == [64, 6, 5]
    questions = FeatureCache(tmp_path).questions
    for row, tokens in enumerate(text.tokens(texts)):
        np.testing.assert_array_equal(questions.states(row), text.states(tokens))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_the_batch_size_is_kept(batch_size: int, tmp_path: Path) -> None:
    images = run(tmp_path, batch_size=batch_size, shard_bytes=4 * IMAGE_BYTES).images

    check_cache(tmp_path)
    assert images.batches == {1: [1] * 8, 2: [2] * 4, 5: [4, 4], 100: [4, 4]}[batch_size]
    assert images.encoded == pixels_of(*IMAGE_IDS)  # in the order of the plan


def test_a_second_run_encodes_nothing_and_changes_no_byte(tmp_path: Path) -> None:
    run(tmp_path)
    before = files(tmp_path)
    report, source, images, text = run(tmp_path)

    assert files(tmp_path) == before
    assert (source.read, images.encoded, text.encoded) == ([], [], [])
    assert report.images == {"total": 8, "encoded": 0, "skipped": 0}


def test_the_same_extraction_elsewhere_gives_the_same_bytes(tmp_path: Path) -> None:
    run(tmp_path / "a")
    run(tmp_path / "b")
    run(tmp_path / "c", batch_size=1)  # which is recorded, but changes no row

    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert shards(tmp_path / "a") == shards(tmp_path / "c")


def test_a_second_split_extends_and_touches_no_shard(tmp_path: Path) -> None:
    first = run(tmp_path, "train")
    check_cache(tmp_path, "train")
    before = files(tmp_path)
    second = run(tmp_path, "val")

    check_cache(tmp_path)
    assert first.source.read == TRAIN_IDS
    assert second.source.read == VAL_IDS
    assert second.images.encoded == pixels_of(*VAL_IDS)
    assert [bytes(tokens[1:]) for tokens in second.text.encoded] == [b"new"]
    after = files(tmp_path)
    assert {name for name in before if after[name] != before[name]} == {
        "cache.json",
        "cache.copy.json",
    }
    assert second.report.images == {"total": 4, "encoded": 2, "skipped": 0}


def test_questions_that_begin_stored_ones_need_no_encoder(tmp_path: Path) -> None:
    """A shard of questions without a single new prefix."""
    run(tmp_path, "train")
    source = source_of()
    source.splits = {"val": VAL[:2] + VAL[3:]}
    text = Text()
    plan = plan_of(source, "val")
    extract(source, plan, cache=tmp_path, images=Images(), text=text, dtype="float32")

    assert text.encoded == []
    manifest = load_manifest(tmp_path)
    assert [manifest.questions[-1].rows, manifest.questions[-1].prefixes] == [2, 0]
    questions = FeatureCache(tmp_path).questions
    for question in ("x", "a", "xyz"):
        expected = Text().states(Text().tokens([question])[0])
        np.testing.assert_array_equal(
            questions.states(list(questions.texts).index(question)), expected
        )


class Stopped(Exception):
    pass


def stop_at(number: int) -> Callable[[], None]:
    """A hook that raises at the n-th call of either encoder."""
    calls = count()

    def before() -> None:
        if next(calls) == number:
            raise Stopped

    return before


def stops(cache: Path, number: int) -> bool:
    """Run until the n-th encoder call; return whether there was one."""
    before = stop_at(number)
    try:
        run(cache, bad=("a", 5), images=Images(before), text=Text(before))
    except Stopped:
        return True
    return False


def test_stopped_at_any_encoder_call_a_rerun_ends_in_the_same_bytes(tmp_path: Path) -> None:
    """With two unreadable pictures, whose record must not depend on the stop either."""
    run(tmp_path / "undisturbed", bad=("a", 5))
    expected = files(tmp_path / "undisturbed")
    for number in count():
        cache = tmp_path / str(number)
        if not stops(cache, number):
            break
        if (cache / "cache.json").exists():
            FeatureCache(cache)
        stops(cache, 1)  # and once more, a bit later
        run(cache, bad=("a", 5))
        assert files(cache) == expected, f"stopped at call {number}"
    assert number >= 8


def die_at_sync(number: int) -> None:
    synced, real = count(), os.fsync

    def fsync(handle: int) -> None:
        if next(synced) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        real(handle)

    os.fsync = fsync


def kill_at_every_sync(directory: Path) -> None:
    """For each place where a file is synced: fork, extract, and die there (run by the next test).

    A file is synced before its renaming, and its folder after it, so that all states of the disk
    occur. Forks from a process of its own, because the test's may have threads.
    """
    for number in count():
        child = os.fork()
        if child == 0:
            die_at_sync(number)
            run(directory / str(number), "train", bad=("a",))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            break


def test_killed_at_any_sync_a_rerun_ends_in_the_same_bytes(tmp_path: Path) -> None:
    run(tmp_path / "undisturbed", "train", bad=("a",))
    expected = files(tmp_path / "undisturbed")
    subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; from pathlib import Path; import test_extract\n"
            "test_extract.kill_at_every_sync(Path(sys.argv[1]))",
            str(tmp_path / "killed"),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])},
        check=True,
        capture_output=True,
    )
    killed = sorted((tmp_path / "killed").iterdir(), key=lambda path: int(path.name))

    assert files(killed[-1]) == expected  # the one that no sync was left to kill
    unfinished = 0
    for cache in killed[:-1]:
        unfinished += files(cache) != expected
        for name in set(files(cache)) - set(expected):
            assert name.endswith((".partial", ".shard", ".json"))
        run(cache, "train", bad=("a",))
        assert files(cache) == expected, f"killed at sync {cache.name}"
    assert len(killed) - 1 > 40
    assert unfinished == len(killed) - 2  # all but the kill after the last renaming


def test_an_unreadable_picture_is_listed_and_only_its_questions_leave(tmp_path: Path) -> None:
    bad: tuple[Id, ...] = (7, 6)
    report, _, images, _ = run(tmp_path, bad=bad)

    check_cache(tmp_path, left_out=bad)
    assert report.images == {"total": 8, "encoded": 6, "skipped": 2}
    assert report.left_out == 2 + 1 + 1
    assert [(f.id, f.where) for f in report.failures] == [
        ("7", "picture 7.png"),
        ("6", "picture 6.png"),
    ]
    assert all("damaged" in failure.reason for failure in report.failures)
    manifest = load_manifest(tmp_path)
    assert manifest.failures == tuple(report.failures)
    assert {name: r.left_out for name, r in manifest.splits.items()} == {"train": 2, "val": 2}
    assert not set(pixels_of(*bad)) & set(images.encoded)


def test_a_rerun_tries_only_what_failed(tmp_path: Path) -> None:
    run(tmp_path, bad=(7, 6))
    before = files(tmp_path)

    again = run(tmp_path, bad=(7, 6))
    assert again.source.read == [7, 6]
    assert (again.images.encoded, again.text.encoded) == ([], [])
    assert again.report.left_out == 4
    assert files(tmp_path) == before

    mended = run(tmp_path, bad=(6,))
    assert mended.source.read == [7, 6]
    assert mended.images.encoded == pixels_of(7)
    assert mended.report.images == {"total": 8, "encoded": 1, "skipped": 1}
    check_cache(tmp_path, left_out=(6,))
    after = files(tmp_path)
    assert {name for name in before if before[name] != after.get(name)} == {
        "cache.json", "cache.copy.json", "failures.jsonl", "splits/train.h5", "splits/val.h5"
    }  # fmt: skip
    assert {name for name in after if name.startswith("splits/")} == {
        "splits/train~2.h5", "splits/val~2.h5"
    }  # fmt: skip
    listed = [json.loads(line) for line in after["failures.jsonl"].splitlines()]
    assert [(f["kind"], f["id"], f["where"]) for f in listed] == [("image", "6", "picture 6.png")]
    assert [f.id for f in load_manifest(tmp_path).failures] == ["6"]


def test_a_failure_of_another_split_is_not_this_runs(tmp_path: Path) -> None:
    run(tmp_path, "train", bad=("a",))
    report = run(tmp_path, "val", bad=("a",)).report

    assert (report.images["skipped"], list(report.failures), report.left_out) == (0, [], 0)
    assert len(load_manifest(tmp_path).failures) == 1


def test_no_picture_at_all_can_be_read(tmp_path: Path) -> None:
    report = run(tmp_path, bad=tuple(IMAGE_IDS)).report

    assert report.images == {"total": 8, "encoded": 0, "skipped": 8}
    assert report.left_out == len(TRAIN + VAL)
    assert FeatureCache(tmp_path).split("val").question_ids == []


def test_what_a_source_cannot_say_is_no_unreadable_picture(tmp_path: Path) -> None:
    source = source_of()
    del source.pictures[3]
    with pytest.raises(KeyError, match="3"):
        extract(source, plan_of(source_of()), cache=tmp_path, images=Images(), text=Text())


def free_bytes(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)


def test_a_disk_that_is_too_small_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = 8 * IMAGE_BYTES + len(prefixes_of(*(e.question for e in TRAIN + VAL))) * STATE_BYTES
    plan = plan_of(source_of())
    assert expected_bytes(plan, cache_spec(Images(), Text(), "float32")) == need
    images, text = Images(stop_at(0)), Text(stop_at(0))

    free_bytes(need - 1, monkeypatch)
    with pytest.raises(CacheError, match=r"2\.1 kB are needed .* 2\.1 kB are free.*--limit"):
        run(tmp_path, images=images, text=text)
    assert set(files(tmp_path)) == {"cache.json", "cache.copy.json"}
    free_bytes(need, monkeypatch)
    run(tmp_path)
    free_bytes(0, monkeypatch)
    run(tmp_path)  # nothing is missing


def test_only_what_is_missing_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many stored rows of one split do not make room for those of another."""
    run(tmp_path, "train")
    need = 2 * IMAGE_BYTES + len("new") * STATE_BYTES

    free_bytes(need - 1, monkeypatch)
    with pytest.raises(CacheError, match=f"{need} B are needed for what is missing"):
        run(tmp_path, "val", images=Images(stop_at(0)))
    free_bytes(need, monkeypatch)
    run(tmp_path, "val")
    check_cache(tmp_path)


@pytest.mark.parametrize("number", [0, 1, 5, 8, 13])
def test_a_disk_that_fills_up_ends_in_one_sentence_and_a_rerun_goes_on(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "undisturbed")
    turns = count()
    real = os.fsync

    def fsync(handle: int) -> None:
        if next(turns) >= 2 * number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    cache = tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(CacheError, match=r"cannot be written .*No space left on device"):
            run(cache)
    run(cache)
    assert files(cache) == files(tmp_path / "undisturbed")


@pytest.mark.parametrize("memory", [1, 2, 3, 7])
def test_a_batch_that_does_not_fit_the_device_is_halved(memory: int, tmp_path: Path) -> None:
    run(tmp_path / "roomy", batch_size=8, shard_bytes=10**6)
    images = run(
        tmp_path / "tight", batch_size=8, shard_bytes=10**6, images=Images(memory=memory)
    ).images

    assert shards(tmp_path / "tight") == shards(tmp_path / "roomy")
    assert images.batches == {1: [1] * 8, 2: [2] * 4, 3: [2] * 4, 7: [4, 4]}[memory]


def test_a_batch_size_that_did_not_fit_is_not_tried_again(tmp_path: Path) -> None:
    """And is recorded, so that whoever goes on begins with what fits."""
    tried: list[int] = []
    images = Images(lambda: tried.append(len(images.batches)), memory=2)
    run(tmp_path, images=images, batch_size=4)

    assert images.batches == [2, 1, 2, 1, 2]  # of the shards of three, three and two
    assert len(tried) == len(images.batches) + 1
    manifest = load_manifest(tmp_path)
    assert [record.origin["batch_size"] for record in manifest.images] == [2, 2, 2]
    assert choose_batch_size(images, manifest, lambda: None) == 2


def test_a_picture_that_does_not_fit_the_device_alone_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match="fake-vision: one picture of 12 pixels does not fit the memory of cpu"
    ):
        run(tmp_path, images=Images(memory=0))


@pytest.mark.spot_checks
def test_other_pictures_under_known_ids_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    before = files(tmp_path)
    run(tmp_path)  # the same ones are no others

    source = source_of()
    source.pictures[9] = picture(99)
    with pytest.raises(CacheMismatchError, match=r"picture 9.png: .* another picture as image '9'"):
        extract(source, plan_of(source), cache=tmp_path, images=Images(), text=Text(), **OPTIONS)
    assert files(tmp_path) == before

    source.pictures[9] = BAD  # gone by now: its features stay
    report = extract(
        source, plan_of(source), cache=tmp_path, images=Images(), text=Text(), **OPTIONS
    )
    assert report.failures == []
    assert files(tmp_path) == before


@pytest.mark.spot_checks
def test_a_few_pictures_stand_for_all(tmp_path: Path) -> None:
    source = Source({"val": [VqaExample(i, i, "a", ()) for i in range(60)]},
                    {i: picture(i) for i in range(60)})  # fmt: skip
    plan = plan_of(source, "val")
    for _ in range(2):
        extract(source, plan, cache=tmp_path, images=Images(), text=Text(), **OPTIONS)

    assert len(source.read) == 60 + 8


def test_float16_is_the_rounded_number(tmp_path: Path) -> None:
    run(tmp_path, dtype="float16")

    check_cache(tmp_path)
    assert FeatureCache(tmp_path).spec.dtype == "float16"


def test_int8_is_quantised_from_what_the_encoder_gives(tmp_path: Path) -> None:
    run(tmp_path, dtype="int8")

    cache = FeatureCache(tmp_path)
    patches, scales = np.empty((8, 6, VISION_DIM), np.int8), np.empty((8, 6), np.float16)
    cache.read_images(np.arange(8), patches, scales)
    pixels = [Images().pixels(load_rgb(picture(seed))) for seed in range(8)]
    floats, cls = Images().encode(np.stack(pixels))
    expected = quantise(floats.numpy())
    np.testing.assert_array_equal(patches, expected[0])
    np.testing.assert_array_equal(scales, expected[1])
    np.testing.assert_array_equal(cls_of(tmp_path, 2), cls[2].half().numpy())
    states = Text().states(Text().tokens(["xyz"])[0]).astype(np.float16)
    row = cache.questions.texts.index("xyz")
    np.testing.assert_array_equal(cache.questions.states(row), states)
    with pytest.raises(CacheError, match=r"patch embeddings of image '7' .*not finite in int8"):
        run(tmp_path / "wide", dtype="int8", images=Images(scale=1e9))


def test_a_number_beyond_float16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"patch embeddings of image '7' .*--dtype float32"):
        run(tmp_path, dtype="float16", images=Images(scale=1e5))
    assert set(files(tmp_path)) == {"cache.json", "cache.copy.json"}
    run(tmp_path / "wide", dtype="float32", images=Images(scale=1e5))
    assert FeatureCache(tmp_path / "wide").manifest.images[0].largest > 65_504


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "float16"}, "dtype is 'float32', asked for 'float16'"),
        ({"text": Text(layer=-2)}, "text layer is -1, asked for -2"),
        ({"images": Images(scale=2)}, "vision scale is 1.0, asked for 2"),
    ],
)
def test_a_cache_made_otherwise_is_refused_before_any_work(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    run(tmp_path, "train")
    before = files(tmp_path)

    with pytest.raises(CacheMismatchError, match=message):
        run(tmp_path, **changes)
    assert files(tmp_path) == before


def test_two_extractions_at_once_are_refused(tmp_path: Path) -> None:
    with (
        CacheWriter(tmp_path, cache_spec(Images(), Text(), "float32")),
        pytest.raises(CacheBusyError, match=f"process {os.getpid()}"),
    ):
        run(tmp_path)


def test_a_shard_is_stored_while_the_next_is_encoded_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole")
    next_begun = threading.Event()
    ahead: list[int] = []

    def before() -> None:
        if len(images.batches) == 2:  # those of the first shard
            next_begun.set()

    def lay(*words: Any, **more: Any) -> None:
        assert next_begun.wait(60), "the encoder waits for the disk"
        lay_aside(*words, **more)
        if more["kind"] == "images":
            ahead.append(len(images.batches))

    images = Images(before)
    monkeypatch.setattr("pipeline.work.lay_aside", lay)
    run(tmp_path / "cache", images=images)

    assert files(tmp_path / "cache") == files(tmp_path / "whole")
    assert ahead[0] <= 4  # batches of two shards
    assert len(ahead) == 3


def threads() -> set[str]:
    return {thread.name.split("_")[0] for thread in threading.enumerate()}


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, Stopped])
def test_a_stop_loses_no_finished_shard_and_leaves_no_thread(
    end: type[BaseException], tmp_path: Path
) -> None:
    def before() -> None:
        if len(images.batches) == 2:
            raise end

    images = Images(before)
    with pytest.raises(end):
        run(tmp_path, images=images)

    assert not {"decode", "shelf"} & threads()
    assert [record.rows for record in load_manifest(tmp_path).images] == [3]
    assert [line.pictures for line in logged(tmp_path, 9)] == [3]


def test_a_stop_does_not_hide_that_a_shard_could_not_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise CacheError("the disk is full")

    def before() -> None:
        if len(images.batches) == 2:
            raise KeyboardInterrupt

    images = Images(before)
    monkeypatch.setattr("pipeline.work.lay_aside", full)
    with pytest.raises(CacheError, match="the disk is full"):
        run(tmp_path, images=images)
    assert not {"decode", "shelf"} & threads()


def test_a_second_ctrl_c_does_not_give_the_lock_back_while_a_shard_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pressed, real = count(), ThreadPoolExecutor.shutdown

    def shutdown(self: ThreadPoolExecutor, wait: bool = True, **how: bool) -> None:
        if self._thread_name_prefix == "shelf" and next(pressed) == 0:
            raise KeyboardInterrupt
        real(self, wait, **how)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert next(pressed) == 2
    assert not {"decode", "shelf"} & threads()
    assert len(load_manifest(tmp_path).questions) > 1


def test_a_run_that_stores_something_leaves_a_line(tmp_path: Path) -> None:
    report = run(tmp_path, "train").report
    run(tmp_path, "train")  # stores nothing
    (line,) = logged(tmp_path, 9)
    assert line == throughput.Extraction(**json.loads((tmp_path / "extractions.jsonl").read_text()))
    assert (line.pictures, line.questions, line.batch_size) == (6, 6, 2)
    assert (line.device, line.ranks, line.torch) == ("cpu", 1, version("torch"))
    assert line.started.endswith("+00:00")
    for name in ("encoding", "waiting", "reading", "writing", "images_per_second"):
        assert getattr(line, name) > 0
    assert report.extraction is not None
    assert report.extraction.to_json() == line.to_json()


def test_a_log_that_is_no_log_is_passed_over(tmp_path: Path) -> None:
    run(tmp_path, "train")
    log = tmp_path / "extractions.jsonl"
    good = json.loads(log.read_text())
    wrong = [{}, [], 7, good | {"seconds": "1"}, good | {"ranks": 1.5}, good | {"more": 1}]
    lines = [json.dumps(one) for one in wrong]
    lines += [json.dumps(good | {"seconds": 0.0}).replace("0.0", x) for x in ("NaN", "1e999")]
    lines += ["[" * 100_000, "\x00\xff", json.dumps(good), '{"started": "20']
    log.write_text("\n".join(lines))  # the last one was cut
    before = files(tmp_path)
    run(tmp_path, "val")

    assert [line.pictures for line in logged(tmp_path, 9)] == [6, 2]
    log.unlink()
    log.symlink_to(tmp_path / "elsewhere")
    run(tmp_path, "val", bad=(8,))  # nothing is stored
    assert logged(tmp_path, 9) == []
    assert not (tmp_path / "elsewhere").exists()
    assert before.items() <= {**files(tmp_path), **before}.items()


def test_pictures_are_read_one_batch_ahead_and_no_more(tmp_path: Path) -> None:
    """Decoded pictures are large: all of them at once would not fit the memory."""
    source = source_of()
    read_before_batch: list[int] = []
    images = Images(lambda: read_before_batch.append(len(source.read)))
    plan = plan_of(source)
    extract(
        source, plan, cache=tmp_path, images=images, text=Text(), batch_size=2, shard_bytes=10**6
    )

    assert all(n <= 2 * (i + 2) for i, n in enumerate(read_before_batch))
    assert len(read_before_batch) == 4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ImageEncoder, TextEncoder]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        yield ImageEncoder("tiny", image_size=28), TextEncoder("tiny")


def test_real_models_say_of_each_alone_what_the_cache_says(
    tiny: tuple[ImageEncoder, TextEncoder], tmp_path: Path
) -> None:
    images, text = tiny
    questions = [
        "What color is the car?",
        "What color is the dog?",
        "What color is",
        "",
        "Is this a <|begin_of_text|> token?",
        "Wie viele Bäume? \N{DECIDUOUS TREE}",
        "How many people are there in the picture?",
    ]
    source = source_of("a")
    rows = zip(questions, IMAGE_IDS, strict=False)
    source.splits = {"val": [VqaExample(i, image, q, ()) for i, (q, image) in enumerate(rows)]}
    plan = make_plan(source, splits=["val"], text=text)
    extract(
        source, plan, cache=tmp_path, images=images, text=text, dtype="float32", batch_size=3,
        shard_bytes=20 * 128 * 4,
    )  # fmt: skip

    cache = FeatureCache(tmp_path)
    table = cache.split("val")
    assert len(cache.manifest.questions) > 1
    assert table.question_ids == [0, 2, 3, 4, 5, 6]
    patches = np.empty((6, 4, images.dim), dtype=np.float32)
    cache.read_images(table.image_rows, patches)
    for i, (question_id, row) in enumerate(
        zip(table.question_ids, table.question_rows, strict=True)
    ):
        tokens = text.tokens([questions[int(question_id)]])
        np.testing.assert_allclose(
            cache.questions.states(row), text.encode(tokens)[0].numpy(), atol=1e-5
        )
        pixels = images.pixels(load_rgb(source.pictures[IMAGE_IDS[int(question_id)]]))
        alone, _ = images.encode(pixels[None])
        np.testing.assert_allclose(patches[i], alone[0].numpy(), atol=1e-5)
    spread = [np.std(cache.questions.states(row)[-1]) for row in table.question_rows]
    assert min(spread) > 0.1  # atol means something


def test_the_fakes_are_what_they_stand_for() -> None:
    """A state depends on the tokens up to it, and a bad picture is one that cannot be read."""
    short, long = [torch.from_numpy(Text().states(t)) for t in ([1, 2], [1, 2, 3])]
    assert torch.equal(long[:2], short)
    assert not torch.equal(Text().encode([[2, 2]])[0], short)
    with pytest.raises(ImageError, match="damaged"):
        load_rgb(BAD)
