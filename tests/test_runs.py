"""A run loads as it was saved, or says what is wrong with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from caches import GRID, TEXT_DIM, VISION_DIM, Made, Row, make_cache, make_spec
from heads import VOCABULARY, make_run
from safetensors.torch import load_file, save_file

from cache import CacheError, FeatureCache
from pipeline.answers import Vocabulary
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, RunError
from pipeline.model import FUSIONS, Fusion
from pipeline.runs import load_run, require_same_encoders, save_weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_cache(tmp_path_factory.mktemp("runs"), {"train": [Row(0, 0)]})


@pytest.fixture
def run(made: Made, tmp_path: Path) -> Path:
    make_run(made, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_loaded_head_gives_the_same_logits(fusion: Fusion, made: Made, tmp_path: Path) -> None:
    model = make_run(made, tmp_path / "run", fusion=fusion).eval()
    torch.manual_seed(8)
    patches = torch.randn(2, GRID[0] * GRID[1], VISION_DIM)
    states = torch.randn(2, 3, 4, TEXT_DIM)
    mask = torch.arange(4) < torch.tensor([[1, 4, 0], [2, 3, 1]])[..., None]

    run = load_run(tmp_path / "run", CPU)

    assert torch.equal(run.model(patches, states, mask), model(patches, states, mask))
    assert not run.model.training
    assert run.model.config == model.config


def test_what_else_is_loaded(run: Path, made: Made) -> None:
    loaded = load_run(run, CPU)
    assert loaded.path == run
    assert loaded.vocabulary == VOCABULARY
    assert loaded.config == TrainConfig(width=8, heads=2, layers=2, epochs=3)
    assert loaded.cache == made.directory
    spec = make_spec()
    assert loaded.encoders == {"vision": spec.vision, "text": spec.text}


def test_a_run_knows_its_cache_from_anywhere(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was named by a relative path, in another working directory."""
    shutil.copytree(made.directory, tmp_path / "features")
    monkeypatch.chdir(tmp_path)
    make_run(Made(Path("features"), made.patch_embeddings, made.states, made.splits), Path("run"))
    monkeypatch.chdir("run")
    assert load_run(tmp_path / "run", CPU).cache == tmp_path / "features"


def edit_json(path: Path, change: Callable[[dict], Any]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("name", ["config.json", "run.json"])
def test_a_folder_that_is_no_run(name: str, run: Path) -> None:
    (run / name).unlink()
    message = rf"run: not a run folder \({name} is missing\)\. Make one with `train-head"
    with pytest.raises(RunError, match=message):
        load_run(run, CPU)


@pytest.mark.parametrize("below", ["nowhere", "run/config.toml"], ids=["missing", "a file"])
def test_a_path_that_is_no_folder(below: str, run: Path) -> None:
    with pytest.raises(RunError, match=r"not a run folder \(config\.json is missing\)"):
        load_run(run.parent / below, CPU)


@pytest.mark.parametrize("name", ["config.json", "run.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "cannot be read"), (b"\xff\xff", "cannot be read"), (b"[]", "a JSON object is needed")],
    ids=repr,
)
def test_damaged_json(name: str, content: bytes, message: str, run: Path) -> None:
    (run / name).write_bytes(content)
    with pytest.raises(RunError, match=rf"{name}: {message}"):
        load_run(run, CPU)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.pop("model"),
        lambda config: config.pop("encoders"),
        lambda config: config.update(model=3),
        lambda config: config["model"].pop("grid"),
        lambda config: config["model"].update(unknown=3),
        lambda config: config["model"].update(width="8"),
        lambda config: config["model"].update(width=9),
        lambda config: config["model"].update(grid=6),
    ],
)
def test_a_config_that_is_not_of_a_run(change: Callable[[dict], Any], run: Path) -> None:
    edit_json(run / "config.json", change)
    with pytest.raises(RunError, match=r"config\.json: not the config of a run \("):
        load_run(run, CPU)


def test_a_run_of_another_format(run: Path) -> None:
    edit_json(run / "config.json", lambda config: config.update(format=99))
    with pytest.raises(RunError, match=r"run format 99, this version reads \d+; train .* again"):
        load_run(run, CPU)


def test_a_run_without_weights(run: Path) -> None:
    (run / "model.safetensors").unlink()
    with pytest.raises(RunError, match="run: there are no weights yet; its training was stopped"):
        load_run(run, CPU)


@pytest.mark.parametrize("damage", ["empty", "cut", "header", "garbage"])
def test_damaged_weights(damage: str, run: Path) -> None:
    path = run / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": data[:-3],
            "header": data[:20] + b"\xff" + data[21:],
            "garbage": bytes(range(256)),
        }[damage]
    )
    with pytest.raises(RunError, match=r"model\.safetensors: does not fit this run \("):
        load_run(run, CPU)


@pytest.mark.parametrize("change", ["other shape", "one missing", "one more"])
def test_weights_of_another_head(change: str, run: Path) -> None:
    path = run / "model.safetensors"
    state = load_file(path)
    if change == "other shape":
        state["head.bias"] = torch.zeros(7)
    elif change == "one missing":
        del state["head.bias"]
    else:
        state["foot.bias"] = torch.zeros(7)
    save_file(state, path)
    with pytest.raises(RunError, match=r"does not fit this run \(.*(head|foot)\.bias") as caught:
        load_run(run, CPU)
    assert "\n" not in str(caught.value)


def test_one_line_for_a_head_of_another_width(run: Path) -> None:
    edit_json(run / "config.json", lambda config: config["model"].update(width=32))
    with pytest.raises(RunError, match=r"does not fit this run \(.*size mismatch") as caught:
        load_run(run, CPU)
    assert len(str(caught.value).replace(str(run), "")) < 400


def test_a_vocabulary_of_another_head(run: Path) -> None:
    Vocabulary(("red",)).save(run / "answers.json")
    with pytest.raises(RunError, match=r"answers\.json has 1 answers, the head 3"):
        load_run(run, CPU)
    (run / "answers.json").unlink()
    with pytest.raises(RunError, match=r"answers\.json: not a readable answer vocabulary"):
        load_run(run, CPU)


def test_settings_that_are_gone(run: Path) -> None:
    (run / "config.toml").unlink()
    with pytest.raises(ConfigError, match=r"config\.toml: cannot be read"):
        load_run(run, CPU)


def test_weights_are_replaced_whole(run: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up while saving leaves the weights that were there."""
    before = (run / "model.safetensors").read_bytes()
    model = load_run(run, CPU).model

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with torch.no_grad():
        model.head.bias.add_(1)
    with pytest.raises(RunError, match=r"No space left.*what was saved before is whole"):
        save_weights(run, model)
    assert (run / "model.safetensors").read_bytes() == before
    assert not list(run.glob("*.partial"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"vision": {"model": "other", "image size": 28}},
            "vision model is 'other'.*'made-up-vision'",
        ),
        ({"vision": {"model": "made-up-vision", "image size": 42}}, "vision image size is 42.* 28"),
        ({"vision": {"model": "made-up-vision"}}, "vision image size is None.* 28"),
        ({"text": {"model": "made-up-text", "layer": -2}}, "text layer is -2.* -1"),
    ],
)
def test_features_of_other_encoders_are_refused(
    changes: dict, message: str, run: Path, tmp_path: Path
) -> None:
    other = make_cache(tmp_path / "other", {"train": [Row(0, 0)]}, spec=make_spec(**changes))
    with pytest.raises(CacheError, match=rf"other: {message}.*Give the cache it was trained from"):
        require_same_encoders(load_run(run, CPU), FeatureCache(other.directory))


def test_how_a_cache_stores_features_does_not_matter(run: Path, tmp_path: Path) -> None:
    spec = make_spec(dtype="float32")
    other = make_cache(tmp_path / "other", {"val": [Row(0, 0)]}, spec=spec)
    require_same_encoders(load_run(run, CPU), FeatureCache(other.directory))
