"""What a layer computes, against the formulas written out."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from frozen_vqa.pipeline.model.layers import CoAttentionLayer, Mlp
from frozen_vqa.pipeline.model.pooling import Pooling
from frozen_vqa.pipeline.model.prefix_index import Words
from frozen_vqa.pipeline.model.vqa_model import Projection

WIDTH = 6
MASK = torch.tensor([[[True, True, False], [True, False, False]]])
PLACES = Words(MASK)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(5)


def plain(mlp: Mlp, original: Tensor, attended: Tensor) -> Tensor:
    """The MLP on both side by side."""
    return mlp.output((mlp.original(original) + mlp.attended(attended)).relu())


def test_norms_come_after_the_sum_in_post_norm() -> None:
    layer = CoAttentionLayer(width=WIDTH, heads=2, dropout=0, both=True, post_norm=True).double()
    words, patches = random(1, 2, 3, WIDTH), random(1, 1, 4, WIDTH)
    identity = torch.nn.Linear(WIDTH, WIDTH).double()
    torch.nn.init.eye_(identity.weight)
    torch.nn.init.zeros_(identity.bias)
    seen = layer.text_to_image.words_to_patches(words, patches, identity, PLACES)
    assert layer.image_to_text is not None
    assert layer.patches_mlp is not None
    read = layer.image_to_text.patches_to_words(patches, words, identity, None, PLACES).sums()

    got = layer(words, patches, PLACES)

    expected = layer.words_norm(words + plain(layer.words_mlp, words, seen))
    assert_close(got[0], expected, atol=1e-12, rtol=0)
    expected = layer.patches_norm(patches + plain(layer.patches_mlp, patches, read))
    assert_close(got[1], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("post_norm", [False, True])
def test_words_look_around_first(post_norm: bool) -> None:
    """A layer with self-attention is the layer without, on words that have looked around."""
    layer = CoAttentionLayer(
        width=WIDTH, heads=2, dropout=0, both=True, self_attention=True, post_norm=post_norm
    ).double()
    words, patches = random(1, 2, 3, WIDTH), random(1, 1, 4, WIDTH)
    attention, norm = layer.self_attention, layer.self_norm
    assert attention is not None
    assert norm is not None
    if post_norm:
        around = norm(words + attention.words_to_words(words, PLACES))
    else:
        around = words + attention.words_to_words(norm(words), PLACES)

    got = layer(words, patches, PLACES)

    layer.self_attention = None
    for one, other in zip(got, layer(around, patches, PLACES), strict=True):
        assert_close(one, other, atol=1e-12, rtol=0)


def test_a_gate_mixes_what_both_halves_give() -> None:
    mlp = Mlp(WIDTH, 4, 0.0, "gated").double()
    original, attended = random(2, WIDTH), random(2, WIDTH)
    own, seen = mlp.original(original), mlp.attended(attended)
    gate = torch.sigmoid(own[:, 4:] + seen[:, 4:])
    expected = gate * own[:, :4] + (1 - gate) * seen[:, :4]
    assert_close(mlp.mix(own, seen), expected, atol=1e-12, rtol=0)


def test_attention_pooling_equals_a_loop() -> None:
    """Over words wherever they are, and over patches of a picture and of each question."""
    pooling = Pooling("attention", WIDTH).double()
    assert pooling.score is not None
    score = partial(F.linear, weight=pooling.score.weight / math.sqrt(WIDTH))
    rows, other = random(4, WIDTH), random(4, 2)
    paths = torch.tensor([[[2, 0, 1], [1, 0, 0]]])
    places = Words(MASK, torch.tensor([[3, 0, 1]]), paths)
    questions = [[1, 3], [0]]  # rows of the real words, as the paths say

    for by in (rows, places.at_images(rows), places.at_slots(rows)):
        for x in (other, places.at_images(other), places.at_slots(other)):
            got = pooling.over_words(by, places)(x)
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
