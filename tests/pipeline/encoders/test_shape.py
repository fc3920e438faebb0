"""Every field of a model folder's JSON with every wrong value: features, or one sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError
from tests.support import encoders
from tests.support.waiting import within
from tests.support.wrong_values import forgeries

_home, dinov2, llama = encoders._home, encoders.dinov2, encoders.llama  # fixtures

GENERATION = {"bos_token_id": 0, "eos_token_id": [1, 2], "do_sample": True, "temperature": 0.6}


def see(folder: Path) -> None:
    images = ImageEncoder(str(folder))
    assert images.settings
    if images.image_size <= 112:
        images.encode(np.zeros((1, images.image_size, images.image_size, 3), np.uint8))


def read(folder: Path) -> None:
    text = TextEncoder(str(folder))
    assert text.settings
    text.encode(text.tokens(["What is red?"]))


FILES: dict[str, tuple[str, Callable[[Path], None], int]] = {
    "dinov2/config.json": ("4 registers", see, 61),
    "dinov2/preprocessor_config.json": ("plain", see, 37),
    "llama/config.json": ("3.1", read, 61),
    "llama/tokenizer_config.json": ("3", read, 19),
    "llama/generation_config.json": ("3", read, 31),
}


@pytest.mark.parametrize("all_of_them", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FILES)
def test_a_wrong_value_is_one_sentence_or_does_no_harm(
    name: str, all_of_them: bool, dinov2: dict[str, Path], llama: dict[str, Path], tmp_path: Path
) -> None:
    kind, encode, every = FILES[name]
    folder = {"dinov2": dinov2, "llama": llama}[name.split("/")[0]][kind]
    folder = Path(shutil.copytree(folder, tmp_path / "model"))
    file = folder / name.split("/")[1]
    body = json.loads(file.read_bytes()) if file.exists() else GENERATION
    refused = []
    for label, forged in forgeries(body, 1 if all_of_them else every):
        file.write_text(json.dumps(forged))
        try:
            with within(20):
                encode(folder)
        except ModelError as error:
            refused.append(str(error))
        except BaseException as error:
            error.add_note(label)
            raise
    assert all("\n" not in line and len(line) < 700 for line in refused)
    assert refused or "generation" in name  # which we do not read


@pytest.mark.parametrize("name", ["num_labels", "num_hidden_layers", "num_register_tokens"])
def test_nothing_counts_up_to_what_a_file_says(
    name: str, dinov2: dict[str, Path], tmp_path: Path
) -> None:
    """transformers would make a list of that length."""
    folder = Path(shutil.copytree(dinov2["4 registers"], tmp_path / "model"))
    body = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**body, name: 2**40}))
    with (
        within(20),
        pytest.raises(ModelError, match=rf"in its config\.json {name} is 1099511627776"),
    ):
        see(folder)


@pytest.mark.parametrize("how", ["longer", "cut", "zeros", "empty", "of another header"])
def test_weights_are_as_long_as_their_header_tells(
    how: str, dinov2: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any library maps them: a file of zeros may be as long as anybody likes."""
    folder = Path(shutil.copytree(dinov2["4 registers"], tmp_path / "model"))
    (file,) = folder.glob("*.safetensors")
    data = file.read_bytes()
    changed = {
        "longer": data + b"\0",
        "cut": data[:-1],
        "zeros": bytes(len(data)),
        "empty": b"",
        "of another header": (8).to_bytes(8, "little") + b"[1, 2]  " + data,
    }
    file.write_bytes(changed[how])
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", None)
    with pytest.raises(ModelError, match=rf"{file}: it has .*; download it again") as found:
        see(folder)
    told = f"{len(changed[how]):,} bytes and a header for {len(data):,}"
    assert told in str(found.value) or how not in ("longer", "cut")
