"""A file that is replaced by another of its name, size and time is read anew, in every source."""

from pathlib import Path

import pytest

from frozen_vqa.pipeline.extract.origin import describe_origin
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support.hub_data import (
    _offline,  # noqa: F401  (a fixture)
    plain,
    png,
)
from tests.support.replaced_files import KINDS, replace


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_on_the_disk_is_read(kind: str, tmp_path: Path) -> None:
    write, digests = KINDS[kind], []
    spec = write(tmp_path, "cat")
    for number, answer in enumerate(["cat", "dog", "cat"]):
        if number:
            replace(write, tmp_path, answer)
        examples = open_source(spec).examples("train")
        assert [example.answers for example in examples] == [(answer,)]
        origin = describe_origin(spec, {}, {"train": examples}, None, None)
        digests.append(origin["digests"])
    assert digests[0] == digests[2] != digests[1]


def test_pictures_are_read_anew_too(tmp_path: Path) -> None:
    row = {"question": ["q?"], "answers": ["x"], "image_id": [1]}
    for color in ("#010203", "#010204"):
        file = plain(tmp_path / "train.parquet", **row, image=[png(color)])
        source = open_source(f"hub:{file}")
        source.examples("train")
        assert source.picture(1) == png(color)


def test_nothing_is_left_where_data_were_prepared(tmp_path: Path, home: Path) -> None:
    spec = KINDS["`hub:` JSON"](tmp_path, "cat")
    source = open_source(spec)
    source.examples("train")
    assert len(list(home.glob("frozen-vqa-*"))) == 1
    del source
    assert list(home.glob("frozen-vqa-*")) == []


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import datasets

    folder = tmp_path_factory.mktemp("prepared")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder
