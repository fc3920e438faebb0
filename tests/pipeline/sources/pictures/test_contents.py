"""Pictures of equal bytes have one digest, pictures of other bytes never do, and few are read."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frozen_vqa.cache.format.digests import digest
from frozen_vqa.pipeline.errors import ImageError
from frozen_vqa.pipeline.sources.example import Picture
from frozen_vqa.pipeline.sources.pictures import contents
from frozen_vqa.pipeline.sources.pictures.contents import END, digests_of

MOST = 8 * END
PLACES = {  # where two files of one size may differ: at the ends, beyond them, in the middle
    size: [i for i in (0, size // 2, END - 1, END, size - END - 1, size - 1) if 0 <= i < size]
    for size in (1, END, 2 * END, 2 * END + 1, 4 * END)
}
BODIES = [b"", *(bytes(size) for size in PLACES), bytes(MOST + 1)]
BODIES += [
    bytes(i) + b"\1" + bytes(size - i - 1) for size in PLACES for i in sorted({*PLACES[size]})
]


class Files:
    """A source of any pictures by number."""

    def __init__(self, pictures: Mapping[int, Any]) -> None:
        self.pictures = pictures

    def picture(self, image_id: Any) -> Picture:
        found = self.pictures[image_id]
        if found is None:
            raise ImageError("the row has no picture")
        return found


def source_of(pictures: Mapping[int, Any]) -> Any:
    return Files(pictures)


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files of each content."""
    folder = tmp_path_factory.mktemp("bodies")
    files = [folder / str(i) for i in range(2 * len(BODIES))]
    for i, file in enumerate(files):
        file.write_bytes(BODIES[i % len(BODIES)])
    return files


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 2 * len(BODIES) - 1), max_size=12), st.sets(st.integers(0, 40)))
def test_equal_bytes_and_no_others_have_one_digest(
    bodies: list[Path], chosen: list[int], stored: set[int]
) -> None:
    """Among themselves, and with stored ones, of which the sizes are known."""
    data = [BODIES[i % len(BODIES)] for i in chosen]
    known = {len(BODIES[i % len(BODIES)]) for i in stored}
    for pictures in ([bodies[i] for i in chosen], data):
        found = digests_of(source_of(dict(enumerate(pictures))), range(len(data)), known, MOST)
        assert found == {i: digest(data[i]) for i in found}
        for i, one in enumerate(data):
            repeated = data.count(one) > 1 or len(one) in known
            assert i in found or not repeated or len(one) > MOST


def test_a_file_is_read_whole_only_where_size_and_ends_are_those_of_another(
    bodies: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    for name in ("_ends", "_whole"):
        real = getattr(contents, name)
        monkeypatch.setattr(
            contents, name, lambda one, n=name, f=real: opened.append(n + one.path.name) or f(one)
        )
    middle = next(i for i, body in enumerate(BODIES) if body[2 * END - 1 :].startswith(b"\0\1\0"))
    zeros = BODIES.index(bytes(4 * END))
    last = BODIES.index(bytes(4 * END - 1) + b"\1")
    lone = BODIES.index(bytes(END))
    chosen = {i: bodies[i] for i in (zeros, middle, last, lone)}
    found = digests_of(source_of(chosen), list(chosen), (), MOST)

    assert found == {i: digest(BODIES[i]) for i in (zeros, middle)}
    assert sorted(opened) == sorted(
        [*(f"_ends{i}" for i in (zeros, middle, last)), *(f"_whole{i}" for i in (zeros, middle))]
    )


def test_a_file_of_many_names_is_read_once_and_one_of_holes_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one := tmp_path / "one").write_bytes(b"x" * 9)
    (hollow := tmp_path / "hollow").touch()
    os.truncate(hollow, 1 << 30)
    names = {0: one, 1: tmp_path / "." / "one", 2: tmp_path / "hard", 3: tmp_path / "soft"}
    os.link(one, names[2])
    names[3].symlink_to(one)
    (tmp_path / "copy").write_bytes(b"x" * 9)
    holes = {i: tmp_path / f"hole{i}" for i in (10, 11)}
    for path in holes.values():
        path.symlink_to(hollow)
    opened: list[str] = []
    real = contents._whole
    monkeypatch.setattr(contents, "_whole", lambda one: opened.append(one.path.name) or real(one))
    pictures = {**names, 4: tmp_path / "copy", **holes}
    found = digests_of(source_of(pictures), list(pictures), (), 1 << 40)
    assert found == dict.fromkeys(range(5), digest(b"x" * 9))
    assert len(opened) == 2


def test_what_cannot_be_read_is_like_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    odd = [tmp_path / "folder", tmp_path / "pipe", tmp_path / "none", Path("a\0b"), None]
    pictures = {0: b"x", **dict(enumerate(odd + odd, 1)), 99: b"x"}
    found = digests_of(source_of(pictures), list(pictures), {0, 4096}, MOST)
    assert found == {0: digest(b"x"), 99: digest(b"x")}
    assert digests_of(source_of({}), [], (), MOST) == {}

    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_bytes(bytes(9))
    shrunk = contents._File(files[0], 10)
    assert contents._whole(shrunk) is None  # it changes while it is looked at
    files[0].unlink()
    assert contents._whole(shrunk) is contents._ends(shrunk) is None


def test_a_source_that_draws_draws_one_picture_and_ids_that_are_digests_need_none() -> None:
    drawn: list[int] = []

    class Draws(Files):
        def picture(self, image_id: Any) -> Picture:
            drawn.append(image_id)
            return Image.new("RGB", (2, 2))

    draws: Any = Draws({})
    assert digests_of(draws, range(9), (), MOST) == {}
    assert drawn == [0]
    draws.ids_are_digests = True
    assert digests_of(draws, ["ab", "cd"], (), MOST) == {"ab": "ab", "cd": "cd"}
    assert drawn == [0]
