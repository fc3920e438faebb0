"""What only a GPU can show: `make gpu` runs these."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL.Image import Resampling

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.batches.residency import Residency
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.encoders.picture_files.nvjpeg import require_nvjpeg
from frozen_vqa.pipeline.encoders.preprocess import fit_rgb, fit_whole
from frozen_vqa.pipeline.encoders.reading import Reading
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.model.config import FUSIONS
from frozen_vqa.pipeline.runs.folder import CURRENT
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.runs.state import TrainState
from frozen_vqa.pipeline.runs.weights import read_weights
from frozen_vqa.pipeline.train.loop import TrainingLoop
from frozen_vqa.pipeline.train.train import train
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support import resuming
from tests.support.caches import Made
from tests.support.pictures import encoded, noise
from tests.support.resuming import GROUPED, PLAIN, bits, killed_before_step, without_times

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of CUDA"),
]
kept_states = resuming.kept_states  # a fixture, in force in every test

CUDA = torch.device("cuda")
PRECISIONS = ("float32", "bfloat16")


@pytest.fixture(autouse=True)
def on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "CPU", CUDA)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("config", [GROUPED, PLAIN], ids=["grouped", "plain"])
def test_a_killed_training_ends_as_an_undisturbed_one(
    config: TrainConfig,
    precision: str,
    scenes: Made,
    tmp_path: Path,
    kept_states: list[TrainState],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bit for bit, with states that were copied while steps went on."""
    settings = replace(config, precision=precision, ema=0.5)
    resuming.begin(scenes, tmp_path / "whole", settings)
    whole = without_times(tmp_path / "whole"), bits(kept_states[-1].tensors)
    monkeypatch.setattr(TrainingLoop, "save_is_due", True)
    assert killed_before_step(4, scenes, tmp_path / "run", settings, monkeypatch)
    torch.rand(5, device=CUDA)
    resuming.go_on(scenes, tmp_path / "run", settings)
    assert (without_times(tmp_path / "run"), bits(kept_states[-1].tensors)) == whole


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_place_of_the_features_changes_nothing(
    precision: str, scenes: Made, tmp_path: Path
) -> None:
    places: tuple[Residency, ...] = ("gpu", "ram", "mapped")
    ends = []
    for place in places:
        run = tmp_path / place
        settings = replace(GROUPED, precision=precision)
        train(scenes.directory, run, config=settings, device=CUDA, residency=place)
        ends.append(bits(read_weights(run / CURRENT).tensors))
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_gpu_trains_and_answers_as_the_cpu_does(
    fusion: str, scenes: Made, tmp_path: Path
) -> None:
    settings = replace(GROUPED, fusion=fusion, dropout=0.0, precision="float32")
    scores = {}
    for device in (torch.device("cpu"), CUDA):
        run = tmp_path / device.type
        result = train(scenes.directory, run, config=settings, device=device)
        scored = evaluate(load_run(run, device), FeatureCache(scenes.directory), "val")
        assert scored.accuracy is not None
        assert scored.accuracy.overall == pytest.approx(result.best_accuracy, abs=1e-6)
        scores[device.type] = result.best_accuracy
    assert scores["cuda"] == pytest.approx(scores["cpu"], abs=10)  # of 16 scenes, TF32


def test_a_step_never_waits_for_the_gpu(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is said to wait does: a save, and the end of an epoch."""
    real = Trainer.learn

    def learn(self: Trainer, *args: Any) -> bool:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return real(self, *args)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Trainer, "learn", learn)
    train(scenes.directory, tmp_path / "run", config=GROUPED, device=CUDA)


def test_jpegs_of_a_gpu_are_close_to_pillows_and_disturb_nothing_beside_them() -> None:
    """Neither writes into the other's memory: both give the same bits as alone."""
    try:
        gpu = require_nvjpeg(CUDA, Resampling.BICUBIC, "")
    except ModelError as error:
        pytest.skip(str(error))
    files = [
        encoded(noise(20 + i, 15).resize((640, 480), Resampling.BICUBIC), "JPEG", progressive=i % 2)
        for i in range(24)
    ]
    fit = partial(fit_whole, sides=(224, 224), resample=Resampling.BICUBIC)
    on_gpu = partial(fit_rgb, fit=fit, reading=Reading(gpu=gpu))
    alone = [on_gpu(data) for data in files]
    for data, found in zip(files, alone, strict=True):
        distance = np.abs(found.astype(int) - fit_rgb(data, fit))
        assert distance.mean() < 3
        assert distance.max() < 40
    values = torch.randn(921_600, device=CUDA)  # as many bytes as four pictures
    right = (values * 2).sum()
    with ThreadPoolExecutor(16) as threads:
        beside = threads.map(on_gpu, files * 8)
        sums = torch.stack([(values * 2).sum() for _ in range(4000)])
        assert all(map(np.array_equal, beside, alone * 8))
    assert (sums == right).all()
