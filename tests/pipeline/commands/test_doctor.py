"""What a machine lacks is named with what mends it; the Hub here is a server of the test."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from frozen_vqa.pipeline.commands import doctor
from tests.support.command import Finished, run_command

VISION, TEXT = "facebook/dinov2-base", "meta-llama/Llama-3.2-1B"
ANSWERS: dict[str, tuple[int, dict[str, str]]] = {
    "open": (200, {"ETag": '"a"', "X-Repo-Commit": "0" * 40, "Content-Length": "2"}),
    "gated": (403, {"X-Error-Code": "GatedRepo"}),
    "hidden": (401, {"X-Error-Code": "RepoNotFound"}),
    "broken": (500, {}),
}


class Hub(BaseHTTPRequestHandler):
    """Answers as the Hub does, and notes what it was asked."""

    answer = "open"
    asked: list[tuple[str, str]] = []  # noqa: RUF012  (one for all requests)

    def do_HEAD(self) -> None:
        if self.path.endswith("/config.json"):  # the client asks for something else of its own
            self.asked.append((self.command, self.path))
        code, headers = ANSWERS[self.answer]
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setattr(Hub, "answer", "open")
    monkeypatch.setattr(Hub, "asked", [])
    where = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", where)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", where + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def findings(found: Finished) -> dict[str, Any]:
    return {one["name"]: one for one in found.json()["findings"]}


def put_in_cache(tmp_path: Path, model: str) -> None:
    folder = tmp_path / "hub" / f"models--{model.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"")


def test_a_machine_that_has_everything() -> None:
    found = run_command("doctor", "--json")
    assert found.code == 0, found.err
    assert found.json()["ready"]
    assert {name for name, one in findings(found).items() if one["state"] == "missing"} == set()
    assert {"Python", "PyTorch", "CPU", "disk here", "Hub login", VISION, TEXT} <= set(
        findings(found)
    )
    assert sorted({path for _, path in Hub.asked}) == [
        f"/{model}/resolve/main/config.json" for model in (VISION, TEXT)
    ]
    assert {command for command, _ in Hub.asked} == {"HEAD"}
    assert found.err.index("asking the Hub for") < found.err.index(f"{VISION}: ")


def test_the_token_is_never_shown() -> None:
    found = run_command("doctor", "--json")
    assert findings(found)["Hub login"]["found"] == "a token is stored"
    assert "secret" not in found.out + found.err


@pytest.mark.parametrize(
    ("answer", "mend"),
    [("gated", "accept the licence at"), ("hidden", "hf auth login"), ("broken", "the network")],
)
def test_no_access_fails_and_says_what_mends_it(
    answer: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "answer", answer)
    found = run_command("doctor", "--json")
    assert found.code == 1
    assert not found.json()["ready"]
    for model in (VISION, TEXT):
        assert findings(found)[model]["state"] == "missing"
        assert mend in findings(found)[model]["mend"]
    assert "Traceback" not in found.err


@pytest.mark.parametrize("here", [False, True])
def test_offline_the_hub_is_not_asked(
    here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for model in (VISION, TEXT) if here else ():
        put_in_cache(tmp_path, model)
    found = run_command("doctor", "--json")
    assert Hub.asked == []
    assert "asking the Hub" not in found.err
    assert found.code == (0 if here else 1)
    assert (VISION in found.err.splitlines()[-1]) == (not here)


def test_models_that_are_here_need_no_hub(tmp_path: Path) -> None:
    put_in_cache(tmp_path, VISION)
    assert findings(run_command("doctor", "--json"))[VISION]["found"] == "on this machine"
    assert {path for _, path in Hub.asked} == {f"/{TEXT}/resolve/main/config.json"}


@pytest.mark.parametrize(
    ("need", "fault"),
    [
        ("numpy>=1.0", ""),
        ("numpy>=999.0", r"numpy is [\d.]+, 999.0 is needed"),
        ("no-such-package>=1.0", "no-such-package is not installed"),
        ('no-such-package>=1.0; extra == "tensorboard"', "no-such-package is not installed"),
    ],
)
def test_packages_and_their_versions(
    need: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_requirements", lambda: [need])
    found = run_command("doctor", "--json")
    said = findings(found).get("packages" if "extra" not in need else "extra tensorboard")
    assert said is not None
    if fault:
        assert re.fullmatch(fault, said["found"])
        assert said["mend"].startswith("python -m pip install")
    # An extra is asked for by those who want it.
    assert found.code == int(bool(fault) and "extra" not in need)


def test_every_finding_that_is_not_all_right_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Hub, "answer", "gated")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(doctor, "LITTLE_DISK", 1e18)
    found = run_command("doctor", "--json")
    for one in findings(found).values():
        assert one["mend"] or one["state"] == "ok" or one["name"] == "GPU", one
        assert f"{one['name']}: {one['found']}" in found.err
    assert json.loads(found.out)["ready"] is False
