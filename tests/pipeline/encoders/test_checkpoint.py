"""Checkpoints: loaded whole or refused in one sentence, and told apart by their weights."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import BertConfig, LlamaConfig, LlamaForCausalLM, LlamaModel

from frozen_vqa.pipeline.encoders.checkpoint import (
    Checkpoint,
    loading,
    quiet_transformers,
    weights_digest,
)
from frozen_vqa.pipeline.encoders.families.text import TEXT
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import ModelError
from tests.support import model_folders
from tests.support.model_folders import WEIGHTS, edit_weights, message_of

# Fixtures; the first is in force in every test.
_home, text = model_folders._home, model_folders.text


@pytest.fixture
def vision(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint("vision"), tmp_path / "vision"))


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing here")
    match = rf"{tmp_path} is not a complete model folder: .*config\.json"
    with pytest.raises(ModelError, match=match):
        ImageEncoder(str(tmp_path))


def test_a_model_of_another_family(tmp_path: Path) -> None:
    BertConfig(hidden_size=24, num_attention_heads=2).save_pretrained(tmp_path)
    for make, needed in ((ImageEncoder, "DINOv2 (dinov2, "), (TextEncoder, "Llama (llama), ")):
        expected = f"{tmp_path} is a 'bert' model; one of these types is needed: {needed}"
        assert message_of(lambda make=make: make(str(tmp_path))).startswith(expected)


def pickle_only(folder: Path) -> None:
    state = safetensors.torch.load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save(state, folder / "pytorch_model.bin")


def cut(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (
            lambda folder: (folder / WEIGHTS).unlink(),
            r" is not a complete model folder: .*no file named model\.safetensors",
        ),
        (pickle_only, r" is not a complete model folder: .*no file named model\.safetensors"),
        (cut, rf"/{WEIGHTS}: it has [\d,]+ bytes and a header for [\d,]+, so these are no whole"),
        (
            lambda folder: (folder / WEIGHTS).write_bytes(b"junk" * 10**6),
            rf"/{WEIGHTS}: it has no header, so these are no whole weights; download it again",
        ),
    ],
    ids=["absent", "pickle", "cut", "junk"],
)
def test_weights_that_cannot_be_read(text: Path, damage: Any, match: str) -> None:
    """A pickle is never opened, for it could run code."""
    damage(text)
    encoder = TextEncoder(str(text))
    with pytest.raises(ModelError, match=rf"^{text}{match}"):
        encoder.encode([[0, 9]])


PROJECTION = "layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop(PROJECTION),
        lambda state: state.update({PROJECTION: state[PROJECTION][:-1].clone()}),
        lambda state: state.update({"other.name": state.pop(PROJECTION)}),
    ],
    ids=["missing", "mismatched", "renamed"],
)
def test_weights_that_are_not_all_there_are_never_made_up(text: Path, damage: Any) -> None:
    """transformers fills a gap with random numbers and says so in a log line alone."""
    edit_weights(text, damage)
    assert message_of(lambda: TextEncoder(str(text)).encode([[0, 9]])) == (
        f"{text}: 1 of its weights are missing or of another size than its config.json says, such "
        f"as {PROJECTION}; download it again"
    )


def test_the_mask_token_may_be_missing(vision: Path) -> None:
    """It serves pretraining alone, and some copies leave it out."""
    edit_weights(vision, lambda state: state.pop("embeddings.mask_token"))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), dtype=np.uint8)
    found, expected = (ImageEncoder(name).encode(pixels)[0] for name in (str(vision), "tiny"))
    assert torch.equal(found, expected)


def test_a_causal_language_model_gives_the_states_of_its_body(tmp_path: Path, text: Path) -> None:
    """Llama 3 is published with its output layer, which is not needed."""
    config = LlamaConfig.from_pretrained(text)
    torch.manual_seed(3)
    whole = LlamaForCausalLM(config)
    with quiet_transformers():
        whole.save_pretrained(text)
    with torch.inference_mode():
        expected = whole.model(input_ids=torch.tensor([[0, 9, 4]])).last_hidden_state

    assert isinstance(TextEncoder(str(text)).weights, LlamaModel)
    torch.testing.assert_close(TextEncoder(str(text)).encode([[0, 9, 4]]), expected)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", '{"model_type": "llama", "hidden_size": "wide"}'),
        ("tokenizer.json", "{"),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", None),
    ],
)
def test_a_damaged_text_model_folder(text: Path, file: str, content: str | None) -> None:
    (text / file).unlink() if content is None else (text / file).write_text(content)
    start = f"{text} is not a complete model folder: "
    message = message_of(lambda: TextEncoder(str(text)))
    assert message.startswith(start)
    assert 10 < len(message.removeprefix(start)) <= 300


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_vision_model_folder_without_a_usable_processor(vision: Path, content: Any) -> None:
    file = vision / "preprocessor_config.json"
    file.unlink() if content is None else file.write_text(content)
    message = message_of(lambda: ImageEncoder(str(vision)))
    assert message.startswith(f"{vision} is not a complete model folder: ")


def test_what_does_not_fit_the_device_is_one_sentence(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(LlamaModel, "to", full)
    checkpoint = Checkpoint(text)
    config, _ = checkpoint.config(TEXT)
    match = rf"^{text} does not fit the memory of cpu; use --device cpu or a smaller model$"
    with pytest.raises(ModelError, match=match):
        checkpoint.load(config, torch.float32, torch.device("cpu"))


def test_the_cause_is_kept_for_those_who_debug() -> None:
    cause = ValueError("first line\n  second line")
    match = r"^org/x cannot be loaded: first line second line$"
    with pytest.raises(ModelError, match=match) as caught, loading("org/x"):
        raise cause
    assert caught.value.__cause__ is cause


def test_the_digest_changes_with_any_weight(text: Path) -> None:
    before = weights_digest(text)
    names = list(safetensors.torch.load_file(text / WEIGHTS))
    seen = {before}
    for name in names:

        def nudge(state: dict[str, torch.Tensor], name: str = name) -> None:
            flat = state[name].view(-1)
            flat[len(flat) // 2] += 0.5

        edit_weights(text, nudge)
        seen.add(weights_digest(text))
    assert len(names) == 20
    assert len(seen) == 1 + len(names)
    assert all(digest.startswith("xxh3:") for digest in seen)


@pytest.mark.parametrize("damage", [pickle_only, lambda folder: (folder / WEIGHTS).unlink()])
def test_there_is_no_digest_of_nothing(text: Path, damage: Any) -> None:
    damage(text)
    match = rf"^{text} has no \.safetensors file, .* pickle can run code"
    with pytest.raises(ModelError, match=match):
        _ = TextEncoder(str(text)).settings


def test_the_digest_is_of_content_and_not_of_time_or_place(text: Path, tmp_path: Path) -> None:
    before = weights_digest(text)
    os.utime(text / WEIGHTS, (1, 1))
    (text / "README.md").write_text("a note beside the weights")
    shutil.copytree(text, tmp_path / "elsewhere")
    assert weights_digest(text) == before
    assert weights_digest(tmp_path / "elsewhere") == before


def test_the_digest_sees_names_sizes_and_number_of_files(tmp_path: Path) -> None:
    def digest_of(**files: bytes) -> str:
        folder = tmp_path / "-".join(f"{name}{len(data)}" for name, data in files.items())
        folder.mkdir()
        for name, data in files.items():
            (folder / f"{name}.safetensors").write_bytes(data)
        return weights_digest(folder)

    digests = [
        digest_of(a=b"12", b=b"3"),
        digest_of(a=b"1", b=b"23"),
        digest_of(a=b"123"),
        digest_of(b=b"123"),
    ]
    assert len(set(digests)) == len(digests)


def test_a_large_file_is_read_in_part_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block of a file up to the limit counts; beyond it, blocks spread evenly over it."""
    monkeypatch.setattr("frozen_vqa.pipeline.encoders.checkpoint.SAMPLE_BLOCKS", 4)
    monkeypatch.setattr("frozen_vqa.pipeline.encoders.checkpoint.BLOCK_BYTES", 8)

    def seen_places(size: int) -> list[int]:
        file = tmp_path / WEIGHTS
        file.write_bytes(bytes(size))
        before = weights_digest(tmp_path)
        found = []
        for place in range(size):
            data = bytearray(size)
            data[place] = 1
            file.write_bytes(data)
            if weights_digest(tmp_path) != before:
                found.append(place)
        return found

    assert seen_places(32) == list(range(32))
    assert seen_places(80) == [start + i for start in (0, 20, 40, 60) for i in range(8)]
