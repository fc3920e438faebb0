"""The command line: help at once, one line for what a person can mend, a traceback for a bug."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ranks_worker
from command import Finished, frozen_vqa
from frozen import files
from huggingface_hub import constants

import pipeline.cache_info
import pipeline.commands
from cache import load_manifest
from pipeline.config import TrainConfig, load_config
from pipeline.presets import PRESETS
from pipeline.sealed_json import unseal_json

ROOT = Path(__file__).parents[1]
TINY = ("--vision-model", "tiny", "--text-model", "tiny")
COMMANDS = (
    "extract-features",
    "train-head",
    "evaluate",
    "score",
    "ask",
    "inspect-cache",
    "verify-cache",
    "convert-cache",
    "demo",
)
HEAVY = ("torch", "numpy", "h5py", "transformers", "datasets", "PIL")


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cache and a run, to be read and never changed."""
    place = tmp_path_factory.mktemp("cli")
    found = extract(place, "--split", "train", "--split", "val")
    assert found.code == 0, found.err
    found = train(place)
    assert found.code == 0, found.err
    return place


@pytest.fixture
def cache(place: Path, tmp_path: Path) -> Path:
    """A copy of the cache that a test may damage."""
    return Path(shutil.copytree(place / "cache", tmp_path / "cache"))


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    return Path(shutil.copytree(place / "run", tmp_path / "run"))


def extract(place: Path, *words: object) -> Finished:
    dataset = () if "--dataset" in words else ("--dataset", "shapes:8")
    return frozen_vqa("extract-features", "--cache", place / "cache", *dataset, *TINY, *words)


def train(place: Path, *words: object) -> Finished:
    head = ("--epochs", 1, "--width", 16, "--min-answer-count", 1)
    return frozen_vqa(
        "train-head", "--cache", place / "cache", "--run", place / "run", *head, *words
    )


def error_of(found: Finished) -> str:
    """Return the one line that a failed command ends with."""
    assert found.code == 1, found
    assert found.out == ""
    assert "Traceback" not in found.err
    errors = [line for line in found.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, found.err
    assert found.err.endswith(f"{errors[0]}\n")
    return errors[0].removeprefix("error: ")


def only_line(found: Finished) -> str:
    """Return the same, where nothing came before it."""
    error = error_of(found)
    assert found.err == f"error: {error}\n"
    return error


def usage_of(found: Finished) -> str:
    """Return the complaint about wrong usage."""
    assert found.code == 2, found
    assert found.out == ""
    assert "Traceback" not in found.err
    assert found.err.startswith("Usage: ")
    assert "error: " not in found.err
    return found.err.splitlines()[-1]


# Help


@pytest.mark.parametrize("words", [(), *((command,) for command in COMMANDS)])
def test_help_names_the_options(words: tuple[str, ...]) -> None:
    found = frozen_vqa(*words, "--help")
    assert (found.code, found.err) == (0, "")
    assert re.match(rf"Usage: .*frozen-vqa{''.join(f' {word}' for word in words)} \[", found.out)
    wanted = ("--json",) if words else COMMANDS
    for word in wanted:
        assert re.search(rf"^ +{word}\b", found.out, re.MULTILINE), word


def test_every_command_is_known_here() -> None:
    listed = frozen_vqa("--help").out.partition("Commands:")[2]
    assert tuple(re.findall(r"^ +([a-z-]+)  ", listed, re.MULTILINE)) == COMMANDS


def test_help_of_the_script_in_a_process_of_its_own() -> None:
    found = subprocess.run(
        [sys.executable, "cli.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert "Usage: cli.py " in found.stdout
    for command in COMMANDS:
        assert f"  {command} " in found.stdout


def test_help_loads_nothing_heavy() -> None:
    """All helps in one process, which then lists what it has loaded."""
    script = f"""
import contextlib, io, sys
import cli
for words in [[], *([command] for command in {COMMANDS!r})]:
    sys.argv = ["frozen-vqa", *words, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            cli.main()
        except SystemExit as end:
            assert not end.code, words
    assert out.getvalue().startswith("Usage: "), words
print(*sorted({HEAVY!r} & sys.modules.keys() | {{"pipeline", "cache"}} & sys.modules.keys()))
""".replace(f"{HEAVY!r}", f"set({HEAVY!r})")
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr, found.stdout) == (0, "", "\n")


def test_without_a_command_it_shows_its_help() -> None:
    found = frozen_vqa()
    assert found.code == 2
    assert "frozen-vqa [OPTIONS] COMMAND" in found.out + found.err
    for command in COMMANDS:
        assert command in found.out + found.err


# Wrong usage: exit code 2

EXTRACT = ("extract-features", "--dataset", "shapes", "--split", "train", "--cache", "c")
TRAIN = ("train-head", "--cache", "c", "--run", "r")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("extract",), r"No such command 'extract'"),
        (("--verbose",), r"No such option: --verbose"),
        ((*TRAIN, "--epoch", "3"), r"No such option: --epoch.*--epochs"),
        ((*TRAIN, "--fusion", "sum"), r"'sum' is not one of 'co-attention', .*'image-only'"),
        ((*TRAIN, "--epochs", "many"), r"'--epochs'.*integer"),
        ((*TRAIN, "--lr", "fast"), r"'--lr'.*number"),
        (("train-head", "--cache", "c"), r"Missing option '--run'"),
        (("extract-features", "--dataset", "shapes", "--cache", "c"), r"Missing option '--split'"),
        (("inspect-cache",), r"Missing argument"),
        ((*EXTRACT, "--limit", "0"), r"'--limit'.*1"),
        (
            (*EXTRACT, "--batch-size", "0"),
            r"--batch-size is '0'; it must be auto or a number from 1",
        ),
        ((*EXTRACT, "--batch-size", "-3"), r"--batch-size is '-3'; it must be auto or a number"),
        ((*EXTRACT, "--batch-size", "big"), r"--batch-size is 'big'; it must be auto or a number"),
        ((*EXTRACT, "--batch-size", "1.5"), r"--batch-size is '1\.5'; it must be auto or a number"),
        ((*EXTRACT, "--column", "question"), r"--column is 'question'; .* like question=query"),
        ((*EXTRACT, "--column", "=query"), r"--column is '=query'; .* like question=query"),
        ((*EXTRACT, "--fit", "squeeze"), r"'squeeze' is not one of 'whole', 'crop'"),
        ((*EXTRACT, "--dtype", "int4"), r"'int4' is not one of 'float16', 'float32'"),
        ((*EXTRACT, "--image-size", "big"), r"'--image-size'.*integer"),
        (("evaluate", "--run", "r", "--metric", "2019"), r"'2019' is not one of '2021', '2017'"),
        (
            ("ask", "--run", "r", "--image", "i", "--question", "q", "--top", "0"),
            r"'--top'.*1",
        ),
    ],
)
def test_wrong_usage(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.search(said, usage_of(frozen_vqa(*words)))
    assert list(tmp_path.iterdir()) == []


# What a person can mend: exit code 1


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("vqav2:/no/where", r"vqav2:/no/where: there is no such folder\. Check the path\."),
        ("jsonl:/no/where.jsonl", r"jsonl:/no/where\.jsonl: .*"),
        ("hub:./no/where", r"hub:\./no/where: there is no such file or folder\. Check the path\."),
        ("vqa2:/data", r"dataset 'vqa2:/data' is none of .* Did you mean 'vqav2:/data'\?"),
        ("vqav2", r"dataset 'vqav2': nothing follows 'vqav2'; needed is vqav2:PATH\."),
        ("shapes:many", r"shapes:many: 'many' is no number of images\. Write shapes:500, say\."),
        ("", r"dataset '' is none of vqav2:PATH, .*"),
    ],
)
def test_a_wrong_data_set(tmp_path: Path, dataset: str, said: str) -> None:
    found = extract(tmp_path, "--dataset", dataset, "--split", "train", "--json")
    assert re.fullmatch(said, only_line(found))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--split", "validate"), r"shapes: no split 'validate'; there are train, val, test\. .*"),
        (("--split", "val", "--split", "val"), r"--split val is given twice; .*"),
        (
            ("--split", "val", "--column", "question=query"),
            r"shapes:8: --column is for hub: data sets only\. Leave it out\.",
        ),
        (
            ("--split", "val", "--device", "tpu"),
            r"device 'tpu' cannot be used \(.*\); use --device .*",
        ),
        (("--split", "val", "--device", "meta"), r"device 'meta' cannot be used \(.*\); use .*"),
        (("--split", "val", "--text-layer", 9), r"text layer 9 does not exist in tiny: .* -3 to 2"),
        (("--split", "val", "--image-size", 100), r"image size 100 is not .*; use --image-size 98"),
        (("--split", "val", "--image-size", 0), r"image size 0 is not .*; use --image-size 14"),
        (
            ("--split", "val", "--vision-model", "facebook/dinov9"),
            r"facebook/dinov9 is not in the local Hub cache, and offline mode is on; run `hf .*",
        ),
        (
            ("--split", "val", "--text-model", "./nowhere"),
            r"\./nowhere: there is no such folder, and it is not the name of a model on the Hub",
        ),
        (
            ("--split", "val", "--dataset", "hub:x/y", "--column", "picture=p"),
            r"--column picture=…: no field 'picture'; there are image, .*",
        ),
    ],
)
def test_extraction_refuses_before_it_writes(tmp_path: Path, words: tuple, said: str) -> None:
    found = extract(tmp_path, *words, "--json")
    assert re.fullmatch(said, only_line(found))
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_would_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("mine")
    said = error_of(extract(tmp_path, "--split", "val"))
    assert re.fullmatch(r".*/cache: .* \(File exists\)\. Give another --cache\.", said)
    assert (tmp_path / "cache").read_text() == "mine"


@pytest.mark.parametrize("command", ["train-head", "inspect-cache", "verify-cache"])
def test_a_missing_cache(tmp_path: Path, command: str) -> None:
    there = tmp_path / "cache"
    words = ("--cache", there, "--run", tmp_path / "r") if command == "train-head" else (there,)
    said = only_line(frozen_vqa(command, *words, "--json"))
    assert said.startswith(f"{there}: there is no cache here (cache.json is missing). Make one")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["evaluate", "ask"])
def test_a_missing_run(tmp_path: Path, command: str) -> None:
    there = tmp_path / "run"
    more = ("--image", "a.jpg", "--question", "what?") if command == "ask" else ()
    said = only_line(frozen_vqa(command, "--run", there, *more, "--json"))
    assert said.startswith(f"{there}: not a run folder (config.json is missing). Make one")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epoch = 3", r"unknown key 'epoch'; did you mean 'epochs'\?"),
        ("zzz = 3", r"unknown key 'zzz'; known are: fusion, layers, .*"),
        ("epochs = 'many'", r"epochs is 'many'; a .* is needed"),
        ("epochs = 0", r"epochs is 0; it must be at least 1"),
        ("lr = -1", r"lr is -1\.0; it must be above 0.*"),
        ("fusion = 'sum'", r"fusion is 'sum'; it must be one of co-attention, .*"),
        ("epochs = ", r"not a TOML file \(.*\)"),
        (b"\xff", r"not a TOML file \(.*\)"),
        (None, r"cannot be read \(No such file or directory\)"),
    ],
)
def test_a_wrong_config_file(place: Path, tmp_path: Path, content: Any, said: str) -> None:
    file = tmp_path / "head.toml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = frozen_vqa(
        *("train-head", "--cache", place / "cache", "--run", tmp_path / "run", "--config", file)
    )
    assert re.fullmatch(rf"{re.escape(str(file))}: {said}", only_line(found))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--epochs", 0), r"epochs is 0; it must be at least 1"),
        (("--batch-size", -1), r"batch_size is -1; it must be at least 1"),
        (("--train-split", "trian"), r".*: there is no split 'trian' .*\(splits: train, val\).*"),
        (("--min-answer-count", 10**6), r".*answer.*"),
        (("--device", "cuda:77"), r"device 'cuda:77' cannot be used .*"),
    ],
)
def test_a_wrong_setting(place: Path, tmp_path: Path, words: tuple, said: str) -> None:
    found = frozen_vqa(
        *("train-head", "--cache", place / "cache", "--run", tmp_path / "run", "--epochs", 1),
        *words,
        "--json",
    )
    assert re.fullmatch(said, only_line(found))
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_flags_win_over_the_config_file(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "head.toml"
    file.write_text('fusion = "concat"\nepochs = 2\nwidth = 24\nmin_answer_count = 1\nheads = 2\n')
    found = frozen_vqa(
        *("train-head", "--cache", place / "cache", "--run", tmp_path / "run", "--config", file),
        *("--epochs", 1, "--plain-order", "--seed", 5, "--json"),
    )
    assert found.code == 0
    assert (found.json()["fusion"], found.json()["epochs"]) == ("concat", 1)
    used = load_config(tmp_path / "run" / "config.toml", {})
    assert used == TrainConfig(
        fusion="concat",
        epochs=1,
        width=24,
        heads=2,
        min_answer_count=1,
        group_by_image=False,
        seed=5,
    )


def test_flags_win_over_a_preset_and_the_run_keeps_all_settings(
    place: Path, tmp_path: Path
) -> None:
    command = ["train-head", "--cache", place / "cache", "--run", tmp_path / "run"]
    flags = ["--preset", "basic", "--epochs", 1, "--min-answer-count", 1, "--json"]
    found = frozen_vqa(*command, *flags, "--fusion", "text-to-image")
    assert found.code == 0
    used = (tmp_path / "run" / "config.toml").read_text()
    assert "preset" not in used
    assert all(line in used for line in ('fusion = "text-to-image"', "post_norm = true"))
    shapes = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    assert shapes["width"] == shapes["text_dim"]

    other = frozen_vqa(*command, "--resume", "--preset", "small")
    assert other.code == 1
    assert "layers was 1 when it began, and 6 is asked for" in other.err


def test_the_presets_are_those_that_help_shows() -> None:
    shown = frozen_vqa("train-head", "--help").out
    assert f"<{'|'.join(PRESETS)}>" in shown


def test_a_run_is_replaced_only_on_request(run: Path, place: Path) -> None:
    words = ("train-head", "--cache", place / "cache", "--run", run, "--epochs", 1)
    words = (*words, "--min-answer-count", 1, "--width", 8)
    before = (run / "model.safetensors").read_bytes()
    said = only_line(frozen_vqa(*words))
    assert said.startswith(f"{run}: there is a run in this folder already. Give another --run")
    assert (run / "model.safetensors").read_bytes() == before
    assert frozen_vqa(*words, "--overwrite").code == 0
    assert (run / "model.safetensors").read_bytes() != before


def flip(file: Path, where: float) -> None:
    data = bytearray(file.read_bytes())
    data[int(where * len(data))] ^= 0x10
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["images/00000.h5", "questions/00000.h5", "splits/train.h5"])
def test_a_flipped_bit_stops_the_training(cache: Path, tmp_path: Path, name: str) -> None:
    flip(cache / name, 0.5)
    said = error_of(train(tmp_path, "--json"))
    assert str(cache / name) in said
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("command", ["train-head", "inspect-cache", "verify-cache"])
def test_a_changed_manifest_stops_every_command(cache: Path, tmp_path: Path, command: str) -> None:
    file = cache / "cache.json"
    file.write_text(file.read_text().replace('"rows": 8', '"rows": 9', 1))
    words = ("--cache", cache, "--run", tmp_path / "r") if command == "train-head" else (cache,)
    said = only_line(frozen_vqa(command, *words))
    assert said.startswith(f"{file}: its digest does not match its content")


def test_a_flipped_bit_is_found_by_verify_cache_wherever_it_is(cache: Path) -> None:
    sound = frozen_vqa("verify-cache", cache, "--json")
    assert sound.code == 0
    assert (sound.json()["files"], sound.json()["damaged"]) == (4, [])
    for name in ("images/00000.h5", "questions/00000.h5", "splits/val.h5"):
        flip(cache / name, 0.9)
    found = frozen_vqa("verify-cache", cache, "--json")
    assert found.code == 1
    damaged = found.json()["damaged"]
    assert [one["file"] for one in damaged] == [
        "images/00000.h5", "questions/00000.h5", "splits/val.h5"
    ]  # fmt: skip
    for one in damaged:
        assert f"{cache / one['file']}: {one['reason']}\n" in found.err
        assert f"  to make it again: {one['rebuild']}\n" in found.err
    assert "Traceback" not in found.err


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: (run / "model.safetensors").unlink(), r".*there are no weights yet; .*"),
        (
            lambda run: flip(run / "model.safetensors", 0.9),
            r".*model\.safetensors: does not fit .*",
        ),
        (lambda run: (run / "config.json").write_text("{"), r".*config\.json: cannot be read .*"),
        (lambda run: (run / "config.json").write_text("[]"), r".*config\.json: a JSON object .*"),
        (
            lambda run: (run / "answers.json").write_text('["yes"]'),
            r".*answers\.json: not the file that the weights were saved with; .*",
        ),
        (lambda run: (run / "answers.json").unlink(), r".*answers\.json: .*"),
    ],
)
def test_a_damaged_run(run: Path, damage: Any, said: str) -> None:
    damage(run)
    assert re.fullmatch(said, only_line(frozen_vqa("evaluate", "--run", run, "--json")))
    assert not (run / "evaluation").exists()


def test_a_split_that_the_cache_lacks(run: Path, place: Path) -> None:
    said = only_line(frozen_vqa("evaluate", "--run", run, "--split", "test"))
    assert said.startswith(f"{place / 'cache'}: there is no split 'test' in this cache")
    assert "extract-features" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--predictions", "none.json"), r"none\.json: there is no such file; .*"),
        (("--annotations", "none.json"), r"none\.json: there is no such file; .*"),
        (("--predictions", "cut.json"), r"cut\.json: line 1, column .* It may be cut short: .*"),
        (
            ("--predictions", "few.json"),
            r"few\.json against a\.json: of 2 questions 1 are missing .*",
        ),
        (("--per-question", "p.json/each.json"), r"p\.json/each\.json: cannot be written \(.*\)"),
    ],
)
def test_files_that_cannot_be_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_official(tmp_path)
    Path("cut.json").write_text('[{"question_id": 1, ')
    Path("few.json").write_text('[{"question_id": 1, "answer": "yes"}]')
    found = frozen_vqa(
        *("score", "--predictions", "p.json", "--annotations", "a.json", *words, "--json")
    )
    assert re.fullmatch(said, error_of(found))


def write_official(folder: Path) -> None:
    given = {
        1: ("yes/no", "is it", ["yes"] * 8 + ["no"] * 2),
        2: ("number", "how many", ["2"] * 10),
    }
    annotations = [
        {
            "question_id": question_id,
            "answer_type": answer_type,
            "question_type": question_type,
            "answers": [{"answer": answer} for answer in answers],
        }
        for question_id, (answer_type, question_type, answers) in given.items()
    ]
    predictions = [{"question_id": 2, "answer": "2"}, {"question_id": 1, "answer": "no"}]
    (folder / "a.json").write_text(json.dumps({"annotations": annotations}))
    (folder / "p.json").write_text(json.dumps(predictions))


def test_score(tmp_path: Path) -> None:
    """Two of ten said "no": for them one other did, for the rest two, of the three needed."""
    write_official(tmp_path)
    words = ("score", "--predictions", tmp_path / "p.json", "--annotations", tmp_path / "a.json")
    found = frozen_vqa(*words, "--per-question", tmp_path / "each.json", "--json")
    assert found.code == 0
    assert found.json() == {
        "accuracy": {"overall": 80.0, "yes/no": 60.0, "number": 100.0},
        "by_question_type": {"is it": 60.0, "how many": 100.0},
        "questions": 2,
        "metric": "2021",
    }
    assert json.loads((tmp_path / "each.json").read_text()) == {"1": 60.0, "2": 100.0}
    assert str(tmp_path / "each.json") in found.err
    plain = frozen_vqa(*words)
    assert (plain.code, plain.out) == (0, "")
    assert "overall (2 questions)" in plain.err
    assert "80.00" in plain.err


# --json


def test_json_of_every_command_and_nothing_else_on_stdout(tmp_path: Path) -> None:
    found = extract(tmp_path, "--split", "train", "--split", "val", "--json")
    assert found.code == 0
    said = found.json()
    assert set(said) >= {"images", "questions", "bytes", "seconds", "left_out", "failures"}
    assert said["images"] == {"total": 9, "encoded": 9, "skipped": 0}
    assert set(said["questions"]) == {"total", "distinct", "tokens", "prefixes", "skipped"}
    counts = [said["questions"][name] for name in ("prefixes", "tokens")]
    assert 0 < said["questions"]["distinct"] <= said["questions"]["total"]
    assert counts == sorted(counts)
    assert said["bytes"] == sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.h5"))
    assert said["seconds"] > 0

    trained = train(tmp_path, "--fusion", "concat", "--json").json()
    assert set(trained) >= {
        *("run", "fusion", "epochs", "best_accuracy", "trainable_parameters"),
        *("questions_per_second", "data_wait_fraction", "seconds"),
    }
    assert (trained["run"], trained["fusion"]) == (str(tmp_path / "run"), "concat")

    scored = frozen_vqa("evaluate", "--run", tmp_path / "run", "--json").json()
    assert set(scored) >= {"accuracy", "by_question_type", "questions", "metric"}
    assert "overall" in scored["accuracy"]
    assert scored["metric"] == "2021"
    file = tmp_path / "run" / "evaluation" / "val" / "scores.json"
    assert scored == unseal_json(json.loads(file.read_text()))

    held = frozen_vqa("inspect-cache", tmp_path / "cache", "--json").json()
    assert held["images"] == {"rows": 9, "shards": 1}
    assert held["questions"]["prefixes"] == said["questions"]["prefixes"]
    assert held["questions"]["distinct"] == said["questions"]["distinct"]
    assert held["bytes"] == said["bytes"]
    assert held["settings"]["vision model"] == held["settings"]["text model"] == "tiny"
    assert held["settings"]["text layer"] == -1
    assert held["settings"]["dtype"] == "float16"
    assert set(held["splits"]) == {"train", "val"}
    assert held["failures"] == []


def test_without_json_stdout_is_empty_and_people_are_told(tmp_path: Path) -> None:
    found = extract(tmp_path, "--split", "train", "--split", "val")
    assert (found.code, found.out) == (0, "")
    assert "9 of 9 pictures encoded in " in found.err
    found = train(tmp_path)
    assert (found.code, found.out) == (0, "")
    assert f"{tmp_path / 'run'}: best accuracy " in found.err
    found = frozen_vqa("evaluate", "--run", tmp_path / "run")
    assert (found.code, found.out) == (0, "")
    assert "results in the official form: " in found.err
    found = frozen_vqa("inspect-cache", tmp_path / "cache")
    assert (found.code, found.out) == (0, "")
    assert "largest value" in found.err
    found = frozen_vqa("verify-cache", tmp_path / "cache")
    assert (found.code, found.out) == (0, "")
    assert "all sound" in found.err


def test_compare_sets_runs_side_by_side(run: Path, place: Path) -> None:
    found = frozen_vqa("evaluate", "--run", run, "--compare", place / "run", "--json")
    assert found.code == 0
    (compared,) = found.json()["compare"]
    assert compared["run"] == str(place / "run")
    assert {row["group"]: row["difference"] for row in compared["rows"]}["overall"] == 0.0
    assert all(row["difference"] == 0.0 for row in compared["rows"])


def test_brackets_and_colons_in_a_path_are_no_markup(tmp_path: Path) -> None:
    """Rich would swallow [red], take :cat: for a cat, and fail at [/x]."""
    odd = tmp_path / "[red] [a] :cat:" / "[" / "x]"
    odd.mkdir(parents=True)
    assert extract(odd, "--split", "train", "--split", "val").err.count(str(odd / "cache")) == 1
    assert str(odd / "run") in train(odd).err
    shown = " ".join(frozen_vqa("inspect-cache", odd / "cache").err.split())
    assert "[red] [a] :cat:" in shown
    found = frozen_vqa("evaluate", "--run", odd / "run")
    assert f"results in the official form: {odd / 'run'}" in found.err


# Bugs and Ctrl-C


def test_a_bug_keeps_its_traceback(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(pipeline.cache_info, "inspect_command", broken)
    with pytest.raises(RuntimeError, match=r"^a mistake of ours$"):
        frozen_vqa("inspect-cache", place / "cache")


def test_a_bug_in_a_process_of_its_own_shows_where_it_is() -> None:
    script = """
import sys, cli, pipeline.cache_info
def broken(_): raise RuntimeError("a mistake of ours")
pipeline.cache_info.inspect_command = broken
sys.argv = ["frozen-vqa", "inspect-cache", "x"]
cli.main()
"""
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (1, "")
    lines = found.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "RuntimeError: a mistake of ours"
    assert any('cli.py", line ' in line for line in lines)


def test_ctrl_c_is_130_and_says_how_to_go_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.commands, "extract_command", stopped)
    found = extract(place, "--split", "train", "--json")
    assert (found.code, found.out) == (130, "")
    said, _, command = found.err.partition(" To go on: ")
    assert said == "stopped; every finished shard is stored."
    words = shlex.split(command)
    assert words[:2] == ["frozen-vqa", "extract-features"]
    assert words[-3:] == ["--split", "train", "--json"]


def test_a_real_interrupt_in_a_process_of_its_own() -> None:
    script = """
import sys, time, cli, pipeline.cache_info
def forever(_):
    print("working", flush=True)
    for _ in range(600):
        time.sleep(0.1)
pipeline.cache_info.inspect_command = forever
sys.argv = ["frozen-vqa", "inspect-cache", "x"]
cli.main()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == "working\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=30) == 130
        assert "Traceback" not in running.stderr.read()


def test_an_interrupted_extraction_goes_on(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the pictures and before the questions; then the same bytes as in one go."""
    from pipeline.encoders import TextEncoder

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TextEncoder, "encode", stopped)
        found = extract(tmp_path, "--split", "train", "--split", "val")
    assert found.code == 130
    assert (tmp_path / "cache" / "images" / "00000.h5").exists()

    again = extract(tmp_path, "--split", "train", "--split", "val", "--json")

    assert again.code == 0
    assert again.json()["images"] == {"total": 9, "encoded": 0, "skipped": 0}
    for name in ("images/00000.h5", "questions/00000.h5", "splits/train.h5", "splits/val.h5"):
        assert (tmp_path / "cache" / name).read_bytes() == (place / "cache" / name).read_bytes()


STOPPED_IN_A_SHARD = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, if the tests run behind a &
import cli, pipeline.commands, ranks_worker
from frozen import Images

class Slow(Images):
    def encode(self, pixels):
        if len(self.batches) == 5:
            print("working", flush=True)
            for _ in range(600):  # a signal just before one long sleep would wait for its end
                time.sleep(0.1)
        return super().encode(pixels)

ranks_worker.Images = Slow
pipeline.commands.extract_command = lambda **how: ranks_worker.main(how["cache"])
cli.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_extraction_leaves_whole_shards_and_says_how_to_go_on(
    number: int, code: int, tmp_path: Path
) -> None:
    words = [
        "extract-features",
        "--dataset",
        "shapes",
        "--split",
        "train",
        "--cache",
        tmp_path / "a",
    ]
    here = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED_IN_A_SHARD, *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": here},
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == "working\n"
        running.send_signal(number)
        assert running.wait(timeout=30) == code
        said = running.stderr.read()
    assert "Traceback" not in said
    command = shlex.join(["frozen-vqa", *map(str, words)])
    assert said.endswith(f"stopped; every finished shard is stored. To go on: {command}\n")

    assert not list((tmp_path / "a").rglob("*.partial"))
    manifest = load_manifest(tmp_path / "a")
    assert len(manifest.images) == 2
    ranks_worker.main(tmp_path / "a")  # the lock was given back
    ranks_worker.main(tmp_path / "undisturbed")
    assert files(tmp_path / "a") == files(tmp_path / "undisturbed")
