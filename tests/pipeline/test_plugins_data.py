"""Sources and encoders of the user's own, from the command to an answer."""

from pathlib import Path

import pytest
import torch

import frozen_vqa
from frozen_vqa.pipeline import plugins
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError, PluginError
from frozen_vqa.pipeline.plugins import trust
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support import own_code
from tests.support.command import error_of, run_command
from tests.support.own_code import HOME, _nothing_named  # noqa: F401  # in force in every test

SMALL = ("--epochs", 1, "--width", 8, "--min-answer-count", 1)


def test_a_source_of_the_user(tmp_path: Path) -> None:
    source = open_source(trust(own_code.Colours))
    found = [(one.question_id, one.answers) for one in source.examples("train")]
    assert found == [(0, ("red",)), (1, ("blue",))]
    assert [one.reason for one in source.left_out("train")] == [
        "question_id 1 was used before, in example 2; the first is kept",
        "question is blank; text is needed",
    ]
    assert source.picture("red") == own_code.Colours().picture("red")
    with pytest.raises(PluginError, match=r"without picture; a frozen_vqa.Source is needed"):
        open_source(trust(own_code.HasNoPictures))
    with pytest.raises(frozen_vqa.PipelineError, match="example 1: found str; a VqaExample"):
        open_source(trust(own_code.GivesTexts)).examples("train")
    with pytest.raises(frozen_vqa.PipelineError, match=r"picture\('red'\) failed in .*no red"):
        open_source(trust(own_code.FailsOnPictures)).picture("red")
    with pytest.raises(frozen_vqa.PipelineError, match="There is no module 'none_such'"):
        open_source("none_such:mine")
    with pytest.raises(frozen_vqa.PipelineError, match="Did you mean 'jsonl:data'"):
        open_source("jsnol:data")


def test_the_metric_of_a_source_of_the_user(tmp_path: Path) -> None:
    extract = ("extract-features", "--split", "train", "--cache", tmp_path / "cache")
    tiny = ("--vision-model", "tiny", "--text-model", "tiny")
    assert "'vizwis'; did you mean 'vizwiz'?" in error_of(
        run_command(*extract, "--dataset", f"{HOME}:HasNoSuchMetric")
    )
    assert run_command(*extract, *tiny, "--dataset", f"{HOME}:HasMetric").code == 3
    assert frozen_vqa.FeatureCache(tmp_path / "cache").manifest.splits["train"].origin[
        "metric"
    ] == ("vizwiz")


def test_a_source_that_the_user_has_not_named_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache, too, holds the name of its data set."""
    (tmp_path / "mine_2.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mine_2:Data", "mine_2.part:Data", f"{HOME}:Colours"):
        with pytest.raises(PluginError, match=f"no code runs.*--dataset {name}"):
            open_source(name)


@pytest.mark.parametrize("option", [("--images", "DATA"), ("--column", "question=query")])
def test_a_source_of_the_user_takes_no_option_of_others(option: tuple[str, str]) -> None:
    found = error_of(run_command("check-data", f"{HOME}:Colours", *option))
    assert f"{HOME}:Colours: {option[0]} is for " in found
    assert run_command("check-data", f"{HOME}:Colours", "--split", "train").code == 3


def test_encoders_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match=f"no code runs.*--vision-model {HOME}:Means"):
        ImageEncoder(f"{HOME}:Means")
    images, text = ImageEncoder(trust(own_code.Means)), TextEncoder(trust(own_code.Letters))
    assert images.settings["model"] == f"{HOME}:Means"
    assert (images.settings["revision"], text.settings["revision"]) == ("1", "1")
    patches, whole = images.encode(images.pixels(own_code.Colours().picture("red"))[None])
    assert (patches.shape, whole.shape) == ((1, 16, 12), (1, 12))
    torch.testing.assert_close(
        patches[0, 0], own_code.Means(torch.device("cpu"), torch.float32).spread[0]
    )
    assert text.encode(text.tokens(["ab"])).shape == (1, 2, 16)
    for name, said in {
        "HasNoRevision": "lacks revision",
        "GivesPixels": r"its encode returned \(1, 3, 32, 32\); floats of \(1, 16, 12\)",
    }.items():
        with pytest.raises(frozen_vqa.PipelineError, match=said):
            ImageEncoder(trust(f"{HOME}:{name}"))
    with pytest.raises(ModelError, match="depend on later tokens; only a causal model"):
        TextEncoder(trust(own_code.LooksAhead))
    with pytest.raises(ModelError, match="leave out --image-size"):
        ImageEncoder(trust(own_code.Means), image_size=64)


def test_own_data_and_encoders_from_the_command_to_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path
    found = run_command(
        *("extract-features", "--dataset", f"{HOME}:Colours", "--split", "train"),
        *(
            "--cache",
            place / "c",
            "--vision-model",
            f"{HOME}:Means",
            "--text-model",
            f"{HOME}:Letters",
        ),
    )
    assert found.code == 3, found.err  # two questions are left out
    found = run_command(
        *(
            "train-head",
            "--cache",
            place / "c",
            "--run",
            place / "r",
            "--val-split",
            "train",
            *SMALL,
        )
    )
    assert found.code == 0, found.err
    own_code.Colours().picture("red").save(place / "red.png")
    ask = (
        "ask",
        "--run",
        place / "r",
        "--image",
        place / "red.png",
        "--question",
        "what colour is it?",
    )
    monkeypatch.setattr(plugins, "_trusted", {})
    assert f"--encoder {HOME}:Means" in error_of(run_command(*ask))
    both = ("--encoder", f"{HOME}:Means", "--encoder", f"{HOME}:Letters")
    answers = run_command(*ask, *both, "--json").json()["answers"]
    assert {one["answer"] for one in answers} == {"red", "blue"}
    head = frozen_vqa.VqaHead.from_pretrained(place / "r")
    asked = head.ask(place / "red.png", "what colour is it?")
    assert [(a, round(p, 6)) for a, p in asked.ranked] == [
        (one["answer"], one["probability"]) for one in answers
    ]
