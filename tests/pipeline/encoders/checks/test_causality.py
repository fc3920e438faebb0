"""Only a model whose states depend on no later token is taken, by its file and by its states."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModel, BertConfig, GemmaConfig, LlamaConfig, MistralConfig, Qwen3Config

from frozen_vqa.pipeline.encoders import text_encoder
from frozen_vqa.pipeline.encoders.checks import causality, no_code
from frozen_vqa.pipeline.encoders.checks.causality import (
    MOST_TOKENS,
    NOT_FALSE,
    NOT_TRUE,
    TOLERANCE,
    longest_exact,
    require_causal_config,
    require_shared_prefixes,
)
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError
from tests.support import encoders
from tests.support.encoders import save_llama

_home = encoders._home  # a fixture that is in force in every test

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
FAMILIES = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen 3": Qwen3Config,
    "gemma": GemmaConfig,
}
SHARED = {"num_key_value_heads": 1, "head_dim": 8}
TOKENS = [0, 5, 7, 9, 11, 13, 2, 30]
Encode = Callable[[Sequence[Sequence[int]]], Tensor]


def states_of(config: Any, dtype: torch.dtype = torch.float32) -> Encode:
    torch.manual_seed(0)
    model = AutoModel.from_config(config).to(dtype).eval()

    def encode(tokens: Sequence[Sequence[int]]) -> Tensor:
        with torch.inference_mode():
            return model(input_ids=torch.tensor(tokens)).last_hidden_state

    return encode


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_causal_models_are_taken_in_every_dtype(family: str, dtype: torch.dtype) -> None:
    config = FAMILIES[family](**SIZES, **SHARED)
    require_causal_config("model", config)
    require_shared_prefixes("model", states_of(config, dtype), TOKENS, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    ("family", "switch"),
    [*((family, {"is_causal": False}) for family in FAMILIES), ("gemma", {NOT_TRUE[0]: True})],
)
def test_the_same_models_looking_both_ways_are_refused_by_file_and_by_states(
    family: str, switch: dict[str, bool], dtype: torch.dtype
) -> None:
    """transformers obeys the switch, and says nothing."""
    config = FAMILIES[family](**SIZES, **SHARED, **switch)
    ((key, value),) = switch.items()
    match = rf"^model: its config.json has {key} {str(value).lower()}, .*; only a causal model can"
    with pytest.raises(ModelError, match=match):
        require_causal_config("model", config)
    with pytest.raises(ModelError, match=r"^model: the states of its tokens depend on later token"):
        require_shared_prefixes("model", states_of(config, dtype), TOKENS, dtype)


def test_an_encoder_by_nature_is_refused_by_its_states() -> None:
    with pytest.raises(ModelError, match="depend on later tokens"):
        require_shared_prefixes("bert", states_of(BertConfig(**SIZES)), TOKENS, torch.float32)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("key", [*NOT_FALSE, *NOT_TRUE])
def test_every_switch_counts_wherever_it_stands(key: str, inside: bool) -> None:
    def config(value: object) -> LlamaConfig:
        return LlamaConfig(**({"text_config": {key: value}} if inside else {key: value}))

    wrong = key in NOT_TRUE
    with pytest.raises(ModelError, match=f"config.json has {key} {str(wrong).lower()}"):
        require_causal_config("model", config(wrong))
    for harmless in (not wrong, None, "vision"):
        require_causal_config("model", config(harmless))


TABLE = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))


@given(st.sampled_from([(i, j) for j in range(MOST_TOKENS) for i in range(j)]), st.floats(0.05, 3))
def test_one_look_ahead_anywhere_among_the_tokens_is_seen(
    place: tuple[int, int], much: float
) -> None:
    mixed = torch.ones(MOST_TOKENS, MOST_TOKENS).tril()

    def encode(tokens: Sequence[Sequence[int]]) -> Tensor:
        length = len(tokens[0])
        return mixed[:length, :length] @ TABLE[torch.tensor(tokens)]

    require_shared_prefixes("model", encode, TOKENS, torch.float32)
    mixed[place] = much
    with pytest.raises(ModelError, match="depend on later tokens"):
        require_shared_prefixes("model", encode, TOKENS, torch.float32)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda x: x + torch.arange(x.shape[1]).flip(0)[:, None], "on the length of a question"),
        (lambda x: x - x.mean(0), "neighbours in a batch"),
        (lambda x: x / x.shape[1], "on the length of a question"),
        (lambda x: x * float("nan"), "are not finite in float32; use --compute-dtype"),
    ],
    ids=["positions from the end", "a mean over the batch", "the length", "no number"],
)
def test_positions_neighbours_and_lengths_must_not_count(
    change: Callable[[Tensor], Tensor], match: str
) -> None:
    def encode(tokens: Sequence[Sequence[int]]) -> Tensor:
        return change(TABLE[torch.tensor(tokens)].cumsum(1))

    with pytest.raises(ModelError, match=match):
        require_shared_prefixes("model", encode, TOKENS, torch.float32)


@pytest.mark.parametrize("tokens", [[], [3]])
def test_nothing_is_compared_of_one_token(tokens: list[int]) -> None:
    require_shared_prefixes("model", lambda _: torch.full((1, 1), torch.nan), tokens, torch.float32)


def test_a_folder_is_refused_by_its_file_before_its_weights_are_loaded(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model", is_causal=False)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=rf"^{folder}: its config.json has is_causal false"):
        TextEncoder(str(folder))


def test_a_folder_whose_file_says_nothing_is_refused_when_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_encoder, "require_causal_config", lambda *_: None)
    encoder = TextEncoder(str(save_llama(tmp_path / "model", is_causal=False)))
    with pytest.raises(ModelError, match="the states of its tokens depend on later tokens"):
        encoder.encode([[0, 5]])


def test_a_longer_question_turns_no_other_angles(tmp_path: Path) -> None:
    """With `longrope` all positions change beyond a length, so no longer question is taken."""
    first, most = 12, 24
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": first}
    rope |= {"short_factor": [1.0] * 4, "long_factor": [8.0] * 4, "factor": 2.0}
    folder = save_llama(tmp_path / "long", rope_parameters=rope, max_position_embeddings=most)
    encoder = TextEncoder(str(folder))
    assert encoder.max_tokens == first
    short, long = [[0, *range(5, 5 + first - 1)]], [[0, *range(5, 5 + most - 1)]]
    distance = (encoder.encode(short) - encoder.encode(long)[:, :first]).norm()
    assert distance > 1e-3  # so that the limit is needed
    assert longest_exact(LlamaConfig(max_position_embeddings=most)) == most


def test_settings_may_be_nested_deeply() -> None:
    deep: Any = {"is_causal": False}
    for _ in range(20_000):
        deep = {"a": deep}
    assert list(causality._walk(deep)) == [("is_causal", False)]
    many: Any = {"auto_map": {"AutoModel": "x.y"}}
    for _ in range(20_000):
        many = [many]
    assert no_code._names_code(many)
    assert not no_code._names_code([[{"auto_map": None}]])
