"""WebDatasets: the same rows from any form of a tar and any place; each picture is read once."""

import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.cache import load_manifest
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.example import Source
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.sources.own.tar_shards import BLOCK, read_samples
from tests.support.bad_stored_pictures import put
from tests.support.frozen import Images, Text, picture
from tests.support.stores import Flaky, empty, memory
from tests.support.tars import sample, shard, tar_of

__all__ = ["empty"]
FORMS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
SHARDS, EACH = 3, 4


def run(source: Source, cache: Path) -> list[str]:
    """Extract; return the digests of all files."""
    text = Text()
    plan = make_plan(source, splits=["train"], text=text)
    extract(source, plan, cache=cache, images=Images(), text=text, batch_size=2)  # type: ignore[arg-type]
    return [one.xxh3 for one in load_manifest(cache).files]


def test_the_same_rows_from_any_form_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, tasks = [], range(SHARDS)
    for name, form in FORMS.items():
        (tmp_path / name).mkdir()
        for number in tasks:
            data = shard(range(EACH * number, EACH * (number + 1)), form)
            (tmp_path / name / f"train-{number:03d}.tar").write_bytes(data)
        found.append(run(open_source(f"wds:{tmp_path / name}"), tmp_path / f"{name}-cache"))
    for file in (tmp_path / "gnu").iterdir():
        put(f"memory://bucket/data/{file.name}", file.read_bytes())
    with memory(monkeypatch, Flaky(fails=0.1)) as files:
        source = open_source("wds:memory://bucket/data/train-{000..002}.tar")
        found.append(run(source, tmp_path / "url-cache"))
        # A sample is looked at once, at most, with its texts; then its picture is read.
        assert files.asked["cat_file"] - files.failed <= SHARDS * (EACH + 1) + SHARDS * EACH
    assert found == [found[0]] * 4


def test_only_little_of_a_shard_is_read_before_its_pictures() -> None:
    members = [one for i in range(9) for one in sample(i, png=picture(i) + bytes(10 * BLOCK))]
    data, read = tar_of(members), [0]

    def part(first: int, size: int) -> bytes:
        read[0] += size
        return data[first : first + size]

    samples = list(read_samples("shard", part))
    assert len(samples) == 9
    assert read[0] <= 10 * BLOCK
    for number, one in enumerate(samples):
        (place,) = one.pictures
        assert data[place.first : place.first + place.size].startswith(picture(number))


@pytest.mark.parametrize(
    ("files", "pattern", "splits"),
    [
        (["train-0.tar", "val-0.tar"], "", {"train": 1, "val": 1}),
        (["train-0.tar", "validation-0.tar"], "", {"train": 1, "val": 1}),
        (["a-0.tar", "a-1.tar"], "a-{0..1}.tar", {"train": 2}),
        (["train-08.tar", "train-09.tar", "train-10.tar"], "train-{08..10}.tar", {"train": 3}),
        (["x/train-0.tar", "y/train-0.tar"], "{x,y}/train-{0..0}.tar", {"train": 2}),
    ],
)
def test_names_of_shards_say_the_splits(
    files: list[str], pattern: str, splits: dict[str, int], tmp_path: Path
) -> None:
    for number, file in enumerate(files):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(shard([number]))
    source = open_source(f"wds:{tmp_path / pattern}")
    assert {name: len(source.examples(name)) for name in splits} == splits
    for name in splits:
        for example in source.examples(name):
            assert source.picture(example.image_id) in map(picture, range(len(files)))
    with pytest.raises(SourceError):
        source.examples("test")


@given(st.data())
def test_any_bytes_are_samples_or_one_sentence(data: st.DataObject) -> None:
    forged = bytearray(shard([0, 1], data.draw(st.sampled_from(list(FORMS.values())))))
    for _ in range(data.draw(st.integers(1, 8))):
        forged[data.draw(st.integers(0, len(forged) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(forged)))
    forged = forged[: end if data.draw(st.booleans()) else None]
    with suppress(SourceError):
        for one in read_samples("shard", lambda first, size: bytes(forged[first : first + size])):
            assert all(0 <= part.first <= len(forged) for part in one.pictures)
