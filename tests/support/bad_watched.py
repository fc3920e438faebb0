"""The rows of docs/bad-inputs.md about the file of `--prometheus`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.watch import prometheus
from frozen_vqa.pipeline.watch.prometheus import FIRST_LINE
from tests.support.bad_inputs import Row
from tests.support.bad_options import EXTRACT, PLAIN, make_inputs, run_in


def watched(make: Callable[[Path], object], words: str = PLAIN, name: str = "x.prom") -> Any:
    """A case of what lies at the place of the file before; it stays, and nothing else is made."""

    def case(folder: Path) -> Row:
        make_inputs(folder)
        make(folder / "x.prom")
        before = sorted(folder.rglob("*"))
        row = run_in(folder, f"{words} --prometheus DATA/{name}")
        assert sorted(folder.rglob("*")) == before
        return row

    return case


def nothing(_: Path) -> None:
    """There is nothing at that place."""


def without_library(folder: Path) -> Row:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "prometheus_client", None)
        return watched(nothing)(folder)


def full_disk(folder: Path) -> Row:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prometheus, "write_atomically", fail)
        return watched(nothing)(folder)


WATCHED: dict[str, Any] = {
    "--prometheus without its library": without_library,
    "--prometheus with a file of something else": watched(lambda path: path.write_text("mine\n")),
    "--prometheus with one, extract-features": watched(
        lambda path: path.write_text("mine\n"), EXTRACT
    ),
    "--prometheus with figures of another program": watched(
        lambda path: path.write_text("# TYPE up gauge\nup 1\n")
    ),
    "--prometheus with an empty file": watched(lambda path: path.write_bytes(b"")),
    "--prometheus with a folder": watched(lambda path: path.mkdir()),
    "--prometheus with a link to a file of ours": watched(
        lambda path: (
            path.with_name("real").write_bytes(FIRST_LINE),
            path.symlink_to(path.with_name("real")),
        )
    ),
    "--prometheus with a link to nothing": watched(lambda path: path.symlink_to("/nowhere/x")),
    "--prometheus below a file": watched(
        lambda path: path.write_text("mine"), name="x.prom/y.prom"
    ),
    "--prometheus in the folder of the run": watched(nothing, name="new/x.prom"),
    "--prometheus in the folder of the cache": watched(nothing, EXTRACT, name="new/x.prom"),
    "--prometheus on a full disk": full_disk,
}
