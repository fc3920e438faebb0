"""Several machines: each reads its own share of a cache at a URL, and may die and come back."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch.distributed as dist
from torch.testing import assert_close

import frozen_vqa.pipeline.train.trainer
from frozen_vqa.cache import FeatureCache
from frozen_vqa.cache.stores.copies import object_name
from frozen_vqa.cache.stores.stage import open_stage
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.commands.train_head import _begins
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.weights import read_weights
from frozen_vqa.pipeline.system.ranks import ALONE, Ranks, _new_part
from frozen_vqa.pipeline.train.data import load_train_data
from frozen_vqa.pipeline.train.train import train
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support import stores
from tests.support.bad_machines import Heard
from tests.support.caches import Made, make_scenes
from tests.support.command import run_command
from tests.support.machines import kill_machine, start_machine
from tests.support.repository import ROOT
from tests.support.several_ranks import SETTINGS, Silent, curve
from tests.support.stores import URL, memory, push
from tests.support.trainings import CPU, metrics, small


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Eight shards of training pictures, and two of others."""
    return make_scenes(tmp_path_factory.mktemp("made"), train=64, val=16, shards=10)


@pytest.fixture
def url(made: Made, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with memory(monkeypatch):
        push(made.directory)
        yield URL
    stores.forget()


def test_a_stage_holds_the_share_of_its_machine(
    url: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the pictures of its part of the validation; in every epoch."""
    monkeypatch.setattr(frozen_vqa.pipeline.train.trainer, "distribute", lambda model, *_: model)
    monkeypatch.setattr(Ranks, "total", lambda self, numbers: numbers)
    shards = FeatureCache(made.directory).manifest.images
    for rank, own in enumerate([(0, 1, 2, 3, 8), (4, 5, 6, 7, 9)]):
        config = small(shares=2, batch_size=16)
        data = load_train_data(open_stage(url, tmp_path / f"stage {rank}"), config)
        features = ResidentFeatures(data.cache, residency="mapped", device=CPU)
        trainer = Trainer(features, data, config=config, ranks=Silent(rank, 2))
        for epoch in range(2):
            trainer.epoch(epoch)
            trainer.accuracy()
        there = {path.name for path in (tmp_path / f"stage {rank}").rglob("images/*")}
        assert there == {Path(object_name(shards[i])).name for i in own}


@pytest.mark.parametrize(
    ("place", "machines", "asked", "shares"),
    [
        ("url", 2, 0, 2),
        ("url", 2, 1, 1),
        ("url", 1, 0, 0),
        ("folder", 2, 0, 0),
        ("folder", 1, 2, 2),
    ],
)
def test_there_is_a_share_for_each_machine_that_has_a_stage(
    place: str,
    machines: int,
    asked: int,
    shares: int,
    url: str,
    made: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unless the settings say how many; the run says so, and goes on with as many."""
    given = {"RANK": "0", "WORLD_SIZE": "1", "GROUP_WORLD_SIZE": str(machines)}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    cache, run = made.directory if place == "folder" else open_stage(url, tmp_path), tmp_path / "r"
    config = small(shares=asked, epochs=1)
    train(cache, run, config=config, device=CPU)
    assert f"shares = {shares}\n" in (run / "config.toml").read_text()
    monkeypatch.setenv("GROUP_WORLD_SIZE", "1")
    train(cache, run, config=config, device=CPU, resume=True)


def test_under_torchrun_a_resume_also_begins(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a kill before the first state; what has trained is continued."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    run = tmp_path / "run"
    words = ("--epochs", 1, "--width", 16, "--min-answer-count", 1, "--no-report", "--resume")
    command = ("train-head", made.directory, "--run", run, *words)
    found = run_command(*command)
    assert found.code == 0
    assert f"{run}: nothing to resume here, so the training begins" in found.err
    first = metrics(run)[0]["loss"]
    assert "this training is finished" in run_command(*command).err
    for name in ("model.safetensors", "metrics.jsonl"):
        (run / name).unlink()
    assert run_command(*command).code == 0
    assert metrics(run)[0]["loss"] == first
    shutil.rmtree(run)
    found = run_command("train-head", "--run", run, *words)
    assert found.err.endswith(
        "there is no training here to resume (state/ is empty). Train without --resume.\n"
    )


def test_a_run_on_another_machine_is_not_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match=r"another machine has this training, .* copy it there"):
        _begins(tmp_path / "run", tmp_path, Heard())
    monkeypatch.delenv("RANK")
    assert not _begins(tmp_path / "run", tmp_path, ALONE)


def test_ranks_that_start_once_more_see_nothing_of_the_dead() -> None:
    """Whichever of them were there, and whoever comes first."""
    store, seen = dist.HashStore(), []
    with ThreadPoolExecutor(3) as threads:
        for attempt in range(3):
            store.set(f"rank {attempt}", "a rank that died while it waited")
            order = [(attempt + i) % 3 for i in range(3)]
            parts = list(threads.map(lambda rank: _new_part(store, rank, 3), order))
            parts[0].set("address", str(attempt))
            assert {part.get("address") for part in parts} == {str(attempt).encode()}
            assert parts[1].add("failed", 1) == 1
            seen.append(store.num_keys())
    assert len(set(seen)) == 3


def start(
    number: int, port: int, made: Made, folder: Path, *settings: object
) -> "subprocess.Popen[bytes]":
    """Start one of two machines; only that of the first rank sees the run folder."""
    run = folder / "run" if number == 0 else folder / "elsewhere" / "run"
    words = ["train-head", "--cache", f"file://{folder}/store", "--stage", folder / f"s{number}"]
    words += ["--run", run, "--config", folder / "head.toml", "--no-report", "--resume", *settings]
    return start_machine(port, folder / f"log {number}", ROOT / "cli.py", words)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_machines_train_as_one_process_and_one_may_die(made: Made, tmp_path: Path) -> None:
    """The one that dies is started again, with the same command, and finds no file of the run."""
    push(made.directory, f"file://{tmp_path}/store")
    (tmp_path / "head.toml").write_text(f"{SETTINGS}\ndropout = 0.0")
    port, longer = free_port(), ("--epochs", 30, "--residency", "mapped")
    machines = [start(number, port, made, tmp_path, *longer) for number in range(2)]
    run, until = tmp_path / "run", time.monotonic() + 100
    while not (run / "metrics.jsonl").exists():
        assert time.monotonic() < until, (tmp_path / "log 0").read_text()
        time.sleep(0.1)
    kill_machine(machines[1])
    machines[1] = start(1, port, made, tmp_path, *longer)
    try:
        assert [one.wait(timeout=200) for one in machines] == [0, 0]
    finally:
        for one in machines:
            kill_machine(one)
    said = (tmp_path / "log 0").read_text()
    assert "another rank was killed, or its machine is gone" in said
    assert "continuing after" in said
    assert not (tmp_path / "elsewhere").exists()

    alone = ["train-head", made.directory, "--run", tmp_path / "one", "--no-report"]
    assert run_command(*alone, "--config", run / "config.toml").code == 0
    assert "shares = 2" in (tmp_path / "one" / "config.toml").read_text()
    for two, one in zip(curve(run), curve(tmp_path / "one"), strict=True):
        assert two == pytest.approx(one, abs=1e-4)
    weights = [read_weights(one / "model.safetensors").tensors for one in (run, tmp_path / "one")]
    assert_close(*weights, atol=1e-3, rtol=0)
