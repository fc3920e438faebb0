"""What `serve` refuses, it says at once: before torch, Gradio or a model is loaded."""

import importlib.util
import socket
from pathlib import Path

import pytest

from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.serve.port import is_loopback, open_port
from tests.support.caches import Made
from tests.support.command import only_line, run_command
from tests.support.heads import make_run


@pytest.fixture(scope="module")
def run(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("serve") / "run"
    make_run(scenes, run)
    return run


@pytest.fixture
def _gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command take Gradio for installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_without_gradio_a_line_says_how_to_install_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert only_line(run_command("serve", run)) == (
        'serve needs Gradio, which is not installed: pip install "frozen-vqa[serve]"'
    )


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    assert "there is no run here" in only_line(run_command("serve", tmp_path))


@pytest.mark.usefixtures("_gradio")
def test_a_port_in_use(run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert only_line(run_command("serve", run, "--port", port)) == (
            f"--host 127.0.0.1 --port {port}: another program uses this port; give another --port "
            f"(0: any free one)"
        )


@pytest.mark.usefixtures("_gradio")
@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("", "--host is empty"),  # which a socket takes for every address
        (" ", "--host is empty"),
        ("192.0.2.1", "no page can be opened there"),
        ("::zz", "no page can be opened there"),
        ("x" * 5000, "no page can be opened there"),
        ("x" * 5000, f"--host {'x' * 80} --port 0: no page can be opened there ("),
        ("caf\udce9", "is no address"),
        ("local\nhost", "is no address"),
    ],
)
def test_a_host_that_is_not_of_this_machine(host: str, said: str, run: Path) -> None:
    assert said in only_line(run_command("serve", run, "--host", host, "--port", 0))


def test_only_loopback_is_reached_by_default() -> None:
    with open_port("127.0.0.1", 0) as found:
        assert is_loopback(found.getsockname()[0])
    with open_port("0", 0) as found:  # another name of every address
        assert not is_loopback(found.getsockname()[0])
    with pytest.raises(ConfigError):
        open_port("", 0)
