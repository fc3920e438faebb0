"""A run as the Hub's library sees it: loaded, saved, pushed, and described by its card."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.model.config import FUSIONS, Fusion, ModelConfig
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.runs.card import CARD, MARK, strip_folders
from frozen_vqa.pipeline.runs.pretrained import VqaHead
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.train.train import train
from tests.support.caches import GRID, TEXT_DIM, VISION_DIM, Made
from tests.support.heads import make_run
from tests.support.trainings import run_training, small

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("pretrained") / "run"
    run_training(scenes, run, fusion="concat")
    return run


def logits(model: VqaModel) -> torch.Tensor:
    torch.manual_seed(8)
    patches = torch.randn(2, GRID[0] * GRID[1], VISION_DIM)
    states = torch.randn(2, 3, 4, TEXT_DIM)
    mask = torch.arange(4) < torch.tensor([[1, 4, 0], [2, 3, 1]])[..., None]
    with torch.inference_mode():
        return model(patches, states, mask)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_head_from_a_folder_is_that_of_the_run(
    fusion: Fusion, scenes: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_run(scenes, tmp_path / "run", fusion=fusion)
    head = VqaHead.from_pretrained(str(tmp_path / "run"))
    assert torch.equal(logits(head), logits(load_run(tmp_path / "run", CPU).model))
    assert torch.equal(logits(head), logits(made))
    assert head.config == made.config
    assert type(head) is VqaHead
    assert all(p.requires_grad and p.device == CPU for p in head.parameters())
    assert not head.training
    assert capsys.readouterr().out == ""  # stdout is for --json


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("config.json", r"run: there is no run here \(config\.json is missing\)"),
        ("model.safetensors", r"run: there are no weights yet"),
        ("answers.json", r"answers\.json: cannot be read"),
    ],
)
def test_a_file_that_is_missing(gone: str, message: str, scenes: Made, tmp_path: Path) -> None:
    make_run(scenes, tmp_path / "run")
    (tmp_path / "run" / gone).unlink()
    with pytest.raises(RunError, match=message):
        VqaHead.from_pretrained(tmp_path / "run")


def test_a_repository_that_is_not_at_hand(tmp_path: Path) -> None:
    with pytest.raises(LocalEntryNotFoundError):
        VqaHead.from_pretrained("nobody/nothing", local_files_only=True, cache_dir=tmp_path)


def test_what_is_pushed_is_a_run_without_this_machine(
    trained: Path, scenes: Made, pushed: list[dict[str, Any]], tmp_path: Path
) -> None:
    VqaHead.from_pretrained(trained).push_to_hub("someone/head")
    (one,) = pushed
    assert one["repo"] == "someone/head"
    names = {"config.toml", "config.json", "answers.json", "model.safetensors", "run.json"}
    assert one["files"].keys() == names | {"metrics.jsonl", "environment.json", CARD}
    assert one["files"][CARD] == (trained / CARD).read_bytes()
    for folder in (trained.parent, scenes.directory.parent):
        assert all(str(folder).encode() not in data for data in one["files"].values())
    (tmp_path / "downloaded").mkdir()
    for name, data in one["files"].items():
        (tmp_path / "downloaded" / name).write_bytes(data)
    run = load_run(tmp_path / "downloaded", CPU)
    assert torch.equal(logits(run.model), logits(load_run(trained, CPU).model))
    assert evaluate(run, FeatureCache(scenes.directory), "val").accuracy is not None


def test_only_the_head_of_a_run_is_saved(trained: Path, scenes: Made, tmp_path: Path) -> None:
    shapes = {"vision_dim": VISION_DIM, "text_dim": TEXT_DIM, "grid": GRID, "answers": 3}
    head = VqaHead.from_pretrained(trained)
    with pytest.raises(RunError, match="the head was loaded from here; save it elsewhere"):
        head.save_pretrained(trained)
    with torch.no_grad():
        head.head.bias[0] += 1
    moved = VqaHead.from_pretrained(trained)
    assert moved.run is not None
    moved.run = replace(moved.run, path=tmp_path / "another kind")
    make_run(scenes, moved.run.path)
    for other in (head, moved, VqaHead(ModelConfig(**shapes, width=8, heads=2))):
        with pytest.raises(RunError, match="this head is not that of a run"):
            other.save_pretrained(tmp_path / "elsewhere")
    assert load_run(trained, CPU)
    assert not (tmp_path / "elsewhere").exists()


def rows(run: Path) -> list[list[str]]:
    lines = (run / CARD).read_text().splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]


def test_the_card_holds_the_figures_of_its_run(scenes: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = run_training(scenes, run)
    accuracy = f"{result.best_accuracy:.2f}"
    assert ["unknown", "val (in training)", accuracy, "", "100.00", "", "2021"] in [
        [cell.strip() for cell in row] for row in rows(run)
    ]
    text = (run / CARD).read_text()
    assert f"\n{result.trainable_parameters:,} trained parameters choose among 2 answers." in text
    assert f"These are the weights of epoch {result.best_epoch} of 3, the best on split" in text
    assert "| vision model | made-up-vision |" in text
    assert f"```toml\n{small().to_toml()}```" in text
    assert "train-head --cache CACHE --run RUN --config config.toml\n" in text

    cache = FeatureCache(scenes.directory)
    evaluate(load_run(run, CPU), cache, "test")
    assert (run / CARD).read_text() == text  # a split without answers has no accuracy
    scored = evaluate(load_run(run, CPU), cache, "val").to_json()
    assert rows(run)[3] == [
        "unknown",
        f"val ({scored['questions']} questions), which chose the weights",
        f"{scored['accuracy']['overall']:.2f}",
        f"none: {scored['no_interval']}",
        f"{scored['ceiling']:.2f}",
        f"colour {scored['accuracy']['colour']:.2f}",
        "2021",
    ]
    (run / "evaluation" / "val" / "scores.json").write_text(json.dumps([]))
    evaluate(load_run(run, CPU), cache, "test")
    assert (run / CARD).read_text() == text


def test_a_page_of_someone_else_stays(scenes: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_training(scenes, run, epochs=1, fusion="concat")
    (run / CARD).write_text("# Mine")
    evaluate(load_run(run, CPU), FeatureCache(scenes.directory), "val")
    config = small(epochs=1, fusion="concat")
    train(scenes.directory, run, config=config, device=CPU, overwrite=True)
    assert (run / CARD).read_text() == "# Mine"
    (run / CARD).write_text(f"{MARK}\nof the run before")
    train(scenes.directory, run, config=config, device=CPU, overwrite=True)
    assert "of the run before" not in (run / CARD).read_text()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("jsonl:/home/me/DATA", "jsonl:DATA"),
        ("/models/llama", "llama"),
        ("hub:lmms-lab/VQAv2", "hub:lmms-lab/VQAv2"),
        ("facebook/dinov2-base", "facebook/dinov2-base"),
        ("shapes:40", "shapes:40"),
    ],
)
def test_names_strip_folders(name: str, shown: str) -> None:
    assert strip_folders(name) == shown
