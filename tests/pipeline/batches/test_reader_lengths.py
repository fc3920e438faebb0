"""A batch that is divided by length gives the logits and gradients of the whole one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.batches import plan, reader
from frozen_vqa.pipeline.batches.plan import divide_by_length, plan_batches
from frozen_vqa.pipeline.evaluate.logits import split_logits
from frozen_vqa.pipeline.predict import predict
from frozen_vqa.pipeline.report.attention import see_split
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.train.sweep import sweep
from tests.support.batch_parts import check_part
from tests.support.caches import TEXT_DIM, Made, Row, make_cache
from tests.support.fusion_heads import HEADS
from tests.support.heads import make_run
from tests.support.resuming import CPU, Killed, without_times
from tests.support.trainings import gradients_of_an_epoch, make_trainer, run_training, small

LENGTHS = (2, 3, 4, 40, 3, 90, 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Pictures with up to six questions, of which some are far longer than the others."""
    rng = np.random.default_rng(4)
    first = rng.standard_normal((1, TEXT_DIM))
    states = [
        np.concatenate([first, rng.standard_normal((length - 1, TEXT_DIM))]) for length in LENGTHS
    ]
    rows = [
        Row(image, int(question), (("red", "blue")[int(rng.integers(2))],) * 10)
        for image in range(16)
        for question in rng.permutation(len(LENGTHS))[: 1 + image % 6]
    ]
    folder = tmp_path_factory.mktemp("lengths")
    return make_cache(folder, {"train": rows, "val": rows}, states=states)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide small batches too: let a part cost no more than its questions."""
    monkeypatch.setattr(plan, "PART", 0)
    monkeypatch.setattr(plan, "PICTURE", 0)


def never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "divide_by_length", lambda grid, _: [grid])


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("grouped", [True, False])
def test_parts_hold_what_a_lookup_finds(made: Made, grouped: bool) -> None:
    trainer = make_trainer(made, group_by_image=grouped)
    images, lengths = trainer.train_split.image_rows, trainer.train_reader._lengths
    order = plan_batches(images, batch_size=24, grouped=grouped, shuffle=(0, 1))
    several = 0
    for grid, batch in zip(order, trainer.train_reader.batches(order), strict=True):
        grids = divide_by_length(grid, lengths)
        several += len(grids) > 1
        for i, (own, part) in enumerate(zip(grids, batch.parts, strict=True)):
            check_part(made, own, part, multiple=1 if i else plan.IMAGES)
        assert batch.questions.tolist() == [row for own in grids for entry in own for row in entry]
    assert several > 1


SINGLE = {name: head for name, head in HEADS.items() if "pictures" not in head}


@pytest.mark.parametrize(
    ("head", "grouped"),
    [*((head, True) for head in SINGLE.values()), (HEADS["co-attention"], False)],
    ids=[*SINGLE, "plain order"],
)
@pytest.mark.usefixtures("always")
def test_logits_and_gradients_are_those_of_the_whole_batch(
    made: Made, head: dict[str, Any], grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {**head, "group_by_image": grouped, "feature_dropout": 0.0}

    def both() -> tuple[list[list[Tensor]], np.ndarray]:
        trainer = make_trainer(made, **how)
        logits = split_logits(
            trainer.model.double(), trainer.val_reader, trainer.val_split, batch_size=24, answers=2
        )
        return gradients_of_an_epoch(made, monkeypatch, **how), logits

    gradients, logits = both()
    never(monkeypatch)
    expected, whole = both()
    np.testing.assert_allclose(logits, whole, atol=1e-6, rtol=0)
    for ours, theirs in zip(gradients, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-7)


@pytest.mark.usefixtures("always")
def test_a_report_sees_the_whole_split(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(made, tmp_path / "run")
    run, cache = load_run(tmp_path / "run", CPU), FeatureCache(made.directory)
    table = cache.split("val")
    found = see_split(run, cache, table, range(len(table)))
    never(monkeypatch)
    whole = see_split(run, cache, table, range(len(table)))
    np.testing.assert_allclose(found.probabilities, whole.probabilities, atol=1e-6)
    assert found.attended.keys() == whole.attended.keys()
    for row, seen in found.attended.items():
        np.testing.assert_allclose(seen.to_patches, whole.attended[row].to_patches, atol=1e-6)


@pytest.mark.usefixtures("always")
def test_a_training_ends_in_the_same_bits_however_it_got_there(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, interrupted, or beside another head; and its answers are those of any reader."""
    how = {"dropout": 0.3, "feature_dropout": 0.3, "epochs": 2, "accumulate": 2, "batch_size": 10}
    run_training(made, tmp_path / "alone", **how)
    heads = {"one": small(**how), "other": small(**how, fusion="concat", width=8)}
    sweep(made.directory, tmp_path / "heads", heads=heads, device=CPU)
    expected = without_times(tmp_path / "alone")
    assert without_times(tmp_path / "heads/one") == expected

    trainer = make_trainer(made, **how)
    trainer.epoch(0)

    def stop() -> None:
        if trainer.counters.batch == 2:
            raise Killed

    with pytest.raises(Killed):
        trainer.epoch(1, stop)
    kept = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
    other = make_trainer(made, **how)
    other.restore(kept, trainer.counters)
    other.epoch(1)
    undisturbed = make_trainer(made, **how)
    for number in range(2):
        undisturbed.epoch(number)
    for name, tensor in undisturbed.tensors().items():
        assert torch.equal(tensor, other.tensors()[name]), name

    args = {"batch_size": 10}
    (answers,) = predict([other.model], other.val_reader, other.val_split, **args)
    logits = split_logits(other.model, other.val_reader, other.val_split, answers=2, **args)
    assert answers.tolist() == logits.argmax(1).tolist()
