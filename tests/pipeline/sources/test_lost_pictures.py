"""Where a missing picture may be, and the words that lead there."""

from pathlib import Path

import pytest

from frozen_vqa.pipeline.sources.lost_pictures import find_cure


@pytest.mark.parametrize(
    ("path", "file", "cure"),
    [
        ("a.png", "images/a.png", "DATA/images/a.png is there: give --images DATA/images"),
        ("train/a.png", "images/train/a.png", "is there: give --images DATA/images"),
        ("pics/a.png", "images/train/a.png", "is there: give --images DATA/images/train"),
        ("a.png", "A.PNG", "DATA/A.PNG is there; its capital letters differ"),
        ("a.png", "a.jpg", "DATA/a.jpg is there; its ending differs"),
        ("a.png", "b.png", "If the pictures are elsewhere, give their folder by --images"),
        ("a.png", "a.txt", "If the pictures are elsewhere, give their folder by --images"),
    ],
)
def test_the_cure_of_a_missing_picture(tmp_path: Path, path: str, file: str, cure: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(b"pixels")

    found = find_cure(tmp_path, path).replace(str(tmp_path), "DATA")

    assert cure in found
    assert found.endswith(".")
