"""What a head promises of its logits, in every fusion kind."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from frozen_vqa.cache.format.quantise import dequantise, quantise
from frozen_vqa.pipeline.model.config import FUSIONS, Fusion, ModelConfig
from frozen_vqa.pipeline.model.layers import CoAttentionLayer
from frozen_vqa.pipeline.model.prefix_index import PrefixIndex, Text
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from tests.support.heads import with_scores

IMAGES, SLOTS, TOKENS, GRID, PATCHES = 2, 3, 4, (2, 3), 6
CONFIG = ModelConfig(
    vision_dim=5, text_dim=7, grid=GRID, answers=9, width=8, heads=2, layers=1, dropout=0.5
)
LENGTHS = torch.tensor([[2, 4, 1], [3, 0, 0]])  # the second picture has one question
ATTENTION: tuple[Fusion, ...] = ("co-attention", "text-to-image")

MEAN = {"pooling": "mean"}
ALL = {"text_self_attention": True, "merge": "gated"}
HEADS: dict[str, dict[str, Any]] = {
    **{fusion: {"fusion": fusion} for fusion in FUSIONS},
    **{f"{fusion}, mean": {"fusion": fusion, **MEAN} for fusion in FUSIONS},
    **{f"{f}, {n} layers": {"fusion": f, "layers": n} for f in ATTENTION for n in (2, 3)},
    **{f"{name}={value}": {name: value} for name, value in ALL.items()},
    "no position embedding, linear": {"position_embedding": False, "answer_head": "linear"},
    "post-norm": {"post_norm": True, "layers": 2},
    "post-norm, mean, text-to-image": {"post_norm": True, "fusion": "text-to-image", **MEAN},
    "all": {"layers": 2, "feature_dropout": 0.5, **ALL},
    "all, mean": {"layers": 2, "feature_dropout": 0.5, **ALL, **MEAN},
}
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
Batch = tuple[Tensor, Tensor, Tensor]
"""Patch embeddings, hidden states, attention mask."""


def make_model(fusion: Fusion = "co-attention", **changes: Any) -> VqaModel:
    torch.manual_seed(1)
    return with_scores(VqaModel(replace(CONFIG, fusion=fusion, **changes)).eval())


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
    patches = torch.randn(IMAGES, PATCHES, CONFIG.vision_dim, generator=generator)
    states = torch.randn(IMAGES, SLOTS, TOKENS, CONFIG.text_dim, generator=generator)
    return patches, states, torch.arange(TOKENS) < LENGTHS[..., None]


def assert_same(got: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    assert_close(got, expected, atol=tolerance, rtol=0)


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
def test_integers_with_scales_count_as_their_products(head: dict, batch: Batch) -> None:
    model = make_model(**head)
    integers, scales = quantise(batch[0].numpy())
    floats = torch.from_numpy(dequantise(integers, scales))

    got = model(torch.from_numpy(integers), *batch[1:], torch.from_numpy(scales))

    assert torch.equal(got, model(floats, *batch[1:]))
    with pytest.raises(ValueError, match="int8 patch embeddings need their scales"):
        model(torch.from_numpy(integers), *batch[1:])


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
def test_grouped_and_plain_layout_agree(head: dict, batch: Batch) -> None:
    """A picture with its questions in slots, or the picture again for each question."""
    model = make_model(**head)
    patches, states, mask = batch
    there = mask.any(-1)
    repeated = patches[:, None].expand(-1, SLOTS, -1, -1)[there]

    plain = model(repeated, states[there][:, None], mask[there][:, None])

    assert_same(plain, model(*batch), tolerance=1e-5)


@every_head
def test_layouts_give_the_same_gradients(head: dict, batch: Batch) -> None:
    model = make_model(**head).double()
    patches, states, mask = batch
    there = mask.any(-1)
    repeated = patches[:, None].expand(-1, SLOTS, -1, -1)[there]
    weight = torch.randn(4, CONFIG.answers, dtype=torch.float64)
    parameters = list(model.parameters())

    grouped = torch.autograd.grad((model(*batch) * weight).sum(), parameters)
    logits = model(repeated, states[there][:, None], mask[there][:, None])
    plain = torch.autograd.grad((logits * weight).sum(), parameters)

    for one, other in zip(grouped, plain, strict=True):
        assert_close(one, other, atol=1e-10, rtol=0)


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


@every_head
def test_distinct_prefixes_and_questions_in_full_agree(head: dict, batch: Batch) -> None:
    """Logits and gradients, where questions begin alike."""
    model = make_model(**head).double()
    patches, states, mask = batch
    rows = states.double().flatten(0, 2)[:6]
    words = torch.tensor([[4, 5, 0, 2, 1], [3, 2, 0, 0, 0]])  # the second picture has two
    paths = torch.arange(IMAGES * SLOTS * TOKENS).reshape(IMAGES, SLOTS, TOKENS) % 5
    paths[1] %= 2
    question_slots = mask.any(-1).flatten().nonzero().squeeze(1)
    parameters = list(model.parameters())

    index = PrefixIndex(mask, words, paths)
    full = model(patches, Text(rows, "prefix", index).per_token().x, mask)
    shared = model(
        patches,
        rows,
        mask,
        picture_prefixes=words,
        token_prefixes=paths,
        question_slots=question_slots,
    )

    assert_close(shared, full, atol=1e-12, rtol=0)
    weight = torch.randn_like(full)
    for one, other in zip(
        torch.autograd.grad((full * weight).sum(), parameters),
        torch.autograd.grad((shared * weight).sum(), parameters),
        strict=True,
    ):
        assert_close(one, other, atol=1e-10, rtol=0)


@every_head
def test_prefixes_of_one_slot_are_its_tokens(head: dict, batch: Batch) -> None:
    model = make_model(**head).double()
    patches, states, mask = batch
    rows, mask = states.double().flatten(0, 2)[:6], mask[:, :1]
    words = torch.tensor([[4, 5, 0, 2], [3, 2, 1, 0]])

    full = model(patches, rows[words][:, None], mask)

    assert_close(model(patches, rows, mask, picture_prefixes=words), full, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_features_may_be_of_another_float_type(dtype: torch.dtype, batch: Batch) -> None:
    """float16 is what a cache holds."""
    model = make_model("co-attention")
    patches, states, mask = (x.half() if x.is_floating_point() else x for x in batch)
    logits = model(patches.to(dtype), states.to(dtype), mask)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, model(patches.float(), states.float(), mask))
