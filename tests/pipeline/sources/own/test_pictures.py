"""Paths of pictures as people have them, each the file that it means or a reason with a cure."""

from pathlib import Path

import pytest

from frozen_vqa.pipeline.sources.own.pictures import PictureFolder
from frozen_vqa.pipeline.sources.validation import UnusableError


def make(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"pixels")
    return folder


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("images/a.png", "images/a.png"),
        ("images\\a.png", "images/a.png"),
        (".\\images\\a.png", "images/a.png"),
        ("odd\\name.png", "odd\\name.png"),  # a file may really be called so
        ("ROOT/images/a.png", "images/a.png"),
    ],
)
def test_a_path_inside_the_folder_has_one_plain_form(
    tmp_path: Path, written: str, path: str
) -> None:
    make(tmp_path, "images/a.png", "odd\\name.png")
    assert PictureFolder(tmp_path).find(written.replace("ROOT", str(tmp_path))) == (path, path)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("https://x.org/a.png", "is an address; download the picture"),
        ("FILE://x/a.png", "is an address"),
        ("C:\\pics\\a.png", "not a path inside the data folder.*by --images"),
        ("d:/pics/a.png", "not a path inside the data folder.*by --images"),
        ("\\\\server\\pics\\a.png", "not a path inside the data folder.*by --images"),
        ("/elsewhere/a.png", "not a path inside the data folder.*by --images"),
        ("..\\a.png", "not a path inside the data folder.*by --images"),
    ],
)
def test_a_path_that_leads_elsewhere_names_the_cure(
    tmp_path: Path, written: str, reason: str
) -> None:
    with pytest.raises(UnusableError, match=reason):
        PictureFolder(tmp_path).find(written)


@pytest.mark.parametrize(
    ("written", "image_id", "file"),
    [
        ("a.png", "a.png", "a.png"),
        ("pics/a.png", "pics/a.png", "a.png"),
        ("C:\\me\\sub\\b.png", "sub/b.png", "sub/b.png"),
        ("../images/sub/b.png", "sub/b.png", "sub/b.png"),
        ("/home/me/a.png", "a.png", "a.png"),
        ("c.png", "c.png", "train2014/c.png"),
        ("/gone/d.png", "d.png", "d.png"),
        ("/gone/far/below/d.png", "d.png", "d.png"),
    ],
)
def test_elsewhere_the_longest_end_of_a_path_counts(
    tmp_path: Path, written: str, image_id: str, file: str
) -> None:
    pictures = make(
        tmp_path / "elsewhere", "a.png", "sub/b.png", "train2014/c.png", "val2014/e.png"
    )
    assert PictureFolder(tmp_path, pictures).find(written) == (image_id, file)


def test_two_paths_are_never_one_picture(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path, make(tmp_path / "elsewhere", "a.png"))
    folder.find("train/a.png")
    folder.find("train/a.png")
    with pytest.raises(UnusableError, match=r"'val/a.png' and image 'train/a.png' are both a\.png"):
        folder.find("val/a.png")
