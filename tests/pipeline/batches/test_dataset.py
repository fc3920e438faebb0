"""The batches of a user's own loader are those of our reader, in any worker, and train a head."""

import multiprocessing
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

from frozen_vqa.cache import CacheDamagedError, FeatureCache
from frozen_vqa.cache.format.spec import DTYPES
from frozen_vqa.pipeline.answers.targets import class_scores
from frozen_vqa.pipeline.ask.head import VqaHead
from frozen_vqa.pipeline.batches.batch import FeatureBatch
from frozen_vqa.pipeline.batches.dataset import FeatureDataset
from frozen_vqa.pipeline.batches.plan import plan_batches
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.metrics.find import METRICS
from frozen_vqa.pipeline.model.config import HeadSettings
from tests.support.caches import Made, Row, make_cache, make_spec
from tests.support.resuming import CPU

ANSWERS = ("red", "blue", "2")


@pytest.fixture(scope="module", params=DTYPES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Pictures with one to five questions; a third of them comes more than once."""
    rng = np.random.default_rng(3)
    rows = [
        Row(image, int(rng.integers(9)), (ANSWERS[int(rng.integers(3))],) * 10)
        for image in range(12)
        for _ in range(1 + image % 5)
    ]
    spec = make_spec(dtype=request.param)
    return make_cache(
        tmp_path_factory.mktemp("dataset"),
        {"train": [rows[i] for i in rng.permutation(len(rows))], "test": [Row(0, 1), Row(1, 0)]},
        spec=spec,
    )


def ours(made: Made, *, grouped: bool, epoch: int) -> Iterator[FeatureBatch]:
    """Yield the batches of our own training."""
    cache = FeatureCache(made.directory)
    table = cache.split("train")
    scores = class_scores(
        table.answers,
        FeatureDataset(cache, "train", answers=ANSWERS).vocabulary,
        metric=METRICS["2021"],
    )
    reader = BatchReader(ResidentFeatures(cache, device=CPU), table, scores=scores)
    yield from reader.batches(
        plan_batches(table.image_rows, batch_size=8, grouped=grouped, shuffle=(7, epoch))
    )


def assert_equal(found: FeatureBatch, expected: FeatureBatch) -> None:
    for one, other in zip([found, *found.parts], [expected, *expected.parts], strict=True):
        for name in {field.name for field in fields(type(other))} - {"parts"}:
            mine, theirs = getattr(one, name), getattr(other, name)
            if theirs is None or isinstance(theirs, int):
                assert mine == theirs, name
            else:
                mine, theirs = torch.as_tensor(mine), torch.as_tensor(theirs)
                assert torch.equal(mine, theirs), name
                assert mine.dtype == theirs.dtype, name


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("start", [None, "fork"])
def test_the_batches_are_those_of_our_reader(made: Made, grouped: bool, start: str | None) -> None:
    """Of two epochs, with the same tensors, in this process and in forked workers."""
    data = FeatureDataset(made.directory, "train", answers=ANSWERS, grouped=grouped)
    loader = DataLoader(
        data,
        batch_sampler=data.batches(8, seed=7),
        collate_fn=data.collate,
        num_workers=2 if start else 0,
        multiprocessing_context=start,
    )
    for epoch in range(2):
        found = 0
        for mine, theirs in zip(loader, ours(made, grouped=grouped, epoch=epoch), strict=True):
            assert_equal(mine, theirs)
            found += len(mine.questions)
        assert found == len(data)


def test_without_a_seed_the_order_is_that_of_seed_0(made: Made) -> None:
    data = FeatureDataset(made.directory, "train", answers=ANSWERS)
    assert list(data.batches(8)) == list(data.batches(8, seed=0)) != list(data.batches(8, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_workers_that_begin_anew_read_the_same(made: Made, start: str) -> None:
    data = FeatureDataset(made.directory, "train", answers=ANSWERS)
    assert len(data.reader._lengths)  # open already, with maps and threads that cannot be sent
    loader = DataLoader(
        data,
        batch_sampler=data.batches(8, seed=7),
        collate_fn=data.collate,
        num_workers=1,
        multiprocessing_context=multiprocessing.get_context(start),
    )
    for mine, theirs in zip(loader, ours(made, grouped=True, epoch=0), strict=True):
        assert_equal(mine, theirs)


def test_a_copy_by_pickle_reads_the_same_and_holds_no_feature(made: Made) -> None:
    data = FeatureDataset(made.directory, "train", answers=ANSWERS)
    whole = data.collate([data[i] for i in range(len(data))])
    sent = pickle.dumps(data)
    again = pickle.loads(sent)
    assert_equal(again.collate([again[i] for i in range(len(again))]), whole)
    assert data.cache.questions.hidden_states.tobytes()[:64] not in sent


def test_a_copy_refuses_a_cache_that_was_replaced(tmp_path: Path) -> None:
    rows = {"train": [Row(0, 0, ("red",)), Row(1, 1, ("blue",))]}
    make_cache(tmp_path / "one", rows, seed=1)
    make_cache(tmp_path / "two", rows, seed=2)
    sent = pickle.dumps(FeatureDataset(tmp_path / "one", "train", answers=ANSWERS))
    shutil.rmtree(tmp_path / "one")
    (tmp_path / "two").rename(tmp_path / "one")
    again = pickle.loads(sent)
    with pytest.raises(CacheDamagedError):
        again.collate([again[0], again[1]])


def test_an_item_has_the_features_of_its_question(made: Made) -> None:
    data = FeatureDataset(made.directory, "train", answers=ANSWERS)
    for row in (0, 5, len(data) - 1):
        item, asked = data[row], made.splits["train"][row]
        np.testing.assert_array_equal(item.patch_embeddings, made.patch_embeddings[asked.image])
        np.testing.assert_array_equal(item.hidden_states, made.states[asked.question])
        assert (item.text, item.question_id) == (f"question {asked.question}?", 100 + row)
        assert (item.image_id, item.answers) == (f"picture {asked.image}", asked.answers)
        assert item.soft_targets.tolist() == [float(a == asked.answers[0]) for a in ANSWERS]
    with pytest.raises(IndexError):
        data[len(data)]


def test_a_split_without_answers_has_features_and_no_targets(made: Made) -> None:
    data = FeatureDataset(made.directory, "test", answers=ANSWERS)
    batch = data.collate([data[0], data[1]])
    assert batch.target_values is None
    assert batch.questions.tolist() == [0, 1]


@pytest.mark.parametrize("grouped", [True, False])
def test_a_plain_loop_of_a_user_trains_a_head(scenes: Made, grouped: bool) -> None:
    """Without our sampler, and in the order of the rows that the batch names."""
    data = FeatureDataset(scenes.directory, "train", answers=("red", "blue"), grouped=grouped)
    torch.manual_seed(0)
    settings = HeadSettings(fusion="concat", width=16, heads=2)
    head = VqaHead.untrained(data.cache.spec, len(data.vocabulary), settings)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.02)
    losses = []
    for _ in range(8):
        loader = DataLoader(data, batch_size=32, shuffle=True, collate_fn=data.collate)
        for batch in loader:
            targets = batch.soft_targets(2)
            for i, row in enumerate(batch.questions.tolist() if not losses else ()):
                assert torch.equal(targets[i], data[row].soft_targets)
            loss = binary_cross_entropy_with_logits(batch.to("cpu").logits(head), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
