"""What a layer computes, against the formulas written out."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from frozen_vqa.pipeline.model.config import PoolingKind
from frozen_vqa.pipeline.model.layers import LayerNorm, Mlp
from frozen_vqa.pipeline.model.patch_attention import PatchAttention
from frozen_vqa.pipeline.model.pooling import Pooling
from frozen_vqa.pipeline.model.prefix_index import PrefixIndex, Text
from frozen_vqa.pipeline.model.vqa_model import Projection

WIDTH = 6
MASK = torch.tensor([[[True, True, False], [True, False, False]]])


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(5)


def test_a_gate_mixes_what_both_halves_give() -> None:
    mlp = Mlp(WIDTH, 4, 0.0, "gated").double()
    original, attended = random(2, WIDTH), random(2, WIDTH)
    own, seen = mlp.original(original), mlp.attended(attended)
    gate = torch.sigmoid(own[:, 4:] + seen[:, 4:])
    expected = gate * own[:, :4] + (1 - gate) * seen[:, :4]
    assert_close(mlp.merge(own, seen), expected.relu(), atol=1e-12, rtol=0)


def test_attention_pooling_equals_a_loop() -> None:
    """Over tokens in any layout, and over patches of a picture and of each question."""
    pooling = Pooling("attention", WIDTH).double()
    assert pooling.score is not None
    score = partial(F.linear, weight=pooling.score.weight / math.sqrt(WIDTH))
    rows, other = random(4, WIDTH), random(4, 2)
    paths = torch.tensor([[[2, 0, 1], [1, 0, 0]]])
    index = PrefixIndex(MASK, torch.tensor([[3, 0, 1]]), paths)
    questions = [[1, 3], [0]]  # rows of the real tokens, as the paths say

    scored, pooled = Text(rows, "prefix", index), Text(other, "prefix", index)
    layouts: list[tuple[Text, Text]] = [
        (scored, pooled),
        (scored.per_picture(), pooled.per_picture()),
        (scored.per_token(), pooled.per_token()),
    ]
    for by, text in layouts:
        got = pooling.over_text(by)(text.x)
        for slot, found in enumerate(questions):
            weights = score(rows[found]).softmax(0)
            assert_close(got[0, slot], (weights * other[found]).sum(0), atol=1e-12, rtol=0)

    for groups in (1, 2):
        by, patches = random(1, 2, 5, WIDTH), random(1, groups, 5, 3)
        weights = score(by).softmax(2)
        got = pooling.over_patches(by)(patches)
        assert_close(got, (weights * patches).sum(2), atol=1e-12, rtol=0)


def test_feature_dropout_takes_whole_channels() -> None:
    projection = Projection(50, 50, 0.5)
    torch.nn.init.eye_(projection.linear.weight)
    torch.nn.init.zeros_(projection.linear.bias)
    patches, rows = torch.randn(2, 4, 50), torch.randn(3, 50)
    whole = projection.eval()(patches)

    got = projection.train()(patches)

    dropped = got == 0
    assert_close(got[~dropped], 2 * whole[~dropped])
    assert 20 < dropped.sum() / 4 < 80
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert not torch.equal(dropped[0], dropped[1])
    by_row = projection(rows) == 0
    assert not torch.equal(by_row[0], by_row[1])


def test_an_average_of_projected_features_drops_the_channels_that_a_projection_drops() -> None:
    """The average comes before the projection, and scores and features lose the same channels."""
    projection = Projection(50, WIDTH, 0.5).double().train()
    features, vector = random(2, 5, 50), random(WIDTH)

    torch.manual_seed(1)
    projected = projection(features)
    torch.manual_seed(1)
    got = projection.average(features, vector)

    weights = (projected @ vector).softmax(1)
    assert_close(got, (weights[..., None] * projected).sum(1, keepdim=True), atol=1e-12, rtol=0)


def test_an_mlp_drops_whole_hidden_numbers_pooled_or_not() -> None:
    """The tokens of one row lose the same numbers, other rows lose others, and eval loses none."""
    mlp = Mlp(50, 50, 0.5).double()
    torch.nn.init.eye_(mlp.output.weight)
    torch.nn.init.zeros_(mlp.output.bias)
    hidden, pooled = random(2, 4, 50).exp(), random(2, 50).exp()

    for got, whole in ((mlp(hidden, None), hidden), (mlp.finish_pooled(pooled), pooled)):
        dropped = got == 0
        assert_close(got[~dropped], 2 * whole[~dropped])
        assert 0.2 < dropped.double().mean() < 0.8
        assert not torch.equal(dropped[0], dropped[1])
        if got.ndim == 3:
            assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    mlp.eval()
    assert_close(mlp(hidden, None), hidden)
    assert_close(mlp.finish_pooled(pooled), pooled)


@pytest.mark.parametrize("kind", ["mean", "attention"])
def test_an_empty_slot_pools_to_zeros(kind: PoolingKind) -> None:
    mask = MASK & torch.tensor([True, False])[:, None]
    x = random(1, 2, 3, WIDTH)
    text = Text(x, "token", PrefixIndex(mask))
    got = Pooling(kind, WIDTH).double().over_text(text)(x)
    assert got[0, 0].all()
    assert not got[0, 1].any()


def test_weights_of_a_pooling_are_of_single_precision_whatever_the_scores_are() -> None:
    """In bfloat16 each weight would be off by up to 0.4 %, and all together would not be one."""
    width, length = 8, 200
    pooling = Pooling("attention", width).bfloat16()
    assert pooling.score is not None
    torch.nn.init.normal_(pooling.score.weight)
    scored = torch.randn(1, 1, length, width).bfloat16()
    vector = pooling.score_vector
    assert vector is not None
    weights = F.linear(scored, vector[None]).squeeze(-1).float().softmax(-1)
    ones = torch.ones(1, 1, length, 1)
    mask = torch.ones(1, 1, length, dtype=torch.bool)
    text = Text(scored, "token", PrefixIndex(mask))
    x = torch.randn(1, 1, length, 3)

    pools = (pooling.over_text(text), pooling.over_patches(scored))
    for pool in pools:
        assert_close(pool(ones), torch.ones(1, 1, 1), atol=1e-6, rtol=0)
        assert_close(pool(x), (weights[..., None] * x).sum(2), atol=1e-5, rtol=0)

    attention = PatchAttention(
        torch.zeros(1, 1, 1, length).bfloat16(), torch.zeros(1, 1, 1, width).bfloat16(), scored
    )
    _, pool = pooling.over_attention(attention)
    assert_close(pool(ones), torch.ones(1, 1, 1), atol=1e-6, rtol=0)
    relu = scored.relu()
    weights = (relu @ vector).float().softmax(-1)
    assert_close(pool(x), (weights[..., None] * x).sum(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_norm_keeps_the_type_of_its_input(dtype: torch.dtype, autocast: bool) -> None:
    """And on a CPU it is PyTorch's."""
    ours, theirs = LayerNorm(6), torch.nn.LayerNorm(6)
    ours.weight.data, ours.bias.data = torch.rand(6), torch.rand(6)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 6).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        assert torch.equal(ours(x), theirs(x))
        assert ours(x).dtype == dtype
