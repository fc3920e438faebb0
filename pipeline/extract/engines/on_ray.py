"""Ray as the cluster of an `Engine`: one actor per worker, and Ray places it.

Only this module imports Ray, which is an extra. Ray itself is kept silent: a dead actor is normal
here, and what matters is said by the engine. It sends no usage statistics and opens no dashboard.

Source: the documentation of Ray Core (docs.ray.io), "Actors" and "Fault tolerance".
"""

import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NoReturn

from frozen_vqa.cache import CacheError
from frozen_vqa.pipeline.errors import ConfigError, PipelineError
from frozen_vqa.pipeline.extract.engines.crew import LostWorkerError
from frozen_vqa.pipeline.extract.engines.worker import AT_ONCE, Worker
from frozen_vqa.pipeline.system.ranks import by_torchrun
from frozen_vqa.pipeline.system.signals import Stop

CONNECT_SECONDS = 10.0
"""How long the head of a cluster may take to answer."""

DEVICES = {"auto": "", "cpu": "cpu", "cuda": "cuda"}


class _Actor:
    """A worker in a process of Ray. What a person can mend is returned, not raised: else it would
    come wrapped in Ray's traceback."""

    def __init__(self, worker: Worker) -> None:
        import ray

        self._worker = worker
        node_id = ray.get_runtime_context().get_node_id()
        self._node = f"{ray.util.get_node_ip_address()} ({node_id[:4]})"

    def call(self, method: str, *given: Any) -> tuple[str, Any]:
        try:
            return self._node, getattr(self._worker, method)(*given)
        except (PipelineError, CacheError) as error:
            return self._node, error


class RayCluster:
    """The nodes of a Ray cluster; `device` is what each worker gets of a node.

    A worker has one GPU. Without GPUs it has all cores of the smallest node.
    """

    def __init__(self, device: str) -> None:
        import ray

        self._ray, self._remote = ray, ray.remote(_Actor)
        self._cores = 0
        found = ray.cluster_resources()
        self.device = DEVICES[device] or ("cuda" if found.get("GPU") else "cpu")

    def room(self) -> int:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if self.device == "cuda":
            return sum(int(node.get("GPU", 0)) for node in nodes)
        cores = [int(node.get("CPU", 0)) for node in nodes]
        self._cores = self._cores or min(filter(None, cores), default=0)
        return sum(count // self._cores for count in cores) if self._cores else 0

    def start(self, worker: Worker) -> Any:
        gpus = self.device == "cuda"
        return self._remote.options(
            num_gpus=int(gpus),
            num_cpus=1 if gpus else max(1, self._cores),
            max_restarts=0,  # the engine starts another one, where there is room
            max_concurrency=AT_ONCE,
        ).remote(worker)

    def ask(self, handle: Any, method: str, *given: object) -> Any:
        with _explained(self._ray):
            return handle.call.remote(method, *given)

    def wait(self, calls: Sequence[Any], seconds: float) -> Sequence[Any]:
        if not calls:
            time.sleep(seconds)
            return []
        wait = partial(self._ray.wait, list(calls), fetch_local=False)
        with _explained(self._ray):
            over, _ = wait(num_returns=1, timeout=seconds)
            return over and wait(num_returns=len(calls), timeout=0)[0]

    def answer(self, call: Any) -> tuple[str, Any]:
        with _explained(self._ray):
            node, answer = self._ray.get(call)
        if isinstance(answer, PipelineError | CacheError):
            raise type(answer)(f"{node}: {answer}") from None
        return node, answer

    def stop(self, handle: Any) -> None:
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(handle)


@contextmanager
def ray_cluster(address: str | None, device: str) -> Iterator[RayCluster]:
    """Join the Ray cluster at `address`, or at RAY_ADDRESS; without both, start one here.

    Raises:
        ConfigError: if Ray is not installed, or an option does not go with it.
        PipelineError: if there is no cluster there, or it has other versions.
    """
    if device not in DEVICES:
        raise ConfigError(
            f"--engine ray gives each worker a device of its own, so --device {device} means "
            f"nothing there; give auto, cuda or cpu"
        )
    if by_torchrun():
        raise ConfigError(
            "--engine ray starts its own processes; start the command without torchrun"
        )
    place = address or os.environ.get("RAY_ADDRESS") or "local"
    _require_listener(place)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "--engine ray needs Ray, which is not installed: pip install 'frozen-vqa[ray]'"
        ) from error
    _connect(ray, place)
    try:
        yield RayCluster(device)
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    # What Ray's nodes say of dead workers comes by this way, which no option closes.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    try:
        with Stop():  # gives SIGTERM back, which Ray takes
            ray.init(
                address=address,
                include_dashboard=False if address == "local" else None,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
    except Exception as error:  # no less: of a node that starts too slowly it raises that class
        raise PipelineError(
            f"no Ray cluster can be used at {address}: {_one_line(error)} Start one with `ray "
            f"start --head` and give its --address HOST:PORT, or leave --address out to use this "
            f"machine alone."
        ) from error


def _require_listener(address: str) -> None:
    """Raise `PipelineError` unless somebody listens at HOST:PORT; Ray would wait for minutes."""
    host, colon, port = address.rpartition(":")
    if address in ("local", "auto"):
        return
    if (
        not (host and colon and port.isascii() and port.isdecimal() and len(port) < 6)
        or "/" in host
    ):
        raise ConfigError(
            f"--address is {address!r}; give HOST:PORT as `ray start --head` prints it, or auto "
            f"for the cluster that this machine belongs to"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise PipelineError(
            f"nobody answers at {address} ({error}), where --address or RAY_ADDRESS says the head "
            f"of a Ray cluster is. Start one with `ray start --head --port {port}` there, or leave "
            f"--address out to use this machine alone."
        ) from error


@contextmanager
def _explained(ray: Any) -> Iterator[None]:
    """Turn what Ray raises about workers, nodes and memory into our errors.

    A signal in the block acts behind it, because Ray would make another exit code of it.
    """
    all_of = ray.exceptions
    lost = (
        all_of.RayActorError,
        all_of.WorkerCrashedError,
        all_of.NodeDiedError,
        all_of.ObjectLostError,
        all_of.OutOfMemoryError,
    )
    try:
        with Stop():
            yield
    except all_of.RayTaskError as error:  # a bug, or memory that did not suffice
        raise error.cause from error
    except lost as error:
        raise LostWorkerError(_reason(error)) from error
    except (all_of.ObjectStoreFullError, all_of.OutOfDiskError) as error:
        raise PipelineError(
            f"the object store of Ray is full ({_one_line(error)}) Give it more memory (`ray "
            f"start --object-store-memory BYTES`), or let all nodes see the folder of the cache, "
            f"so that no features pass through it. Every finished chunk is stored; run the same "
            f"command to go on."
        ) from error
    except all_of.RayError as error:
        _raise_ray_error(error)


def _raise_ray_error(error: Exception) -> NoReturn:
    raise PipelineError(
        f"Ray cannot go on: {_one_line(error)} Every finished chunk is stored; run the same "
        f"command to go on."
    ) from error


def _reason(error: Exception) -> str:
    """Return why a worker is gone: the first sentence behind Ray's lines of names and numbers."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(_FACTS)] or [""]
    return said[-1].partition(". ")[0].rstrip(".")[:200] or type(error).__name__


_FACTS = ("class_name:", "actor_id:", "pid:", "name:", "namespace:", "ip:")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text[:297] + "..." if len(text) > 300 else text).rstrip(".") + "."
