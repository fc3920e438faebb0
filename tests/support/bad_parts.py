"""The rows of docs/bad-inputs.md about caches of several encoders and layers."""

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch

from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.cache.format.manifest import Manifest, _digest_body, parse_manifest
from frozen_vqa.cache.format.parts import Part
from frozen_vqa.pipeline.commands.train_head import _each_part
from frozen_vqa.pipeline.config import make_config
from frozen_vqa.pipeline.errors import ConfigError, ModelError, RunError
from frozen_vqa.pipeline.extract.models.several import for_each
from frozen_vqa.pipeline.runs.run import features_of, load_run
from frozen_vqa.pipeline.train.data import load_train_data
from tests.support.bad_inputs import REFUSED, STORED, Row
from tests.support.caches import Row as Question
from tests.support.caches import make_cache, make_spec
from tests.support.heads import make_run, seal
from tests.support.run_folders import edit_json

Change = Callable[[dict[str, Any]], object]

OTHER = Part({"model": "me/made-up-other", "image size": 28}, 3)
ALIKE = Part({"model": "you/made-up-other", "image size": 28}, 2)
EARLIER = Part({"model": "made-up-text", "layer": -3}, 4)
SPEC = make_spec(
    vision_dim=10, text_dim=11, more_vision=(OTHER, ALIKE), more_text=(EARLIER,),
    layers={"made-up-text": 4},
)  # fmt: skip
QUESTIONS = [Question(0, 0, ("red",)), Question(1, 1, ("blue",))]
SPLITS = {"train": QUESTIONS, "val": QUESTIONS}
CPU = torch.device("cpu")


@cache
def template() -> Path:
    """A cache of several parts, one of a single part, and a head of the first."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    make_run(make_cache(folder / "cache", SPLITS, spec=SPEC), folder / "run")
    make_cache(folder / "single", SPLITS)
    return folder


def manifest(change: Change, folder: Path) -> Row:
    """A case of a cache.json of several parts whose spec somebody changed."""
    body = json.loads(Manifest(SPEC).to_json())
    del body["xxh3"]
    change(body["spec"])
    data = json.dumps({**body, "xxh3": _digest_body(body)}).encode()
    try:
        parse_manifest(folder / "cache.json", data)
    except CacheError as error:
        return REFUSED, str(error)
    return STORED, ""


def head(folder: Path, place: str = "cache", **settings: Any) -> Row:
    """A case of a training from a cache."""
    shutil.copytree(template() / place, folder / "cache")
    config = make_config({"min_answer_count": 1, **settings})
    with pytest.raises((CacheError, ConfigError)) as error:
        load_train_data(folder / "cache", config)
    return REFUSED, str(error.value)


def each(folder: Path, place: str = "", *, sweep: bool = False) -> Row:
    """A case of heads on every part of a cache."""
    shutil.copytree(template() / place, folder / "cache")
    files = None, folder / "sweep.toml" if sweep else None
    with pytest.raises(ConfigError) as error:
        _each_part(folder / "cache" if place else None, *files, {}, {"vision"})
    return REFUSED, str(error.value)


def run(change: Change, folder: Path) -> Row:
    """A case of a config.json of a run that reads several parts."""
    shutil.copytree(template(), folder, dirs_exist_ok=True)
    edit_json(folder / "run/config.json", change)
    seal(folder / "run")
    with pytest.raises((RunError, CacheError)) as error:
        features_of(load_run(folder / "run", CPU), FeatureCache(folder / "cache"))
    return REFUSED, str(error.value)


def options(option: str, values: list[str], models: list[str], folder: Path) -> Row:
    """A case of an option that is given for some models only."""
    with pytest.raises(ModelError) as error:
        for_each(option, values, models)
    return REFUSED, str(error.value)


def _part(**changes: Any) -> Change:
    return lambda spec: spec["more_vision"][0].update(changes)


PARTS: dict[str, Callable[[Path], Row]] = {
    "a part of no channels": partial(manifest, _part(dim=0)),
    "a part of all channels": partial(manifest, _part(dim=10)),
    "a part whose size is a fraction": partial(manifest, _part(dim=1.5)),
    "a part with a field of no version": partial(manifest, _part(colour="red")),
    "a part without settings": partial(
        manifest, lambda spec: spec["more_vision"][0].pop("settings")
    ),
    "parts that are no list": partial(manifest, lambda spec: spec.update(more_text={"dim": 4})),
    "65 parts": partial(
        manifest,
        lambda spec: spec.update(vision_dim=80, more_vision=[{"settings": {}, "dim": 1}] * 64),
    ),
    "a model of no layers": partial(manifest, lambda spec: spec.update(layers={"made-up-text": 0})),
    "a head whose parts do not add up": partial(
        run, lambda body: body["model"].update(vision_parts=[5, 3, 1])
    ),
    "a head of a part of no channels": partial(
        run, lambda body: body["model"].update(vision_parts=[10, 0])
    ),
    "a head of other parts than its features": partial(
        run, lambda body: body["model"].update(vision_parts=[3, 5, 2])
    ),
    "a head of a layer that its cache has not": partial(
        run, lambda body: body["encoders"]["more_text"][0].update(layer=-2)
    ),
    "a head of encoders that are no list": partial(
        run, lambda body: body["encoders"].update(more_vision="made-up-other")
    ),
    "a head that reads a part twice": partial(
        run, lambda body: body["encoders"].update(more_vision=[OTHER.settings] * 3)
    ),
    "`--vision` of no part": partial(head, vision="dinov3"),
    "`--vision` of no layer": partial(head, vision="made-up-vision@-2"),
    "`--vision` of two models": partial(head, vision="made-up-other"),
    "`--vision` of nothing beside a part": partial(head, vision="made-up-vision+"),
    "`--text-layer` of no part": partial(head, text_layer=3),
    "`--text-layer` that is no number": partial(head, text_layer="last"),
    "`--vision` where there is one encoder": partial(head, place="single", vision="dinov3"),
    "`--vision each` of a single encoder": partial(each, place="single"),
    "`--vision each` with `--sweep`": partial(each, place="cache", sweep=True),
    "`--vision each --resume` without a cache": each,
    "`--image-size` for two of three models": partial(
        options, "--image-size", ["224", "256"], ["a", "b", "c"]
    ),
    "`--vision-revision` for one of two models": partial(
        options, "--vision-revision", ["main"], ["a", "b"]
    ),
}
