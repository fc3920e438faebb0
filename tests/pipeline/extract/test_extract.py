"""Stage one: everything is encoded once, stored once, and comes back as the encoders said it."""

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from frozen_vqa.cache import CacheError, FeatureCache, load_manifest
from frozen_vqa.cache.format.quantise import quantise
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ImageError
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.extract.speed import throughput
from frozen_vqa.pipeline.extract.speed.throughput import read_throughputs
from frozen_vqa.pipeline.sources.example import VqaExample
from tests.support.extractions import (
    IMAGE_BYTES,
    IMAGE_IDS,
    TRAIN,
    TRAIN_IDS,
    VAL,
    VAL_IDS,
    check_cache,
    cls_of,
    no_spot_checks,  # noqa: F401  (a fixture)
    pixels_of,
    plan_of,
    prefixes_of,
    run,
    shards,
    source_of,
)
from tests.support.frozen import BAD, VISION_DIM, Images, Text, files, picture


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
        "images": {"total": 8, "ids": 8, "encoded": 8, "skipped": 0},
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
        "extraction": read_throughputs(tmp_path, 1)[0].to_json(),
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
    assert report.images == {"total": 8, "ids": 8, "encoded": 0, "skipped": 0}


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
    assert second.report.images == {"total": 4, "ids": 4, "encoded": 2, "skipped": 0}


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


def test_a_run_that_stores_something_leaves_a_line(tmp_path: Path) -> None:
    report = run(tmp_path, "train").report
    run(tmp_path, "train")  # stores nothing
    (line,) = read_throughputs(tmp_path, 9)
    assert line == throughput.Throughput(**json.loads((tmp_path / "extractions.jsonl").read_text()))
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

    assert [line.pictures for line in read_throughputs(tmp_path, 9)] == [6, 2]
    log.unlink()
    log.symlink_to(tmp_path / "elsewhere")
    run(tmp_path, "val", bad=(8,))  # nothing is stored
    assert read_throughputs(tmp_path, 9) == []
    assert not (tmp_path / "elsewhere").exists()
    assert before.items() <= {**files(tmp_path), **before}.items()


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
