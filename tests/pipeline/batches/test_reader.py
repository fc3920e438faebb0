"""Batches hold what a naive lookup finds."""

import concurrent.futures.thread
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from frozen_vqa.cache import CacheDamagedError, FeatureCache
from frozen_vqa.pipeline.answers.targets import ClassScores, class_scores
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.batches.batch import FeatureBatch
from frozen_vqa.pipeline.batches.plan import BatchPlan, Grid, plan_batches
from frozen_vqa.pipeline.batches.reader import (
    AHEAD,
    BatchReader,
)
from frozen_vqa.pipeline.batches.residency import Buffer, Residency, ResidentFeatures
from frozen_vqa.pipeline.metrics.find import METRICS
from tests.support.batch_parts import check_part
from tests.support.caches import PATCHES, VISION_DIM, Made, Row, extent_of, make_cache

ANSWERS = [("red",) * 6 + ("blue",) * 3 + ("teal",), ("blue",) * 10, ("teal", "red") * 5, ()]
VOCABULARY = Vocabulary(("red", "blue"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Seven pictures with 0 to 20 questions, 8 distinct questions."""
    rng = np.random.default_rng(5)
    counts = [4, 0, 1, 20, 2, 5, 3]
    rows = [
        Row(image, int(rng.integers(8)), ANSWERS[int(rng.integers(4))])
        for image, count in enumerate(counts)
        for _ in range(count)
    ]
    order = rng.permutation(len(rows))
    # The last distinct question and the last picture occur for certain.
    rows = [rows[i] for i in order] + [Row(6, 7, ANSWERS[0])]
    return make_cache(tmp_path_factory.mktemp("batches"), {"train": rows})


def make_reader(
    made: Made, *, residency: Residency = "mapped", scores: ClassScores | None = None
) -> BatchReader:
    cache = FeatureCache(made.directory)
    features = ResidentFeatures(cache, residency=residency, device=torch.device("cpu"))
    return BatchReader(features, cache.split("train"), scores=scores)


def plan_of(made: Made, batch_size: int, *, grouped: bool = True) -> BatchPlan:
    rows = np.array([row.image for row in made.splits["train"]])
    return plan_batches(rows, batch_size=batch_size, grouped=grouped, shuffle=(0, 1))


def check_features(made: Made, grid: Grid, batch: FeatureBatch) -> None:
    """Compare a batch with what its questions have in the made-up data, question by question."""
    (part,) = batch.parts
    check_part(made, grid, part)


@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "plain"])
@pytest.mark.parametrize(
    ("batch_size", "residency"), [(1, "ram"), (5, "mapped"), (5, "ram"), (64, "mapped")]
)
def test_batches_hold_what_a_lookup_finds(
    made: Made, batch_size: int, residency: Residency, grouped: bool
) -> None:
    plan = plan_of(made, batch_size, grouped=grouped)
    answers = [row.answers for row in made.splits["train"]]
    scores = class_scores(answers, VOCABULARY, metric=METRICS["2021"])
    reader = make_reader(made, scores=scores, residency=residency)
    matrix = [
        [min(1.0, 0.3 * given.count(answer)) for answer in VOCABULARY.answers] for given in answers
    ]

    seen = 0
    for grid, batch in zip(plan, reader.batches(plan), strict=True):
        check_features(made, grid, batch)
        targets = batch.soft_targets(len(VOCABULARY))
        for row, target in zip(batch.questions, targets.tolist(), strict=True):
            assert target == pytest.approx(matrix[row])
        seen += len(batch.questions)
    assert seen == len(answers)


def test_without_scores_there_are_no_targets(made: Made) -> None:
    batch = next(make_reader(made).batches(plan_of(made, 5)))
    assert batch.target_indices is None
    assert batch.target_values is None


def test_an_empty_plan_gives_nothing(made: Made) -> None:
    nothing = plan_batches(np.array([], int), batch_size=4, grouped=True, shuffle=(0, 0))
    assert list(make_reader(made).batches(nothing)) == []


def test_a_reader_can_be_used_again(made: Made) -> None:
    """With larger batches too, for which its buffers have to grow."""
    reader = make_reader(made)
    for batch_size in (2, 64, 3):
        plan = plan_of(made, batch_size, grouped=False)
        for grid, batch in zip(plan, reader.batches(plan), strict=True):
            check_features(made, grid, batch)


def test_a_batch_stays_whole_until_the_next_is_asked_for(made: Made) -> None:
    """The background thread works ahead; it must not write where the consumer still reads."""
    plan = plan_of(made, 2, grouped=False)
    assert len(plan) > 2 * AHEAD + 2
    for grid, batch in zip(plan, make_reader(made).batches(plan), strict=True):
        time.sleep(0.01)  # the thread fills every buffer that it may
        check_features(made, grid, batch)


@pytest.mark.parametrize("slow", ["consumer", "reader"])
def test_every_batch_comes_once_and_in_order_whoever_is_slow(
    slow: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a batch takes: a step of a large head takes seconds, a cold disk too."""
    reader = make_reader(made)
    plan = plan_of(made, 2, grouped=False)
    slow_ones, read, reads = {1, AHEAD + 3}, reader._read, []

    def read_slowly(grid: Grid, buffer: Buffer) -> FeatureBatch:
        if slow == "reader" and len(reads) in slow_ones:
            time.sleep(0.15)
        reads.append(grid)
        return read(grid, buffer)

    monkeypatch.setattr(reader, "_read", read_slowly)
    found = []
    for number, batch in enumerate(reader.batches(plan)):
        if slow == "consumer" and number in slow_ones:
            time.sleep(0.15)
        found.append(batch.questions.tolist())
    assert found == [[int(row) for entry in grid for row in entry] for grid in plan]
    assert len(reads) == len(plan)


def test_the_wait_of_the_consumer_is_measured(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is asked for at one time and there at another; what is between adds up."""
    reader = make_reader(made)
    clock = iter(np.arange(100.0).tolist())
    monkeypatch.setattr(time, "perf_counter", lambda: 3 * next(clock))
    plan = plan_of(made, 8)
    assert sum(1 for _ in reader.batches(plan)) == len(plan)
    assert reader.waited == 3.0 * len(plan)
    assert sum(1 for _ in reader.batches(plan)) == len(plan)
    assert reader.waited == 6.0 * len(plan)


def test_readers_of_the_same_features_use_the_same_room_but_never_at_once(made: Made) -> None:
    cache = FeatureCache(made.directory)
    features = ResidentFeatures(cache, device=torch.device("cpu"))
    train, val = (BatchReader(features, cache.split("train")) for _ in range(2))
    plan = plan_of(made, 2, grouped=False)

    def rooms(reader: BatchReader) -> dict[int, torch.Tensor]:
        found = [batch.parts[0].patch_embeddings for batch in reader.batches(plan)]
        return {room.data_ptr(): room for room in found}

    first = rooms(train)  # still held, so that no new room can lie there
    assert rooms(val).keys() == first.keys()
    for grid, batch in zip(plan, train.batches(plan), strict=True):
        assert batch.parts[0].patch_embeddings.data_ptr() not in rooms(val)
        check_features(made, grid, batch)


def damage(made: Made, image: int) -> None:
    """Flip one bit of a picture's features; the file keeps its size."""
    shard, row = divmod(image, (len(made.patch_embeddings) + 1) // 2)
    path = made.directory / f"images/{shard:05d}.h5"
    place, _ = extent_of(path, "patch_embeddings")
    place += row * PATCHES * VISION_DIM * 2 + 11
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_damage_reaches_the_consumer(tmp_path: Path) -> None:
    """It is found by another thread; batches before it are given out, and the thread ends."""
    rows = [Row(image, image % 3) for image in range(6)]
    made = make_cache(tmp_path, {"train": rows})
    damage(made, 4)
    plan = plan_batches(np.arange(6), batch_size=1, grouped=True, shuffle=None)
    batches = make_reader(made).batches(plan)

    assert [int(next(batches).questions[0]) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(CacheDamagedError, match=r"00001\.h5: row 1 differs from its digest"):
        next(batches)
    assert not reading_threads()


def test_leaving_early_ends_the_thread(made: Made) -> None:
    batches = make_reader(made).batches(plan_of(made, 1))
    next(batches)
    assert len(reading_threads()) == 1
    batches.close()
    assert not reading_threads()

    for _ in make_reader(made).batches(plan_of(made, 1)):
        break
    assert not reading_threads()

    with pytest.raises(ZeroDivisionError, match="division by zero"):
        consume_badly(make_reader(made).batches(plan_of(made, 1)))
    assert not reading_threads()


def test_leaving_early_reads_no_further_batch(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it fail where Python ends, which has taken the modules apart by then."""
    reader = make_reader(made)
    begun, gate, read, reads = threading.Event(), threading.Event(), reader._read, []

    def read_slowly(grid: Grid, buffer: Buffer) -> FeatureBatch:
        reads.append(grid)
        if len(reads) > 1:
            begun.set()
            gate.wait()
        return read(grid, buffer)

    monkeypatch.setattr(reader, "_read", read_slowly)
    batches = reader.batches(plan_of(made, 1))
    next(batches)
    assert begun.wait(60)
    threading.Timer(0.2, gate.set).start()
    monkeypatch.setattr(concurrent.futures.thread, "queue", None)
    batches.close()
    assert len(reads) == 2
    assert not reading_threads()


def consume_badly(batches: Iterator[FeatureBatch]) -> None:
    for batch in batches:
        assert len(batch.questions) / 0
