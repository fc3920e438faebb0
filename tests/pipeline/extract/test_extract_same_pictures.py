"""A picture is one row, whatever its files are called, in every form of a data set."""

import csv
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozen_vqa.cache import CacheWriter, FeatureCache, load_manifest
from frozen_vqa.cache.convert import convert_shard, converted_spec, copy_splits, shards_left
from frozen_vqa.cache.verify import verify
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.evaluate.clusters import cluster_questions
from frozen_vqa.pipeline.extract.extract import Report, extract
from frozen_vqa.pipeline.extract.feature_encoder import FeatureEncoder
from frozen_vqa.pipeline.extract.plan import make_plan, merge_same_pictures
from frozen_vqa.pipeline.extract.rebuild import rebuild
from frozen_vqa.pipeline.runs.held_out import read_split
from frozen_vqa.pipeline.sources.example import Id, VqaExample
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support import official_files
from tests.support.extractions import OPTIONS, SHARD_BYTES
from tests.support.frozen import BAD, VISION_DIM, Images, Source, Text, files, picture
from tests.support.hub_data import _offline, row, save  # noqa: F401  (a fixture)
from tests.support.official_layouts import LAYOUTS

TEXTS = official_files.TEXTS
OWN = ("jsonl", "csv", "hub")
USUAL = ("jsonl", "hub", "nlvr2")
FORMS = [
    name if name in USUAL else pytest.param(name, marks=pytest.mark.slow)
    for name in (*OWN, *LAYOUTS)
]


def write_own(form: str, root: Path, split: str, pictures: Sequence[bytes]) -> None:
    """Write questions about pictures, each under a name of its own."""
    names = [f"{split}{i}.png" for i in range(len(pictures))]
    rows = [{"image": n, "question": f"{n}?", "answer": "x"} for n in names]
    if form == "hub":
        given = [row(i, i + 100 * len(split), "red", ["x"]) for i in range(len(names))]
        for one, data in zip(given, pictures, strict=True):
            one["image"]["bytes"] = data
        save(root / f"{split}-00000-of-00001.parquet", given)
        return
    for name, data in zip(names, pictures, strict=True):
        (root / name).write_bytes(data)
    if form == "jsonl":
        (root / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        with (root / f"{split}.csv").open("w") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)


def write(form: str, root: Path, rng: random.Random) -> tuple[str, list[str]]:
    """Write a data set whose files have some of five pictures; return its name and splits."""
    if form in OWN:
        for split in ("train", "val"):
            write_own(form, root, split, [picture(rng.randrange(5)) for _ in range(7)])
        return f"{'hub' if form == 'hub' else 'jsonl'}:{root}", ["train", "val"]
    splits = ["train", LAYOUTS[form].split]
    for split in splits:
        LAYOUTS[form].write(root, split, TEXTS)
    source = open_source(f"{form}:{root}")
    for example in (one for split in splits for one in source.examples(split)):
        for file in map(source.picture, example.images):
            assert isinstance(file, Path)
            file.write_bytes(picture(rng.randrange(5)))
    return f"{form}:{root}", splits


def store(spec: str, cache: Path, *splits: str) -> Report:
    source = open_source(spec)
    plan = make_plan(source, splits=splits, text=Text())
    options = OPTIONS | {"shard_bytes": 3 * SHARD_BYTES}
    return extract(source, plan, cache=cache, images=Images(), text=Text(), **options)


def data_of(picture: Any) -> bytes:
    return picture.read_bytes() if isinstance(picture, Path) else picture


def check(cache: Path, source: Any, splits: Sequence[str]) -> set[bytes]:
    """Compare the pictures of each question with the encoder's; return all contents."""
    features, every = FeatureCache(cache), set()
    for split in splits:
        table, examples = features.split(split), source.examples(split)
        ids = [tuple(map(str, example.images)) for example in examples]
        assert table.ids_of_pictures(features.image_ids()) == ids
        for rows, example in zip(table.picture_rows, examples, strict=True):
            stored = np.empty((len(rows), 6, VISION_DIM), np.float32)
            features.read_images(rows, stored)
            data = [data_of(source.picture(image_id)) for image_id in example.images]
            pixels = np.stack([Images().pixels(load_rgb(one)) for one in data])
            np.testing.assert_array_equal(stored, Images().encode(pixels)[0].numpy())
            every |= set(data)
    assert [damage for _, damage in verify(cache, features.manifest) if damage] == []
    return every


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_the_different_pictures_of_all_splits(form: str, tmp_path: Path) -> None:
    """In one command, in two, and in two with the splits the other way round."""
    root = tmp_path / "data"
    root.mkdir()
    spec, splits = write(form, root, random.Random(form))
    report = store(spec, tmp_path / "at once", *splits)
    source = open_source(spec)
    for name, turns in (("two", splits), ("back", splits[::-1])):
        reports = [store(spec, tmp_path / name, split) for split in turns]
        every = check(tmp_path / name, source, splits)
        assert load_manifest(tmp_path / name).image_rows == len(every)
        assert sum(one.images["encoded"] for one in reports) == len(every)
    assert every == check(tmp_path / "at once", source, splits)
    ids = {i for s in splits for example in source.examples(s) for i in example.images}
    expected = {"total": len(every), "ids": len(ids), "encoded": len(every), "skipped": 0}
    assert report.images == expected

    whole = files(tmp_path / "two")
    for file in root.rglob("*"):
        if file.suffix in (".png", ".jpg"):
            file.unlink()
    again = store(spec, tmp_path / "two", *splits)  # what is stored needs no picture any more
    assert again.images == expected | {"encoded": 0}
    assert files(tmp_path / "two") == whole


def test_eight_files_of_each_picture_in_the_layout_of_pathvqa(tmp_path: Path) -> None:
    official_files.pathvqa(tmp_path / "data", "train", ["what?"] * 80)
    for i, file in enumerate(sorted((tmp_path / "data").rglob("*.jpg"))):
        file.write_bytes(picture(i * 7 % 10))
    report = store(f"pathvqa:{tmp_path / 'data'}", tmp_path / "cache", "train")

    assert report.images == {"total": 10, "ids": 80, "encoded": 10, "skipped": 0}
    assert load_manifest(tmp_path / "cache").image_rows == 10
    table = FeatureCache(tmp_path / "cache").split("train")
    assert table.image_rows.tolist() == [i % 10 for i in range(80)]
    assert len(set(cluster_questions(FeatureCache(tmp_path / "cache"), table, "image"))) == 10


def source_of(pictures: Mapping[Id, bytes], **splits: Sequence[Id]) -> Source:
    examples = {
        name: [VqaExample(i, image, f"{image}?", ("x",)) for i, image in enumerate(images)]
        for name, images in splits.items()
    }
    return Source(examples, pictures)


def run(cache: Path, source: Source, *splits: str, dtype: str = "float32") -> Report:
    plan = make_plan(source, splits=splits, text=Text())
    options = OPTIONS | {"dtype": dtype}
    return extract(source, plan, cache=cache, images=Images(), text=Text(), **options)


def test_an_unreadable_picture_is_listed_under_each_of_its_ids_until_it_is_mended(
    tmp_path: Path,
) -> None:
    one = picture(1)
    source = source_of({1: one, 2: BAD, "c": BAD, 4: b""}, train=[1, 2, "c", 4], val=[4, "c"])
    report = run(tmp_path, source, "train", "val")

    assert report.images == {"total": 3, "ids": 4, "encoded": 1, "skipped": 2}
    wheres = [(f.id, f.where) for f in report.failures]
    assert wheres == [(i, f"picture {i}.png") for i in ("2", "c", "4")]
    manifest = load_manifest(tmp_path)
    assert manifest.splits["train"].origin["without_picture"] == [[1, "2"], [2, "c"], [3, "4"]]

    source.pictures |= {"c": one, 4: picture(4)}  # one has become like a stored picture
    report = run(tmp_path, source, "train", "val")
    assert report.images == {"total": 3, "ids": 4, "encoded": 1, "skipped": 1}
    manifest = load_manifest(tmp_path)
    assert [failure.id for failure in manifest.failures] == ["2"]
    assert FeatureCache(tmp_path).split("train").image_ids == ["1", "c", "4"]
    assert FeatureCache(tmp_path).split("val").image_rows.tolist() == [1, 0]


def test_an_id_keeps_its_picture_and_another_content_is_another_picture(tmp_path: Path) -> None:
    """A picture saved again under its id is still the stored one; a new id with it is not."""
    first, again = picture(1), picture(1) + b"\0"
    run(tmp_path, source_of({1: first, 2: first}, train=[1, 2]), "train")
    source = source_of({1: again, 2: again, 3: again, 4: first}, val=[1, 2, 3, 4])
    report = run(tmp_path, source, "val")

    assert report.images == {"total": 2, "ids": 4, "encoded": 1, "skipped": 0}
    assert FeatureCache(tmp_path).split("val").image_rows.tolist() == [0, 0, 1, 0]


def test_a_damaged_split_does_not_stop_the_command_that_writes_it_again(tmp_path: Path) -> None:
    source = source_of({1: picture(1), 2: picture(1)}, train=[1, 2])
    run(tmp_path, source, "train")
    whole = files(tmp_path)
    (tmp_path / "splits" / "train.h5").write_bytes(b"no split")
    report = run(tmp_path, source, "train")

    assert report.images["encoded"] == 0
    assert files(tmp_path) == whole


@pytest.mark.parametrize(
    "turns", [("train", "val"), pytest.param(("val", "train"), marks=pytest.mark.slow)]
)
def test_any_shard_is_made_again_where_pictures_have_several_ids(
    turns: tuple[str, ...], tmp_path: Path
) -> None:
    rng = random.Random(3)
    pictures: dict[Id, bytes] = {i: picture(rng.randrange(8)) for i in range(24)}
    pictures[5] = BAD
    source = source_of(
        pictures | {"x": picture(9), "y": picture(9)}, train=range(14), val=range(9, 24)
    )
    turns = (*turns, "pairs")  # a picture that is first in a question that is left out
    source.splits["pairs"] = [
        VqaExample(i, first, f"{first}?", ("x",), more_images=(second,))
        for i, (first, second) in enumerate([("x", 5), ("y", 0)])
    ]
    for split in turns:
        run(tmp_path, source, split)
    whole = files(tmp_path)
    assert len(load_manifest(tmp_path).images) > 3
    for name in sorted(name for name in whole if name.startswith("images/")):
        (tmp_path / name).unlink()
        encoder = FeatureEncoder(
            source, make_plan(source, splits=turns, text=Text()), Images(), Text(), "float32"
        )
        rebuild(encoder, [name], cache=tmp_path, batch_size=2)
        assert files(tmp_path) == whole


def test_what_knows_pictures_by_their_ids_knows_all_of_them(tmp_path: Path) -> None:
    """Clusters by folder, what is held out, a converted cache, and the estimate."""
    shared: dict[Id, bytes] = {f"{f}/{i}.png": picture(i) for f in "ab" for i in range(4)}
    names = list(shared)
    orders = {"one": names, "two": names[::-1]}
    held = {}
    for name, order in orders.items():
        run(tmp_path / name, source_of(shared, train=order), "train")
        cache = FeatureCache(tmp_path / name)
        assert cluster_questions(cache, cache.split("train"), "folder").tolist() == [
            image[:1] for image in map(str, order)
        ]
        table = read_split(cache, "train@0.5")
        held[name] = {i for (i,) in table.ids_of_pictures(cache.image_ids())}
        assert {i[2:] for i in held[name]} & {i[2:] for i in map(str, names)} != set()
    assert held["one"] == held["two"]
    assert len(held["one"]) == 4  # both ids of two pictures

    plan = make_plan(source_of(shared, train=names), splits=["train"], text=Text())
    merged = merge_same_pictures(plan, source_of(shared, train=names))
    assert (len(plan.images), len(merged.images)) == (8, 4)

    source = FeatureCache(tmp_path / "one")
    with CacheWriter(tmp_path / "int8", converted_spec(source, "int8")) as writer:
        for kind, record in shards_left(source, writer):
            convert_shard(source, writer, kind, record)
        copy_splits(source, writer)
    extended = source_of({**shared, "new": picture(2)}, val=["new", names[0]])
    report = run(tmp_path / "int8", extended, "val", dtype="int8")
    assert report.images == {"total": 2, "ids": 2, "encoded": 0, "skipped": 0}
