"""The frozen text encoder: its tokens and states are those of transformers, from small models."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel
from transformers.utils import logging

from frozen_vqa.pipeline.encoders.checkpoint import quiet_transformers
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError
from tests.support import encoders
from tests.support.encoders import BOS, EOS, LAYERS, QUESTIONS, TURN, byte_tokenizer, save_llama

# Fixtures; the first is in force in every test.
_home, llama = encoders._home, encoders.llama


@pytest.mark.parametrize("which", ["3", "3.1"])
@pytest.mark.parametrize("layer", [-1, -2, 0, 1, 2, LAYERS, -LAYERS - 1])
def test_hidden_states_are_those_of_transformers_on_each_question_alone(
    llama: dict[str, Path], which: str, layer: int
) -> None:
    encoder = TextEncoder(str(llama[which]), layer=layer)
    batch = [[0, 17, 250, 9, 33], [0, 90, 90, 4, 250], [0, 201, 5, 17, 8]]
    with quiet_transformers(), torch.inference_mode():
        model = AutoModel.from_pretrained(llama[which], dtype=torch.float32).eval()
        direct = [
            model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
            for ids in batch
        ]

    torch.testing.assert_close(encoder.encode(batch), torch.stack(direct), atol=1e-6, rtol=1e-6)


def test_the_last_layer_is_taken_after_the_final_norm(llama: dict[str, Path]) -> None:
    encoder = TextEncoder(str(llama["3.1"]))
    seen: list[torch.Tensor] = []
    norm: Any = encoder.weights.norm
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))

    states = encoder.encode([[0, 17, 250, 9]])

    (before,) = seen
    assert (states - before).abs().max() > 0.1
    assert torch.equal(states, norm(before))


def test_layers_differ(llama: dict[str, Path]) -> None:
    """Else the comparison by layer could not tell one from its neighbour."""
    ids = [[0, 17, 250, 9]]
    states = [TextEncoder(str(llama["3"]), layer=k).encode(ids) for k in range(LAYERS + 1)]
    for a in range(LAYERS + 1):
        for b in range(a):
            assert (states[a] - states[b]).abs().max() > 0.01


@pytest.mark.parametrize("layer", [LAYERS + 1, -LAYERS - 2, 99])
def test_a_layer_that_is_not_there_is_refused(llama: dict[str, Path], layer: int) -> None:
    match = rf"text layer {layer} does not exist in .*: it has 3 layers, .* from -4 to 3$"
    with pytest.raises(ModelError, match=match):
        TextEncoder(str(llama["3"]), layer=layer)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_one_layer_has_one_name_in_the_settings(llama: dict[str, Path], layer: int) -> None:
    """A cache made with --text-layer 3 may be extended with --text-layer -1."""
    settings = TextEncoder(str(llama["3"]), layer=layer).settings
    assert settings["layer"] == layer - LAYERS - 1
    assert settings == TextEncoder(str(llama["3"]), layer=layer - LAYERS - 1).settings


def test_states_do_not_depend_on_the_neighbours(llama: dict[str, Path]) -> None:
    encoder = TextEncoder(str(llama["3.1"]))
    rng = np.random.default_rng(1)
    batch = [[0, *rng.integers(3, 300, 8).tolist()] for _ in range(5)]

    together = encoder.encode(batch)
    alone = torch.cat([encoder.encode([ids]) for ids in batch])

    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)


def test_states_of_a_prefix_do_not_depend_on_what_follows(llama: dict[str, Path]) -> None:
    """What the cache's prefix sharing rests on."""
    encoder = TextEncoder(str(llama["3.1"]))
    whole = encoder.encode([[0, 17, 250, 9, 33, 120]])
    for length in range(1, 6):
        prefix = encoder.encode([[0, 17, 250, 9, 33][:length]])
        torch.testing.assert_close(prefix, whole[:, :length], atol=1e-6, rtol=1e-6)


def test_the_longest_question_is_what_the_model_has_positions_for(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model", max_position_embeddings=24)

    encoder = TextEncoder(str(folder))

    assert encoder.max_tokens == 24
    assert TextEncoder("tiny").max_tokens == 512


@pytest.mark.parametrize("adds_bos", [True, False])
def test_bos_comes_first_and_once(tmp_path: Path, adds_bos: bool) -> None:
    """Llama 3's own tokenizer adds BOS; others do not."""
    encoder = TextEncoder(str(save_llama(tmp_path / "model", adds_bos=adds_bos)))
    plain = byte_tokenizer(adds_bos=False)

    tokens = encoder.tokens(QUESTIONS)

    assert (encoder.tokenizer("Who?").input_ids[0] == 0) == adds_bos  # so that the test bites
    assert tokens == [[0, *plain.encode(question).ids] for question in QUESTIONS]
    assert encoder.tokens([]) == []


def test_bos_may_stand_in_the_models_config_alone(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model", adds_bos=False, tokenizer_bos=None, config_bos=7)
    assert TextEncoder(str(folder)).tokens(["Who?"])[0][0] == 7


def test_a_model_without_bos_is_refused(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model", adds_bos=False, tokenizer_bos=None, config_bos=None)
    with pytest.raises(ModelError, match="has no BOS token"):
        TextEncoder(str(folder))


@pytest.mark.parametrize("control", [BOS, EOS, TURN])
def test_what_looks_like_a_control_token_stays_text(llama: dict[str, Path], control: str) -> None:
    encoder = TextEncoder(str(llama["3"]))
    question = f"What{control} is red?"

    ((bos, *tokens),) = encoder.tokens([question])

    assert bos == 0
    assert not {0, 1, 2} & set(tokens)
    assert len(encoder.tokenizer(question, add_special_tokens=False).input_ids) < len(tokens)
    spelled = "".join(encoder.tokenizer.convert_ids_to_tokens(tokens)).replace("Ġ", " ")
    assert spelled == question


def test_transformers_is_as_talkative_after_loading_as_before(llama: dict[str, Path]) -> None:
    def is_shown() -> tuple[int, bool]:
        return logging.get_verbosity(), logging.is_progress_bar_enabled()

    found = is_shown()
    logging.set_verbosity_info()
    logging.enable_progress_bar()
    before = is_shown()
    inside = []
    with quiet_transformers():
        inside.append(is_shown())
    TextEncoder(str(llama["3"])).encode([[0, 5]])
    with pytest.raises(ZeroDivisionError), quiet_transformers():
        1 / 0  # noqa: B018
    after = is_shown()
    logging.set_verbosity(found[0])
    assert inside == [(logging.ERROR, False)]
    assert after == before == (logging.INFO, True)
