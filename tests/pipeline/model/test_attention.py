"""Our cross-attention against torch's, which is what the formulas have to equal."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from frozen_vqa.pipeline.model.attention import Attention
from frozen_vqa.pipeline.model.prefix_index import PrefixIndex, Text

IMAGES, SLOTS, TOKENS, PATCHES, WIDTH, HEADS, OUT = 2, 3, 4, 5, 6, 3, 7
NOTHING = torch.zeros(())
GROUPS = [pytest.param(1, id="shared patches"), pytest.param(SLOTS, id="patches per question")]


class Inputs:
    """Random words, patches and a mask with questions of every length; double precision."""

    def __init__(self, groups: int) -> None:
        generator = torch.Generator().manual_seed(groups)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.words = random(IMAGES, SLOTS, TOKENS, WIDTH).requires_grad_()
        self.patches = random(IMAGES, groups, PATCHES, WIDTH).requires_grad_()
        lengths = torch.tensor([[1, 4, 2], [3, 1, 4]])
        self.attention_mask = torch.arange(TOKENS) < lengths[..., None]
        self.index = PrefixIndex(self.attention_mask)
        self.text = Text(self.words, "token", self.index)
        self.upstream = random(IMAGES, SLOTS, max(TOKENS, PATCHES), max(WIDTH, OUT))


def ours_and_torchs() -> tuple[Attention, nn.MultiheadAttention]:
    """Return both with the same weights, and biases that are not zero."""
    torch.manual_seed(0)
    ours = Attention(width=WIDTH, heads=HEADS).double()
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).double()
    parts = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        # Theirs has a bias of the keys, which changes nothing: any will do.
        biases = (ours.query.bias, torch.randn(WIDTH, dtype=torch.float64), ours.value.bias)
        theirs.in_proj_bias.copy_(torch.cat(biases))
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.copy_(ours.output.bias)
    return ours, theirs


def per_question(x: Tensor) -> Tensor:
    """(images, groups or slots, length, width) -> (images * slots, length, width)."""
    return x.expand(-1, SLOTS, -1, -1).flatten(0, 1)


def assert_same_gradients(
    ours: Attention,
    theirs: nn.MultiheadAttention,
    results: tuple[Tensor, Tensor],
    inputs: Inputs,
    *more: Tensor,
    tolerance: float,
) -> None:
    upstream = inputs.upstream[..., : results[0].shape[2], : results[0].shape[3]]
    parts = (ours.query, ours.key, ours.value, ours.output)
    mine = torch.autograd.grad(
        results[0],
        [
            inputs.words,
            inputs.patches,
            *(p for m in parts for p in (m.weight, m.bias) if p is not None),
            *more,
        ],
        upstream,
    )
    output = theirs.out_proj
    expected = torch.autograd.grad(
        results[1],
        [
            inputs.words,
            inputs.patches,
            theirs.in_proj_weight,
            theirs.in_proj_bias,
            output.weight,
            output.bias,
            *more,
        ],
        upstream,
    )
    weights, biases = expected[2].chunk(3), expected[3].chunk(3)
    in_order = [x for pair in zip(weights, biases, strict=True) for x in pair]
    assert_close(in_order.pop(3), torch.zeros(WIDTH).double(), atol=1e-12, rtol=0)  # of the keys
    for got, want in zip(mine, (*expected[:2], *in_order, *expected[4:]), strict=True):
        assert_close(got, want, atol=tolerance, rtol=0)


@pytest.mark.parametrize("groups", GROUPS)
def test_tokens_attend_to_patches_as_in_torch(groups: int) -> None:
    inputs = Inputs(groups)
    ours, theirs = ours_and_torchs()
    patches = per_question(inputs.patches)
    expected, _ = theirs(per_question(inputs.words), patches, patches)
    next_linear = nn.Linear(WIDTH, OUT).double()
    expected = next_linear(expected).unflatten(0, (IMAGES, SLOTS))

    got = ours.text_to_patches(inputs.text, inputs.patches, next_linear).x

    assert_close(got, expected, atol=1e-12, rtol=0)
    assert_same_gradients(
        ours, theirs, (got, expected), inputs, next_linear.weight, next_linear.bias, tolerance=1e-12
    )


@pytest.mark.parametrize("groups", GROUPS)
def test_patches_attend_to_tokens_as_in_torch(groups: int) -> None:
    """Padding is hidden, and the linear map that follows is part of the result."""
    inputs = Inputs(groups)
    ours, theirs = ours_and_torchs()
    next_linear = nn.Linear(WIDTH, OUT).double()
    words = per_question(inputs.words)
    expected, _ = theirs(
        per_question(inputs.patches),
        words,
        words,
        key_padding_mask=~inputs.attention_mask.flatten(0, 1),
    )
    plus = torch.randn(IMAGES, groups, PATCHES, OUT, dtype=torch.float64)
    expected = next_linear(expected).unflatten(0, (IMAGES, SLOTS)) + plus

    got = ours.patches_to_text(inputs.patches, inputs.text, next_linear, plus).sums()

    assert_close(got, expected, atol=1e-12, rtol=0)
    assert_same_gradients(
        ours, theirs, (got, expected), inputs, next_linear.weight, next_linear.bias, tolerance=1e-12
    )


def test_the_next_linear_map_may_have_no_bias() -> None:
    inputs = Inputs(1)
    ours, _ = ours_and_torchs()
    next_linear = nn.Linear(WIDTH, OUT).double()
    without = nn.Linear(WIDTH, OUT, bias=False).double()
    without.weight = next_linear.weight

    args = inputs.patches, inputs.text
    assert_close(
        ours.patches_to_text(*args, without, NOTHING).sums() + next_linear.bias,
        ours.patches_to_text(*args, next_linear, NOTHING).sums(),
    )


@pytest.mark.parametrize("groups", GROUPS)
def test_distinct_prefixes_and_tokens_in_full_agree(groups: int) -> None:
    """Each distinct prefix once with an index, or every token where it occurs."""
    inputs = Inputs(groups)
    ours, _ = ours_and_torchs()
    next_linear = nn.Linear(WIDTH, OUT).double()
    rows = inputs.words.detach().flatten(0, 2)[:5].requires_grad_()
    of_images = torch.tensor([[4, 2, 0], [1, 3, 0]])  # of the second picture two and padding
    paths = torch.arange(IMAGES * SLOTS * TOKENS).reshape(IMAGES, SLOTS, TOKENS) % 3
    paths[1] %= 2
    shared = PrefixIndex(inputs.attention_mask, of_images, paths)
    results = []
    once = Text(rows, "prefix", shared)
    everywhere = Text(once.per_token().x, "token", inputs.index)
    layouts: tuple[Text, ...] = (once, everywhere)
    for text in layouts:
        attended = ours.text_to_patches(text, inputs.patches, next_linear).map(torch.sin)
        seen = attended.pool(inputs.attention_mask.double())(attended.x)
        read = ours.patches_to_text(inputs.patches, text, next_linear, NOTHING).sums()
        weights = torch.linspace(-1, 1, OUT).double()
        loss = (seen @ weights).sum() + (read.sin() @ weights).sum()
        results.append([seen, read, *torch.autograd.grad(loss, [rows, *ours.parameters()])])

    for one, other in zip(*results, strict=True):
        assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("hidden", [1e4, -1e4], ids=str)
@pytest.mark.parametrize("groups", GROUPS)
def test_patches_never_see_padding(groups: int, hidden: float) -> None:
    inputs = Inputs(groups)
    ours, _ = ours_and_torchs()
    next_linear = nn.Linear(WIDTH, OUT).double()
    filled = inputs.words.masked_fill(~inputs.attention_mask[..., None], hidden)

    got = ours.patches_to_text(
        inputs.patches, Text(filled, "token", inputs.index), next_linear, NOTHING
    ).sums()

    expected = ours.patches_to_text(inputs.patches, inputs.text, next_linear, NOTHING).sums()
    assert torch.equal(got, expected)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 0.01), (torch.float16, 1e-3)],
    ids=str,
)
def test_an_empty_slot_is_finite_and_leaves_its_neighbours_alone(
    dtype: torch.dtype, tolerance: float
) -> None:
    inputs = Inputs(1)
    ours, _ = ours_and_torchs()
    next_linear = nn.Linear(WIDTH, OUT)
    ours.to(dtype), next_linear.to(dtype)
    patches, words = inputs.patches.to(dtype), inputs.words.to(dtype)
    mask = inputs.attention_mask.clone()
    mask[0, 1] = False

    got = ours.patches_to_text(
        patches, Text(words, "token", PrefixIndex(mask)), next_linear, NOTHING
    ).sums()

    expected = ours.patches_to_text(
        patches, Text(words, "token", inputs.index), next_linear, NOTHING
    ).sums()
    assert got.isfinite().all()
    assert_close(got[1], expected[1], atol=tolerance, rtol=0)
    assert_close(got[0, [0, 2]], expected[0, [0, 2]], atol=tolerance, rtol=0)


def test_tokens_attend_to_each_other_as_in_torch() -> None:
    """In both directions; padding is hidden."""
    inputs = Inputs(1)
    ours, theirs = ours_and_torchs()
    words, mask = per_question(inputs.words), inputs.attention_mask.flatten(0, 1)
    expected, _ = theirs(words, words, words, key_padding_mask=~mask)

    got = ours.text_to_text(inputs.text).flatten(0, 1)

    assert_close(got[mask], expected[mask], atol=1e-12, rtol=0)
    upstream = torch.randn(int(mask.sum()), WIDTH, dtype=torch.float64)
    for mine, torchs in (
        (inputs.words, inputs.words),
        (ours.value.bias, theirs.in_proj_bias),
        (ours.key.weight, theirs.in_proj_weight),
        (ours.output.weight, theirs.out_proj.weight),
    ):
        gradient = torch.autograd.grad(got[mask], mine, upstream, retain_graph=True)[0]
        wanted = torch.autograd.grad(expected[mask], torchs, upstream, retain_graph=True)[0]
        if mine is ours.value.bias:
            wanted = wanted[2 * WIDTH :]
        elif mine is ours.key.weight:
            wanted = wanted[WIDTH : 2 * WIDTH]
        assert_close(gradient, wanted, atol=1e-12, rtol=0)


def test_tokens_of_an_empty_slot_are_finite() -> None:
    inputs = Inputs(1)
    mask = inputs.attention_mask.clone()
    mask[0, 1] = False
    ours, _ = ours_and_torchs()

    got = ours.text_to_text(Text(inputs.words, "token", PrefixIndex(mask)))

    assert got.isfinite().all()
    there = inputs.attention_mask & mask
    assert_close(got[there], ours.text_to_text(inputs.text)[there], atol=1e-12, rtol=0)


@pytest.mark.parametrize("direction", ["text to patches", "patches to text", "text to text"])
def test_attention_keeps_nothing_in_more_than_its_own_precision(direction: str) -> None:
    """A softmax in single precision is twice the bytes, for a product that rounds it again."""
    inputs, next_linear = Inputs(1), nn.Linear(WIDTH, OUT)
    words, patches = (
        x.detach().bfloat16().requires_grad_() for x in (inputs.words, inputs.patches)
    )
    text = Text(words, "token", inputs.index)
    attention = Attention(width=WIDTH, heads=HEADS)
    kept: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with (
        torch.autocast("cpu", torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
    ):
        if direction == "text to patches":
            attention.text_to_patches(text, patches, next_linear)
        elif direction == "patches to text":
            attention.patches_to_text(patches, text, next_linear, None)
        else:
            attention.text_to_text(text)

    scores = IMAGES * SLOTS * HEADS * TOKENS * (TOKENS if direction == "text to text" else PATCHES)
    weights = [x for x in kept if x.numel() == scores and x.is_floating_point()]
    assert weights
    assert {x.dtype for x in weights} == {torch.bfloat16}
