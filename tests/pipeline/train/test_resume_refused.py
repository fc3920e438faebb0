"""What a training does not go on with: damaged states, and what changed since it began."""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from frozen_vqa.cache import CacheError, CacheMismatchError
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.runs import sealed
from frozen_vqa.pipeline.runs.description import load_resumed_config
from frozen_vqa.pipeline.runs.folder import CURRENT, state_files
from frozen_vqa.pipeline.runs.state import has_state, recover_state
from frozen_vqa.pipeline.train.resume import require_same_answers
from tests.support import resuming
from tests.support.caches import Made, make_cache, make_spec
from tests.support.resuming import GROUPED, begin, files, flip, go_on

# Fixtures; the first is in force in every test.
kept_states, stopped = resuming.kept_states, resuming.stopped


# --- damage --------------------------------------------------------------------------------------


def test_two_damaged_states(stopped: Path, scenes: Made) -> None:
    for path in (state_files(stopped).current, state_files(stopped).previous):
        flip(path, -9)
    before = files(stopped)
    message = (
        r"state\.safetensors: does not fit its digest.*, and state\.previous\.safetensors does not "
        r"fit its digest.*Restore one from a copy, or train .* --overwrite in place of --resume"
    )
    with pytest.raises(RunError, match=message):
        go_on(scenes, stopped, GROUPED)
    assert files(stopped) == before
    begin(scenes, stopped, GROUPED, overwrite=True)
    assert not has_state(stopped)


def test_a_state_is_no_pickle_and_of_no_other_form(stopped: Path) -> None:
    """From elsewhere: whoever can write the file can write the digest."""
    state_files(stopped).previous.unlink()
    path = state_files(stopped).current
    tensors, record = sealed.read_sealed(path, "")
    changed: list[dict[str, Any]] = [
        {**record, "format": 99},
        {**record, "progress": {}},
        {**record, "progress": {**record["progress"], "metrics": "none"}},
        {**record, "progress": {**record["progress"], "more": 5}},
        {**record, "counters": {}},
        {**record, "counters": {**record["counters"], "step": "5"}},
        {**record, "counters": 5},
        {**record, "fingerprint": {**record["fingerprint"], "config": 3}},
        {"format": record["format"]},
    ]
    for other in changed:
        path.write_bytes(sealed.seal(tensors, other))
        with pytest.raises(
            RunError, match=r"state\.safetensors: (has format 99|does not fit the f)"
        ):
            recover_state(stopped)
    path.write_bytes(sealed.seal(tensors, record))
    assert recover_state(stopped).counters.step == 5


def test_the_state_of_another_head(stopped: Path, scenes: Made) -> None:
    tensors, record = sealed.read_sealed(state_files(stopped).current, "")
    del tensors["model.head.bias"]
    state_files(stopped).current.write_bytes(sealed.seal(tensors, record))
    with pytest.raises(RunError, match=r"its state belongs to another head \(.*head\.bias"):
        go_on(scenes, stopped, GROUPED)


def test_best_weights_that_were_damaged_meanwhile(stopped: Path, scenes: Made) -> None:
    flip(stopped / CURRENT, -9)
    with pytest.raises(RunError, match=r"model\.safetensors: does not fit its digest"):
        go_on(scenes, stopped, GROUPED)
    shutil.copy(state_files(stopped).current, stopped / CURRENT)
    with pytest.raises(RunError, match=r"model\.safetensors: "):
        go_on(scenes, stopped, GROUPED)


# --- what may not have changed -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"epochs": 3},
            r"epochs was 2 .* 3 is asked for, another schedule: .* can be added\. A tr",
        ),
        ({"lr": 0.5}, r"lr was 0.01 when it began, and 0.5 is asked for, another schedule"),
        ({"dropout": 0.0}, r"dropout was 0.3 when it began, and 0.0 is asked for\. A training"),
        ({"seed": 1, "width": 32}, r"width was 16 .* 32 is asked for; seed was 0 .* 1 is asked"),
        ({"val_split": "train"}, r"val_split was 'val' .* 'train' is asked for"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_changed_settings_are_refused(
    finished: bool, changes: dict[str, Any], message: str, stopped: Path, scenes: Made
) -> None:
    if finished:
        go_on(scenes, stopped, GROUPED)
    before = files(stopped)
    with pytest.raises(ConfigError, match=message):
        go_on(scenes, stopped, replace(GROUPED, **changes))
    assert files(stopped) == before


def other_cache(path: Path, scenes: Made, **changes: Any) -> Made:
    """The same cache again, or one that differs in one respect."""
    how = {
        "splits": scenes.splits,
        "patch_embeddings": scenes.patch_embeddings,
        "states": scenes.states,
    }
    return make_cache(path, **(how | changes))


def moved_answer(scenes: Made, split: str) -> dict[str, Any]:
    rows = list(scenes.splits[split])
    rows[0] = replace(rows[0], answers=("red",) * 9 + ("blue",))
    return {**scenes.splits, split: rows}


def test_a_changed_cache_is_refused(stopped: Path, scenes: Made, tmp_path: Path) -> None:
    brighter = scenes.patch_embeddings.copy()
    brighter[-1, 0, 0] += 1
    longer = [scenes.states[0] + 1, scenes.states[1]]
    spec = make_spec(vision={"model": "made-up-vision", "image size": 42})
    changes: dict[str, dict[str, Any]] = {
        "vision image size is 42, and was 28": {"spec": spec},
        "dtype is 'float32', and was 'float16'": {"spec": make_spec(dtype="float32")},
        "split train is '[0-9a-f]{32}', and was": {"splits": moved_answer(scenes, "train")},
        "split val is '[0-9a-f]{32}', and was": {"splits": moved_answer(scenes, "val")},
        "shards of pictures is '[0-9a-f]{32}', and was": {"patch_embeddings": brighter},
        "shards of questions is '[0-9a-f]{32}', and was": {"states": longer},
    }
    before = files(stopped)
    for number, (message, change) in enumerate(changes.items()):
        other = other_cache(tmp_path / str(number), scenes, **change)
        with pytest.raises(CacheMismatchError, match=message + r".* Give the cache that it began"):
            go_on(other, stopped, GROUPED)
    assert files(stopped) == before
    without = other_cache(tmp_path / "x", scenes, splits={"val": scenes.splits["val"]})
    with pytest.raises(CacheError, match="no split 'train'"):
        go_on(without, stopped, GROUPED)


@pytest.mark.parametrize("name", ["config.json", "answers.json", "config.toml"])
def test_a_changed_file_of_the_run_is_refused(name: str, stopped: Path, scenes: Made) -> None:
    (stopped / name).write_bytes((stopped / name).read_bytes() + b"\n")
    with pytest.raises(RunError, match=rf"{name}: not the file that the training began with"):
        go_on(scenes, stopped, GROUPED)
    (stopped / name).unlink()
    with pytest.raises(RunError, match=rf"{name}: cannot be read"):
        go_on(scenes, stopped, GROUPED)


def with_machine(run: Path, **changes: Any) -> None:
    path = state_files(run).current
    tensors, record = sealed.read_sealed(path, "")
    record["fingerprint"]["machine"] |= changes
    path.write_bytes(sealed.seal(tensors, record))


def test_another_device_is_refused_and_other_rounding_is_said(
    stopped: Path, scenes: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    with_machine(stopped, device="cuda")
    with pytest.raises(
        RunError, match=r"began on cuda, and cpu is asked for.*Give --device cuda\."
    ):
        go_on(scenes, stopped, GROUPED)
    with_machine(stopped, device="cpu", torch="0.1", threads=torch.get_num_threads())
    capsys.readouterr()
    go_on(scenes, stopped, GROUPED)
    said = capsys.readouterr().err
    assert f"began with 0.1 as torch, continues with {torch.__version__}; numbers may be" in said
    assert "as threads" not in said


def test_the_settings_of_a_run_name_no_answers_elsewhere(tmp_path: Path) -> None:
    for name, fits in (("answers.json", True), ("../x.json", False), (str(tmp_path / "x"), False)):
        (tmp_path / "config.toml").write_text(f'answers_file = "{name}"\n')
        with nullcontext() if fits else pytest.raises(RunError, match="keeps its answers in"):
            load_resumed_config(tmp_path, None, {})
        assert load_resumed_config(tmp_path, None, {"answers_file": "mine"}).answers_file == "mine"


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (["a", "b"], None),
        (["a", "c"], "answer 2 is 'c', and was 'b' when"),
        (["x", "b", "c"], "answer 1 is 'x', and was 'a' when"),
        (["a"], "there are 1 answers in it, and there were 2 when"),
        (["a", "b", "c"], "there are 3 answers in it, and there were 2 when"),
    ],
)
def test_another_file_of_answers_must_hold_the_same(
    now: list[str], said: str | None, tmp_path: Path
) -> None:
    (tmp_path / "answers.json").write_text('["a", "b"]')
    asked, config = Vocabulary(tuple(now)), TrainConfig(answers_file="mine.txt")
    if said is None:
        require_same_answers(tmp_path, asked, config)
        return
    require_same_answers(tmp_path, asked, TrainConfig())  # no file, no question
    with pytest.raises(ConfigError, match=f"^mine.txt: {said} the training of {tmp_path} began"):
        require_same_answers(tmp_path, asked, config)
