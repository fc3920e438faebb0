"""A stranger's run or data set lets this machine ask nobody in silence, nor read elsewhere."""

import subprocess
from pathlib import Path
from typing import Any

import datasets
import pytest

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.runs import sealed
from frozen_vqa.pipeline.sources.hub import HubSource
from tests.support.attack import attack, watched
from tests.support.bad_inputs_page import stay_offline
from tests.support.caches import Made, make_cache, make_spec
from tests.support.heads import make_run, seal
from tests.support.pictures import encoded, noise
from tests.support.run_folders import edit_json


@pytest.fixture
def strange(scenes: Made, tmp_path: Path) -> Path:
    """A run that names a repository of the Hub, and a picture beside it."""
    make_run(scenes, tmp_path / "run")
    edit_json(tmp_path / "run/config.json", _name_another)
    seal(tmp_path / "run")
    (tmp_path / "a.png").write_bytes(encoded(noise(30, 30)))
    return tmp_path / "run"


def _name_another(found: dict[str, Any]) -> None:
    found["encoders"]["vision"] |= {"model": "who/else", "fit": "whole", "revision": "1"}
    found["encoders"]["text"] |= {"revision": "1"}


def test_the_hub_is_not_asked_for_what_only_a_run_names(
    strange: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    words = ("ask", "--run", strange, "--image", tmp_path / "a.png", "--question", "What?")
    sentence = attack(*words, place=tmp_path).require_harmless()
    assert sentence.startswith("who/else is not on this machine, and the Hub is not asked for a")
    assert "`hf download who/else`" in sentence


def test_the_hub_is_asked_for_what_the_cache_holds_and_this_is_said_before(
    strange: Path, scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    spec = make_spec(
        vision={"model": "who/else", "image size": 28, "fit": "whole", "revision": "1"},
        text={"model": "made-up-text", "layer": -1, "revision": "1"},
    )
    make_cache(tmp_path / "cache", scenes.splits, spec=spec)
    where = sealed.seal_json({"cache": str(tmp_path / "cache")})
    (strange / "run.json").write_bytes(where)
    words = ("ask", "--run", strange, "--image", tmp_path / "a.png", "--question", "What?")
    found = attack(*words, place=tmp_path)
    said, error = found.finished.err.splitlines()
    assert said == "asking the Hub for who/else and made-up-text"
    assert "who/else is not in the local Hub cache, and offline mode is on" in error


def test_the_harness_sees_what_it_is_for(tmp_path: Path) -> None:
    with watched() as seen:
        subprocess.run(["true"], check=True)
    assert [line.split()[0] for line in seen] == ["subprocess.Popen"]
    with watched() as seen:
        pass
    subprocess.run(["true"], check=True)
    assert seen == []


def _parquet(path: Path, question: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"image": [b"x"], "question": [question], "answers": [["a"]], "question_id": [1]}
    datasets.Dataset.from_dict({**columns, "image_id": [1]}).to_parquet(str(path))


def test_parquet_on_this_disk_asks_no_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stay_offline(monkeypatch, tmp_path / "datasets")
    _parquet(tmp_path / "set/val.parquet", "Ours?")
    with watched() as seen:
        assert [e.question for e in HubSource(str(tmp_path / "set")).examples("val")] == ["Ours?"]
    assert seen == []


@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize(
    "elsewhere",
    [
        "../secret/val.parquet",
        "{place}/secret/val.parquet",
        "a/../../secret/val.parquet",
        "https://example.org/val.parquet",
        "zip://val.parquet::../secret.zip",
    ],
)
@pytest.mark.parametrize(
    "ours",
    [
        "val.parquet",
        "data/val-00000-of-00001.parquet",
        "a/b/val.parquet",
    ],
)
def test_a_readme_of_a_folder_names_no_file_elsewhere(
    ours: str, elsewhere: str, card: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stay_offline(monkeypatch, tmp_path / "datasets")
    _parquet(tmp_path / "set" / ours, "Ours?")
    _parquet(tmp_path / "secret/val.parquet", "Secret?")
    files = f"[{{split: val, path: '{elsewhere.format(place=tmp_path)}'}}]"
    front = f"configs:\n- config_name: default\n  data_files: {files}\n"
    front = f"---\n{front}---\n" if card == "README.md" else front
    (tmp_path / "set" / card).write_text(front)
    with watched() as seen:
        try:
            asked = [e.question for e in HubSource(str(tmp_path / "set")).examples("val")]
        except SourceError:
            asked = []
    assert "Secret?" not in asked
    assert seen == []
