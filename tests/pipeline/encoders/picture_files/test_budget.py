"""What pictures cost together, and what stops one that would take too long."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frozen_vqa.pipeline.encoders import preprocess
from frozen_vqa.pipeline.encoders.picture_files import budget as picture_budget
from frozen_vqa.pipeline.encoders.picture_files.budget import (
    MOST_READS,
    PART,
    MemoryBudget,
    MeteredBytes,
    memory_of,
    require_quick,
)
from frozen_vqa.pipeline.encoders.preprocess import FORMATS, fit_rgb, load_rgb
from frozen_vqa.pipeline.errors import ImageError
from tests.support.pictures import encoded, noise


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=2, max_size=12))
def test_threads_decode_and_fit_within_one_budget(sizes: list[tuple[int, int]]) -> None:
    """A picture that asks for more than there is gets all of it, and is decoded alone."""
    total, now, seen, lock = 12_000, [0], [0], Lock()
    pictures = [encoded(noise(*size)) for size in sizes]

    def fit(image: Image.Image) -> tuple[int, int]:
        size = image.width * image.height * picture_budget.OF_ANY_FORMAT
        with lock:
            now[0] += min(size, total)
            seen[0] = max(seen[0], now[0])
        image.resize((8, 8))
        with lock:
            now[0] -= min(size, total)
        return image.size

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(8) as threads:
        patch.setattr(preprocess, "BUDGET", MemoryBudget(total))
        found = list(threads.map(lambda data: fit_rgb(data, fit), pictures))
    assert found == sizes
    assert seen[0] <= total


def test_memory_is_free_again_after_a_damaged_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = MemoryBudget(100)
    monkeypatch.setattr(preprocess, "BUDGET", budget)
    for _ in range(3):
        with pytest.raises(ImageError):
            load_rgb(encoded(noise(32, 32))[:-60])
    with budget.claim(100):
        pass


@pytest.mark.parametrize("form", FORMATS)
def test_usual_pictures_need_a_tenth_of_the_parts(form: str) -> None:
    data = encoded(noise(300, 200), form)
    file = MeteredBytes(data)
    image = Image.open(file, formats=FORMATS)
    require_quick(image, data)
    image.load()
    assert MOST_READS + len(data) // PART - file._parts < MOST_READS / 10
    assert memory_of(image.size, image.format) >= 300 * 200 * 3


def test_a_header_of_too_many_bytes_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_budget, "MOST_HEADER", 10_000)
    exif = Image.Exif()
    exif[0x010E] = "a" * 20_000
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", exif=exif)
    with pytest.raises(ImageError, match="stand before its pixels; save it without metadata"):
        load_rgb(stream.getvalue())


@pytest.mark.slow
def test_eight_pictures_of_49_megapixels_take_less_than_two_gigabytes() -> None:
    """In a process of its own, whose peak is measured; freed memory has to go back."""
    code = """
import io, resource
from concurrent.futures import ThreadPoolExecutor
from PIL import Image
from frozen_vqa.pipeline.encoders.preprocess import fit_rgb
file = io.BytesIO()
Image.new("RGBA", (7000, 7000)).save(file, "PNG", compress_level=1)
with ThreadPoolExecutor(8) as threads:
    list(threads.map(lambda _: fit_rgb(file.getvalue(), lambda rgb: rgb.size), range(8)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2_000_000
