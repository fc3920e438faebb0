"""A repository with code of its own is refused, and nothing is fetched but its settings."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers.integrations import hub_kernels

from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import ModelError
from tests.support import model_folders
from tests.support.encoders import save_llama
from tests.support.families import save_text
from tests.support.hub_stub import HubStub, hub_on_loopback
from tests.support.model_folders import message_of

_home = model_folders._home  # a fixture that is in force in every test

MAKERS: dict[str, Any] = {"vision": ImageEncoder, "text": TextEncoder}
SETTINGS = {
    "vision": ("config.json", "processor_config.json", "preprocessor_config.json"),
    "text": (
        *("config.json", "tokenizer_config.json", "special_tokens_map.json"),
        "added_tokens.json",
    ),
}
CODE = {"AutoModel": "who/else--evil.Mine"}
FORMS: dict[str, dict[str, Any]] = {
    "plain": {"auto_map": CODE},
    "inside": {"text_config": {"auto_map": CODE}},
    "in a list": {"parts": [{"auto_map": {"AutoTokenizer": ["evil.Mine", None]}}]},
}
CASES = [
    pytest.param(part, file, form, marks=[] if number % 3 == 0 else pytest.mark.slow)
    for number, (part, file, form) in enumerate(
        (part, file, form) for part in SETTINGS for form in FORMS for file in SETTINGS[part]
    )
]
"""A third of them by default: of each form and of most files."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubStub]:
    with hub_on_loopback(tmp_path / "hub") as hub:
        yield hub


def repository(hub: HubStub, part: str, folder: Path, file: str, added: dict[str, Any]) -> None:
    shutil.copytree(tiny_checkpoint(part), folder)
    (folder / "evil.py").write_text("raise SystemExit")
    path = folder / file
    found = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(found | added))
    hub.push("org/model", folder)


@pytest.mark.parametrize(("part", "file", "form"), CASES)
def test_code_is_refused_in_every_file_of_settings_before_anything_else_is_fetched(
    part: str, file: str, form: str, hub: HubStub, tmp_path: Path
) -> None:
    """Whether the type is known or not: a known one would be loaded without its own attention."""
    repository(hub, part, tmp_path / "model", file, FORMS[form])
    for place in ("org/model", str(tmp_path / "model")):
        message = message_of(lambda place=place: MAKERS[part](place))
        assert message == (
            f"{place} can only be loaded by code of its own (auto_map in {file}), and no code of "
            f"a model is run; give a model of a type that transformers knows itself"
        )
    assert hub.fetched() <= set(SETTINGS[part])


@pytest.mark.parametrize("part", MAKERS)
def test_a_type_that_transformers_does_not_know_is_refused_after_its_config(
    part: str, hub: HubStub, tmp_path: Path
) -> None:
    repository(hub, part, tmp_path / "model", "config.json", {"model_type": "unheard-of"})
    for place in ("org/model", str(tmp_path / "model")):
        message = message_of(lambda place=place: MAKERS[part](place))
        assert message.startswith(f"{place} is of type 'unheard-of', which transformers 5.")
        assert (
            "does not know, so it needs code of its own, and no code of a model is run" in message
        )
    assert hub.fetched() == {"config.json"}


@pytest.mark.parametrize("part", MAKERS)
def test_an_empty_map_and_one_in_another_file_do_no_harm(
    part: str, hub: HubStub, tmp_path: Path
) -> None:
    repository(hub, part, tmp_path / "model", "config.json", {"auto_map": {}})
    assert MAKERS[part]("org/model").dim == MAKERS[part]("tiny").dim
    assert not {"evil.py", "model.safetensors"} & hub.fetched()


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "unheard-of"])
def test_quantised_weights_are_refused_before_any_library_unpacks_them(
    method: str, tmp_path: Path
) -> None:
    settings = {"quantization_config": {"quant_method": method, "load_in_4bit": True}}
    config = save_llama(tmp_path / "model") / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    with pytest.raises(ModelError, match=r"model has quantised weights \(quantization_config in"):
        TextEncoder(str(tmp_path / "model"))


@pytest.mark.parametrize("beside", [(), ("config.json",), ("config.json", "model.safetensors")])
def test_an_adapter_on_the_hub_is_refused(
    hub: HubStub, tmp_path: Path, beside: tuple[str, ...]
) -> None:
    """Whatever else its repository has: transformers would load the weights of another model."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in beside:
        shutil.copy(tiny_checkpoint("text") / name, folder)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "who/else"}')
    hub.push("org/model", folder)
    said = message_of(lambda: TextEncoder("org/model"))
    assert said.startswith("org/model holds an adapter (adapter_config.json), ")
    assert not hub.fetched() & {"model.safetensors", "tokenizer.json"}
    assert not any("who/else" in path for _, path in hub.asked)


KERNELS = ["kernels-community/flash-attn", "who/else", "flash_attention_2", {"": "who/else"}]


@pytest.mark.parametrize("part", ["", "text_config"])
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_no_file_chooses_a_program_of_the_hub(
    key: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers fetches and runs what these keys name."""
    fetched: list[object] = []
    for name in ("load_and_register_attn_kernel", "get_kernel"):
        monkeypatch.setattr(hub_kernels, name, lambda *a, **k: fetched.append((a, k)))
    folder = save_text(tmp_path / "model", "gemma3" if part else "llama").folder
    config = json.loads((folder / "config.json").read_text())
    for kernel in KERNELS:
        changed = config | {part: config[part] | {key: kernel}} if part else config
        (folder / "config.json").write_text(json.dumps(changed | {key: kernel}))
        encoder = TextEncoder(str(folder))
        assert encoder.weights.config._attn_implementation in ("sdpa", "eager")
        assert encoder.encode([[0, 5, 6]]).isfinite().all()
    assert fetched == []
