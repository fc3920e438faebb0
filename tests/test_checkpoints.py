"""Checkpoints: loaded whole or refused in one sentence, and told apart by their weights."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import torch
from huggingface_hub import constants
from huggingface_hub.utils import _http
from transformers import BertConfig, LlamaConfig, LlamaForCausalLM, LlamaModel

from pipeline.checkpoints import Checkpoint, loading, weights_digest
from pipeline.encoders import ImageEncoder, TextEncoder
from pipeline.errors import ModelError
from pipeline.quiet import quiet_transformers
from pipeline.tiny import tiny_checkpoint

ROOT = Path(__file__).parents[1]
NAME = "meta-llama/Llama-3.2-1B"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        yield


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A copy of a text encoder that a test may damage."""
    return Path(shutil.copytree(tiny_checkpoint("text"), tmp_path / "text"))


@pytest.fixture
def vision(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint("vision"), tmp_path / "vision"))


Answer = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], None]]:
    """Let `huggingface_hub` ask a function in place of the Hub; with an empty local cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(_http.time, "sleep", lambda _: None)

    def answer_with(answer: Answer) -> None:
        transport = httpx2.MockTransport(answer)
        huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=transport))

    yield answer_with
    huggingface_hub.set_client_factory(_http.default_client_factory)


def refusal(status: int, code: str) -> Answer:
    return lambda _: httpx2.Response(
        status, headers={"X-Error-Code": code, "X-Error-Message": "no"}
    )


def no_network(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("Name or service not known", request=request)


def message_of(make: Callable[[], object]) -> str:
    with pytest.raises(ModelError, match=r"\S") as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_says_where_to_ask_for_it(hub: Any, status: int) -> None:
    hub(refusal(status, "GatedRepo"))
    assert message_of(lambda: TextEncoder(NAME)) == (
        f"{NAME} is gated: request access at https://huggingface.co/{NAME}, then run "
        f"`hf auth login` (or set HF_TOKEN) and try again"
    )


@pytest.mark.parametrize(("status", "code"), [(404, "RepoNotFound"), (401, "RepoNotFound")])
@pytest.mark.parametrize("make", [ImageEncoder, TextEncoder])
def test_a_model_that_does_not_exist(hub: Any, make: Any, status: int, code: str) -> None:
    hub(refusal(status, code))
    assert message_of(lambda: make("facebook/dinov9")) == (
        "facebook/dinov9 is neither a local folder nor a model on the Hub; check the spelling, or "
        "run `hf auth login` if it is private"
    )


def test_no_network(hub: Any, capfd: pytest.CaptureFixture[str]) -> None:
    hub(no_network)
    assert message_of(lambda: TextEncoder(NAME)) == (
        f"{NAME} is not in the local Hub cache, and huggingface.co cannot be reached; "
        f"run `hf download {NAME}` with a network, or give a local folder"
    )


def test_offline_mode_is_not_mistaken_for_a_lost_network(
    hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(no_network)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert "cannot be reached" in message_of(lambda: TextEncoder(NAME))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "offline mode is on" in message_of(lambda: TextEncoder(NAME))


def test_offline_mode_set_by_the_environment(tmp_path: Path) -> None:
    """A real process, for the variable is read when the libraries are imported."""
    script = "from pipeline.encoders import ImageEncoder; ImageEncoder('facebook/dinov2-base')"
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stderr.splitlines()[-1] == (
        "pipeline.errors.ModelError: facebook/dinov2-base is not in the local Hub cache, and "
        "offline mode is on; run `hf download facebook/dinov2-base` with a network, or unset "
        "HF_HUB_OFFLINE"
    )


def test_a_model_in_the_local_hub_cache_needs_no_network_and_has_its_commit_as_revision(
    hub: Any, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(no_network)
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / f"models--{NAME.replace('/', '--')}"
    shutil.copytree(text, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    encoder = TextEncoder(NAME)

    assert encoder.settings["model"] == NAME
    assert encoder.settings["revision"] == commit
    assert torch.equal(encoder.encode([[0, 9]]), TextEncoder("tiny").encode([[0, 9]]))


def test_all_parts_of_a_model_come_from_one_commit(
    hub: Any, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The author may push while an extraction is about to load the weights."""
    hub(no_network)
    repository = tmp_path / "hub" / f"models--{NAME.replace('/', '--')}"
    old, new = "a" * 40, "b" * 40
    shutil.copytree(text, repository / "snapshots" / old)
    edit_weights(text, lambda state: state.update({k: v + 1 for k, v in state.items()}))
    shutil.copytree(text, repository / "snapshots" / new)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(old)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    encoder = TextEncoder(NAME)
    (repository / "refs" / "main").write_text(new)

    assert encoder.settings["revision"] == old
    assert torch.equal(encoder.encode([[0, 9]]), TextEncoder("tiny").encode([[0, 9]]))
    assert TextEncoder(NAME).settings["revision"] == new


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("./nowhere", r"\./nowhere: there is no such folder, and it is not the name of a model"),
        ("/no/where", r"/no/where: there is no such folder"),
        ("~/models/llama", r"~/models/llama: there is no such folder"),
        ("a/b/c", r"a/b/c: there is no such folder"),
        ("two words", r"two words cannot be loaded: .*alphanumeric"),
        ("x" * 300, r"x{300} cannot be loaded: "),
    ],
)
@pytest.mark.parametrize("make", [ImageEncoder, TextEncoder])
def test_a_name_that_no_model_can_have(hub: Any, make: Any, name: str, match: str) -> None:
    hub(no_network)
    with pytest.raises(ModelError, match=match):
        make(name)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing here")
    match = rf"{tmp_path} is not a complete model folder: .*config\.json"
    with pytest.raises(ModelError, match=match):
        ImageEncoder(str(tmp_path))


def test_a_model_of_another_family(tmp_path: Path) -> None:
    BertConfig(hidden_size=24, num_attention_heads=2).save_pretrained(tmp_path)
    for make, needed in ((ImageEncoder, "dinov2, dinov2_with_registers"), (TextEncoder, "llama")):
        expected = f"{tmp_path} is a 'bert' model; needed is one of: {needed}"
        assert message_of(lambda make=make: make(str(tmp_path))) == expected


def pickle_only(folder: Path) -> None:
    state = safetensors.torch.load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save(state, folder / "pytorch_model.bin")


def cut(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    state = safetensors.torch.load_file(folder / WEIGHTS)
    change(state)
    safetensors.torch.save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda folder: (folder / WEIGHTS).unlink(), r"no file named model\.safetensors"),
        (pickle_only, r"no file named model\.safetensors"),
        (cut, r"SafetensorError: .*header.*not fully covered"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"junk"), r"SafetensorError: .*header"),
    ],
    ids=["absent", "pickle", "cut", "junk"],
)
def test_weights_that_cannot_be_read(text: Path, damage: Any, match: str) -> None:
    """A pickle is never opened, for it could run code."""
    damage(text)
    encoder = TextEncoder(str(text))
    with pytest.raises(ModelError, match=rf"^{text} is not a complete model folder: .*{match}"):
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
        ("config.json", '{"model_type": "unheard-of"}'),
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
    config = checkpoint.config(["llama"])
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
    monkeypatch.setattr("pipeline.checkpoints.SAMPLE_BLOCKS", 4)
    monkeypatch.setattr("pipeline.checkpoints.BLOCK_BYTES", 8)

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
