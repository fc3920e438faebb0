"""A text model in 8 or 4 bits shares the states of common beginnings as any other does."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from transformers import AutoModel

from frozen_vqa.pipeline.encoders.checks.quantise import BYTES, QUANTIZE, Quantize
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.extract.models.preflight import weight_bytes
from tests.support.tiny_commands import at_home

INSTALLED = find_spec("bitsandbytes") is not None and find_spec("accelerate") is not None
installed = pytest.mark.skipif(not INSTALLED, reason="needs the extra quantize")


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with at_home(tmp_path_factory):
        yield


@pytest.mark.parametrize("missing", ["bitsandbytes", "accelerate"])
@pytest.mark.parametrize("kind", QUANTIZE)
def test_a_library_that_is_missing_is_named(
    kind: Quantize, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "frozen_vqa.pipeline.encoders.checks.quantise.find_spec",
        lambda name: name != missing or None,
    )
    with pytest.raises(ModelError, match=rf"^--quantize {kind} needs {missing}.*\[quantize\]'"):
        _ = TextEncoder("tiny", quantize=kind).weights


@pytest.mark.parametrize("kind", QUANTIZE)
def test_transformers_is_told_how(kind: Quantize, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither library is needed here. A threshold of int8 would mix the tokens of a batch."""
    told: dict[str, Any] = {}

    def stop(*_: object, **options: Any) -> None:
        told.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr("frozen_vqa.pipeline.encoders.checks.quantise.find_spec", lambda _: True)
    monkeypatch.setattr("transformers.BitsAndBytesConfig.post_init", lambda _: None)
    monkeypatch.setattr(AutoModel, "from_pretrained", stop)
    text = TextEncoder("tiny", quantize=kind)
    assert text.settings["quantize"] == kind
    with pytest.raises(KeyboardInterrupt):
        _ = text.weights
    how = told["quantization_config"]
    assert (how.load_in_8bit, how.load_in_4bit) == (kind == "int8", kind == "nf4")
    assert (how.llm_int8_threshold == 0) == (kind == "int8")
    assert told["device_map"] == {"": "cpu"}


def test_fewer_bytes_are_counted() -> None:
    plain = TextEncoder("tiny")
    tokens = plain.config.vocab_size * plain.dim
    count = plain.checkpoint.count_weights(plain.config)
    assert weight_bytes(plain) == 4 * count
    for kind in QUANTIZE:
        found = weight_bytes(TextEncoder("tiny", quantize=kind))
        assert found == 4 * tokens + int((count - tokens) * BYTES[kind])
    assert "quantize" not in plain.settings


@installed
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", QUANTIZE)
def test_a_state_depends_on_no_neighbour(kind: Quantize, dtype: torch.dtype) -> None:
    """The weights are loaded, which checks them; a tree gives what each question alone gives."""
    text = TextEncoder("tiny", quantize=kind, compute_dtype=dtype)
    one, other, third = text.tokens(["what is the red?", "what is the box?", "is it not blue?"])
    common = next(i for i, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1)
    assert common > 3
    alone = [text.encode([question])[0].float() for question in (one, other, third)]
    exact = {"atol": 0, "rtol": 0} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0}
    exact = exact if kind == "int8" else {"atol": exact["atol"] + 1e-5, "rtol": 0}
    torch.testing.assert_close(alone[0][:common], alone[1][:common], **exact)
    length = min(map(len, (one, other, third)))
    equal = [one[:length], other[:length], third[:length]]
    for state, own in zip(text.encode(equal).float(), alone, strict=True):
        torch.testing.assert_close(state, own[:length], **exact)
    branches = [*one[: common + 1], other[common]]
    tree = text.encode_tree(branches, [*range(-1, common), common - 1])
    torch.testing.assert_close(tree[:-1].float(), alone[0][: common + 1], **exact)
    torch.testing.assert_close(tree[-1].float(), alone[1][common], **exact)
    full = TextEncoder("tiny").encode([one])[0]
    assert 1e-4 < float((alone[0] - full).norm() / full.norm()) < 0.5  # random weights
