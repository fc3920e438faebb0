"""A stranger's folder runs no code, wherever a command is run and whatever model it loads."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from frozen_vqa.pipeline.encoders.checkpoint import Checkpoint
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.runs.environment import own_revision
from tests.support import model_folders
from tests.support.attack import attack
from tests.support.caches import Made
from tests.support.repository import ROOT
from tests.support.run_folders import edit_json

_home = model_folders._home  # a fixture that is in force in every test

TRAIN = ("--epochs", 1, "--width", 8, "--min-answer-count", 1)


def test_git_in_the_working_folder_runs_nothing(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in a checkout nor in a folder that looks like a bare repository."""
    for name, folder in (("checkout", ".git"), ("bare", ".")):
        place = tmp_path / name
        place.mkdir()
        subprocess.run(["git", "init", "-q", *(["--bare"] if folder == "." else []), str(place)])
        (place / "evil").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (place / "evil").chmod(0o755)
        with (place / folder / "config").open("a") as file:
            file.write(
                f"[core]\n\tfsmonitor = {place}/evil\n\tworktree = {place}\n\tbare = false\n"
            )
        monkeypatch.chdir(place)
        own_revision.cache_clear()
        found = attack(
            *("train-head", "--cache", scenes.directory, "--run", place / "run", *TRAIN),
            place=tmp_path,
            writes=[place / "run"],
        )
        assert found.require_harmless() == ""
    assert not (tmp_path / "ran").exists()


def test_no_module_comes_from_the_working_folder(tmp_path: Path) -> None:
    """Of all that a command imports, its own package and what Python imports first are found."""
    bare = [sys.executable, "-c", "import sys, runpy, importlib.util; print(*sys.modules)"]
    first = subprocess.run(bare, capture_output=True, text=True, check=True).stdout.split()
    names = {name.partition(".")[0] for name in sys.modules} - {*first, "frozen_vqa", "tests"}
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('imported {name}')")
    assert {"json", "typing", "typer", "torch", "numpy"} <= names
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "frozen_vqa.cli",
            *("train-head", "--cache", "none", "--run", "none"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stderr.startswith("error: none: there is no cache here"), done.stderr


def _named(cls: str, value: object = "evil.Mine") -> Callable[[dict], object]:
    return lambda found: found.update(auto_map={cls: value})


def _unknown(key: str, cls: str, value: object = "evil.Mine") -> Callable[[dict], object]:
    return lambda found: found.update({key: "Mine", "auto_map": {cls: value}})


PRE, TOKENIZER = "preprocessor_config.json", "tokenizer_config.json"
CODE_OF_MODELS: dict[str, tuple[str, str, Callable[[dict], object]]] = {
    "a type of its own": ("vision", "config.json", _unknown("model_type", "AutoConfig")),
    "a processor of its own": (
        "vision",
        PRE,
        _unknown("image_processor_type", "AutoImageProcessor"),
    ),
    "a tokenizer": (
        "text",
        TOKENIZER,
        _unknown("tokenizer_class", "AutoTokenizer", ["evil.Mine"] * 2),
    ),
    "code of another repository": (
        "text",
        TOKENIZER,
        _unknown("tokenizer_class", "AutoTokenizer", ["who/else--evil.Mine", None]),
    ),
    "a known type beside code": ("vision", "config.json", _named("AutoConfig")),
    "a known model beside code": ("vision", "config.json", _named("AutoModel")),
    "a known processor beside code": ("vision", PRE, _named("AutoImageProcessor")),
    "a kernel of the Hub": (
        "text",
        "config.json",
        lambda c: c.update(attn_implementation="who/else"),
    ),
    "another's weights": (
        "text",
        "model.safetensors.index.json",
        lambda c: c.update(metadata={}, weight_map={"norm.weight": "../elsewhere.safetensors"}),
    ),
    "an adapter": (
        "text",
        "adapter_config.json",
        lambda c: c.update(base_model_name_or_path="../elsewhere"),
    ),
}
REFUSED = {
    **{
        name: f"can only be loaded by code of its own (auto_map in {file})"
        for name, (_, file, _) in CODE_OF_MODELS.items()
        if name not in ("a kernel of the Hub", "another's weights", "an adapter")
    },
    "another's weights": "names '../elsewhere.safetensors', which is not in this folder",
    "an adapter": "holds an adapter (adapter_config.json)",
}


@pytest.mark.parametrize("name", CODE_OF_MODELS)
def test_no_code_of_a_model_runs_and_nothing_asks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part, file, change = CODE_OF_MODELS[name]
    folder = tmp_path / "model"
    shutil.copytree(tiny_checkpoint(part), folder)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    if file not in (p.name for p in folder.iterdir()):
        (folder / file).write_text("{}")
    edit_json(folder / file, change)
    monkeypatch.setattr("sys.stdin", iter(["y\n"] * 9))
    models = {"vision": "tiny", "text": "tiny", part: folder}
    found = attack(
        *("extract-features", "--dataset", "shapes:4", "--split", "val", "--cache", tmp_path / "c"),
        *("--vision-model", models["vision"], "--text-model", models["text"]),
        place=tmp_path,
        writes=[tmp_path / "c"],
    )
    sentence = found.require_harmless()
    assert REFUSED.get(name, "") in sentence
    assert bool(sentence) == (name in REFUSED)
    assert "[y/N]" not in found.finished.out + found.finished.err + capsys.readouterr().out


def test_every_load_of_a_model_trusts_no_code() -> None:
    """By the options of `Checkpoint`, which all calls have."""
    calls = [
        (path.name, node)
        for path in sorted((ROOT / "pipeline").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("from_pretrained", "from_config", "get_image_processor_dict")
    ]
    assert {name for name, _ in calls} == {"checkpoint.py", "processor.py"}
    for _, call in calls:
        given = [ast.unparse(word.value) for word in call.keywords if word.arg is None]
        assert {"self.options", "checkpoint.options"} & set(given)
    assert Checkpoint("x").options["trust_remote_code"] is False


def test_programs_start_in_one_place_and_there_in_our_own_folder() -> None:
    """No other process, and none by way of a shell."""
    starts = re.compile(r"\b(subprocess|popen|os\.system|os\.exec\w+|\w*_?spawn\w*|pty)\b")
    found = {
        str(path.relative_to(ROOT))
        for folder in ("cache", "pipeline")
        for path in (ROOT / folder).rglob("*.py")
        if starts.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"pipeline/runs/environment.py"}
    assert "cwd=OURS" in (ROOT / "pipeline/runs/environment.py").read_text(encoding="utf-8")
