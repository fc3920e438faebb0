"""Folders of small real models, as DINOv2 and Llama 3 are published, with random weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
)

from frozen_vqa.pipeline.encoders.checkpoint import quiet_transformers

PATCH, OWN_SIZE, LAYERS = 14, 56, 3
BOS, EOS, TURN = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
QUESTIONS = ("What is red?", "Who is there?", "Is it a cat?", "How many dogs?")


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        yield


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter a value of its own: zeros and ones would hide what is left out."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.1, 0.2, generator=generator)
    return model


def save_dinov2(
    folder: Path, *, registers: int | None = None, layers: int = 2, dtype: Any = torch.float32
) -> Path:
    kind: Any = {
        "hidden_size": 24,
        "num_hidden_layers": layers,
        "num_attention_heads": 3,
        "mlp_ratio": 2,
        "image_size": OWN_SIZE,
        "patch_size": PATCH,
    }
    if registers is None:
        model: Any = Dinov2Model(Dinov2Config(**kind))
    else:
        config = Dinov2WithRegistersConfig(num_register_tokens=registers, **kind)
        model = Dinov2WithRegistersModel(config)
    with quiet_transformers():
        randomised(model).to(dtype).save_pretrained(folder)
        BitImageProcessorPil(
            size={"shortest_edge": 64},
            crop_size={"height": OWN_SIZE, "width": OWN_SIZE},
            image_mean=[0.4, 0.5, 0.6],
            image_std=[0.2, 0.3, 0.25],
            resample=3,
        ).save_pretrained(folder)
    return folder


def byte_tokenizer(*, adds_bos: bool) -> Tokenizer:
    """Return a tokenizer like Llama 3's: byte-level, with control tokens, and BOS if asked for."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[BOS, EOS, TURN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(QUESTIONS, trainer)
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
        )
    return tokenizer


def save_llama(
    folder: Path,
    *,
    adds_bos: bool = True,
    tokenizer_bos: str | None = BOS,
    config_bos: int | None = 0,
    **settings: Any,
) -> Path:
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        bos_token_id=config_bos,
        eos_token_id=1,
        pad_token_id=None,
        **settings,
    )
    with quiet_transformers():
        randomised(LlamaModel(config)).save_pretrained(folder)
        PreTrainedTokenizerFast(
            tokenizer_object=byte_tokenizer(adds_bos=adds_bos),
            bos_token=tokenizer_bos,
            eos_token=EOS,
            extra_special_tokens=[TURN],
        ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dinov2")
    return {
        "plain": save_dinov2(folder / "plain"),
        "4 registers": save_dinov2(folder / "registers", registers=4),
        "1 register": save_dinov2(folder / "one", registers=1),
    }


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("llama")
    scaled = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    return {
        "3": save_llama(folder / "3", num_key_value_heads=4),
        "3.1": save_llama(
            folder / "3.1",
            num_key_value_heads=2,
            rope_parameters=scaled,
            max_position_embeddings=128,
            head_dim=12,
        ),
    }
