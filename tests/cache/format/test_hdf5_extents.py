"""Where the numbers of a file lie: recorded as h5py says, and refused where it is not possible."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.format.bfloat16 import BFLOAT16
from frozen_vqa.cache.format.hdf5 import (
    DTYPES,
    Extent,
    Hdf5File,
    build_hdf5,
    read_extents,
    text_datasets,
)
from tests.support.repository import ROOT

COLUMN = np.array([7, -1, 2**40, 0], dtype=np.int64)
ROWS = np.arange(3 * 4 * 5, dtype=np.float16).reshape(3, 4, 5)
WHOLE = {"x": "int64 4 at 2048", "y": "float16 3x4x5 at 4096", "none": "float32 0x7 at 0"}
SIZE = 4096 + 120


def test_extents_are_those_that_h5py_sees(tmp_path: Path) -> None:
    arrays = {name: np.arange(24, dtype=dtype).reshape(2, 3, 4) for name, dtype in DTYPES.items()}
    arrays |= {"large": np.tile(ROWS, (50, 1, 1)), "none": ROWS[:0]}
    arrays |= text_datasets("id", ["a", "bcd", ""])
    new = build_hdf5(arrays)
    (tmp_path / "a.h5").write_bytes(b"".join(new.pieces))

    with h5py.File(tmp_path / "a.h5") as file:
        kinds = {n: BFLOAT16 if n == "bfloat16" else d.dtype for n, d in file.items()}
        seen = {n: Extent(d.id.get_offset() or 0, d.shape, kinds[n]) for n, d in file.items()}
    assert read_extents(new.datasets, len(b"".join(new.pieces)), "a.h5") == seen
    assert list(new.datasets) == list(arrays)
    assert seen["large"].nbytes == 150 * 4 * 5 * 2
    assert seen["large"].offset % 4096 == 0


@pytest.mark.parametrize("wrong", [None, 0, 8, 2048 + 8, 10**6])
def test_a_wrong_offset_is_never_recorded(
    wrong: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever h5py says, the bytes there are compared with the array."""

    class Wrong(h5py.h5d.DatasetID):  # type: ignore[misc, name-defined]
        def get_offset(self) -> int | None:
            return wrong

    monkeypatch.setattr(h5py.Dataset, "id", property(lambda self: Wrong(self._id.id)))
    with pytest.raises((RuntimeError, CacheDamagedError), match=r"not store 'x'|'x' lies outside"):
        build_hdf5({"x": COLUMN})


def test_possible_extents_are_read() -> None:
    assert read_extents(WHOLE, SIZE, "a.h5") == {
        "x": Extent(2048, (4,), np.dtype(np.int64)),
        "y": Extent(4096, (3, 4, 5), np.dtype(np.float16)),
        "none": Extent(0, (0, 7), np.dtype(np.float32)),
    }


@pytest.mark.parametrize(
    ("extent", "message"),
    [
        ("float16 3x4x5 at 2048", "'y' overlaps 'x' at byte 2,048|'x' overlaps 'y' at byte 2,048"),
        ("float16 3x4x5 at 2079", "'y' overlaps 'x' at byte 2,079"),
        ("float16 3x4x5 at 2016", "'x' overlaps 'y' at byte 2,048"),
        ("float16 2x4x256 at 0", "'x' overlaps 'y' at byte 2,048"),
        ("float16 3x4x5 at 4097", r"lies outside the file \(bytes 4,097 to 4,217 of 4,216\)"),
        ("float16 61 at 4096", "lies outside the file"),
        ("int8 1 at 4216", "lies outside the file"),
        ("int8 0 at 4217", "lies outside the file"),
        ("int8 1 at 999999999999999", "lies outside the file"),
        ("int8 999999999999999 at 0", "lies outside the file"),
        ("uint64 999999999999999x999999999999999 at 0", "more than memory can have"),
        ("uint64 0x999999999999999x999999999999999 at 0", "more than memory can have"),
        ("uint64 65536x65536x65536x65536 at 0", "more than memory can have"),
        ("float16 3x4x5 at -8", "has no extent"),
        ("float16 -3x4x5 at 4096", "has no extent"),
        ("float16 3x4x5 at 1e3", "has no extent"),
        ("float16 3x4x5 at 4096.0", "has no extent"),
        ("float16 3x4x5 at " + "9" * 16, "has no extent"),
        ("float16 " + "9" * 5000 + " at 0", "has no extent"),
        ("float16 1x1x1x1x1 at 4096", "has no extent"),
        ("float16  at 4096", "has no extent"),
        ("float16 3x4x5 at 4096 ", "has no extent"),
        ("float16 3x4x5 at 4096\n", "has no extent"),
        ("float16 \u0663 at 4096", "has no extent"),
        (">f2 3x4x5 at 4096", "has no extent"),
        ("float64 3 at 4096", "has no extent"),
        ("object 3 at 4096", "has no extent"),
        ("V8 3 at 4096", "has no extent"),
        ("", "has no extent"),
        (None, "has no extent, but None"),
        (4096, "has no extent, but 4096"),
        ([4096, [3], "float16"], "has no extent"),
        ({"offset": 4096}, "has no extent"),
    ],
)
def test_impossible_extents_are_refused_by_name(extent: Any, message: str) -> None:
    with pytest.raises(CacheDamagedError, match=f"^a.h5: ('y'.*)?({message})"):
        read_extents(WHOLE | {"y": extent}, SIZE, "a.h5")
    with pytest.raises(CacheDamagedError, match=r"^a\.h5: "):
        Hdf5File(Path("a.h5"), bytes(SIZE), WHOLE | {"y": extent})


def test_a_file_that_is_cut_is_refused() -> None:
    new = build_hdf5({"x": COLUMN, "y": ROWS})
    end = max(
        e.offset + e.nbytes
        for e in read_extents(new.datasets, len(b"".join(new.pieces)), "").values()
    )
    Hdf5File(Path("a.h5"), b"".join(new.pieces)[:end], new.datasets)
    for length in (0, 1, 95, 2048, end - 1):
        with pytest.raises(CacheDamagedError, match=r"^a.h5: '[xy]' lies outside the file"):
            Hdf5File(Path("a.h5"), b"".join(new.pieces)[:length], new.datasets)


numbers = st.integers(0, 5000) | st.integers(0, 2**70)
records = st.builds(
    lambda dtype, shape, offset: f"{dtype} {'x'.join(map(str, shape))} at {offset}",
    st.sampled_from([*DTYPES, "float64"]),
    st.lists(numbers, min_size=1, max_size=5),
    numbers,
)


@given(st.dictionaries(st.text(max_size=3), records | st.text(max_size=30), max_size=5))
@settings(max_examples=500, deadline=None)
def test_what_is_not_refused_can_be_read_and_lies_apart(datasets: dict[str, str]) -> None:
    data = bytes(SIZE)
    try:
        file = Hdf5File(Path("a.h5"), data, datasets)
    except CacheDamagedError:
        return
    end = 0
    for extent in sorted(file.extents.values(), key=lambda e: e.offset):
        if extent.nbytes:
            assert end <= extent.offset
            end = extent.offset + extent.nbytes
    assert end <= SIZE
    for name, extent in file.extents.items():
        assert file.array(name, extent.shape, extent.dtype).nbytes == extent.nbytes
        file.structure_digest([name])


WATCH = """
import sys
opened = []
from pathlib import Path
from frozen_vqa.cache.format.hdf5 import Hdf5File
data = Path(sys.argv[1]).read_bytes()
sys.addaudithook(lambda event, details: opened.append(event) if event in WATCHED else None)
file = Hdf5File(Path("a.h5"), data, {"x": sys.argv[2]})
print(file.array("x", file.extents["x"].shape, file.extents["x"].dtype).tolist())
print(opened, "h5py" in sys.modules)
""".replace("WATCHED", '("open", "os.open", "import", "mmap.__new__", "socket.connect")')


def test_reading_opens_nothing_and_does_not_load_libhdf5(tmp_path: Path) -> None:
    """In a file that makes libhdf5 open another one, too."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
        raw = [(str(tmp_path / "raw"), 0, COLUMN.nbytes)]
        file.create_dataset("outside", data=COLUMN, external=raw)
        file["x"] = COLUMN
        extent = str(Extent(file["x"].id.get_offset(), COLUMN.shape, COLUMN.dtype))

    out = subprocess.run(
        [sys.executable, "-c", WATCH, path, extent],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout == f"{COLUMN.tolist()}\n[] False\n"
