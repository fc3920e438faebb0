"""No command deletes or replaces what it did not write: for every command and every path option."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
from typer.models import ArgumentInfo

import frozen_vqa.pipeline.evaluate.evaluate
from frozen_vqa import VqaHead, cli
from frozen_vqa.cache.disk.folders import MARK
from frozen_vqa.pipeline.commands.parse.words import to_path, to_place
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.folder import LOGITS
from frozen_vqa.pipeline.system import endings
from tests.support import tiny_commands
from tests.support.caches import Made
from tests.support.command import Finished, error_of, run_command
from tests.support.heads import make_run

_home = tiny_commands._home  # a fixture

OURS = (
    *("config.json", "config.toml", "answers.json", "run.json", "metrics.jsonl", "README.md"),
    *("environment.json", "model.safetensors", "model.previous.safetensors.partial"),
    *(
        "state/state.safetensors",
        "evaluation/val/results.json",
        "tensorboard/events.out.tfevents.1",
    ),
    *("cache.json", "cache.copy.json", "failures.jsonl", "extractions.jsonl", "manifest.json"),
    *("images/00000.h5", "images/staged-0123456789abcdef.shard", "splits/val.h5"),
    *("cache/cache.json", "runs/concat/config.json", "contact_sheet.png", "a/config.json"),
    *(".lock", ".lock.lease-000000", MARK, "thesis.txt"),
)
HEAD = ("--epochs", 1, "--width", 16, "--min-answer-count", 1)
RUN_FLAGS = ((), ("--overwrite",), ("--resume",))
Command = Callable[[Path, Made, Path], Finished]


def train(*flags: object) -> Command:
    return lambda folder, scenes, _: run_command(
        "train-head", "--cache", scenes.directory, "--run", folder, *HEAD, *flags
    )


def sweep(*flags: object) -> Command:
    def run(folder: Path, scenes: Made, place: Path) -> Finished:
        (place / "sweep.toml").write_text('[[head]]\nname = "a"\n')
        words = ("--run", folder, "--sweep", place / "sweep.toml", *HEAD, *flags)
        return run_command("train-head", "--cache", scenes.directory, *words)

    return run


def extract(*flags: object) -> Command:
    """The writer alone decides; the encoders, which take a second to load, have no say."""
    words = ("--dataset", "shapes:2", "--split", "train", *tiny_commands.TINY, *flags)
    return lambda folder, *_: run_command("extract-features", "--cache", folder, *words)


def saved(folder: Path, scenes: Made, place: Path) -> Finished:
    run = place.parent / "run"
    if not run.exists():
        make_run(scenes, run)
    with pytest.raises(RunError) as caught:
        VqaHead.from_pretrained(run).save_pretrained(folder)
    return Finished(1, "", f"error: {caught.value}\n")


COMMANDS: dict[str, Command] = {
    "demo": lambda folder, *_: run_command("demo", "--out", folder),
    **{f"train {' '.join(flags)}": train(*flags) for flags in RUN_FLAGS},
    **{f"sweep {' '.join(flags)}": sweep(*flags) for flags in RUN_FLAGS},
    "convert": lambda folder, scenes, _: run_command(
        "convert-cache", scenes.directory, "--cache", folder
    ),
    "evaluate": lambda folder, *_: run_command("evaluate", "--run", folder, "--save-logits"),
    "ask": lambda folder, *_: run_command(
        "ask", "--run", folder, "--image", folder / "x.png", "--question", "what?"
    ),
    "save_pretrained": saved,
}


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in paths}


def everywhere(command: str) -> Iterator[tuple[str, ...]]:
    yield OURS
    # The kinds of folders differ by what proves them ours; options of a command do not.
    for name in OURS if command in ("demo", "train ", "convert") else ("run.json", ".lock", MARK):
        yield (name,)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_of_the_users_files_stays_as_it_is(
    command: str, scenes: Made, tmp_path: Path
) -> None:
    for number, names in enumerate(everywhere(command)):
        place = tmp_path / str(number)
        folder = place / "theirs"
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("three years\n")
        before = contents(folder)
        error = error_of(COMMANDS[command](folder, scenes, place))
        assert contents(folder) == before, names
        assert str(folder) in error
        assert "theirs" in error


@pytest.mark.parametrize("flags", [(), ("--rebuild", "images/00000.h5")], ids=["new", "rebuild"])
def test_no_cache_is_extracted_among_the_users_files(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    for name in OURS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("three years\n")
    before = contents(folder)
    assert str(folder) in error_of(extract(*flags)(folder, None, tmp_path))  # type: ignore[arg-type]
    assert contents(folder) == before


def test_the_users_files_in_a_run_outlive_its_successor(scenes: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(scenes, run)
    assert run_command("evaluate", "--run", run).code == 0
    for name in ("notes.txt", "evaluation/val/mine.json", "evaluation/val/logits.safetensors",
                 "tensorboard/events.out.tfevents.9"):  # fmt: skip
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("mine")
    assert "did not write this file" in run_command("evaluate", "--run", run, "--save-logits").err
    done = train("--overwrite", "--no-report")(run, scenes, tmp_path)
    assert done.code == 0, done.err
    mine = {name for name, (data, _) in contents(run).items() if data == b"mine"}
    assert len(mine) == 4
    assert not (run / "evaluation/val/results.json").exists()


@pytest.mark.parametrize("name", ["model.next.safetensors", "state/state.next.safetensors"])
@pytest.mark.parametrize("flag", ["--overwrite", "--resume"])
def test_a_copy_of_a_run_makes_no_file_ours_that_only_a_killed_process_leaves(
    name: str, flag: str, scenes: Made, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    make_run(scenes, run)
    (run / MARK).unlink()
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text("mine")
    before = contents(run)
    error = error_of(train(flag)(run, scenes, tmp_path))
    assert f"{run / name}: frozen-vqa did not write this file" in error
    assert {k: v for k, v in contents(run).items() if k in before} == before


def test_what_is_in_the_way_is_said_before_hours_of_scoring(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_vqa.pipeline.evaluate.evaluate, "_predict", pytest.fail)
    for number, name in enumerate(("results.json", "scores.json", LOGITS)):
        run = tmp_path / str(number)
        make_run(scenes, run)
        (run / "evaluation" / "val").mkdir(parents=True)
        (run / "evaluation" / "val" / name).write_text("mine")
        error = error_of(run_command("evaluate", "--run", run, "--save-logits"))
        assert f"{name}: frozen-vqa did not write this file" in error
        assert (run / "evaluation" / "val" / name).read_text() == "mine"


@pytest.mark.parametrize("option", ["--table", "--per-question"])
def test_a_file_of_the_user_is_not_replaced_by_an_output(
    option: str, scenes: Made, tmp_path: Path
) -> None:
    make_run(scenes, tmp_path / "run")
    asked = {"question_id": 1, "image_id": 1, "answers": [{"answer": "red"}]}
    (tmp_path / "truth.json").write_text(json.dumps({"annotations": [asked]}))
    (tmp_path / "said.json").write_text('[{"question_id": 1, "answer": "red"}]')
    words: tuple[object, ...] = ("evaluate", "--run", tmp_path / "run")
    if option == "--per-question":
        said, truth = tmp_path / "said.json", tmp_path / "truth.json"
        words = ("score", "--predictions", said, "--annotations", truth)
    out = tmp_path / "out.md"
    for content in ("", "my table", '{"1": "x"}', '{"2": 1.0}', "[1]"):
        out.write_text(content)
        assert str(out) in error_of(run_command(*words, option, out))
        assert out.read_text() == content
    out.unlink()
    out.symlink_to(tmp_path / "said.json")
    assert str(out) in error_of(run_command(*words, option, out))
    assert out.is_symlink()
    out.unlink()
    for _ in range(2):  # our own is replaced
        assert run_command(*words, option, out).code == 0


def path_options() -> Iterator[tuple[str, str]]:
    """Every option and argument that takes a path: its command, and how it is given."""
    for registered in cli.app.registered_commands:
        command = registered.callback
        assert command is not None
        for name, hint in get_type_hints(command, include_extras=True).items():
            if "Path" not in str(hint):
                continue
            (about,) = hint.__metadata__
            assert about.parser in (to_path, to_place), f"{command.__name__}: {name}"
            option = "" if isinstance(about, ArgumentInfo) else f"--{name.replace('_', '-')}"
            yield command.__name__.replace("_", "-"), option


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell leaves the ~ of --run=~/x; every path goes through `to_path`, as above."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert to_path("~/x") == tmp_path / "x"
    (tmp_path / "run" / "state").mkdir(parents=True)
    assert [endings._has_state(["--run=~/" + name]) for name in ("run", "x")] == [True, False]


def test_an_empty_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(path_options())
    assert len(found) > 20
    for command, option in found:
        for empty in ("", "  "):
            ended = run_command(command, *([option] if option else []), empty)
            assert (ended.code, "the path is empty" in ended.err) == (2, True), (command, option)
    assert os.listdir(tmp_path) == []
