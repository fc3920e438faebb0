"""The rows of docs/bad-inputs.md about folders that are not ours: a case for each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache import CacheError, CacheWriter
from frozen_vqa.cache.disk.folders import MARK, OwnFolder
from frozen_vqa.cache.disk.lock import sole_writer
from frozen_vqa.cache.writer import own_cache, remove_cache
from frozen_vqa.pipeline.commands.tables import require_own_table
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.runs.folder import (
    claim_published,
    claim_run,
    claim_sweep_folder,
    own_run,
    require_place,
)
from tests.support.bad_inputs import REFUSED, Row
from tests.support.caches import make_spec

Act = Callable[[Path], object]


def refused(
    act: Act, *names: str, content: str = "mine", error: type[Exception] = Exception
) -> Any:
    """A folder that holds these files of a user; none of them changes."""

    def make(folder: Path) -> Row:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        with pytest.raises((CacheError, PipelineError)) as caught:
            act(folder)
        assert all((folder / name).read_text() == content for name in names)
        return REFUSED, str(caught.value)

    return make


def write_cache(folder: Path) -> None:
    with CacheWriter(folder, make_spec()):
        pass


def claim_demo(folder: Path) -> None:
    OwnFolder(folder, "the demo", PipelineError, "--out").claim()


def in_own(claim: Act, act: Act, *names: str) -> Act:
    """The act in a folder that is ours, to which the user has added files since."""

    def run(folder: Path) -> None:
        claim(folder)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("mine")
        act(folder)

    return run


def in_use(folder: Path) -> None:
    claim_run(folder)
    with sole_writer(folder, what="run"):
        (folder / ".lock").write_text("")
        require_place(folder, overwrite=True)


PLACES: dict[str, Act] = {
    "--cache": write_cache,
    "demo --out": claim_demo,
    "--run": claim_run,
    "--sweep --run": claim_sweep_folder,
    "save_pretrained": claim_published,
}
FILES = {
    "a README.md of the user": "README.md",
    "a config.json of the user": "config.json",
    "a run.json that has no digest": "run.json",
    "a folder of pictures": "images/cat.jpg",
    "a hidden file": ".git/config",
    "a lock of another program": ".lock",
    "a mark that we did not write": MARK,
}
FOLDERS: dict[str, Any] = {
    f"`{option}` names a folder that holds {what}": refused(act, name)
    for option, act in PLACES.items()
    for what, name in FILES.items()
} | {
    "`--run` names a cache": refused(in_own(write_cache, claim_run)),
    "`--cache` names a run": refused(in_own(claim_run, write_cache)),
    "`--run` names the folder of a sweep": refused(in_own(claim_sweep_folder, claim_run)),
    "`--run` names a demo": refused(in_own(claim_demo, claim_run)),
    "`demo --out` names a run": refused(in_own(claim_run, claim_demo)),
    "`save_pretrained` names a run that was trained there": refused(
        in_own(claim_run, claim_published)
    ),
    "a file of the user where a run's result would be": refused(
        in_own(claim_run, lambda f: own_run(f).note("results.json"), "results.json")
    ),
    "a file of the user where a shard would be": refused(
        in_own(write_cache, lambda f: own_cache(f).note("images/00000.h5"), "images/00000.h5")
    ),
    "an unfinished file of the user there": refused(
        in_own(claim_run, lambda f: own_run(f).note("run.json"), "run.json.partial")
    ),
    "`demo` in a folder whose `cache/` is the user's": refused(
        lambda f: remove_cache(f / "cache"), "cache/notes.txt"
    ),
    "a run that another process trains": refused(in_use),
    "`--run` names a file": refused(lambda f: require_place(f / "a", overwrite=True), "a"),
    "`--cache` names a folder in a file": refused(lambda f: write_cache(f / "a" / "b"), "a"),
    "a stranger's mark that names a file elsewhere": refused(
        in_own(lambda f: (claim_run(f), own_run(f).adopt("../thesis")), claim_run)
    ),
    "a file of the user in place of a run's folder": refused(
        in_own(claim_run, lambda f: own_run(f).note("state/state.safetensors"), "state")
    ),
    "`--table` names a file of the user": refused(lambda f: require_own_table(f / "t.md"), "t.md"),
    "`--table` names an empty file": refused(
        lambda f: require_own_table(f / "t.tex"), "t.tex", content=""
    ),
    "`--table` names a folder": refused(lambda f: require_own_table(f / "t.md"), "t.md/x"),
    "`--table` names a file of no known form": refused(lambda f: require_own_table(f / "t.pdf")),
}
