"""No command writes or deletes behind a link in a stranger's folder, wherever the link is.

Each folder below a cache, a run, a sweep or a demo is in turn a link to a place that holds the very
files that were in it, marked as ours. Then each command that writes is run on it.
"""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from frozen_vqa import VqaHead
from frozen_vqa.cache.disk.folders import OwnFolder
from frozen_vqa.pipeline.commands import demo
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.runs.folder import claim_sweep_folder
from frozen_vqa.pipeline.train.tensorboard import EVENTS
from tests.support import tiny_commands
from tests.support.attack import attack
from tests.support.caches import Made, make_cache, make_spec
from tests.support.command import run_command

_home = tiny_commands._home  # a fixture

HEAD = ("--epochs", 1, "--width", 8, "--fusion", "concat", "--min-answer-count", 1)
EVALUATE = ("--save-logits", "--shuffle-images")
DATA = ("--dataset", "shapes:4", "--split", "train", *tiny_commands.TINY)


@pytest.fixture(scope="module")
def stranger(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that commands make: caches, a run, a sweep, a demo and a published head."""
    place = tmp_path_factory.mktemp("stranger")
    shutil.copytree(scenes.directory, place / "cache")
    features, states = scenes.patch_embeddings, scenes.states
    wide = make_spec(dtype="float32")
    make_cache(place / "wide", scenes.splits, patch_embeddings=features, states=states, spec=wide)
    train, run = ("train-head", "--cache", place / "cache", *HEAD), place / "run"
    for words in (
        ("convert-cache", place / "wide", "--cache", place / "converted", "--dtype", "float16"),
        (*train, "--run", run),
        ("evaluate", "--run", run, *EVALUATE),
    ):
        assert run_command(*words).code == 0
    for name in ("state", EVENTS):
        (run / name).mkdir()
    (place / "sweep.toml").write_text('[[head]]\nname = "a"\n')
    claim_sweep_folder(place / "sweep")
    shutil.copytree(run, place / "sweep" / "a")
    VqaHead.from_pretrained(run).save_pretrained(place / "published")
    OwnFolder(place / "demo", "the demo", PipelineError, "--out").claim()
    shutil.copytree(place / "cache", place / "demo" / "cache")
    shutil.copytree(run, place / "demo" / "runs" / "concat")
    return place


def _train(run: str, *flags: object) -> Callable[[Path], tuple[object, ...]]:
    return lambda p: (
        *("train-head", "--cache", p / "cache", *HEAD, "--run", p / run, *flags),
        *(("--sweep", p / "sweep.toml") if run == "sweep" else ()),
    )


COMMANDS: dict[str, tuple[str, Callable[[Path], tuple[object, ...]]]] = {
    "extract": ("cache", lambda p: ("extract-features", "--cache", p / "cache", *DATA)),
    "extract more": (
        "cache",
        lambda p: ("extract-features", "--cache", p / "cache", *DATA, "--split", "val"),
    ),
    "rebuild": (
        "cache",
        lambda p: (
            *("extract-features", "--cache", p / "cache", *DATA),
            *("--rebuild", "images/00000.h5", "--rebuild", "questions/00000.h5"),
        ),
    ),
    "convert": (
        "converted",
        lambda p: ("convert-cache", p / "wide", "--cache", p / "converted", "--dtype", "float16"),
    ),
    "train": ("run", _train("run")),
    "overwrite": ("run", _train("run", "--overwrite")),
    "resume": ("run", _train("run", "--resume")),
    "tensorboard": ("run", _train("run", "--overwrite", "--tensorboard")),
    "evaluate": ("run", lambda p: ("evaluate", "--run", p / "run", *EVALUATE)),
    "sweep": ("sweep", _train("sweep")),
    "overwrite a sweep": ("sweep", _train("sweep", "--overwrite")),
    "resume a sweep": ("sweep", _train("sweep", "--resume")),
    "demo": ("demo", lambda p: ("demo", "--out", p / "demo")),
}
POSITIONS = {
    "cache": ["images", "questions", "splits"],
    "converted": ["images", "questions", "splits"],
    "run": ["state", EVENTS, "evaluation", "evaluation/val", "evaluation/val/shuffled-images"],
    "sweep": ["a"],
    "demo": ["cache", "runs", "runs/concat"],
}
CASES = [
    pytest.param(name, position, marked, marks=[] if marked else pytest.mark.slow)
    for name, (kind, _) in COMMANDS.items()
    for position in POSITIONS[kind]
    for marked in (True, False)
]


def test_each_folder_that_commands_make_is_a_position(stranger: Path) -> None:
    for kind in ("cache", "converted", "run"):
        made = {str(p.relative_to(stranger / kind)) for p in (stranger / kind).rglob("*/")}
        assert made == set(POSITIONS[kind])


@pytest.mark.parametrize(("command", "position", "marked"), CASES)
def test_nothing_is_written_behind_a_link(
    command: str, position: str, marked: bool, stranger: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """All outside of the folder is as before, the place where the link leads as well."""
    monkeypatch.setattr(demo, "IMAGES", 20)
    monkeypatch.setattr(demo, "KINDS", {"concat": 1})
    kind, words = COMMANDS[command]
    place = tmp_path / "place"
    shutil.copytree(stranger, place)
    linked, elsewhere = place / kind / position, tmp_path / "elsewhere"
    linked.rename(elsewhere)
    for name in ("staged-0123456789abcdef.shard", "00000.h5.partial", "thesis.txt"):
        (elsewhere / name).write_text("theirs")
    linked.symlink_to(elsewhere)
    if not marked:
        (place / kind / ".frozen-vqa").unlink(missing_ok=True)
    found = attack(*words(place), place=tmp_path, writes=[place / kind])
    sentence = found.require_harmless()
    assert linked.is_symlink()
    if command == "train":
        assert "there is a run in this folder already" in sentence
    elif marked:
        assert "a link or a file stands in place of a folder" in sentence


@pytest.mark.parametrize("name", ["README.md", "config.json", "run.json", "model.safetensors"])
@pytest.mark.parametrize("target", ["thesis.txt", "nothing"])
def test_a_head_is_saved_over_no_link(
    name: str, target: str, stranger: Path, tmp_path: Path
) -> None:
    """Not even by the Hub's library, which writes a card where there seems to be none."""
    shutil.copytree(stranger / "published", tmp_path / "published")
    (tmp_path / "thesis.txt").write_text("theirs")
    (tmp_path / "published" / name).unlink()
    (tmp_path / "published" / name).symlink_to(tmp_path / target)
    with suppress(PipelineError):
        VqaHead.from_pretrained(stranger / "run").save_pretrained(tmp_path / "published")
    assert (tmp_path / "thesis.txt").read_text() == "theirs"
    assert not (tmp_path / "nothing").exists()
