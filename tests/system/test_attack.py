"""A stranger's folder runs no code, and gives no wrong number in silence."""

import ast
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from frozen_vqa.pipeline.encoders.checkpoint import Checkpoint
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.runs import sealed
from frozen_vqa.pipeline.runs.environment import own_revision
from frozen_vqa.pipeline.runs.weights import CURRENT
from frozen_vqa.pipeline.sources.hub import HubSource
from tests.support import model_folders
from tests.support.attack import attack, watched
from tests.support.bad_inputs_page import stay_offline
from tests.support.caches import Made, make_cache, make_spec
from tests.support.forged_caches import BAD, PLACES, forge_cache
from tests.support.forged_runs import WEIGHTS, forge
from tests.support.heads import make_run, seal
from tests.support.pictures import encoded, noise
from tests.support.repository import ROOT
from tests.support.run_folders import edit_json

_home = model_folders._home  # a fixture that is in force in every test

TRAIN = ("--epochs", 1, "--width", 8, "--min-answer-count", 1)


# --- code ----------------------------------------------------------------------------------------


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
    "a type of its own": "can only be loaded by code of its own (auto_map)",
    "a processor of its own": "preprocessor_config.json has auto_map",
    "a known processor beside code": "preprocessor_config.json has auto_map",
    "a tokenizer": "can only be loaded by code of its own (auto_map)",
    "code of another repository": "can only be loaded by code of its own (auto_map)",
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


# --- numbers -------------------------------------------------------------------------------------

QUICK = {("float16", PLACES[0], "nan"), ("float32", PLACES[1], "3e38"), ("int8", PLACES[0], "inf")}
CACHES = [
    pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow)
    for case in itertools.product(("float16", "float32", "int8"), PLACES, BAD)
]


@pytest.mark.parametrize(("dtype", "place", "name"), CACHES)
def test_features_that_are_not_finite(
    dtype: str, place: str, name: str, scenes: Made, tmp_path: Path
) -> None:
    """By file and row, in every command that reads them; 3e38 is infinite in float16."""
    sound = make_cache(
        tmp_path / "sound", scenes.splits, patch_embeddings=scenes.patch_embeddings,
        states=scenes.states, spec=make_spec(dtype=dtype),
    )  # fmt: skip
    make_run(sound, tmp_path / "run")
    cache = forge_cache(tmp_path / "cache", scenes, dtype=dtype, place=place, value=BAD[name])
    file, row = ("images/00000.h5", 3) if place == PLACES[0] else ("questions/00000.h5", 3)
    where = f"{cache.directory / file}: row {row}, of "
    evaluate = ("evaluate", "--run", tmp_path / "run", "--cache", cache.directory)
    new = tmp_path / "new"
    for words in (
        (*evaluate, "--split", "train"),
        (*evaluate, "--split", "train", "--save-logits"),
        ("train-head", "--cache", cache.directory, "--run", new, *TRAIN),
    ):
        found = attack(*words, place=tmp_path, writes=[tmp_path / "run", new])
        assert where in found.require_harmless()
    assert not (tmp_path / "run/evaluation").exists()
    assert not (new / CURRENT).exists()
    found = attack("verify-cache", cache.directory, place=tmp_path)
    assert found.finished.code == 1
    assert "rows hold numbers that are not finite or beyond 1e18" in found.finished.err
    assert not found.did
    assert not found.changed


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_no_training_writes(name: str, scenes: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(scenes, run)
    forge(run / CURRENT, WEIGHTS[name])
    found = attack("evaluate", "--run", run, "--cache", scenes.directory, place=tmp_path)
    assert found.require_harmless().startswith(f"{run / CURRENT}: ")


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999"])
@pytest.mark.parametrize("file", ["run.json", "config.json"])
def test_json_of_a_run_holds_finite_numbers(
    file: str, value: str, scenes: Made, tmp_path: Path
) -> None:
    """Those of the outcome are printed, and put into the card; python's own reader takes them."""
    run = tmp_path / "run"
    make_run(scenes, run)
    found = json.loads((run / file).read_bytes())
    text = json.dumps({**found, "best_accuracy": 0}).replace('accuracy": 0', f'accuracy": {value}')
    (run / file).write_text(text)
    seal(run)
    found = attack("evaluate", "--run", run, "--cache", scenes.directory, place=tmp_path)
    assert found.require_harmless().startswith(f"{run / file}: cannot be read (a number in it is")


# --- the Hub -------------------------------------------------------------------------------------


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
        vision={"model": "who/else", "image size": 28, "fit": "whole", "revision": "1"}
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


# --- data sets -----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("elsewhere", ["../secret/val.parquet", "{place}/secret/val.parquet"])
@pytest.mark.parametrize(
    "ours",
    [
        "val.parquet",
        "data/val-00000-of-00001.parquet",
        pytest.param(
            "a/b/val.parquet",
            marks=pytest.mark.xfail(strict=True, reason="`datasets` follows it: pipeline/sources/"),
        ),
    ],
)
def test_a_readme_of_a_folder_names_no_file_elsewhere(
    ours: str, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stay_offline(monkeypatch, tmp_path / "datasets")
    _parquet(tmp_path / "set" / ours, "Ours?")
    _parquet(tmp_path / "secret/val.parquet", "Secret?")
    files = f"[{{split: val, path: '{elsewhere.format(place=tmp_path)}'}}]"
    front = f"---\nconfigs:\n- config_name: default\n  data_files: {files}\n---\n"
    (tmp_path / "set/README.md").write_text(front)
    with watched() as seen:
        try:
            asked = [e.question for e in HubSource(str(tmp_path / "set")).examples("val")]
        except SourceError:
            asked = []
    assert "Secret?" not in asked
    assert seen == []
