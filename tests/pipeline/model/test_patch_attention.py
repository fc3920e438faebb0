"""What patches see in words, made in parts, against the formula written out."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from frozen_vqa.pipeline.model import patch_attention
from frozen_vqa.pipeline.model.patch_attention import PatchAttention

IMAGES, SLOTS, WORDS, PATCHES, FEATURES = 5, 3, 4, 6, 2


@pytest.fixture(autouse=True, params=[1, 2, 3, 100], ids="pictures a part: {}".format)
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_attention, "PART", request.param * SLOTS * PATCHES * FEATURES * 8)


def inputs(groups: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(groups)
    shapes = (WORDS, PATCHES), (WORDS, FEATURES), (PATCHES, FEATURES)
    slots = SLOTS, SLOTS, groups
    weights, values, plus = (
        torch.randn(IMAGES, n, *shape, generator=generator, dtype=torch.float64).requires_grad_()
        for n, shape in zip(slots, shapes, strict=True)
    )
    return weights, values, plus


def score() -> Tensor:
    return torch.tensor([1.5, -0.7], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("groups", [1, SLOTS])
def test_parts_make_the_whole(groups: int) -> None:
    """Values, gradients, and values where no gradient is wanted."""
    weights, values, plus = tensors = inputs(groups)
    sums = torch.einsum("iswp,iswf->ispf", weights, values) + plus
    expected = sums.relu().mean(2)
    upstream = torch.randn_like(expected)

    got = PatchAttention(weights, values, plus).mean_of_relu()

    assert_close(PatchAttention(weights, values, plus).sums(), sums, atol=1e-12, rtol=0)
    assert_close(got, expected, atol=1e-12, rtol=0)
    ours = torch.autograd.grad(got, tensors, upstream)
    theirs = torch.autograd.grad(expected, tensors, upstream)
    for one, other in zip(ours, theirs, strict=True):
        assert other.abs().min() == 0 or other.abs().max() > 0.01
        assert_close(one, other, atol=1e-12, rtol=0)
    with torch.no_grad():
        assert torch.equal(PatchAttention(weights, values, plus).mean_of_relu(), got)


@pytest.mark.parametrize("groups", [1, SLOTS])
def test_an_average_by_scores_is_that_of_the_whole(groups: int) -> None:
    """Values, weights, gradients of both, and values where no gradient is wanted."""
    tensors = *inputs(groups), score()
    relu = PatchAttention(*tensors[:3]).sums().relu()
    weights = (relu @ tensors[3]).softmax(-1)
    expected = torch.einsum("isp,ispf->isf", weights, relu), weights
    upstream = [torch.randn_like(x) for x in expected]

    got = PatchAttention(*tensors[:3]).average_of_relu(tensors[3])

    assert weights.std() > 0.01
    assert_close(got, expected, atol=1e-12, rtol=0)
    ours = torch.autograd.grad(got, tensors, upstream)
    theirs = torch.autograd.grad(expected, tensors, upstream)
    for one, other in zip(ours, theirs, strict=True):
        assert other.abs().max() > 0.01
        assert_close(one, other, atol=1e-12, rtol=0)
    alone = [
        torch.autograd.grad(
            PatchAttention(*tensors[:3]).average_of_relu(tensors[3])[i].sum(), tensors[3]
        )
        for i in range(2)
    ]
    assert alone[0][0].abs().max() > 0.01  # of the average alone, whose weights nobody uses
    assert_close(alone[1][0], torch.zeros_like(alone[1][0]), atol=1e-12, rtol=0)  # they add to one
    with torch.no_grad():
        again = PatchAttention(*tensors[:3]).average_of_relu(tensors[3])
    assert all(map(torch.equal, again, got))


def test_a_frozen_input_gets_no_gradient_and_the_others_do() -> None:
    weights, values, plus = inputs(1)
    whole = torch.autograd.grad(
        PatchAttention(weights, values, plus).mean_of_relu().sum(), [values]
    )[0]

    PatchAttention(weights.detach(), values, plus.detach()).mean_of_relu().sum().backward()

    assert values.grad is not None
    assert_close(values.grad, whole)


def test_inputs_may_lie_in_memory_in_any_way() -> None:
    weights, values, plus = inputs(1)
    whole = torch.autograd.grad(
        PatchAttention(weights, values, plus).mean_of_relu().sum(), (weights, values, plus)
    )
    turned = [x.detach().transpose(0, 1).contiguous().transpose(0, 1) for x in inputs(1)]
    tensors = [x.requires_grad_() for x in turned]
    assert not tensors[0].is_contiguous()

    found = torch.autograd.grad(PatchAttention(*tensors).mean_of_relu().sum(), tensors)

    for one, other in zip(found, whole, strict=True):
        assert_close(one, other)


def test_parts_in_bfloat16_are_bit_for_bit_the_whole() -> None:
    """So that the size of a part, and the number of pictures, change no training."""
    tensors = [x.detach().bfloat16().requires_grad_() for x in inputs(1)]
    weights, values, plus = tensors
    expected = PatchAttention(weights, values, plus).sums().relu().sum(2) / PATCHES
    upstream = torch.randn_like(expected)

    got = PatchAttention(weights, values, plus).mean_of_relu()

    assert torch.equal(got, expected)
    theirs = torch.autograd.grad(expected, tensors, upstream)
    for one, other in zip(torch.autograd.grad(got, tensors, upstream), theirs, strict=True):
        assert torch.equal(one, other)


def test_there_is_no_gradient_of_a_gradient() -> None:
    """Rather than a wrong one."""
    tensors = inputs(1)
    loss = PatchAttention(*tensors).mean_of_relu().square().sum()
    found = torch.autograd.grad(loss, tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        found[0].sum().backward()
