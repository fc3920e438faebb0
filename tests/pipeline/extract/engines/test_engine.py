"""Workers that come and go make the bytes of one process, whichever of them dies and when."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from frozen_vqa.cache import CacheError, load_manifest
from frozen_vqa.pipeline.errors import ModelError, PipelineError
from frozen_vqa.pipeline.extract.engines import crew, worker
from frozen_vqa.pipeline.extract.engines.worker import AT_ONCE
from frozen_vqa.pipeline.extract.speed.throughput import read_throughputs
from tests.support.fake_cluster import FakeCluster
from tests.support.frozen import Images, Text, files
from tests.support.ray_extraction import run, run_on, source


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The cache that one process makes."""
    directory = tmp_path_factory.mktemp("alone")
    run(directory)
    assert len(load_manifest(directory).images) > 2
    assert len(load_manifest(directory).questions) > 3
    return files(directory)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits to look at the nodes."""
    monkeypatch.setattr(crew, "LOOK", 0.0)


class DriverDiedError(BaseException):
    """Ends a driver at once, as a kill does but for the lock."""


@pytest.mark.parametrize(
    ("seed", "nodes", "sees"),
    [
        (0, 2, True),
        (1, 3, False),
        *(pytest.param(n, n % 4 + 1, n % 3 > 0, marks=pytest.mark.slow) for n in range(2, 30)),
    ],
)
def test_whatever_dies_the_bytes_are_those_of_one_process(
    seed: int,
    nodes: int,
    sees: bool,
    alone: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workers die before, in or after their work; nodes go; the driver dies; the disk is full."""
    cache, rng = tmp_path, random.Random(seed)
    monkeypatch.setattr(crew, "MOST_LOSSES", 1000)
    deaths = 3

    def before() -> None:
        nonlocal deaths
        cluster.nodes = rng.randint(0, nodes)
        if deaths and rng.random() < 0.1:
            deaths -= 1
            raise DriverDiedError if rng.random() < 0.7 else CacheError("the disk is full")

    report = None
    while report is None:
        cluster = FakeCluster(nodes, rng, deadly=0.2, sees=sees, before=before)
        try:
            report = run_on(cluster, cache)
        except (DriverDiedError, CacheError):
            assert load_manifest(cache).splits == {}
        assert cluster.most_asked <= (AT_ONCE + 1) * nodes + 1
    assert files(cache) == alone


def test_the_log_says_what_each_node_did(tmp_path: Path) -> None:
    report = run_on(FakeCluster(3), tmp_path)

    (line,) = read_throughputs(tmp_path, 1)
    assert line.ranks == 3
    assert sum(node.pictures for node in line.nodes) == report.images["encoded"]
    assert sum(node.questions for node in line.nodes) == report.questions["distinct"]
    assert {node.workers for node in line.nodes} == {1}


class Renamed(Images):
    """Other weights than those of the driver."""

    name = "other-vision"


def open_other(_: torch.device) -> tuple[Any, Any]:
    return Renamed(), Text()


def open_none(_: torch.device) -> tuple[Any, Any]:
    raise ModelError("fake-vision: 3 of its weights are missing")


@pytest.mark.parametrize(
    ("opens", "said"),
    [
        (open_none, "fake-vision: 3 of its weights are missing"),
        (
            open_other,
            "its encoders are not those of the driver: vision model is 'other-vision', and "
            "'fake-vision' there; give all nodes the same files",
        ),
    ],
)
def test_a_worker_without_the_models_ends_the_run_with_its_sentence(
    opens: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as error:
        run_on(FakeCluster(), tmp_path, open_both=opens)
    assert str(error.value).partition(": ")[2] == said


def test_other_packages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "versions", lambda: {"torch": "1.0"})
    with pytest.raises(PipelineError, match=r"it has torch 1\.0, and the driver frozen-vqa .*same"):
        run_on(FakeCluster(), tmp_path)


def test_a_chunk_that_kills_each_worker_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"8 workers have died with the images from .*killed"):
        run_on(FakeCluster(2, deadly=1.0, fatal="encode"), tmp_path)
    with pytest.raises(PipelineError, match="8 workers have died before they were ready"):
        run_on(FakeCluster(2, deadly=1.0, fatal="prepare"), tmp_path)


def test_a_cluster_without_nodes_is_waited_for_and_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(crew, "PATIENCE", 0.1)
    monkeypatch.setattr(crew, "SAY", 0.0)
    with pytest.raises(PipelineError, match="no node of the cluster has room for a worker"):
        run_on(FakeCluster(0), tmp_path)
    assert "no node of the cluster has room for a worker (cpu); waiting" in capsys.readouterr().err


def test_a_node_that_cannot_read_the_pictures_makes_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk may be missing; the cache would list every picture as unreadable."""
    here = source()
    paths = {}
    for image_id, data in here.pictures.items():
        paths[image_id] = tmp_path / f"{image_id}.png"
        paths[image_id].write_bytes(data)
    here.pictures = paths
    real = worker.Worker.encode

    def encode(self: worker.Worker, task: Any) -> Any:
        moved = {i: tmp_path / "not mounted" / path.name for i, path in
                 task.source.pictures.items()}  # fmt: skip
        vars(task.source)["pictures"] = moved
        return real(self, task)

    monkeypatch.setattr(worker.Worker, "encode", encode)
    with pytest.raises(PipelineError, match=r"node 1 cannot read this picture .*mount their disk"):
        run_on(FakeCluster(1), tmp_path / "cache", source=here)


class Typed(Images):
    """Computes in the type that a GPU would take."""

    dtypes = (torch.float16, torch.float32)
    compute_dtype = torch.float32

    @property
    def settings(self) -> dict[str, object]:
        return super().settings | {"compute dtype": str(self.compute_dtype).removeprefix("torch.")}

    def compute_in(self, dtype: torch.dtype) -> None:
        self.compute_dtype = dtype


class TypedText(Text):
    """Computes in another type."""

    compute_dtype = torch.float32

    @property
    def settings(self) -> dict[str, object]:
        return super().settings | {"compute dtype": str(self.compute_dtype).removeprefix("torch.")}

    def compute_in(self, dtype: torch.dtype) -> None:
        self.compute_dtype = dtype


def open_typed(_: torch.device) -> tuple[Any, Any]:
    text = TypedText()
    text.compute_dtype = torch.bfloat16
    return Typed(), text


def test_a_worker_settles_what_only_its_device_can_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver may have no GPU: type, drift and batch size come from a worker."""
    monkeypatch.setattr(worker, "choose_device", lambda _: torch.device("cpu"))
    monkeypatch.setattr(worker, "choose_batch_size", lambda *_: 3)
    options: dict[str, Any] = {
        "open_both": open_typed, "images": Typed(), "text": TypedText(), "batch_size": None,
    }  # fmt: skip
    run_on(FakeCluster(2, device="cuda"), tmp_path, **options)

    manifest = load_manifest(tmp_path)
    assert manifest.spec.vision["compute dtype"] == "float16"
    assert manifest.spec.text["compute dtype"] == "bfloat16"
    assert {shard.origin["batch_size"] for shard in manifest.images} == {3}
    assert {shard.origin["drift"] for shard in manifest.images} == {0.0}

    before = files(tmp_path)  # a stored type is kept, and no worker is asked
    run_on(FakeCluster(2, device="cuda"), tmp_path, **options | {"images": _as_stored(manifest)})
    assert files(tmp_path) == before


def _as_stored(_: object) -> Typed:
    images = Typed()
    images.compute_in(torch.float16)
    return images
