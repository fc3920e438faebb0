"""The characters of each token, as the text encoder cuts a question."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from frozen_vqa.pipeline.encoders import pieces
from frozen_vqa.pipeline.encoders.pieces import token_spans
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import ModelError
from tests.support.hostile import STORED

QUESTIONS = ["What color is the elephant?", "is it?", "<|begin_of_text|> x", *STORED.values()]


def test_spans_are_those_of_the_tokens_that_are_encoded() -> None:
    text = TextEncoder("tiny")
    spans, tokens = token_spans(text.settings, QUESTIONS), text.tokens(QUESTIONS)
    assert [len(one) for one in spans] == [len(one) - 1 for one in tokens]
    for question, one in zip(QUESTIONS, spans, strict=True):
        covered = {i for start, end in one for i in range(start, end)}
        assert covered == set(range(len(question)))
        assert one == sorted(one)


def test_a_tokenizer_that_is_not_the_same_or_not_here_is_refused(tmp_path: Path) -> None:
    settings = TextEncoder("tiny").settings
    with pytest.raises(ModelError, match="has changed since the cache was made"):
        token_spans(settings | {"revision": "xxh3:0"}, ["a"])
    for model in ("meta-llama/no-such-model", str(tmp_path / "gone"), "", "a" * 300, "../.."):
        with pytest.raises(ModelError):
            token_spans({"model": model, "revision": "abc"}, ["a"])


def test_a_tokenizer_of_the_hub_is_found_in_its_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789" * 4
    source = tiny_checkpoint("text") / pieces.FILE
    for place in (f"models--meta--llama/snapshots/{commit}", "models--meta--llama/snapshots/../x"):
        (tmp_path / place).mkdir(parents=True)
        shutil.copy(source, tmp_path / place)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert token_spans({"model": "meta/llama", "revision": commit}, ["is it?"]) == [
        [(0, 2), (2, 5), (5, 6)]
    ]
    for revision in ("../x", str(tmp_path / "models--meta--llama/x"), "main"):
        with pytest.raises(ModelError, match="is not on this machine"):
            token_spans({"model": "meta/llama", "revision": revision}, ["is it?"])


def test_a_damaged_tokenizer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / pieces.FILE).write_text('{"model": 3}')
    monkeypatch.setattr(pieces, "weights_digest", lambda folder: "same")
    with pytest.raises(ModelError, match="the tokenizer cannot be read"):
        token_spans({"model": str(tmp_path), "revision": "same"}, ["a"])
