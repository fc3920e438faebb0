"""Heads on parts of a cache: each is what a cache of that part alone would give it."""

import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.cache.format.parts import Part
from frozen_vqa.pipeline.batches.dataset import FeatureDataset
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.evaluate.logits import load_logits
from frozen_vqa.pipeline.evaluate.variants import ensemble
from frozen_vqa.pipeline.model.reference import reference_twin
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.train.sweep import sweep
from frozen_vqa.pipeline.train.train import train
from tests.support.caches import Made, Row, make_cache, make_spec
from tests.support.command import error_of, run_command
from tests.support.trainings import CPU, run_training, small

OTHER = {"model": "me/made-up-other", "image size": 42}
EARLIER = {"model": "made-up-text", "layer": -3}
ROWS = [Row(i % 5, i % 7, ("red" if i % 5 < 2 else "blue",) * 3) for i in range(40)]
SPLITS = {"train": ROWS, "val": ROWS[:20]}
HEADS: dict[str, dict[str, Any]] = {
    "first": {"vision": "made-up-vision", "text_layer": "-1"},
    "second": {"vision": "made-up-other", "text_layer": "2", "fusion": "concat"},
    "text": {"text_layer": "-3", "fusion": "question-only"},
    "all": {},
}


once = pytest.mark.parametrize("several", ["int8"], indirect=True)


@dataclass(frozen=True)
class Several:
    """A cache of two parts of each feature, and by head a cache of what the head reads alone."""

    cache: Made
    alone: dict[str, Made]


@pytest.fixture(scope="module", params=["int8", pytest.param("float16", marks=pytest.mark.slow)])
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Several:
    place, rng = tmp_path_factory.mktemp("several"), np.random.default_rng(0)
    spec = make_spec(
        vision_dim=5 + 3,
        text_dim=7 + 4,
        dtype=request.param,
        more_vision=(Part(OTHER, 3),),
        more_text=(Part(EARLIER, 4),),
        layers={"made-up-text": 4},
    )
    patches = rng.standard_normal((5, 6, 8)) * np.repeat([1, 300], [5, 3])
    states = [rng.standard_normal((1 + i % 3, 11)).astype("f2") for i in range(7)]

    def make(name: str, vision: slice, text: slice, spec: Any) -> Made:
        some = [one[:, text] for one in states]
        features: dict[str, Any] = {"patch_embeddings": patches[..., vision], "states": some}
        return make_cache(place / name, SPLITS, spec=spec, **features)

    one = spec.take
    return Several(
        make("both", slice(8), slice(11), spec),
        {
            "first": make("a", slice(5), slice(7), one([0], [0])),
            "second": make("b", slice(5, 8), slice(7, 11), one([1], [1])),
            "text": make("c", slice(8), slice(7, 11), one([0, 1], [1])),
            "all": make("d", slice(8), slice(11), spec),
        },
    )


def test_a_head_of_a_sweep_is_that_of_a_cache_of_its_parts(
    several: Several, tmp_path: Path
) -> None:
    """Weights bit for bit; and the run says which parts it has, and no others."""
    heads = {name: small(epochs=2, **settings) for name, settings in HEADS.items()}
    found = sweep(several.cache.directory, tmp_path / "sweep", heads=heads, device=CPU)
    assert found.heads.keys() == HEADS.keys()
    for name, settings in HEADS.items():
        plain = {key: one for key, one in settings.items() if key == "fusion"}
        alone, run = tmp_path / "alone" / name, tmp_path / "sweep" / name
        result = run_training(several.alone[name], alone, epochs=2, **plain)
        assert found.heads[name].best_accuracy == result.best_accuracy
        mine, theirs = (load_file(path / "model.safetensors") for path in (run, alone))
        assert mine.keys() == theirs.keys()
        for key, tensor in theirs.items():
            assert torch.equal(mine[key], tensor), (name, key)
        assert load_run(run).encoders == load_run(alone).encoders
        # Either cache has what the head reads.
        places = (None, several.alone[name].directory)
        scored = [evaluate(run, cache, write=False) for cache in places]
        assert scored[0].answers == scored[1].answers
        assert scored[0].accuracy == scored[1].accuracy
    with pytest.raises(CacheError, match=r"vision model is 'made-up-vision', but .* 'me/made-up-"):
        evaluate(tmp_path / "sweep/second", several.alone["first"].directory, write=False)
    runs = [load_run(tmp_path / "sweep" / name) for name in ("first", "all")]
    with pytest.raises(RunError, match="read features of different encoders or layers"):
        ensemble(runs)


@pytest.mark.parametrize("residency", ["ram", pytest.param("mapped", marks=pytest.mark.slow)])
def test_a_fused_head_is_the_plain_formula(
    several: Several, residency: Any, tmp_path: Path
) -> None:
    """On the whole split, against each question alone with all its features."""
    config = small(epochs=1, feature_dropout=0.2)
    train(several.cache.directory, tmp_path, config=config, device=CPU, residency=residency)
    evaluate(tmp_path, keep_logits=True)
    logits, _, _ = load_logits(tmp_path / "evaluation/val/logits.safetensors")
    model = load_run(tmp_path).model
    assert model.config.vision_parts == (5, 3)
    assert model.config.text_parts == (7, 4)
    twin = reference_twin(model).eval()
    cache = FeatureCache(several.cache.directory)
    for row, question in enumerate(FeatureDataset(cache, "val", min_answer_count=1)):
        states = question.hidden_states.float()
        mask = torch.ones(1, len(states), dtype=torch.bool)
        plain = twin(question.patch_embeddings[None], states[None], mask)
        assert_close(torch.from_numpy(logits[[row]]), plain, atol=2e-4, rtol=0)


@once
def test_one_command_compares_all_parts(several: Several, tmp_path: Path) -> None:
    done = run_command(
        "train-head", several.cache.directory, "--run", tmp_path / "each", "--vision", "each",
        "--epochs", 1, "--width", 8, "--min-answer-count", 1, "--text-layer", "-1",
    )  # fmt: skip
    assert done.code == 0, done.err
    names = ["vision=made-up-other", "vision=made-up-vision", "vision=all"]
    assert sorted(path.name for path in (tmp_path / "each").iterdir() if path.is_dir()) == sorted(
        names
    )
    assert "3 heads in 3 passes" in done.err
    for name in names:
        assert name in done.err
    run = load_run(tmp_path / "each/vision=made-up-other")
    assert (run.config.vision, run.config.text_layer) == ("made-up-other", "-1")
    assert run.encoders == {"vision": OTHER, "text": {"model": "made-up-text", "layer": -1}}


@once
def test_settings_name_parts_in_a_file_too(several: Several, tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(
        'vision = ["made-up-vision", "me/made-up-other+made-up-vision"]\ntext_layer = -3\n'
        "epochs = 1\nwidth = 8\nmin_answer_count = 1\n"
    )
    done = run_command(
        "train-head", several.cache.directory, "--run", tmp_path / "run", "--sweep", file
    )
    assert done.code == 0, done.err
    run = load_run(tmp_path / "run/vision=made-up-other+made-up-vision")
    assert run.model.config.vision_parts == (5, 3)
    assert run.encoders["text"] == EARLIER


@once
def test_what_is_no_part_is_refused_before_anything_is_made(
    several: Several, tmp_path: Path
) -> None:
    cache, run = several.cache.directory, tmp_path / "run"
    for words, sentence in [
        (("--vision", "dinov3"), "there is no 'dinov3' in this cache; give one of made-up-vision, "
         "made-up-other, or several joined by +"),
        (("--text-layer", "-2"), "hidden states: there is no '-2' in this cache; give one of "
         "-1, -3, or several"),
        (("--vision", "each", "--resume"), "needs the cache, also with --resume"),
    ]:  # fmt: skip
        place = () if "--resume" in words else (cache,)
        done = run_command("train-head", *place, "--run", run, *words)
        assert done.code == 1
        assert sentence in error_of(done)
        assert not run.exists()


@once
def test_a_pick_survives_a_copy_to_another_process(several: Several) -> None:
    part = FeatureCache(several.cache.directory).pick("made-up-other", "-3")
    again = pickle.loads(pickle.dumps(part))
    assert again.spec == part.spec
    assert replace(again.questions, texts=()).hidden_states.shape[1] == 4
