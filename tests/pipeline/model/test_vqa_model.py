"""What a head promises of its logits, in every fusion kind."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from frozen_vqa.pipeline.model.config import FUSIONS, Fusion, ModelConfig
from frozen_vqa.pipeline.model.layers import CoAttentionLayer
from frozen_vqa.pipeline.model.prefix_index import PrefixIndex, Text
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from tests.support import fusion_heads
from tests.support.fusion_heads import (
    ATTENTION,
    CONFIG,
    IMAGES,
    LENGTHS,
    PATCHES,
    SLOTS,
    TOKENS,
    Batch,
    assert_same,
    every_head,
    make_model,
)

batch = fusion_heads.batch  # a fixture


@every_head
def test_logits_come_in_the_order_of_the_slots(head: dict, batch: Batch) -> None:
    """Each question alone gets the logits that it gets in the batch."""
    model = make_model(**head)
    patches, states, mask = batch

    logits = model(*batch)

    places = [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert logits.shape == (len(places), CONFIG.answers)
    for row, (i, s) in enumerate(places):
        length = int(LENGTHS[i, s])
        alone = model(
            patches[[i]], states[[i], s, :length][:, None], mask[[i], s, :length][:, None]
        )
        assert_same(logits[[row]], alone)


@every_head
@pytest.mark.parametrize("filling", [0.0, 1e4, float("nan"), float("inf")], ids=str)
def test_padding_changes_no_logit(head: dict, filling: float, batch: Batch) -> None:
    """Neither how much there is of it nor what stands in it."""
    model = make_model(**head)
    patches, states, mask = batch
    expected = model(*batch)

    filled = states.masked_fill(~mask[..., None], filling)
    assert_same(model(patches, filled, mask), expected)

    longer = F.pad(filled, (0, 0, 0, 5), value=filling)
    assert_same(model(patches, longer, F.pad(mask, (0, 5))), expected)


@every_head
@pytest.mark.parametrize("filling", [0.0, 1e4, float("nan")], ids=str)
def test_empty_slots_change_no_logit(head: dict, filling: float, batch: Batch) -> None:
    model = make_model(**head)
    patches, states, mask = batch
    more_slots = F.pad(states, (0, 0, 0, 0, 1, 2), value=filling)  # one before, two after

    got = model(patches, more_slots, F.pad(mask, (0, 0, 1, 2)))

    assert_same(got, model(*batch))


@every_head
def test_neighbours_change_no_logit(head: dict, batch: Batch) -> None:
    """Other questions in other slots, other pictures: a question's logits are its own."""
    model = make_model(**head)
    patches, states, mask = batch
    expected = model(*batch)
    generator = torch.Generator().manual_seed(3)

    others = states.clone()
    others[0, [0, 2]] = 10 * torch.randn(2, TOKENS, CONFIG.text_dim, generator=generator)
    others_mask = mask.clone()
    others_mask[0, 2] = True
    assert_same(model(patches, others, others_mask)[1], expected[1])

    pictures = patches.clone()
    pictures[0] = 10 * torch.randn(PATCHES, CONFIG.vision_dim, generator=generator)
    assert_same(model(pictures, states, mask)[3], expected[3])


@every_head
def test_every_parameter_is_trained(head: dict, batch: Batch) -> None:
    """NaN in the padding must not poison a gradient either."""
    model = make_model(**head).double().train()
    patches, states, mask = batch
    states = states.masked_fill(~mask[..., None], float("nan"))

    logits = model(patches, states, mask)
    (logits * torch.randn_like(logits)).sum().backward()

    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-9, name


def test_concat_is_blind_to_where_patches_are(batch: Batch) -> None:
    model = make_model("concat")
    patches, states, mask = batch
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert_same(model(patches[:, order], states, mask), model(*batch))


@pytest.mark.parametrize("fusion", ATTENTION)
def test_attention_is_not_blind_to_where_patches_are(fusion: Fusion, batch: Batch) -> None:
    model = make_model(fusion)
    patches, states, mask = batch
    for order in ([1, 0, 2, 3, 4, 5], [3, 4, 5, 0, 1, 2]):  # a neighbour, a row
        moved = model(patches[:, order], states, mask)
        assert (moved - model(*batch)).abs().max() > 1e-4


def test_the_priors_ignore_what_they_must_not_see(batch: Batch) -> None:
    patches, states, mask = batch
    question_only, image_only = make_model("question-only"), make_model("image-only")

    assert torch.equal(question_only(patches + 7, states, mask), question_only(*batch))
    assert (
        question_only(patches, states.flip(-1), mask) - question_only(*batch)
    ).abs().max() > 0.01

    assert torch.equal(image_only(patches, states.flip(-1), mask), image_only(*batch))
    assert (image_only(patches.flip(-1), states, mask) - image_only(*batch)).abs().max() > 0.01


@pytest.mark.parametrize("fusion", ["co-attention", "text-to-image", "concat"])
def test_both_sides_are_heard(fusion: Fusion, batch: Batch) -> None:
    model = make_model(fusion)
    patches, states, mask = batch
    for other in (model(patches.flip(-1), states, mask), model(patches, states.flip(-1), mask)):
        assert (other - model(*batch)).abs().max() > 0.01


@every_head
def test_dropout_is_off_in_eval_and_on_in_training(head: dict, batch: Batch) -> None:
    model = make_model(**head)
    assert torch.equal(model(*batch), model(*batch))
    model.train()
    assert not torch.equal(model(*batch), model(*batch))


@pytest.mark.parametrize("both", [True, False], ids=["co-attention", "text-to-image"])
def test_pooling_before_the_last_matrix_is_pooling_after_it(both: bool, batch: Batch) -> None:
    torch.manual_seed(4)
    fusion: Fusion = "co-attention" if both else "text-to-image"
    layer = CoAttentionLayer(replace(CONFIG, fusion=fusion, pooling="mean"), last=True)
    layer = layer.double().eval()
    mask = batch[2]
    words = torch.randn(IMAGES, SLOTS, TOKENS, 8, dtype=torch.float64)
    patches = torch.randn(IMAGES, 1, PATCHES, 8, dtype=torch.float64)

    text = Text(words, "token", PrefixIndex(mask))

    early = layer(text, patches)
    layer.last = False
    new_text, new_patches = layer(text, patches)

    there = mask.any(-1)
    mean = (new_text.x * mask[..., None]).sum(2) / mask.sum(2, keepdim=True).clamp(min=1)
    assert_close(early[0][there], mean[there], atol=1e-12, rtol=0)
    assert_close(early[1], new_patches.mean(2), atol=1e-12, rtol=0)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_attention_pooling_begins_as_the_mean(fusion: Fusion, batch: Batch) -> None:
    config = replace(CONFIG, fusion=fusion, pooling="attention")
    begun = VqaModel(config).eval()
    equal = VqaModel(replace(config, pooling="mean")).eval()
    missing, unexpected = equal.load_state_dict(begun.state_dict(), strict=False)
    assert missing == []
    assert unexpected
    assert all(name.endswith("pooling.score.weight") for name in unexpected)
    assert_same(begun(*batch), equal(*batch))


@pytest.mark.parametrize("answers", [3, 3000])
def test_an_untrained_head_gives_each_answer_its_share(answers: int) -> None:
    """Most answers are wrong for most questions, so a head that begins at a half begins far off."""
    head = VqaModel(ModelConfig(vision_dim=5, text_dim=7, grid=(2, 2), answers=answers))
    odds = head.head.bias.detach().exp()
    assert_close(odds, torch.full((answers,), 1 / answers))
