"""Checkpoints of the Hub: refused in one sentence, or taken from one commit of the local cache."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import _http

from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError
from tests.support import model_folders
from tests.support.model_folders import edit_weights, message_of
from tests.support.repository import ROOT

NAME = "meta-llama/Llama-3.2-1B"

# Fixtures; the first is in force in every test.
_home, text = model_folders._home, model_folders.text

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


@pytest.mark.stops
def test_offline_mode_set_by_the_environment(tmp_path: Path) -> None:
    """A real process, for the variable is read when the libraries are imported."""
    script = "from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder\n"
    script += "ImageEncoder('facebook/dinov2-base')"
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stderr.splitlines()[-1] == (
        "frozen_vqa.pipeline.errors.ModelError: facebook/dinov2-base is not in the local Hub "
        "cache, and offline mode is on; run `hf download facebook/dinov2-base` with a network, or "
        "unset HF_HUB_OFFLINE"
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
