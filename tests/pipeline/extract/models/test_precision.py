"""The type that pictures are computed in is chosen by measurement, recorded, and kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.ask import asker
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.extract import extract as stage_one
from frozen_vqa.pipeline.extract.models import precision
from frozen_vqa.pipeline.extract.models.precision import compute_dtypes, text_dtype
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.system import device as device_module
from tests.support import tiny_commands
from tests.support.command import Finished, error_of, run_command
from tests.support.tiny_commands import extract

_home = tiny_commands._home  # a fixture that is in force in every test

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
HALVES = {"float16": (1e-5, 0.02), "bfloat16": (1e-4, 0.2)}
"""The least and the most that an untrained encoder's patch embeddings drift."""


def settings(place: Path) -> tuple[Any, Any]:
    spec = FeatureCache(place / "cache").spec
    return spec.vision["compute dtype"], spec.text["compute dtype"]


def drifts(place: Path) -> set[Any]:
    return {r.origin.get("drift") for r in FeatureCache(place / "cache").manifest.images}


def run(place: Path, name: str, split: str = "val") -> Finished:
    words = () if name == "auto" else ("--compute-dtype", name)
    return extract(place, "--dataset", "shapes:4", "--split", split, *words)


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("recorded", [None, "float32", "bfloat16", "float16", "evil", 3])
@pytest.mark.parametrize("asked", ["auto", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("device", [CPU, GPU], ids=str)
def test_what_is_asked_comes_before_what_is_recorded_and_that_before_the_device(
    device: torch.device,
    asked: Any,
    recorded: object,
    native: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device_module, "_has_bfloat16", lambda _: native)
    pictures, words = compute_dtypes(asked, recorded, device), text_dtype(asked, recorded, device)
    known = {"float32": F32, "bfloat16": BF16, "float16": F16}
    if asked != "auto":
        assert (pictures, words) == ((known[asked],), known[asked])
    elif recorded in known:
        assert (pictures, words) == ((known[str(recorded)],), known[str(recorded)])
    elif device == CPU:
        assert (pictures, words) == ((F32,), F32)
    else:
        assert pictures == ((F16, BF16, F32) if native else (F16, F32))
        assert words == (BF16 if native else F32)


@pytest.mark.parametrize("name", ["float16", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_the_drift_is_measured_shown_stored_and_kept(name: str, tmp_path: Path) -> None:
    found = run(tmp_path, name)
    assert found.code == 0, found.err
    assert settings(tmp_path) == (name, name)
    (drift,) = drifts(tmp_path)
    least, most = HALVES[name]
    assert least < drift < most
    shown = f"tiny computes in {name}: patch embeddings are {drift:.2%} (relative L2) from those of"
    assert shown in " ".join(found.err.split())
    inspected = run_command("inspect-cache", tmp_path / "cache")
    said = f"patch embeddings are {drift:.2%} (relative L2) from those of float32"
    assert said in " ".join(inspected.err.replace("│", " ").split())
    # An extension computes in the same type, asked for or not, and measures nothing anew.
    for again in ("auto", name):
        more = run(tmp_path, again, "test")
        assert more.code == 0, more.err
        assert "relative L2" not in more.err
    assert settings(tmp_path) == (name, name)
    assert drifts(tmp_path) == {drift}
    other = error_of(run(tmp_path, "float32", "test"))
    assert f"vision compute dtype is '{name}', asked for 'float32'" in other


@pytest.mark.slow
def test_float32_has_no_drift_and_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_choose", None)
    assert run(tmp_path, "auto").code == 0
    assert settings(tmp_path) == ("float32", "float32")
    assert drifts(tmp_path) == {None}
    found = error_of(run(tmp_path, "bfloat16"))
    assert "compute dtype is 'float32', asked for 'bfloat16'" in found


def overflow(monkeypatch: pytest.MonkeyPatch, dtypes: Sequence[torch.dtype]) -> None:
    """Let the encoder's numbers be infinite in some types."""
    encode = ImageEncoder.encode

    def infinite(self: ImageEncoder, pixels: Any) -> Any:
        patches, cls = encode(self, pixels)
        return (patches + torch.inf if self.compute_dtype in dtypes else patches), cls

    monkeypatch.setattr(ImageEncoder, "encode", infinite)


@pytest.mark.parametrize(
    ("infinite", "taken"),
    [
        ((F16,), BF16),
        pytest.param((), F16, marks=pytest.mark.slow),
        pytest.param((F16, BF16), F32, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_of_several_types_the_first_that_is_finite_is_taken(
    infinite: Sequence[torch.dtype],
    taken: torch.dtype,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU; the spec, the weights and the features are those of the one that is taken."""
    overflow(monkeypatch, infinite)
    source = open_source("shapes:4")
    images, text = ImageEncoder("tiny", compute_dtype=(F16, BF16, F32)), TextEncoder("tiny")
    plan = make_plan(source, splits=["val"], text=text)
    stage_one.extract(source, plan, cache=tmp_path / "cache", images=images, text=text)
    assert settings(tmp_path)[0] == str(taken).removeprefix("torch.")
    assert next(images.weights.parameters()).dtype == taken
    assert (drifts(tmp_path) == {None}) == (taken == F32)


def test_a_model_that_is_finite_in_no_type_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflow(monkeypatch, (F16,))
    error = error_of(run(tmp_path, "float16"))
    assert error.startswith("tiny: patch embeddings of the first ")
    assert "are not finite in float16; use --compute-dtype float32, or take another copy" in error
    assert not (tmp_path / "cache" / "images").exists()


def test_the_distance_is_that_of_its_formula() -> None:
    reference = torch.tensor([[3.0, 4.0]])
    assert precision.relative_distance(torch.tensor([[3.0, 4.5]]), reference) == 0.1
    assert precision.relative_distance(torch.tensor([[3.0, torch.nan]]), reference) == float("inf")


@pytest.mark.parametrize("recorded", ["float16", "bfloat16", "float32"])
def test_a_head_is_asked_in_the_type_of_its_features_on_a_gpu(
    recorded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "_has_bfloat16", lambda _: True)
    part = {"compute dtype": recorded}
    assert asker._dtype(part, GPU) == getattr(torch, recorded)
    assert asker._dtype(part, CPU) == F32
    assert asker._dtype({"compute dtype": "evil"}, GPU) == BF16


def test_half_types_are_no_way_around_the_check_of_the_questions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = TextEncoder("tiny", compute_dtype=F16)
    monkeypatch.setattr(encoder, "_run", lambda _, ids: torch.full((len(ids), 4, 2), torch.inf))
    with pytest.raises(ModelError, match="not finite in float16; use --compute-dtype float32"):
        encoder.weights  # noqa: B018
