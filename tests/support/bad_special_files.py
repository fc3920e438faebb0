"""The rows of docs/bad-inputs.md about files that are no files, links, and names that lead away."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.cache.disk.folders import OwnFolder
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.writer import require_own_cache
from frozen_vqa.pipeline.config import load_config
from frozen_vqa.pipeline.encoders.checkpoint import Checkpoint
from frozen_vqa.pipeline.encoders.families.text import TEXT
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.metrics.official_files import read_predictions
from frozen_vqa.pipeline.runs.description import read_description
from frozen_vqa.pipeline.runs.folder import claim_run, require_real_heads
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.train.sweep_config import load_sweep
from tests.support.bad_inputs import REFUSED, Row

Use = Callable[[Path], object]


def _hole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


KINDS: dict[str, Use] = {
    "a pipe": os.mkfifo,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a terabyte of zeros": _hole,
}


def _refused(use: Use, folder: Path) -> Row:
    with pytest.raises((CacheError, PipelineError)) as caught:
        use(folder)
    return REFUSED, str(caught.value)


def _replaced(name: str, make: Use, use: Use, folder: Path) -> Row:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    make(folder / name)
    return _refused(use, folder)


def _join(name: str, folder: Path) -> None:
    path_in(folder, name)


def _examples(spec: str) -> Use:
    return lambda folder: open_source(spec.format(folder)).examples("val")


USES: dict[str, tuple[str, Use]] = {
    "`--config`": ("a.toml", lambda f: load_config(f / "a.toml", {})),
    "`--sweep`": ("a.toml", lambda f: load_sweep(f / "a.toml", {})),
    "`score --predictions`": ("said.json", lambda f: read_predictions(f / "said.json")),
    "a picture": ("a.png", lambda f: load_rgb(f / "a.png")),
    "`config.json` of a run": ("config.json", read_description),
    "`cache.json`": ("cache.json", FeatureCache),
    "the README.md of a data set": ("set/README.md", _examples("hub:{}/set")),
    "parquet": ("set/val.parquet", _examples("hub:{}/set")),
    "a file of a model": (
        "model/tokenizer.json",
        lambda f: Checkpoint(str(f / "model")).config(TEXT),
    ),
}


def _linked(name: str, use: Use, folder: Path) -> Row:
    (folder / "elsewhere").mkdir()
    (folder / "own" / name).parent.mkdir(parents=True)
    (folder / "own" / name).symlink_to(folder / "elsewhere")
    row = _refused(lambda folder: use(folder / "own"), folder)
    assert not list((folder / "elsewhere").iterdir())
    return row


def _own(purpose: str, error: type[Exception], option: str, *names: str) -> Use:
    def use(folder: Path) -> None:
        OwnFolder(folder, purpose, error, option).require_real(*names)

    return use


def _claim_known(folder: Path) -> None:
    OwnFolder(folder, "a run", PipelineError, "--run")._make_mark([])
    claim_run(folder)


def _cache_known(folder: Path) -> None:
    OwnFolder(folder, "a cache", CacheError, "--cache")._make_mark([])
    require_own_cache(folder)


LINKED: dict[str, tuple[str, Use]] = {
    **{f"`{name}` of a cache": (name, _cache_known) for name in ("images", "questions", "splits")},
    **{
        f"`{name}` of a run": (name, _claim_known)
        for name in ("state", "evaluation", "tensorboard")
    },
    "a head of a sweep": ("a", lambda folder: require_real_heads(folder, ["a"])),
    "`runs` of a demo": ("runs", _own("the demo", PipelineError, "--out", "runs")),
}

NAMES = ("../x", "/x", "a/../../x", ".", "", "a//b", "a\0b", "a\nb", "\ud800", "x" * 300)

SPECIAL: dict[str, Callable[[Path], Row]] = {
    **{
        f"{what}: {kind}": partial(_replaced, name, make, use)
        for what, (name, use) in USES.items()
        for kind, make in KINDS.items()
        if (what, kind) != ("parquet", "a terabyte of zeros")  # whose last bytes are read alone
    },
    **{f"{what} is a link": partial(_linked, *case) for what, case in LINKED.items()},
    **{
        f"a file names {name!r:.20}": partial(_refused, partial(_join, name))
        for name in (
            "../x",
            "/x",
            "a/../../x",
            ".",
            "",
            "a//b",
            "a\0b",
            "a\nb",
            "\ud800",
            "x" * 300,
        )
    },
}
