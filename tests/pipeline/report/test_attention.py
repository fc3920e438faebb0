"""The weights of a report are those of the forward pass, as `nn.MultiheadAttention` has them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.batches.plan import plan_batches
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.model.config import FUSIONS, Fusion
from frozen_vqa.pipeline.model.reference import reference_twin
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.predict import batch_logits
from frozen_vqa.pipeline.report.attention import look, see_split
from frozen_vqa.pipeline.runs.run import load_run
from tests.support.caches import Made, Row, make_cache
from tests.support.heads import make_run, with_scores
from tests.support.resuming import CPU

ROWS = [Row(i // 3, (i * 5) % 8, ("red",)) for i in range(24)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Eight pictures with three questions each, of one to four tokens; BOS is shared."""
    return make_cache(tmp_path_factory.mktemp("attention") / "cache", {"val": ROWS})


def model_of(made: Made, path: Path, **changes: object) -> VqaModel:
    base = make_run(made, path).config
    torch.manual_seed(3)
    return with_scores(VqaModel(replace(base, **changes))).eval()  # type: ignore[arg-type]


def plain_weights(model: VqaModel, made: Made, row: int) -> dict[str, Tensor]:
    """What the last layer's `nn.MultiheadAttention` gives for one question: (heads, to, from)."""
    twin = reference_twin(model).eval()
    found: dict[str, Tensor] = {}
    for name in ("text_to_image", "image_to_text"):
        attention = getattr(twin.layers[-1], name, None)
        if attention is None:
            continue

        def keep(module: torch.nn.Module, args: tuple, named: dict, name: str = name) -> None:
            if name not in found:
                found[name] = torch.empty(0)  # this hook runs for the call below too
                asked = {**named, "need_weights": True, "average_attn_weights": False}
                found[name] = module(*args, **asked)[1][0]

        attention.register_forward_pre_hook(keep, with_kwargs=True)
    states = torch.from_numpy(made.states[ROWS[row].question])[None].float()
    patches = torch.from_numpy(made.patch_embeddings[ROWS[row].image])[None].float()
    twin(patches, states, torch.ones(states.shape[:2], dtype=torch.bool))
    return found


@pytest.mark.parametrize("slots", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {"fusion": "co-attention", "layers": 1},
        {"fusion": "co-attention", "layers": 3, "text_self_attention": True, "merge": "gated"},
        {"fusion": "co-attention", "layers": 2, "post_norm": True, "pooling": "mean"},
        {"fusion": "text-to-image", "layers": 2},
    ],
)
@torch.inference_mode()
def test_weights_are_those_of_the_forward_pass(
    made: Made, tmp_path: Path, changes: dict, slots: bool
) -> None:
    model = model_of(made, tmp_path / "run", **changes)
    cache = FeatureCache(made.directory)
    table = cache.split("val")
    reader = BatchReader(ResidentFeatures(cache, device=CPU), table)
    plan = plan_batches(table.image_rows, batch_size=10, grouped=slots, shuffle=None)
    checked = 0
    for part in (part for batch in reader.batches(plan) for part in batch.parts):
        seen = look(model, part)
        assert torch.equal(seen.logits, batch_logits(model, part))
        assert seen.to_patches is not None
        for i, row in enumerate(part.questions.tolist()):
            plain, length = plain_weights(model, made, row), int(seen.lengths[i])
            assert length == len(made.states[ROWS[row].question])
            ours = seen.to_patches[i, :length]
            torch.testing.assert_close(
                ours.transpose(0, 1), plain["text_to_image"], atol=1e-6, rtol=0
            )
            torch.testing.assert_close(ours.sum(-1), torch.ones_like(ours.sum(-1)))
            assert (seen.to_words is not None) == (changes["fusion"] == "co-attention")
            if seen.to_words is not None:
                words = seen.to_words[i, :length]
                torch.testing.assert_close(
                    words.permute(1, 2, 0), plain["image_to_text"], atol=1e-6, rtol=0
                )
                torch.testing.assert_close(words.sum(0), torch.ones_like(words.sum(0)))
                assert not seen.to_words[i, length:].any()
            checked += 1
    assert checked == len(ROWS)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_split_is_seen_in_one_pass(made: Made, tmp_path: Path, fusion: Fusion) -> None:
    make_run(made, tmp_path / "run", fusion=fusion)
    run, cache = load_run(tmp_path / "run", CPU), FeatureCache(made.directory)
    table = cache.split("val")
    seen = see_split(run, cache, table, {0, 7, 23})
    attends = fusion in ("co-attention", "text-to-image")
    assert set(seen.attended) == ({0, 7, 23} if attends else set())
    for one in seen.attended.values():
        assert one.question_map().sum(-1) == pytest.approx(1, abs=1e-5)
    assert seen.classes.shape == (24, 3)  # all answers that there are
    assert (np.diff(seen.probabilities) <= 0).all()
