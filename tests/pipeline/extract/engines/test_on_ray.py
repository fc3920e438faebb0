"""Ray as the cluster: what it raises becomes a sentence, and its workers make the same bytes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from frozen_vqa.pipeline.errors import ModelError, PipelineError
from frozen_vqa.pipeline.extract.engines import on_ray
from frozen_vqa.pipeline.extract.engines.crew import LostWorkerError
from frozen_vqa.pipeline.extract.engines.on_ray import _explained, _reason
from tests.support.frozen import files
from tests.support.ray_extraction import open_both, run, run_on
from tests.support.repository import ROOT

NAMES = (
    "RayError",
    "RayTaskError",
    "RayActorError",
    "WorkerCrashedError",
    "NodeDiedError",
    "ObjectLostError",
    "OutOfMemoryError",
    "ObjectStoreFullError",
    "OutOfDiskError",
)


def fake_ray() -> Any:
    """What stands in for Ray where it is not installed: its errors."""
    base = type("RayError", (Exception,), {})
    errors = {name: type(name, (base,), {}) for name in NAMES[1:]}
    return SimpleNamespace(exceptions=SimpleNamespace(RayError=base, **errors))


@pytest.mark.parametrize("name", NAMES)
def test_each_error_of_ray_becomes_one_of_ours(name: str) -> None:
    ray = fake_ray()
    error = getattr(ray.exceptions, name)("class_name: _Actor\nIt broke. See the logs\nfor more.")
    error.cause = MemoryError("a batch")
    lost = ("RayActorError", "WorkerCrashedError", "NodeDiedError", "ObjectLostError",
            "OutOfMemoryError")  # fmt: skip
    expected: type[BaseException] = LostWorkerError if name in lost else PipelineError
    with (
        pytest.raises(MemoryError if name == "RayTaskError" else expected) as found,
        _explained(ray),
    ):
        raise error
    assert "\n" not in str(found.value)
    if expected is PipelineError and name != "RayTaskError":
        assert str(found.value).endswith("run the same command to go on.")


def test_the_reason_of_a_loss_is_its_first_sentence() -> None:
    said = "The actor died unexpectedly.\n\tpid: 7770\n\tip: 10.0.0.2\nIts process has died. Why: "
    assert _reason(Exception(said)) == "Its process has died"
    assert _reason(KeyError()) == "KeyError"


def test_a_signal_acts_when_ray_is_done() -> None:
    """Ray turns what a handler raises into an exit code of its own."""
    done: list[int] = []

    def stop(*_: object) -> None:
        raise SystemExit(143)

    def work() -> None:
        with _explained(fake_ray()):
            signal.raise_signal(signal.SIGTERM)
            done.append(1)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(SystemExit) as end:
            work()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (end.value.code, done) == (143, [1])


@pytest.mark.parametrize("kind", [Exception, ConnectionError, RuntimeError, ValueError, KeyError])
def test_a_cluster_that_does_not_start_is_one_sentence(kind: type[Exception]) -> None:
    """Ray raises `Exception` itself where a node of its own takes too long."""

    def init(**_: object) -> None:
        raise kind("The current node timed out during startup.\n\nLook at its logs.")

    fake = SimpleNamespace(init=init, _private=SimpleNamespace(worker=SimpleNamespace()))
    with pytest.raises(PipelineError, match=r"^no Ray cluster .* at local: .*timed out") as error:
        on_ray._connect(fake, "local")
    assert "\n" not in str(error.value)


def test_the_errors_named_here_are_those_of_ray() -> None:
    ray = pytest.importorskip("ray")
    assert [name for name in NAMES if not hasattr(ray.exceptions, name)] == []


@pytest.fixture(scope="module")
def cluster() -> Iterator[on_ray.RayCluster]:
    """Ray on this machine, with two cores for workers of one."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_worker_niceness", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        with on_ray.ray_cluster(None, "cpu") as found:
            found._cores = 1
            yield found


def open_missing(_: torch.device) -> tuple[Any, Any]:
    raise ModelError("fake-vision: 3 of its weights are missing")


class Killing(on_ray.RayCluster):
    """Kills the process of a worker that has begun with its third chunk."""

    def __init__(self, cluster: on_ray.RayCluster) -> None:
        vars(self).update(vars(cluster))
        self.asked = 0

    def ask(self, handle: Any, method: str, *given: object) -> Any:
        self.asked += method == "encode"
        call = super().ask(handle, method, *given)
        if self.asked == 3:
            pid = self._ray.get(handle.__ray_call__.remote(lambda _: os.getpid()))
            os.kill(pid, signal.SIGKILL)
        return call


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_workers_of_ray_make_the_bytes_of_one_process(
    cluster: on_ray.RayCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "alone")
    run_on(Killing(cluster), tmp_path / "ray", open_both=open_both)
    said = capsys.readouterr().err

    assert files(tmp_path / "ray") == files(tmp_path / "alone")
    assert "is gone (The actor is dead because its worker process has died)" in said
    assert "(raylet)" not in said


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_a_model_that_a_worker_cannot_load_is_one_sentence(
    cluster: on_ray.RayCluster, tmp_path: Path
) -> None:
    with pytest.raises(
        ModelError, match=r"^\S+ \(\w+\): fake-vision: 3 of its weights are missing$"
    ):
        run_on(cluster, tmp_path, open_both=open_missing)
