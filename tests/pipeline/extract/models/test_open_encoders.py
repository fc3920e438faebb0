"""A new commit on the Hub strands no cache and no head: what was recorded is taken."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from tests.support.command import Finished, error_of, run_command
from tests.support.hub_stub import HubStub, hub_on_loopback
from tests.support.model_folders import edit_weights
from tests.support.tiny_commands import at_home, train

EYES, WORDS = "org/eyes", "org/words"
Place = tuple[Path, HubStub]


@pytest.fixture
def place(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A folder beside a Hub that has both tiny encoders."""
    with at_home(tmp_path_factory), hub_on_loopback(tmp_path / "hub") as hub:
        for name, part in ((EYES, "vision"), (WORDS, "text")):
            hub.push(name, tiny_checkpoint(part))
        yield tmp_path, hub


def move(hub: HubStub, folder: Path) -> dict[str, str]:
    """Push new weights to both main branches; return the new commits."""
    commits = {}
    for name, part in ((EYES, "vision"), (WORDS, "text")):
        new = Path(shutil.copytree(tiny_checkpoint(part), folder / f"new-{part}"))
        edit_weights(new, lambda state: state.update({k: v + 1 for k, v in state.items()}))
        commits[name] = hub.push(name, new)
    return commits


def extract(folder: Path, *words: object) -> Finished:
    return run_command(
        *("extract-features", "--dataset", "shapes:4", "--cache", folder / "cache", *words),
        *("--vision-model", EYES, "--text-model", WORDS),
    )


def recorded(folder: Path) -> dict[str, Any]:
    spec = FeatureCache(folder / "cache").spec
    return {EYES: spec.vision["revision"], WORDS: spec.text["revision"]}


def test_a_cache_and_its_head_keep_their_commits_when_the_branch_moves(place: Place) -> None:
    folder, hub = place
    before = {name: branches["main"] for name, branches in hub.branches.items()}
    assert extract(folder, "--split", "train").code == 0
    assert recorded(folder) == before
    assert train(folder, "--val-split", "train").code == 0
    after = move(hub, folder)
    shutil.rmtree(folder / "hub")  # another machine: the old commit is fetched again

    found = extract(folder, "--split", "val")

    assert found.code == 0, found.err
    assert recorded(folder) == before
    for name in (EYES, WORDS):
        note = f"the main branch of {name} on the Hub is now at {after[name]}; this cache keeps"
        assert f"{note} {before[name]}" in " ".join(found.err.split())
    asked = run_command(
        *("ask", folder / "run", "--question", "what?", "--image", _picture(folder)),
    )
    assert asked.code == 0, asked.err
    # A new cache takes what is there now.
    shutil.rmtree(folder / "cache")
    assert extract(folder, "--split", "val").code == 0
    assert recorded(folder) == after


@pytest.mark.slow
def test_a_revision_is_taken_and_another_one_than_the_recorded_is_refused(place: Place) -> None:
    folder, hub = place
    old = {name: branches["main"] for name, branches in hub.branches.items()}
    new = move(hub, folder)
    hub.branches[WORDS]["v1"] = old[WORDS]
    asked = ("--vision-revision", old[EYES], "--text-revision", "v1", "--split", "val")
    for _ in range(2):
        found = extract(folder, *asked)
        assert (found.code, "is now at" in found.err) == (0, False)
        assert recorded(folder) == old
    for option, name in (("vision", EYES), ("text", WORDS)):
        found = extract(folder, "--split", "val", f"--{option}-revision", "main")
        said = f"{option} revision is '{old[name]}', asked for '{new[name]}'"
        assert said in error_of(found)


@pytest.mark.parametrize("model", ["tiny", "folder", "tests.support.own_code:Means"])
def test_only_a_model_on_the_hub_has_revisions(model: str, place: Place) -> None:
    folder, _ = place
    model = str(tiny_checkpoint("vision")) if model == "folder" else model
    found = run_command(
        *("extract-features", "--dataset", "shapes:4", "--cache", folder / "cache"),
        *("--split", "val", "--text-model", "tiny", "--vision-model", model),
        *("--vision-revision", "main"),
    )
    assert "is not on the Hub, and only a model there has revisions" in error_of(found)


@pytest.mark.parametrize(
    "failing",
    ["model.safetensors", pytest.param("preprocessor_config.json", marks=pytest.mark.slow)],
)
def test_a_failed_run_leaves_the_local_hub_cache_as_offline_use_needs_it(
    failing: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new config.json without its weights would hide the whole copy of before."""
    folder, hub = place
    assert extract(folder, "--split", "val").code == 0
    before = recorded(folder)
    shutil.rmtree(folder / "cache")
    move(hub, folder)
    hub.faults[failing] = lambda handler, _: handler.answer(500) or True

    assert extract(folder, "--split", "val").code == 1

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = extract(folder, "--split", "val")
    assert found.code == 0, found.err
    assert recorded(folder) == before


@pytest.mark.slow
def test_offline_use_finds_the_commit_that_a_run_without_error_has_fetched(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, hub = place
    assert extract(folder, "--split", "val").code == 0
    after = move(hub, folder)
    shutil.rmtree(folder / "cache")
    assert extract(folder, "--split", "val").code == 0
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    shutil.rmtree(folder / "cache")
    assert extract(folder, "--split", "val").code == 0
    assert recorded(folder) == after
    assert len(hub.asked) == asked


def _picture(folder: Path) -> Path:
    from PIL import Image

    path = folder / "a.png"
    Image.new("RGB", (40, 40), "red").save(path)
    return path
