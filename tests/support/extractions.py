"""Stage one over a small data set: run, stop it, and compare what it stored with the encoders."""

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest

from frozen_vqa.cache import FeatureCache
from frozen_vqa.cache.disk.integrity import load_manifest
from frozen_vqa.cache.verify import check_file
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.extract.decoder import DecodedPicture, PictureDecoder
from frozen_vqa.pipeline.extract.extract import Report, extract
from frozen_vqa.pipeline.extract.plan import Plan, make_plan
from frozen_vqa.pipeline.sources.example import Id, VqaExample
from tests.support.frozen import BAD, TEXT_DIM, VISION_DIM, Images, Source, Text, files, picture

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
NONE: Mapping[Id, Id] = {}
TRAIN_IDS, VAL_IDS = IMAGE_IDS[:6], IMAGE_IDS[6:]


@pytest.fixture(autouse=True)
def no_spot_checks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored pictures are read again to be compared; tests of what is read leave that out."""
    if "spot_checks" not in request.keywords:
        monkeypatch.setattr("frozen_vqa.pipeline.extract.decoder.SPOT_CHECKS", 0)


class Extraction(NamedTuple):
    report: Report
    source: Source
    images: Images
    text: Text


def source_of(*bad: Id) -> Source:
    pictures = {image_id: picture(seed) for seed, image_id in enumerate(IMAGE_IDS)}
    broken = {image_id: BAD + str(image_id).encode() for image_id in bad}
    return Source({"train": TRAIN, "val": VAL}, pictures | broken)


def plan_of(source: Source, *splits: str, text: Text | None = None) -> Plan:
    return make_plan(source, splits=splits or ("train", "val"), text=text or Text())


def run(
    cache: Path,
    *splits: str,
    bad: tuple[Id, ...] = (),
    same: Mapping[Id, Id] = NONE,
    images: Images | None = None,
    text: Text | None = None,
    **settings: Any,
) -> Extraction:
    """Extract; `same` has ids that have the picture of another one."""
    source, images, text = source_of(*bad), images or Images(), text or Text()
    source.pictures |= {copy: source.pictures[first] for copy, first in same.items()}
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


def note_decoded(monkeypatch: pytest.MonkeyPatch) -> list[Id]:
    """Return a list that gets the id of each picture that is about to be decoded."""
    decoded: list[Id] = []
    real = PictureDecoder.decode

    def decode(self: PictureDecoder, image_id: Id) -> DecodedPicture:
        decoded.append(image_id)
        return real(self, image_id)

    monkeypatch.setattr(PictureDecoder, "decode", decode)
    return decoded


class Stopped(Exception):
    pass


def stop_at(number: int) -> Callable[[], None]:
    """A hook that raises at the n-th call of either encoder."""
    calls = count()

    def before() -> None:
        if next(calls) == number:
            raise Stopped

    return before
