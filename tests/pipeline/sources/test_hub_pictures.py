"""The pictures of a Hugging Face data set: told by id or content, stored in a row or beside it."""

from pathlib import Path

import datasets
import pytest

from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ImageError, SourceError
from frozen_vqa.pipeline.sources.example import LeftOut
from frozen_vqa.pipeline.sources.hub import HubSource
from tests.support.hub_data import (
    _offline,  # noqa: F401  (a fixture)
    plain,
    png,
    row,
    save,
)


def test_without_image_ids_equal_pictures_are_one(tmp_path: Path) -> None:
    for split, colors in {"train": ["red", "blue", "red"], "val": ["blue"]}.items():
        plain(
            tmp_path / f"{split}.parquet",
            question=["q?"] * len(colors),
            answers=["x"] * len(colors),
            image=[png(color) for color in colors],
        )
    source = HubSource(str(tmp_path))

    first, second, third = (e.image_id for e in source.examples("train"))

    assert first == third != second
    assert [e.image_id for e in source.examples("val")] == [second]
    assert source.picture(second) == png("blue")


def with_paths(folder: Path, *paths: str | None) -> HubSource:
    """A data set of paths in place of pictures; the image ids are 0, 1, …"""
    count = len(paths)
    plain(
        folder / "train.parquet",
        question=["q?"] * count,
        answers=["x"] * count,
        image=list(paths),
        image_id=list(range(count)),
    )
    source = HubSource(str(folder))
    assert len(source.examples("train")) == count
    return source


def test_pictures_may_be_paths_beside_the_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png("red"))
    address = "https://example.org/a.png"
    source = with_paths(tmp_path, "a.png", str(tmp_path / "a.png"), "x/../a.png", address, None)

    for image_id in (0, 1, 2):
        assert source.picture(image_id) == tmp_path / "a.png"
    with pytest.raises(
        ImageError, match=r"^the row has an address, 'https://example\.org/a\.png', "
    ):
        source.picture(3)
    with pytest.raises(ImageError, match=r"^the row has no picture$"):
        source.picture(4)


def test_a_path_that_leaves_the_data_folder_is_refused(tmp_path: Path) -> None:
    paths = ["../a.png", str(tmp_path / "a.png"), "b/../../a.png", "/etc/passwd"]
    (tmp_path / "a.png").write_bytes(png("red"))
    source = with_paths(tmp_path / "data", *paths)

    for image_id, path in enumerate(paths):
        with pytest.raises(ImageError) as caught:
            source.picture(image_id)
        assert str(caught.value) == f"path {path!r} leaves the data folder; copy the picture there"


def test_a_data_folder_may_be_a_link_and_hold_links(tmp_path: Path) -> None:
    """`datasets` gives paths in the resolved folder; a link inside it is the owner's wish."""
    (tmp_path / "real").mkdir()
    (tmp_path / "a.png").write_bytes(png("red"))
    (tmp_path / "real" / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "data").symlink_to(tmp_path / "real")
    source = with_paths(tmp_path / "data", "link.png", str(tmp_path / "real" / "link.png"))

    assert load_rgb(source.picture(0)).size == (4, 3)
    assert load_rgb(source.picture(1)).size == (4, 3)


def test_pictures_that_datasets_has_fetched_are_read_from_its_cache(tmp_path: Path) -> None:
    fetched = Path(datasets.config.HF_DATASETS_CACHE) / "downloads" / "a.png"

    assert with_paths(tmp_path, str(fetched)).picture(0) == fetched


def test_a_row_without_picture_is_left_out_where_pictures_are_told_by_content(
    tmp_path: Path,
) -> None:
    plain(
        tmp_path / "train.parquet",
        question=["q?", "q?", "r?"],
        answers=["x"] * 3,
        image=[png("red"), None, png("red")],
    )
    source = HubSource(str(tmp_path))

    assert [e.question_id for e in source.examples("train")] == [0, 2]
    reason = "the row has no picture, or no id of one; both are needed"
    assert source.left_out("train") == [LeftOut(1, f"hub:{tmp_path}, train row 1", reason)]


def test_image_ids_that_start_anew_in_each_split_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "train.parquet", [row(1, 0, "red", ["a"]), row(2, 1, "blue", ["a"])])
    save(tmp_path / "val.parquet", [row(3, 5, "red", ["a"]), row(4, 1, "lime", ["a"])])
    source = HubSource(str(tmp_path))
    source.examples("train")

    with pytest.raises(SourceError, match=r"image_id 1 is one picture in train and another in val"):
        source.examples("val")

    by_content = HubSource(str(tmp_path), {"image_id": ""})
    ids = {e.image_id for split in ("train", "val") for e in by_content.examples(split)}
    assert len(ids) == 3


def test_a_picture_that_two_splits_share_is_fine(tmp_path: Path) -> None:
    save(tmp_path / "test.parquet", [row(1, 7, "red", None), row(2, 8, "blue", None)])
    save(tmp_path / "testdev.parquet", [row(1, 8, "blue", None)])
    source = HubSource(str(tmp_path))

    assert source.examples("test")[1].image_id == source.examples("test-dev")[0].image_id
