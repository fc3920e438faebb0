"""The same questions, laid out otherwise in a batch, give the same logits and gradients."""

import pytest
import torch
from torch.testing import assert_close

from frozen_vqa.cache.format.quantise import dequantise, quantise
from frozen_vqa.pipeline.model.prefix_index import PrefixIndex, Text
from tests.support import fusion_heads
from tests.support.fusion_heads import (
    CONFIG,
    IMAGES,
    SLOTS,
    TOKENS,
    Batch,
    assert_same,
    every_head,
    make_model,
)

batch = fusion_heads.batch  # a fixture


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
