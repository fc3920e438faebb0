"""cache.json comes back as it was written."""

import operator
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frozen_vqa.cache import CacheSpec, Failure
from frozen_vqa.cache.disk.integrity import load_manifest
from frozen_vqa.cache.format.finite import LARGEST
from frozen_vqa.cache.format.manifest import Manifest, Origin, ShardRecord, SplitRecord
from frozen_vqa.cache.format.spec import DTYPES
from tests.support.caches import make_spec
from tests.support.manifests import save, shard, table

counts = st.integers(0, 2**48 - 1)
sizes = st.integers(1, 7)
few, many = st.integers(0, 2**20), st.integers(2**40, 2**48 - 1)  # rows, and bytes that hold them
texts = st.text(max_size=8)
others = texts.filter(lambda name: name not in Origin.__annotations__)  # free of any type
origins = st.builds(
    operator.or_,
    st.dictionaries(others, texts | st.none() | st.integers(), max_size=3),
    st.fixed_dictionaries({}, optional={"dataset": texts, "limit": counts | st.none()}),
)


def files(folder: str) -> st.SearchStrategy[str]:
    return st.integers(0, 99_999).map(lambda n: f"{folder}/{n:05d}.h5")


def shards(folder: str) -> st.SearchStrategy[ShardRecord]:
    return st.builds(
        ShardRecord,
        file=files(folder),
        rows=few,
        bytes=many,
        xxh3=texts,
        datasets=st.dictionaries(texts, texts, max_size=2),
        structure=texts,
        names=texts,
        prefixes=few,
        largest=st.floats(0, LARGEST),
        origin=origins,
    )


split_names = texts.filter(lambda name: name.isprintable() and "/" not in name and name.strip("."))
split_records = st.builds(
    SplitRecord,
    file=files("splits"),
    rows=few,
    bytes=many,
    xxh3=texts,
    datasets=st.dictionaries(texts, texts, max_size=2),
    left_out=counts,
    tokens=counts,
    origin=origins,
)
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | st.booleans() | st.integers() | finite | texts
manifests = st.builds(
    Manifest,
    spec=st.builds(
        CacheSpec,
        vision=st.dictionaries(texts, values | st.lists(values, max_size=3), max_size=3),
        text=st.dictionaries(texts, values, max_size=3),
        grid=st.tuples(sizes, sizes),
        vision_dim=sizes,
        text_dim=sizes,
        dtype=st.sampled_from(DTYPES),
    ),
    images=st.lists(shards("images"), max_size=3).map(tuple),
    questions=st.lists(shards("questions"), max_size=3).map(tuple),
    splits=st.dictionaries(split_names, split_records, max_size=3),
    failures=st.lists(
        st.builds(Failure, texts | st.none() | st.integers(), texts, texts, texts), max_size=3
    ).map(tuple),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(manifests)
def test_a_manifest_comes_back_as_it_was(tmp_path: Path, manifest: Manifest) -> None:
    save(tmp_path, manifest)

    assert load_manifest(tmp_path) == manifest
    assert list(load_manifest(tmp_path).splits) == list(manifest.splits)  # in their order


def test_rows_and_bytes_are_summed() -> None:
    manifest = Manifest(
        spec=make_spec(),
        images=(shard("images/00000.h5", 3, 10), shard("images/00001.h5", 4, 20)),
        questions=(
            shard("questions/00000.h5", 5, 40, 11),
            shard("questions/00001.h5", 6, 80, 13),
        ),
        splits={"val": table(100, 160)},
    )

    assert (manifest.image_rows, manifest.question_rows, manifest.prefix_rows) == (7, 11, 24)
    assert manifest.bytes == 10 + 20 + 40 + 80 + 160
    for kind, records in (("images", manifest.images), ("questions", manifest.questions)):
        assert manifest.shards(kind) == records
        new = shard(f"{kind}/00009.h5", 1, 1)
        assert manifest.with_shard(kind, 1, new).shards(kind) == (records[0], new)
        assert manifest.with_shard(kind, 2, new).shards(kind) == (*records, new)
        assert len(manifest.with_shard(kind, 0, new).files) == len(manifest.files)
