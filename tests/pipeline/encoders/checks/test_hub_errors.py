"""Whatever the Hub, a mirror, a proxy or the network answers is one sentence with the remedy."""

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

from frozen_vqa.pipeline.encoders.checks.hub_errors import hub_host
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from tests.support import model_folders
from tests.support.hub_stub import HubStub, cut, hub_on_loopback, other, status
from tests.support.model_folders import message_of
from tests.support.repository import ROOT

_home = model_folders._home  # a fixture that is in force in every test

NAME, WEIGHTS = "org/words", "model.safetensors"
Fault = Callable[[HubStub, pytest.MonkeyPatch], None]
AGAIN = "then run the same command again, which goes on where it was"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubStub]:
    with hub_on_loopback(tmp_path / "hub") as hub:
        hub.push(NAME, tiny_checkpoint("text"))
        yield hub


def slow(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow)


def every(code: int, error: str = "") -> Fault:
    return lambda hub, _: hub.faults.update({"*": status(code, error=error)})


def weights(answer: Callable[..., bool]) -> Fault:
    return lambda hub, _: hub.faults.update({WEIGHTS: answer})


def without(file: str, instead: str = "") -> Fault:
    def make(hub: HubStub, _: pytest.MonkeyPatch) -> None:
        (files,) = hub.commits[NAME].values()
        data = files.pop(file)
        if instead:
            files[instead] = data

    return make


def no_commit(hub: HubStub, _: pytest.MonkeyPatch) -> None:
    hub.faults["*"] = lambda handler, data: handler.answer(200, data, ETag='"a"') or True


def unreachable(hub: HubStub, patch: pytest.MonkeyPatch) -> None:
    """As when HF_ENDPOINT names a mirror that is gone."""
    template = "http://127.0.0.1:1/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def offline(hub: HubStub, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(constants, "HF_HUB_OFFLINE", True)


def raising(error: type[httpx2.TransportError], text: str) -> Fault:
    """As a client whose request ends so."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        raise error(text, request=request)

    def make(hub: HubStub, patch: pytest.MonkeyPatch) -> None:
        transport = httpx2.MockTransport(answer)
        huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=transport))

    return make


GATED = f"{NAME} is gated: request access at https://huggingface.co/{NAME}, then run `hf auth"
UNKNOWN = f"{NAME} is neither a local folder nor a model on the Hub; check the spelling, or run"
PART = f"only a part of {NAME} came from HOST; check the network, {AGAIN}"
GONE = f"{NAME} is not in the local Hub cache, and HOST (HF_ENDPOINT) cannot be reached; run `hf do"
TABLE: dict[str, tuple[Fault, str]] = {
    "401": (every(401), "HOST does not know the login that org/words was asked for with (401)"),
    "401 of a private model": (every(401, "RepoNotFound"), UNKNOWN),
    "401 of a gated model": (every(401, "GatedRepo"), GATED),
    "403": (every(403), f"HOST does not let this login read {NAME} (403); ask its owner"),
    "403 of a gated model": (every(403, "GatedRepo"), GATED),
    "404": (every(404, "RepoNotFound"), UNKNOWN),
    "404 of the revision": (every(404, "RevisionNotFound"), f"{NAME} has no revision main on the"),
    "404 of config.json": (without("config.json"), f"{NAME} has no file config.json on the Hub"),
    "429": (every(429), f"HOST has been asked too often (429), so {NAME} cannot be fetched now;"),
    "500": (every(500), f"HOST fails (500), so {NAME} cannot be fetched now; wait, {AGAIN}"),
    "503 of the weights": (weights(status(503)), f"HOST fails (503), so {NAME} cannot be fetched"),
    "slow": (
        raising(httpx2.ReadTimeout, "timed out"),
        f"HOST did not answer in time for {NAME}; check the network, or allow more seconds with",
    ),
    "cut off": (weights(cut()), PART),
    "half a file": (weights(other(lambda data: data[: len(data) // 2])), PART),
    "a wrong hash": (
        weights(other(lambda data: data[:-1] + b"x")),
        f"{NAME}: {WEIGHTS} came with SHA-256 ",
    ),
    "a pickle alone": (
        without(WEIGHTS, "pytorch_model.bin"),
        f"{NAME} has no .safetensors file, and other formats are not read because a pickle can",
    ),
    "no weights": (without(WEIGHTS), f"{NAME} has no file {WEIGHTS} on the Hub, so transformers"),
    "a mirror that is none": (no_commit, f"HOST does not answer for {NAME} as the Hub does ("),
    "a mirror that is gone": (unreachable, GONE.replace("HOST", "127.0.0.1:1")),
    "no network": (raising(httpx2.ConnectError, "Name or service not known"), GONE),
    "a proxy that is gone": (
        lambda hub, patch: (
            patch.setenv("HTTPS_PROXY", "http://who:secret@127.0.0.1:1"),
            raising(httpx2.ConnectError, "Connection refused")(hub, patch),
        ),
        f"{NAME} is not in the local Hub cache, and HOST (HF_ENDPOINT) cannot be reached through "
        f"the proxy that HTTPS_PROXY names; run",
    ),
    "a proxy that refuses": (
        raising(httpx2.ProxyError, "407 Proxy Authentication Required"),
        f"the proxy cannot be used to fetch {NAME} (407 Proxy Authentication Required); correct",
    ),
    "offline without a copy": (
        offline,
        f"{NAME} is not in the local Hub cache, and offline mode is on; run `hf download",
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_each_answer_is_one_sentence(
    name: str, hub: HubStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    fault, sentence = TABLE[name]
    host = hub.base.removeprefix("http://")
    fault(hub, monkeypatch)
    message = message_of(lambda: TextEncoder(NAME).weights)
    assert message.startswith(sentence.replace("HOST", host))
    assert len(message) < 400
    assert "secret" not in message
    assert ";" in message or ":" in message  # a remedy follows


@pytest.mark.parametrize("name", ["a wrong hash", *map(slow, ("cut off", "half a file"))])
def test_a_file_that_came_damaged_comes_again(
    name: str, hub: HubStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TABLE[name][0](hub, monkeypatch)
    message_of(lambda: TextEncoder(NAME).weights)
    assert list((tmp_path / "hub").rglob(WEIGHTS)) == []
    hub.faults.clear()
    assert torch.equal(TextEncoder(NAME).encode([[0, 9]]), TextEncoder("tiny").encode([[0, 9]]))


@pytest.mark.parametrize(
    "name", ["no network", *map(slow, ("500", "429", "offline without a copy", "slow"))]
)
def test_with_a_copy_none_of_it_matters(
    name: str, hub: HubStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = TextEncoder(NAME).encode([[0, 9]])
    TABLE[name][0](hub, monkeypatch)
    assert torch.equal(TextEncoder(NAME).encode([[0, 9]]), expected)


@pytest.mark.slow
def test_a_copy_that_another_tool_has_fetched_needs_no_network(
    hub: HubStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in it says which files the model lacks."""
    TextEncoder(NAME).weights  # noqa: B018
    shutil.rmtree(next((tmp_path / "hub").rglob(".no_exist")))
    raising(httpx2.ConnectError, "Name or service not known")(hub, monkeypatch)
    assert TextEncoder(NAME).encode([[0, 9]]).shape == (1, 2, 128)


def test_half_a_copy_of_what_only_a_run_names_is_not_completed(
    hub: HubStub, tmp_path: Path
) -> None:
    TextEncoder(NAME)  # fetches all but the weights
    asked = len(hub.asked)
    commit = hub.branches[NAME]["main"]
    message = message_of(lambda: TextEncoder(NAME, revision=commit, local_only=True).weights)
    assert message == (
        f"{NAME} is not whole in the local Hub cache, and the Hub is not asked for a model that "
        f"only a run names. If you trust it: `hf download {NAME}`, then try again"
    )
    assert len(hub.asked) == asked


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:1"])
def test_a_mirror_and_a_proxy_by_their_variables(proxy: str, hub: HubStub, tmp_path: Path) -> None:
    """A real process, because the libraries read them when they are imported."""
    script = "from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder\n"
    script += f"print(TextEncoder('{NAME}').settings['revision'])"
    kept = {name: v for name, v in os.environ.items() if not name.lower().endswith("_proxy")}
    mine = {"HF_ENDPOINT": hub.base, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    found = subprocess.run(
        [sys.executable, "-c", script],
        env=kept | mine | ({"HTTP_PROXY": proxy} if proxy else {}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if proxy:
        assert "cannot be reached through the proxy that HTTP_PROXY names" in found.stderr
    else:
        assert found.stdout.strip() == hub.branches[NAME]["main"]


@pytest.mark.parametrize("login", ["", "me@", "me:SECRET@", "me:SEC@RET@"])
def test_a_login_of_a_mirror_is_not_shown(login: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", f"https://{login}mirror:8080")
    assert hub_host() == "mirror:8080"
