"""A head that is pushed as a Space: its files load there, and its app serves them."""

import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from huggingface_hub import HfApi

from frozen_vqa import cli
from frozen_vqa.pipeline.ask.head import VqaHead
from frozen_vqa.pipeline.ask.space import GRADIO, encoders_of_space
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.run import load_run
from tests.support.caches import Made
from tests.support.heads import make_run
from tests.support.repository import ROOT
from tests.support.trainings import run_training

HUB = {
    "vision": {"model": "facebook/dinov2-base", "revision": "a" * 40},
    "text": {"model": "meta-llama/Llama-3.2-1B", "revision": "'; print(1) #"},
}
TINY = {"vision": {"model": "tiny"}, "text": {"model": "tiny"}}


@pytest.fixture(scope="module")
def trained(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("space") / "run"
    run_training(scenes, run, epochs=1)
    return run


def head_with(path: Path, encoders: dict[str, Any]) -> VqaHead:
    head = VqaHead.from_pretrained(path)
    assert head.run is not None
    head.run = replace(head.run, encoders=encoders)
    return head


@pytest.mark.parametrize("encoders", [HUB, TINY])
def test_the_app_serves_the_head_that_lies_beside_it(
    encoders: dict[str, Any],
    trained: Path,
    pushed: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert head_with(trained, encoders).push_to_hub("someone/a: head", space=True) == "url"
    (one,) = pushed
    assert (one["repo"], one["type"]) == ("someone/a: head", "space")
    run = {"config.toml", "config.json", "answers.json", "model.safetensors", "run.json"}
    names = {*run, "metrics.jsonl", "environment.json", "README.md", "app.py", "requirements.txt"}
    assert one["files"].keys() == names
    for name, data in one["files"].items():
        (tmp_path / name).write_bytes(data)
    assert load_run(tmp_path, "cpu").vocabulary == load_run(trained, "cpu").vocabulary
    assert all(str(trained.parent).encode() not in data for data in one["files"].values())

    fetched: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda name, *, revision, **_: fetched.append((name, revision)),
    )
    monkeypatch.setattr(cli, "main", lambda: None)
    monkeypatch.setattr(sys, "argv", ["app.py"])
    runpy.run_path(str(tmp_path / "app.py"))
    if encoders is HUB:  # at the commits of the features, and nothing but a commit is taken
        assert fetched == [("facebook/dinov2-base", "a" * 40), ("meta-llama/Llama-3.2-1B", None)]
    else:
        assert fetched == []
    given = typer.main.get_command(cli.app).commands["serve"].make_context("serve", sys.argv[2:])
    assert given.params["run"] == tmp_path
    assert (given.params["host"], given.params["port"]) == ("0.0.0.0", 7860)


def test_its_card_is_that_of_a_space(
    trained: Path,
    pushed: list[dict[str, Any]],
) -> None:
    head_with(trained, HUB).push_to_hub('someone/a "b', space=True)
    card = pushed[0]["files"]["README.md"].decode()
    assert card.startswith(f'---\ntitle: "a \\"b"\nsdk: gradio\nsdk_version: {GRADIO}\n')
    assert card.count("\n---\n") == 1
    assert "library_name" not in card
    assert "\n## Accuracy\n" in card
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"\ngradio=={GRADIO}\n" in pins, "the version that is tested"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/models/llama", "cannot load the encoder '/models/llama', which is not on the Hub"),
        ("models/../llama/x", "cannot load the encoder"),
        ("my_module:MyEncoder", "cannot load the encoder 'my_module:MyEncoder'"),
        ("a/b'); import os #", "cannot load the encoder"),
        ("a/b\n", "cannot load the encoder"),
    ],
)
def test_a_space_gets_only_what_the_hub_has(
    name: str, said: str, scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(scenes, tmp_path / "run")
    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: pytest.fail("asked the Hub"))
    head = head_with(tmp_path / "run", {**HUB, "text": {"model": name}})
    with pytest.raises(RunError, match=re.escape(said)):
        head.push_to_hub("someone/head", space=True)


def test_a_head_of_own_code_is_no_space(scenes: Made, tmp_path: Path) -> None:
    make_run(scenes, tmp_path / "run")
    run = load_run(tmp_path / "run", "cpu")
    own = replace(run, encoders=HUB, config=replace(run.config, fusion="mine:Fusion"))
    with pytest.raises(RunError, match="no code of your own, and this head needs mine:Fusion"):
        encoders_of_space(own)


def test_a_head_without_a_run_is_no_space(trained: Path) -> None:
    head = VqaHead.from_pretrained(trained)
    head.run = None
    with pytest.raises(RunError, match="this head is not that of a run"):
        head.push_to_hub("someone/head", space=True)
