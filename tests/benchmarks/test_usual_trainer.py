"""The trainer that ours is compared with is the same model on the same features, fairly timed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from benchmarks.step.data import first_head, load_data, new_trainer
from benchmarks.step.usual_trainer import UsualDataset, UsualTrainer, usual_loader, write_usual_file
from benchmarks.step.variant import Clock, Enough
from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.answers.targets import class_scores
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.metrics.find import METRICS
from frozen_vqa.pipeline.model.config import POOLINGS
from frozen_vqa.pipeline.model.reference import translate_weights
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.train.loss import soft_target_loss
from tests.support.caches import PATCHES, TEXT_DIM, VISION_DIM, Made, Row, make_cache

VOCABULARY = Vocabulary(("red", "blue", "2"))
CONFIG = TrainConfig(
    width=8, heads=2, layers=2, batch_size=8, dropout=0.0, min_answer_count=1, val_split="train"
)
# Two questions of one picture, a picture that is asked once, and question lengths from 1 to 4.
ROWS = [
    Row(3, 2, ("red",)),
    Row(0, 1, ("blue",)),
    Row(3, 0, ("2",)),
    Row(1, 3, ("red", "blue")),
    Row(0, 4, ("red",)),
]
SLOTS = ([0, 2], [1, 4], [3])
"""Rows of the questions of each picture."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_cache(tmp_path_factory.mktemp("usual") / "cache", {"train": ROWS})


@pytest.fixture(params=POOLINGS)
def ours(made: Made, request: pytest.FixtureRequest) -> VqaModel:
    config = replace(CONFIG, pooling=request.param)
    data = load_data(made.directory, config)
    torch.manual_seed(3)
    model = first_head(replace(data, vocabulary=VOCABULARY), config)
    with torch.no_grad():  # biases and norms begin at 0 and 1, where a mix-up would not be seen
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture(params=[True, False], ids=["one-row chunks", "contiguous"])
def dataset(made: Made, tmp_path: Path, request: pytest.FixtureRequest) -> UsualDataset:
    cache = FeatureCache(made.directory)
    split = cache.split("train")
    path = tmp_path / ("chunks.h5" if request.param else "contiguous.h5")
    write_usual_file(path, cache, split, one_row_chunks=request.param)
    scores = class_scores(split.answers, VOCABULARY, metric=METRICS["plain"])
    return UsualDataset(path, scores, len(VOCABULARY))


def test_the_usual_loader_gives_what_the_cache_holds(made: Made, dataset: UsualDataset) -> None:
    loader = usual_loader(dataset, CONFIG, workers=0, shuffle=False)

    ((patches, states, mask, targets),) = list(loader)

    assert dataset.features is not None
    one_row = (1, PATCHES, VISION_DIM)
    assert dataset.features.chunks == (one_row if "chunks" in dataset.path.stem else None)
    for i, row in enumerate(ROWS):
        length = len(made.states[row.question])
        np.testing.assert_array_equal(patches[i].numpy(), made.patch_embeddings[row.image])
        np.testing.assert_array_equal(states[i, :length].numpy(), made.states[row.question])
        assert mask[i].tolist() == [j < length for j in range(4)]
        assert not states[i, length:].any()
        expected = [float(answer in row.answers) for answer in VOCABULARY.answers]
        assert targets[i].tolist() == expected


def grid(made: Made) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Put `ROWS` into the batch that our head takes: pictures, each with its questions in slots."""
    patches = torch.from_numpy(made.patch_embeddings[[ROWS[rows[0]].image for rows in SLOTS]])
    states = torch.full((len(SLOTS), 2, 4, TEXT_DIM), torch.nan)
    mask = torch.zeros(states.shape[:3], dtype=torch.bool)
    for i, rows in enumerate(SLOTS):
        for slot, row in enumerate(rows):
            one = torch.from_numpy(made.states[ROWS[row].question])
            states[i, slot, : len(one)] = one
            mask[i, slot, : len(one)] = True
    return patches, states, mask


def test_the_usual_model_is_our_function(made: Made, dataset: UsualDataset, ours: VqaModel) -> None:
    """Logits and gradients agree, on grouped pictures and on questions of many lengths."""
    loader = usual_loader(dataset, CONFIG, workers=0, shuffle=False)
    usual = UsualTrainer(CONFIG, torch.device("cpu"), ours, loader)
    ((patches, states, mask, targets),) = list(loader)
    rows = [row for rows in SLOTS for row in rows]

    logits = ours(*grid(made))
    theirs = usual.model(patches, states, mask)
    assert_close(theirs[rows], logits, atol=1e-5, rtol=0)

    soft_target_loss(logits, targets[rows]).backward()
    loss = soft_target_loss(theirs, targets)
    loss.backward()
    # Both ways of writing the weights are linear, so gradients translate as weights do.
    expected = translate_weights({name: p.grad for name, p in ours.named_parameters()})
    for name, parameter in usual.model.named_parameters():
        gradient = parameter.grad
        assert gradient is not None
        assert_close(gradient, expected[name], atol=1e-5, rtol=0)
    assert usual.epoch() == pytest.approx(loss.item(), abs=1e-5)


def test_a_clock_counts_after_the_warm_up_until_steps_and_seconds_have_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = iter([10.0, 12.0, 14.0, 14.0])  # begin, two looks, end
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    waits = iter([5.0, 6.0])
    clock = Clock(warmup=2, seconds=3.0, steps=2, waited=lambda: next(waits))

    for questions in (1000, 100, 8, 7):
        clock.step(questions)
    with pytest.raises(Enough):
        clock.step(5)

    assert clock.result["questions_per_second"] == (8 + 7 + 5) / 4
    assert clock.result["data_wait_fraction"] == 1 / 4


def test_a_thinned_split_is_the_same_for_every_trainer(made: Made) -> None:
    kept = [
        load_data(made.directory, CONFIG, kept=0.5).splits[CONFIG.train_split] for _ in range(2)
    ]

    assert 0 < len(kept[0]) < len(ROWS)
    assert kept[0].question_ids == kept[1].question_ids
    for i, question_id in enumerate(kept[0].question_ids):
        row = ROWS[int(question_id) - 100]
        assert (kept[0].image_rows[i], kept[0].question_rows[i]) == (row.image, row.question)
        assert kept[0].answers[i] == row.answers


def test_both_begin_with_the_same_weights(made: Made) -> None:
    data = load_data(made.directory, CONFIG)
    trainer = new_trainer(data, CONFIG, torch.device("cpu"))
    first = first_head(data, CONFIG).state_dict()

    assert trainer.model.state_dict().keys() == first.keys()
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, first[name]), name
