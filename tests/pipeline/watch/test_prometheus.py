"""The file for Prometheus: each text of it is one, and its figures are those of the result."""

import gc
import json
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from weakref import WeakSet

import pytest
from prometheus_client.parser import text_string_to_metric_families

from frozen_vqa.pipeline.extract.engines import crew
from frozen_vqa.pipeline.train.sweep import sweep
from frozen_vqa.pipeline.train.train import train
from frozen_vqa.pipeline.train.trainer import Trainer
from frozen_vqa.pipeline.watch import prometheus
from frozen_vqa.pipeline.watch.figures import FIGURES, PREFIX
from frozen_vqa.pipeline.watch.prometheus import FIRST_LINE, Part, prometheus_file
from tests.support.caches import Made
from tests.support.fake_cluster import FakeCluster
from tests.support.ray_extraction import run, run_on
from tests.support.repository import ROOT
from tests.support.resuming import CPU, GROUPED

Sample = tuple[str, frozenset[tuple[str, str]]]


def parse(data: bytes) -> dict[Sample, float]:
    """Return the samples of a text by name and labels."""
    assert data.startswith(FIRST_LINE)
    return {
        (one.name.removeprefix(PREFIX), frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(data.decode())
        for one in family.samples
    }


def named(samples: Mapping[Sample, float], name: str, **labels: str) -> float:
    """Return the sum of the samples of a name, with these labels."""
    return sum(
        v for (n, ls), v in samples.items() if n == name and labels.items() <= dict(ls).items()
    )


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """All texts that are written, one after the other."""
    written: list[bytes] = []
    real = prometheus.write_atomically

    def write(path: Path, data: bytes, **how: Any) -> None:
        written.append(data)
        real(path, data, **how)

    monkeypatch.setattr(prometheus, "write_atomically", write)
    monkeypatch.setattr(prometheus, "EVERY", 0.03)
    return written


def check(texts: list[bytes], path: Path) -> dict[Sample, float]:
    """Return the last samples; the texts before were of the same kind, and no count fell."""
    parsed = [parse(text) for text in texts]
    for before, after in pairwise(parsed):
        assert before.keys() <= after.keys()
        fell = [k for k in before if k[0].endswith("_total") and after[k] < before[k]]
        assert fell == []
    assert parse(path.read_bytes()) == parsed[-1]
    assert [named(one, "running") for one in parsed[:-1]] == [1.0] * (len(parsed) - 1)
    assert named(parsed[-1], "running") == 0
    assert named(parsed[-1], "succeeded") == 1
    return parsed[-1]


@pytest.mark.parametrize("cluster", [None, FakeCluster(3, Random(2), deadly=0.2, fatal="encode")])
def test_an_extraction_says_what_its_result_says(
    cluster: FakeCluster | None,
    tmp_path: Path,
    texts: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crew, "LOOK", 0.0)
    path, cache = tmp_path / "x.prom", tmp_path / "cache"
    with prometheus_file(path, "extract-features", cache):
        report = (run_on(cluster, cache) if cluster else run(cache)).to_json()
    last, told = check(texts, path), report["extraction"]

    assert {dict(labels)["folder"] for _, labels in last} == {str(cache)}
    assert named(last, "extract_pictures_total") == told["pictures"] == report["images"]["encoded"]
    assert named(last, "extract_questions_total") == told["questions"]
    assert named(last, "extract_unreadable_pictures") == report["images"]["skipped"] == 1
    assert named(last, "extract_cache_bytes") == report["bytes"]
    for name in ("pictures_left", "questions_left", "chunks_left", "chunks_waiting"):
        assert named(last, f"extract_{name}") == 0
    first = next(one for one in map(parse, texts) if named(one, "extract_workers"))
    assert named(first, "extract_pictures_left") <= report["images"]["total"]
    nodes = told.get("nodes", [told | {"node": ""}])
    for node in nodes:
        for phase in ("encoding", "waiting", "reading", "writing"):
            spent = named(last, "extract_phase_seconds_total", phase=phase, node=node["node"])
            assert spent == pytest.approx(node[phase], abs=0.001)
    for name, field in (
        ("extract_workers_lost_total", "lost"),
        ("extract_node_pictures_total", "pictures"),
        ("extract_node_questions_total", "questions"),
        ("extract_node_chunks_total", "chunks"),
    ):
        for node in nodes if cluster else ():
            assert named(last, name, node=node["node"]) == node[field]
    assert bool(named(last, "extract_workers_lost_total")) == bool(cluster)


@pytest.mark.parametrize("sweeps", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_training_says_what_its_result_says(
    sweeps: bool,
    scenes: Made,
    tmp_path: Path,
    texts: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So does each head of a sweep, whose label is its own folder. None is kept in memory."""
    path, run, trainers = tmp_path / "y.prom", tmp_path / "run", WeakSet[Trainer]()
    real = Trainer.__init__

    def begin(trainer: Trainer, *given: Any, **how: Any) -> None:
        trainers.add(trainer)
        real(trainer, *given, **how)

    monkeypatch.setattr(Trainer, "__init__", begin)
    heads = {"a": GROUPED, "b": replace(GROUPED, fusion="concat", epochs=1)}
    with prometheus_file(path, "train-head", run):
        if sweeps:
            results = sweep(scenes.directory, run, heads=heads, device=CPU).heads
        else:
            results = {"": train(scenes.directory, run, config=GROUPED, device=CPU)}
        gc.collect()
        assert not trainers
    last = check(texts, path)
    for name, result in results.items():
        text = (run / name / "metrics.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        found = partial(named, last, folder=str(run / name))
        assert found("train_epochs_total") == found("train_epochs_planned") == result.epochs
        assert found("train_steps_total") == found("train_steps_planned") == 3 * result.epochs
        assert found("train_loss") == lines[-1]["loss"]
        assert found("train_learning_rate") == lines[-1]["learning_rate"]
        assert found("train_accuracy_ratio") == pytest.approx(lines[-1]["accuracy"] / 100, abs=1e-4)
        assert found("train_best_accuracy_ratio") == pytest.approx(
            result.best_accuracy / 100, abs=1e-4
        )
        seconds = found("train_seconds_total")
        assert seconds == pytest.approx(sum(line["seconds"] for line in lines), abs=0.01)
        waited = found("train_waiting_seconds_total") / seconds
        assert waited == pytest.approx(result.data_wait_fraction, abs=0.001)


def test_a_failed_run_says_so_and_the_file_stays(tmp_path: Path, texts: list[bytes]) -> None:
    """Nothing that a part was read from is kept, and its last figures are."""
    path, steps = tmp_path / "x.prom", [3.0]

    def fail() -> float:
        with prometheus_file(path, "train-head", tmp_path / "run"):
            part = Part(lambda: {"train_steps_total": steps.pop()})
            part.end()
            part.end()
            return 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    last = parse(path.read_bytes())
    assert (named(last, "running"), named(last, "succeeded")) == (0, 0)
    assert named(last, "train_steps_total") == 3


def test_work_goes_on_without_its_file(
    tmp_path: Path, texts: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens to the file after the start is one warning, and nothing of others is lost."""
    path, warned = tmp_path / "x.prom", list[str]()
    monkeypatch.setattr(prometheus.console, "warn", warned.append)
    with prometheus_file(path, "train-head", "s3://bucket/vqa\n\udcff"):
        path.unlink()
        path.write_text("mine")
        deadline = time.monotonic() + 10
        while not warned and time.monotonic() < deadline:
            time.sleep(0.01)
    assert path.read_text() == "mine"
    assert len(warned) == 1
    assert warned[0].startswith(f"{path}: there is something in the way")


@pytest.mark.parametrize(("rank", "written"), [("0", True), ("1", False)])
def test_one_rank_alone_writes(
    rank: str, written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with prometheus_file(tmp_path / "new" / "x.prom", "train-head", tmp_path / "run"):
        pass
    assert (tmp_path / "new" / "x.prom").exists() == written


def test_the_manual_and_the_dashboard_name_the_figures_that_there_are() -> None:
    """Each figure is in the table of the manual with its kind, its labels and its meaning."""
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = re.findall(rf"^\| `{PREFIX}(\w+)` \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    assert rows == [
        (name, ", ".join(f"`{label}`" for label in about.labels), about.help.rstrip("."))
        for name, about in FIGURES.items()
    ]
    dashboard = (ROOT / "examples" / "grafana.json").read_text(encoding="utf-8")
    used = set(re.findall(rf"{PREFIX}(\w+)", page + dashboard))
    assert used == set(FIGURES)
    assert {"extract_pictures_left", "train_loss"} <= set(re.findall(rf"{PREFIX}(\w+)", dashboard))
    assert json.loads(dashboard)["panels"]
