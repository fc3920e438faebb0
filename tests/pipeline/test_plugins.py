"""Code of the user's own runs where the user names it, and nowhere because a file does."""

import sys
from pathlib import Path

import pytest
import torch

import frozen_vqa
from frozen_vqa.pipeline import plugins
from frozen_vqa.pipeline.errors import PluginError
from frozen_vqa.pipeline.model.config import FUSIONS, HeadSettings
from frozen_vqa.pipeline.model.own_fusion import check_fusion
from frozen_vqa.pipeline.plugins import is_own, trust, trusted
from tests.support import own_code
from tests.support.attack import attack
from tests.support.caches import Made
from tests.support.command import error_of, run_command
from tests.support.heads import seal
from tests.support.own_code import FAULTS, HOME, _nothing_named  # noqa: F401  # in every test

MINE = f"{HOME}:Attends"
SMALL = ("--epochs", 1, "--width", 8, "--min-answer-count", 1)


@pytest.mark.parametrize("name", ["a:B", "a.b.c:_d1", "_:x", "A1.b:C" + "x" * 100])
def test_names_of_code(name: str) -> None:
    assert is_own(name)


@pytest.mark.parametrize(
    "name",
    [
        *FUSIONS,
        "",
        "a",
        "a:",
        ":b",
        "a:b:c",
        "a.:b",
        ".a:b",
        "a:b.c",
        "a-b:c",
        "1a:b",
        "a:1",
        "a b:c",
        "a:b\n",
        "a:b()",
        "../a:b",
        "a/b:c",
        "å:b",
        "a:b" + "x" * 200,
        "who/else",
    ],
)
def test_what_is_no_name_of_code(name: str) -> None:
    assert not is_own(name)
    with pytest.raises(PluginError, match="is not the name of code"):
        trust(name)


def test_only_what_was_named_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_1.py").write_text("class One: pass\nclass Two: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match="no code runs because a file names it"):
        trusted("mine_1:One", option="--fusion")
    assert "mine_1" not in sys.modules
    assert trust("mine_1:One") == "mine_1:One"
    assert trusted("mine_1:One", option="--fusion") is sys.modules["mine_1"].One
    with pytest.raises(PluginError, match=r"RUN: names 'mine_1:Two'.*--fusion mine_1:Two \(in"):
        trusted("mine_1:Two", where="RUN", option="--fusion")


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        ("x = 1", "mine_2:x", "'x' is not a class or a function in .*mine_2.py"),
        ("x = 1", "mine_2:X", "'X' is not there in .*mine_2.py"),
        ("\n1 / 0", "mine_2:X", r"the import failed in .*mine_2.py, line 2 \(ZeroDivisionError: "),
        ("import none_such", "mine_2:X", r"the import failed .*\(ModuleNotFoundError: .*none_such"),
        ("x = (", "mine_2:X", r"the import failed .*\(SyntaxError: "),
        ("", "none_such_2:X", "there is no module 'none_such_2'; install it, or name its folder"),
        ("", "mine_2.inner:X", "there is no module 'mine_2.inner'; install it"),
    ],
)
def test_code_that_cannot_be_imported_is_one_sentence(
    source: str, name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_2.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_2", raising=False)
    with pytest.raises(PluginError, match=said) as found:
        trust(name)
    assert "\n" not in str(found.value)


def test_a_class_is_named_by_its_module() -> None:
    assert trust(own_code.Attends) == MINE
    for other in (lambda: None, type("Local", (), {"__qualname__": "f.<locals>.C"}), 3):
        with pytest.raises(PluginError, match="at the top of a module"):
            trust(other)  # type: ignore[arg-type]


def test_settings_take_the_form_and_import_nothing() -> None:
    assert HeadSettings(fusion="none_such:Mine").fusion == "none_such:Mine"
    with pytest.raises(frozen_vqa.PipelineError, match=r"one of co-attention.*MODULE:NAME"):
        HeadSettings(fusion="mine")


def test_a_fusion_that_keeps_its_promises() -> None:
    before = torch.get_rng_state()
    check_fusion(own_code.Attends)
    check_fusion(own_code.Rounds)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", FAULTS)
def test_the_test_of_a_fusion_finds_each_fault(name: str) -> None:
    said = FAULTS[name]
    with pytest.raises(PluginError, match=said if "\\" in said else "(?s).*") as found:
        check_fusion(f"{HOME}:{name}")
    assert "\\" in said or said in str(found.value)
    assert str(found.value).startswith(f"{HOME}:{name}: ")


def test_every_wrong_fusion_is_tried() -> None:
    wrong = {
        name
        for name, one in vars(own_code).items()
        if isinstance(one, type) and issubclass(one, torch.nn.Module) and one.__module__ == HOME
    }
    assert wrong == {"Attends", "Rounds", "Wrong", *FAULTS}


def test_a_run_of_an_own_fusion_needs_its_name_in_every_command(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each refusal is one sentence."""
    train = ("train-head", "--cache", scenes.directory, "--run", tmp_path / "run", *SMALL)
    assert run_command(*train, "--fusion", MINE).code == 0
    named = ("--fusion", MINE)
    later: list[tuple[object, ...]] = [
        ("evaluate", "--run", tmp_path / "run"),
        (
            "train-head",
            "--cache",
            scenes.directory,
            "--run",
            tmp_path / "new",
            "--config",
            tmp_path / "run" / "config.toml",
        ),
        ("train-head", "--cache", scenes.directory, "--run", tmp_path / "run", "--resume"),
        (
            "train-head",
            "--cache",
            scenes.directory,
            "--run",
            tmp_path / "many",
            "--sweep",
            tmp_path / "run" / "config.toml",
        ),
    ]
    for words in later:
        monkeypatch.setattr(plugins, "_trusted", {})
        error = error_of(run_command(*words))
        assert f"names '{MINE}', and no code runs because a file names it" in error
        assert f"--fusion {MINE}" in error
        assert run_command(*words, *named).code == 0, words
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"--config config.toml --fusion {MINE}\n" in card
    assert f'from_pretrained("FOLDER OR REPOSITORY", fusion="{MINE}")' in card

    monkeypatch.setattr(plugins, "_trusted", {})
    with pytest.raises(PluginError, match="no code runs"):
        frozen_vqa.VqaHead.from_pretrained(tmp_path / "run")
    head = frozen_vqa.VqaHead.from_pretrained(tmp_path / "run", fusion=own_code.Attends)
    assert head.own_fusion is not None
    assert torch.equal(head.own_fusion.table, torch.full((1, 1, 8), 0.5))
    assert frozen_vqa.evaluate(tmp_path / "run").accuracy is not None


def test_python_trains_an_own_fusion_by_its_class(scenes: Made, tmp_path: Path) -> None:
    how = {"width": 8, "heads": 2, "epochs": 1, "min_answer_count": 1, "device": "cpu"}
    frozen_vqa.train(scenes.directory, tmp_path / "a", fusion=own_code.Attends, layers=2, **how)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="padding changes"):
        frozen_vqa.train(scenes.directory, tmp_path / "b", fusion=own_code.CountsPadding, **how)  # type: ignore[arg-type]
    assert not (tmp_path / "b").exists()


def test_a_stranger_s_run_imports_nothing(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the module lies: beside the run, in it, in the working folder, or installed."""
    run = tmp_path / "run"
    frozen_vqa.train(
        scenes.directory,
        run,
        fusion=own_code.Attends,
        width=8,
        heads=2,
        epochs=1,
        min_answer_count=1,
        device="cpu",
    )
    for folder in (run, tmp_path, scenes.directory):
        (folder / "evil_fusion.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for name in ("config.toml", "config.json"):
        text = (run / name).read_text()
        (run / name).write_text(text.replace(MINE, "evil_fusion:Attends"))
    seal(run)
    monkeypatch.chdir(run)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_trusted", {})
    for words in (
        ("evaluate", "--run", run),
        ("ask", "--run", run, "--image", "x.png", "--question", "what?"),
        (
            "train-head",
            "--cache",
            scenes.directory,
            "--run",
            tmp_path / "n",
            "--config",
            "config.toml",
        ),
    ):
        found = attack(*words, place=tmp_path, writes=[])
        assert found.require_harmless()
    assert not (tmp_path / "ran").exists()
    assert "evil_fusion" not in sys.modules
