"""Tokenizers of the families are read; what could take any time or memory is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers.pre_tokenizers import ByteLevel
from transformers import GemmaTokenizer, GPT2Tokenizer, LlamaTokenizer, Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from frozen_vqa.pipeline.encoders.checks.tokenizer import EXPRESSIONS, require_bounded
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError
from tests.support import model_folders
from tests.support.bad_sizes import BYTE_LEVEL, TOKENIZERS, _split

_home, text = model_folders._home, model_folders.text


def change(folder: Path, new: dict[str, Any]) -> None:
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | new), "utf-8")


@pytest.mark.parametrize("expression", sorted(EXPRESSIONS))
def test_the_steps_of_llama_are_read(text: Path, expression: str) -> None:
    steps = [_split(expression)["pre_tokenizer"], BYTE_LEVEL]
    change(text, {"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}})
    encoder = TextEncoder(str(text))
    assert len(encoder.tokens(["what is this?" * 5000])[0]) < 13 * 5000


def test_a_space_that_becomes_another_character_is_read(text: Path) -> None:
    """As in Llama 2."""
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    steps = [{"type": "Prepend", "prepend": "\u2581"}, replace]
    change(text, {"normalizer": {"type": "Sequence", "normalizers": steps}})
    TextEncoder(str(text))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_that_may_take_any_time_is_refused(text: Path, name: str) -> None:
    change(text, TOKENIZERS[name])
    with pytest.raises(ModelError, match="could take any time and memory for a question"):
        TextEncoder(str(text))


def _of_bytes() -> dict[str, Any]:
    return {"vocab": {one: i for i, one in enumerate(sorted(ByteLevel.alphabet()))}, "merges": []}


FAMILIES: dict[str, Callable[[], Any]] = {
    "Qwen 2 and 3": lambda: Qwen2Tokenizer(**_of_bytes()),
    "Gemma 3": GemmaTokenizer,
    "Mistral and Llama 2": LlamaTokenizer,
    "SmolLM2": lambda: GPT2Tokenizer(**_of_bytes()),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokenizers_of_the_families_are_read(family: str) -> None:
    """As transformers makes them, whatever a file says."""
    require_bounded(FAMILIES[family](), family)


def test_the_expression_of_qwen_is_the_one_that_transformers_has() -> None:
    assert PRETOKENIZE_REGEX in EXPRESSIONS
