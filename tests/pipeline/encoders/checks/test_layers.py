"""Stored layers are those that the model itself gives, side by side."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from frozen_vqa.pipeline.encoders.checks.layers import states_of, stored_layers
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError
from tests.support.encoders import LAYERS, _home, dinov2, llama  # noqa: F401  (fixtures)

DEPTH = 2


@pytest.mark.parametrize("name", ["plain", "4 registers"])
def test_a_picture_s_layers_are_those_of_the_model(name: str, dinov2: dict[str, Path]) -> None:  # noqa: F811
    """The last one after the final norm, every other before it, from either end."""
    encoder = ImageEncoder(str(dinov2[name]), layer=[-1, 0, 1], image_size=28)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3), np.uint8)
    with torch.inference_mode():
        output = encoder.weights(encoder.normalised(pixels), output_hidden_states=True)
    every = [output.last_hidden_state, *output.hidden_states[:DEPTH]]
    assert not torch.equal(every[0], output.hidden_states[DEPTH])
    before = 1 + (4 if "4" in name else 0)
    patches, cls = encoder.encode(pixels)
    assert encoder.layers == (-1, -3, -2)
    assert_close(patches, torch.cat([states[:, before:] for states in every], -1))
    assert_close(cls, torch.cat([states[:, 0] for states in every], -1))
    assert [encoder.settings_at(layer).get("layer") for layer in encoder.layers] == [None, -3, -2]


def test_a_question_s_layers_are_those_of_the_model(llama: dict[str, Path]) -> None:  # noqa: F811
    """Whole questions and trees of prefixes alike."""
    encoder = TextEncoder(str(llama["3"]), layer=(1, -1, 0))
    (tokens,) = encoder.tokens(["Is it a cat?"])
    with torch.inference_mode():
        output = encoder.weights(torch.tensor([tokens]), output_hidden_states=True)
    states = output.hidden_states
    expected = torch.cat([states[1], output.last_hidden_state, states[0]], -1)
    assert encoder.layers == (1 - LAYERS - 1, -1, -LAYERS - 1)
    assert_close(encoder.encode([tokens]), expected)
    tree = encoder.encode_tree(tokens, [*range(-1, len(tokens) - 1)])
    assert_close(tree, expected[0], atol=1e-4, rtol=1e-4)
    assert_close(TextEncoder(str(llama["3"]), layer=LAYERS).encode([tokens]), states[-1])


def test_the_final_norm_is_of_the_last_layer_alone() -> None:
    last, other = torch.ones(1, 2, 3), torch.full((1, 2, 3), 5.0)
    output = SimpleNamespace(last_hidden_state=last, hidden_states=(other, last))
    norm = torch.nn.LayerNorm(3)
    assert_close(states_of(output, (-1, -2), norm), torch.cat([norm(last), other], -1))
    assert_close(states_of(output, (-2,)), other)


def test_each_layer_has_one_name() -> None:
    for depth in (1, 12):
        for layer in range(depth + 1):
            assert stored_layers(layer, depth, "m", "--x") == stored_layers(
                layer - depth - 1, depth, "m", "--x"
            )
    with pytest.raises(ModelError, match="text layer 13 does not exist in m: it has 12 layers"):
        stored_layers([-1, 13], 12, "m", "--text-layer")
