"""Where features go, and that they are the same wherever they are."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.cache import CacheDamagedError, FeatureCache
from frozen_vqa.cache.format.bfloat16 import to_floats
from frozen_vqa.cache.format.quantise import dequantise
from frozen_vqa.cache.format.spec import DTYPES
from frozen_vqa.cache.memory import HUGE_PAGE, ResidentImages, aligned_empty
from frozen_vqa.pipeline.batches import residency
from frozen_vqa.pipeline.batches.residency import (
    GPU_SHARE,
    WORTH_A_COPY,
    Location,
    Residency,
    ResidentFeatures,
    choose_location,
)
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.model.config import FUSIONS, Fusion
from frozen_vqa.pipeline.report.attention import see_split
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.system.tensors import as_array
from tests.support.caches import (
    Made,
    Row,
    extent_of,
    make_cache,
    make_spec,
)
from tests.support.heads import make_run
from tests.support.trainings import make_trainer, metrics, run_training

GB = 10**9


@given(need=st.integers(0, 99), free=st.integers(0, 99), steps=st.integers(0, 99))
def test_features_on_a_gpu_leave_room_for_the_steps(need: int, free: int, steps: int) -> None:
    """Never more than 70 %, and never what weights, moments and activations will take."""
    how = {"need": need, "free": None, "free_on_gpu": free, "steps": steps}
    on_gpu = choose_location("auto", **how) == "gpu"
    assert on_gpu == (need <= 0.7 * free and need + steps <= free)
    if on_gpu:
        assert choose_location("gpu", **how) == "gpu"
    else:
        with pytest.raises(ConfigError, match=r"beside the training; .* a smaller --batch-size"):
            choose_location("gpu", **how)


@pytest.mark.parametrize(
    ("asked", "need", "free", "free_on_gpu", "location"),
    [
        ("auto", GB // 2, 20 * GB, None, "ram"),
        ("auto", GB // 2, 20 * GB, 24 * GB, "gpu"),
        ("auto", GB // 2, GB, None, "mapped"),  # half of what is free
        ("auto", 8 * GB, 900 * GB, None, "mapped"),  # the page cache is as fast
        ("auto", 30 * GB, 900 * GB, 24 * GB, "mapped"),
        ("auto", int(GPU_SHARE * 10 * GB), 0, 10 * GB, "gpu"),
        ("auto", int(GPU_SHARE * 10 * GB) + 1, 0, 10 * GB, "mapped"),
        ("auto", WORTH_A_COPY, 4 * WORTH_A_COPY, None, "ram"),
        ("auto", WORTH_A_COPY + 1, 900 * GB, None, "mapped"),
        ("auto", GB // 2, None, None, "mapped"),
        ("ram", 8 * GB, 20 * GB, 24 * GB, "ram"),
        ("ram", 8 * GB, None, None, "ram"),
        ("mapped", 1, 20 * GB, 24 * GB, "mapped"),
        ("gpu", 8 * GB, 0, 24 * GB, "gpu"),
    ],
)
def test_features_go_where_there_is_room(
    asked: Residency, need: int, free: int | None, free_on_gpu: int | None, location: Location
) -> None:
    assert choose_location(asked, need=need, free=free, free_on_gpu=free_on_gpu) == location


@pytest.mark.parametrize(
    ("asked", "free_on_gpu", "message"),
    [
        ("gpu", None, "there is no GPU and the features take 8.0 GB.*use 'mapped'"),
        (
            "gpu",
            10 * GB,
            "10.0 GB are free there and the features take 8.0 GB, which may be 7.0 GB beside",
        ),
        ("ram", None, "the features take 8.0 GB and 7.0 GB of memory are free; use 'mapped'"),
    ],
)
def test_what_does_not_fit_is_refused(
    asked: Residency, free_on_gpu: int | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_location(asked, need=8 * GB, free=7 * GB, free_on_gpu=free_on_gpu)


def test_buffers_begin_at_a_page() -> None:
    array = aligned_empty((3, 5), np.dtype("float16"))
    assert array.ctypes.data % 4096 == 0
    assert array.tolist() == [[0] * 5] * 3
    array[1] = 7
    assert array[1].tolist() == [7] * 5
    assert aligned_empty((0, 5), np.dtype("int8")).shape == (0, 5)


def test_large_buffers_begin_at_a_huge_page() -> None:
    array = aligned_empty((3, HUGE_PAGE), np.dtype("int8"))
    assert array.ctypes.data % HUGE_PAGE == 0
    array[-1] = 7  # to its last byte
    assert not array[:-1].any()
    assert (array[-1] == 7).all()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    rows = [Row(image, image % 3) for image in range(7)]
    return make_cache(tmp_path_factory.mktemp("features"), {"train": rows})


def test_resident_rows_are_those_of_the_cache(made: Made) -> None:
    cache = FeatureCache(made.directory)
    resident = ResidentImages(cache)
    rows = np.array([6, 0, 3, 3, 5])
    out = np.empty((5, *made.patch_embeddings.shape[1:]), np.float16)

    resident.read_images(rows, out)

    assert np.array_equal(out, made.patch_embeddings[rows])
    for outside in (-1, 7):
        with pytest.raises(IndexError, match=r"outside 0\.\.6"):
            resident.read_images(np.array([outside]), out[:1])


def test_resident_integers_come_with_their_scales(tmp_path: Path) -> None:
    splits = {"train": [Row(i, 0) for i in range(7)]}
    made = make_cache(tmp_path, splits, spec=make_spec(dtype="int8"))
    resident = ResidentImages(FeatureCache(made.directory))
    rows = np.array([6, 0, 3, 3, 5])
    out = np.empty((5, *made.patch_embeddings.shape[1:]), np.int8)
    scales = np.empty(out.shape[:2], np.float16)

    resident.read_images(rows, out, scales)

    assert np.array_equal(dequantise(out, scales), made.patch_embeddings[rows])
    with pytest.raises(ValueError, match="need their scales"):
        resident.read_images(rows, out)


def test_damage_is_found_when_rows_become_resident(tmp_path: Path) -> None:
    made = make_cache(tmp_path, {"train": [Row(image, 0) for image in range(7)]})
    path = made.directory / "images/00001.h5"
    data = bytearray(path.read_bytes())
    data[extent_of(path, "patch_embeddings")[0] + 3] ^= 4
    path.write_bytes(data)
    cache = FeatureCache(made.directory)
    with pytest.raises(CacheDamagedError, match=r"00001\.h5: row 0 differs from its digest"):
        ResidentImages(cache)


def test_features_say_where_they_are(made: Made) -> None:
    cpu = torch.device("cpu")
    mapped = ResidentFeatures(FeatureCache(made.directory), device=cpu)
    in_memory = ResidentFeatures(FeatureCache(made.directory), residency="auto", device=cpu)

    assert mapped.describe().startswith("features: 420 B of pictures mapped, ")
    assert in_memory.describe().startswith("features: 420 B of pictures in memory, ")
    assert "of hidden states in memory (" in mapped.describe()
    assert mapped.describe().endswith("of memory were free)")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("at_once", [1, 3, 256])
def test_rows_are_uploaded_in_parts(
    at_once: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the place of a GPU: the CPU, which has no pinned memory."""
    rows = [Row(i, 0) for i in range(7)]
    made = make_cache(tmp_path, {"train": rows}, spec=make_spec(dtype=dtype))
    features = ResidentFeatures(FeatureCache(made.directory), device=torch.device("cpu"))
    real = torch.empty
    monkeypatch.setattr(residency, "UPLOADED_AT_ONCE", at_once)
    monkeypatch.setattr(torch, "empty", lambda *a, pin_memory=False, **how: real(*a, **how))
    features._upload()

    assert features.on_gpu is not None
    found = to_floats(as_array(features.on_gpu))
    if features.scales_on_gpu is not None:
        found = dequantise(found, features.scales_on_gpu.numpy())
    assert (dtype == "int8") == (features.scales_on_gpu is not None)
    assert np.array_equal(found, made.patch_embeddings)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_pictures_are_read_for_heads_that_see_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fusion: Fusion
) -> None:
    """By a training, an evaluation and a report; the others end as if they had been read."""
    rows = [Row(image, image % 3, (("red", "blue")[image % 2],) * 10) for image in range(8)]
    made = make_cache(tmp_path / "cache", {"train": rows, "val": rows})
    make_run(made, tmp_path / "run", fusion=fusion)
    cpu, cache = torch.device("cpu"), FeatureCache(made.directory)
    run, how = load_run(tmp_path / "run", cpu), {"fusion": fusion, "width": 8, "epochs": 1}
    expected = make_trainer(made, **how).epoch(0) if fusion == "question-only" else 0.0

    def refuse(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(FeatureCache, "read_images", refuse)
    for work in (
        lambda: run_training(made, tmp_path / "trained", **how),
        lambda: evaluate(run, cache, split="val"),
        lambda: see_split(run, cache, cache.split("val"), ()),
    ):
        with pytest.raises(ZeroDivisionError) if expected == 0 else nullcontext():
            work()
    if expected:
        assert metrics(tmp_path / "trained")[0]["loss"] == pytest.approx(expected)
        features = ResidentFeatures(cache, device=cpu, pictures=False)
        assert "480 B of pictures not read, " in features.describe()
