"""The rows of docs/bad-inputs.md about clusters: Ray's options, and what goes wrong on a node.

No case needs Ray: what happens on nodes happens on a cluster in this process.
"""

import socket
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from frozen_vqa.cache import CacheError
from frozen_vqa.pipeline.errors import ModelError, PipelineError
from frozen_vqa.pipeline.extract.engines import crew, worker
from tests.support.bad_inputs import REFUSED, Row
from tests.support.bad_options import EXTRACT, make_inputs, run_in
from tests.support.fake_cluster import FakeCluster
from tests.support.frozen import Images, Text
from tests.support.ray_extraction import open_both, run_on, source

RAY = f"{EXTRACT} --engine ray"


def option(words: str, **environment: str) -> Any:
    """A case of a command line where Ray is not installed, and nobody answers at any address."""

    def refuse(*_: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    def make(folder: Path) -> Row:
        make_inputs(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("RAY_ADDRESS", raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setitem(sys.modules, "ray", None)
            patch.setattr(socket, "create_connection", refuse)
            outcome, line = run_in(folder, words)
        return outcome, line.removeprefix("rank 0: ")

    return make


def on_nodes(cluster: FakeCluster, opens: Any = open_both, **given: Any) -> Any:
    """A case of an extraction on nodes in this process."""

    def make(folder: Path) -> Row:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(crew, "LOOK", 0.0)
            patch.setattr(crew, "PATIENCE", 0.0)
            cluster.workers.clear()
            with pytest.raises((PipelineError, CacheError)) as error:
                run_on(cluster, folder / "new", open_both=opens, **given)
        return REFUSED, str(error.value)

    return make


class Renamed(Images):
    """Other weights than those of the driver."""

    name = "other-vision"


class Layered(Text):
    """Another layer than that of the driver."""

    def __init__(self) -> None:
        super().__init__(layer=-2)


def open_renamed(_: torch.device) -> tuple[Any, Any]:
    return Renamed(), Text()


def open_layered(_: torch.device) -> tuple[Any, Any]:
    return Images(), Layered()


def open_missing(_: torch.device) -> tuple[Any, Any]:
    raise ModelError("MODEL: 3 of its weights are missing or of another size; download it again")


def open_tiny_memory(_: torch.device) -> tuple[Any, Any]:
    return Images(memory=0), Text()


class Infinite(Images):
    """Its numbers do not fit."""

    def encode(self, pixels: Any) -> tuple[torch.Tensor, torch.Tensor]:
        patches, cls = super().encode(pixels)
        return torch.full_like(patches, torch.inf), cls


def open_infinite(_: torch.device) -> tuple[Any, Any]:
    return Infinite(), Text()


def other_versions(folder: Path) -> Row:
    with pytest.MonkeyPatch.context() as patch:
        here = {"frozen-vqa": "0.2.0", "torch": "2.13.0", "transformers": "5.23.0"}
        patch.setattr("frozen_vqa.pipeline.extract.engines.engine.versions", lambda: here)
        patch.setattr(worker, "versions", lambda: here | {"torch": "2.9.0"})
        return on_nodes(FakeCluster(1))(folder)  # type: ignore[no-any-return]


def without_the_pictures(folder: Path) -> Row:
    here = source()
    (folder / "pictures").mkdir()
    for image_id, data in here.pictures.items():
        path = folder / "pictures" / f"{image_id}.png"
        path.write_bytes(data)
        here.pictures[image_id] = path  # type: ignore[assignment]
    real = worker.Worker.encode

    def encode(self: worker.Worker, task: Any) -> Any:
        """Encode on a node that has another disk there."""
        (folder / "pictures").rename(folder / "away")
        try:
            return real(self, task)
        finally:
            (folder / "away").rename(folder / "pictures")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker.Worker, "encode", encode)
        return on_nodes(FakeCluster(1, Random(0)), source=here)(folder)  # type: ignore[no-any-return]


CLUSTERS: dict[str, Any] = {
    "--engine ray without Ray": option(RAY),
    "--engine ray with --device cuda:1": option(f"{RAY} --device cuda:1"),
    "--engine ray with --device mps": option(f"{RAY} --device mps"),
    "--engine ray under torchrun": option(
        RAY, RANK="0", WORLD_SIZE="1", MASTER_ADDR="localhost", MASTER_PORT="1"
    ),
    "--engine of another name": option(f"{EXTRACT} --engine dask"),
    "--workers 0": option(f"{RAY} --workers 0"),
    "--workers without --engine ray": option(f"{EXTRACT} --workers 2"),
    "--address without --engine ray": option(f"{EXTRACT} --address auto"),
    "--address without a port": option(f"{RAY} --address head"),
    "--address of a Ray client": option(f"{RAY} --address ray://head:10001"),
    "--address with a port that is no number": option(f"{RAY} --address head:ray"),
    "--address where nobody listens": option(f"{RAY} --address 192.0.2.9:6379"),
    "RAY_ADDRESS where nobody listens": option(RAY, RAY_ADDRESS="192.0.2.9:6379"),
    "a cluster whose nodes are all gone": on_nodes(FakeCluster(0)),
    "a node that cannot load the model": on_nodes(FakeCluster(1), open_missing),
    "a node with other weights": on_nodes(FakeCluster(1), open_renamed),
    "a node with another layer": on_nodes(FakeCluster(1), open_layered),
    "a node with other packages": other_versions,
    "a node without the disk of the pictures": without_the_pictures,
    "a node whose memory fits no picture": on_nodes(FakeCluster(1), open_tiny_memory),
    "a node whose numbers are not finite": on_nodes(FakeCluster(1, Random(0)), open_infinite),
    "workers that die before they are ready": on_nodes(FakeCluster(1, deadly=1.0, fatal="prepare")),
    "a chunk of which every worker dies": on_nodes(
        FakeCluster(1, Random(0), deadly=1.0, fatal="encode")
    ),
}
"""How each input is made."""
