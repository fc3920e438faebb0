"""The rows of docs/bad-inputs.md about code of the user's own: a case for each runs a command."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from frozen_vqa.pipeline import plugins
from tests.support.bad_inputs import Row
from tests.support.bad_options import ASK, EXTRACT, PLAIN, TRAIN, make_inputs, run_in
from tests.support.heads import seal
from tests.support.own_code import HOME

MODULE = "mine_of_a_test"
Case = Callable[[Path], Row]
DATASET = "extract-features --split train --cache DATA/new --dataset"


def ours(words: str, *, source: str = "") -> Case:
    """A case of a command of a new process, with a module that it can import."""

    def make(folder: Path) -> Row:
        make_inputs(folder)
        (folder / f"{MODULE}.py").write_text(source)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plugins, "_trusted", {})
            patch.syspath_prepend(folder)
            patch.delitem(sys.modules, MODULE, raising=False)
            return run_in(folder, words)

    return make


def named_by_a_file(words: str) -> Case:
    """A case of a run and a file of settings that name code, beside a module of that name."""

    def make(folder: Path) -> Row:
        make_inputs(folder, run=True)
        (folder / f"{MODULE}.py").write_text("raise SystemExit('it ran')")
        for file in ("config.toml", "config.json"):
            path = folder / "run" / file
            path.write_text(path.read_text().replace("co-attention", f"{MODULE}:Fusion"))
        seal(folder / "run")
        (folder / "head.toml").write_text(f'fusion = "{MODULE}:Fusion"\n')
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plugins, "_trusted", {})
            patch.syspath_prepend(folder)
            return run_in(folder, words)

    return make


CODE: dict[str, Case] = {
    "a run that names a fusion, `evaluate`": named_by_a_file("evaluate DATA/run"),
    "a run that names a fusion, `ask`": named_by_a_file(ASK),
    "`--config` that names a fusion": named_by_a_file(f"{PLAIN} --config DATA/head.toml"),
    "`--sweep` that names a fusion": named_by_a_file(f"{PLAIN} --sweep DATA/head.toml"),
    "`--fusion` of no form": ours(f"{TRAIN} --fusion my-module:Fusion"),
    "`--fusion` of no module": ours(f"{TRAIN} --fusion no_such_module:Fusion"),
    "`--fusion` that the module lacks": ours(f"{TRAIN} --fusion {MODULE}:Fusion"),
    "`--fusion` that is no class": ours(f"{TRAIN} --fusion {MODULE}:Fusion", source="Fusion = 3"),
    "`--fusion` of a module that fails": ours(
        f"{TRAIN} --fusion {MODULE}:Fusion", source="import math\nmath.none\n"
    ),
    "a fusion that cannot be built": ours(f"{TRAIN} --fusion {HOME}:HasNoSize"),
    "a fusion that counts padding": ours(f"{TRAIN} --fusion {HOME}:CountsPadding"),
    "a fusion that mixes questions": ours(f"{TRAIN} --fusion {HOME}:MixesQuestions"),
    "a fusion with an idle parameter": ours(f"{TRAIN} --fusion {HOME}:IsIdle"),
    "a fusion that returns another shape": ours(f"{TRAIN} --fusion {HOME}:ReturnsTokens"),
    "a data set of no module": ours(f"{DATASET} no_such_module:data"),
    "a data set of one's own with `--images`": ours(f"{DATASET} {HOME}:Colours --images DATA"),
    "a data set without pictures": ours(f"{DATASET} {HOME}:HasNoPictures"),
    "a data set that gives texts": ours(f"{DATASET} {HOME}:GivesTexts"),
    "an encoder without `revision`": ours(f"{EXTRACT} --vision-model {HOME}:HasNoRevision"),
    "an encoder that returns another shape": ours(f"{EXTRACT} --vision-model {HOME}:GivesPixels"),
    "a text encoder that looks ahead": ours(
        f"{EXTRACT} --vision-model {HOME}:Means --text-model {HOME}:LooksAhead"
    ),
    "an own encoder with `--image-size`": ours(
        f"{EXTRACT} --vision-model {HOME}:Means --image-size 64"
    ),
}
