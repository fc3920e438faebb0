"""The fast head equals the plain formulas: logits and gradients, in double precision."""

from dataclasses import fields, replace
from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from frozen_vqa.pipeline.config import PRESETS, make_config
from frozen_vqa.pipeline.model import reference
from frozen_vqa.pipeline.model.config import FUSIONS, POOLINGS, HeadSettings, Merge
from frozen_vqa.pipeline.model.prefix_index import PrefixIndex, Text
from frozen_vqa.pipeline.model.reference import (
    QuestionDropout,
    reference_twin,
    translate_weights,
)
from frozen_vqa.pipeline.model.vqa_model import VqaModel

IMAGES, SLOTS, TOKENS, GRID, PATCHES, VISION_DIM, TEXT_DIM, WIDTH = 3, 3, 4, (2, 3), 6, 5, 7, 8
LENGTHS = torch.tensor([[2, 4, 1], [3, 0, 0], [0, 0, 0]])
"""Questions of several lengths, empty slots, and a picture that is padding."""

HEADS: dict[str, dict[str, Any]] = {
    f"{fusion}, {pooling}, {merge}, {'post' if post_norm else 'pre'}-norm, {layers} layers": {
        "fusion": fusion,
        "pooling": pooling,
        "merge": merge,
        "post_norm": post_norm,
        "layers": layers,
    }
    for fusion in FUSIONS
    for attends in [fusion in ("co-attention", "text-to-image")]
    for pooling in POOLINGS
    for merge in (get_args(Merge) if attends else ("concat",))
    for post_norm in ((False, True) if attends else (False,))
    for layers in ((1, 2, 3) if attends else (1,))
}
HEADS |= {
    f"{fusion}, text self-attention, {'post' if post_norm else 'pre'}-norm": {
        "fusion": fusion,
        "text_self_attention": True,
        "post_norm": post_norm,
        "layers": 2,
    }
    for fusion in ("co-attention", "text-to-image")
    for post_norm in (False, True)
}
HEADS |= {
    "no position embedding": {"position_embedding": False},
    "linear": {"answer_head": "linear"},
}
TWO = {"pictures": 2, "grid": (1, 3)}  # as many patches as one picture of `GRID`
HEADS |= {f"{fusion}, two pictures": {"fusion": fusion, **TWO} for fusion in FUSIONS}
PARTS = {"vision_parts": (2, 3), "text_parts": (3, 4)}
"""Features of two encoders side by side, and of two layers."""
HEADS |= {
    f"{fusion}, {pooling}, parts": {"fusion": fusion, "pooling": pooling, **PARTS}
    for fusion in FUSIONS
    for pooling in POOLINGS
}
for preset in PRESETS:
    chosen = make_config({"preset": preset, "width": WIDTH, "heads": 2, "dropout": 0.0})
    HEADS[f"preset {preset}"] = {
        field.name: getattr(chosen, field.name) for field in fields(HeadSettings)
    }


def make_head(settings: dict[str, Any]) -> VqaModel:
    """Return a head in double precision; no weight has a value that would hide a mix-up."""
    torch.manual_seed(1)
    given = {name: value for name, value in settings.items() if name in {**TWO, **PARTS}}
    own = {name: value for name, value in settings.items() if name not in given}
    chosen = HeadSettings(**{"width": WIDTH, "heads": 2, **own})
    shapes: dict[str, Any] = {"vision_dim": VISION_DIM, "text_dim": TEXT_DIM, "answers": 9}
    shapes |= {"grid": GRID} | given
    head = VqaModel(chosen.with_shapes(**shapes)).double()
    with torch.no_grad():  # biases, norms and scores begin at 0 and 1
        for parameter in head.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return head


@pytest.mark.parametrize("slots", [SLOTS, 1])
@pytest.mark.parametrize("settings", HEADS.values(), ids=HEADS)
def test_logits_and_gradients_are_those_of_the_reference(
    settings: dict[str, Any], slots: int
) -> None:
    """Distinct prefixes once, in grouped and in plain order, against each question in full."""
    head = make_head(settings)
    twin = reference_twin(head)
    patches = torch.randn(IMAGES, PATCHES, VISION_DIM, dtype=torch.float64)
    prefixes = torch.randn(6, TEXT_DIM, dtype=torch.float64)
    mask = torch.arange(TOKENS) < LENGTHS[:, :slots, None]
    of_pictures = torch.tensor([[4, 5, 0, 2], [3, 2, 0, 0], [0, 0, 0, 0]])
    of_tokens = torch.randint(0, 4, mask.shape) if slots > 1 else None
    there = mask.any(-1)
    tokens = Text(prefixes, "prefix", PrefixIndex(mask, of_pictures, of_tokens)).per_token().x
    upstream = torch.randn(int(there.sum()), 9, dtype=torch.float64)

    logits = head(patches, prefixes, mask, picture_prefixes=of_pictures, token_prefixes=of_tokens)
    expected = twin(patches.repeat_interleave(there.sum(1), 0), tokens[there], mask[there])

    assert_close(logits, expected, atol=1e-10, rtol=0)
    (logits * upstream).sum().backward()
    (expected * upstream).sum().backward()
    ours = translate_weights({name: gradient_of(p) for name, p in head.named_parameters()})
    theirs = {name: gradient_of(p) for name, p in twin.named_parameters()}
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert gradient.abs().max() > 1e-9, name
        assert_close(ours[name], gradient, atol=1e-10, rtol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


def gradient_of(parameter: nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def test_dropout_draws_once_for_a_question() -> None:
    dropped = QuestionDropout(0.5)(torch.ones(3, 4, 64))

    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(dropped[0], dropped[1])
    assert torch.equal(QuestionDropout(0.5).eval()(dropped), dropped)


@pytest.mark.parametrize("settings", HEADS.values(), ids=HEADS)
def test_the_reference_shares_no_module_with_the_head(settings: dict[str, Any]) -> None:
    """Or a fault in a module of the head would be one in the reference as well."""
    head = make_head(settings)
    twin = reference_twin(head)
    homes = {type(module).__module__ for module in twin.modules()}
    assert {home for home in homes if not home.startswith("torch.")} == {reference.__name__}
    assert not {id(module) for module in twin.modules()} & {id(m) for m in head.modules()}
    count = sum(isinstance(module, nn.LayerNorm) for module in twin.layers.modules())
    assert count == sum(isinstance(module, nn.LayerNorm) for module in head.layers.modules())


def test_the_twin_has_weights_of_its_own() -> None:
    head = make_head({})
    twin = reference_twin(head)
    assert twin.config == head.config
    before = head.head.weight.clone()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(head.head.weight, before)
    assert replace(head.config, layers=2) != twin.config
