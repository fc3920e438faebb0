"""A damaged shard is made again alone, with the same rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest

from frozen_vqa.cache import CacheError, FeatureCache, load_manifest
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.feature_encoder import FeatureEncoder
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.extract.rebuild import rebuild
from frozen_vqa.pipeline.sources.example import Id, VqaExample
from tests.support import lost_shards
from tests.support.frozen import SPLITS, Images, Source, Text, files
from tests.support.lost_shards import FLOAT32, shards, source_of

made = lost_shards.made  # a fixture


def again(cache: Path, *names: str, source: Source | None = None, **changes: Any) -> list[dict]:
    source = source or source_of(3)
    parts: dict[str, Any] = {"images": Images(), "text": Text(), "batch_size": 2} | changes
    splits = parts.pop("splits", ["train", "val"])
    plan = make_plan(source, splits=splits, text=parts["text"])
    encoder = FeatureEncoder(source, plan, parts["images"], parts["text"], FLOAT32)
    return rebuild(encoder, names, cache=cache, batch_size=parts["batch_size"])


@pytest.mark.parametrize("loss", ["gone", "cut", "structure", "row"])
def test_any_one_shard_is_made_again_alone(loss: str, made: tuple[Path, dict[str, bytes]]) -> None:
    cache, whole = made
    for name in shards(whole):
        path = cache / name
        if loss == "gone":
            path.unlink()
        elif loss == "cut":
            path.write_bytes(whole[name][:100])
        else:
            place = 200 if loss == "structure" else whole[name].index(row_of(path))
            flipped = whole[name][:place] + bytes([whole[name][place] ^ 1])
            path.write_bytes(flipped + whole[name][place + 1 :])
        images, text = Images(), Text()
        (done,) = again(cache, name, images=images, text=text)

        assert done["file"] == name
        assert done["same_bytes"]
        assert files(cache) == whole
        assert len(images.encoded) == (done["rows"] if name.startswith("images/") else 0)
        assert bool(text.encoded) == name.startswith("questions/")


def row_of(path: Path) -> bytes:
    """Bytes that occur in the rows of features alone."""
    with h5py.File(path) as file:
        name = "patch_embeddings" if "patch_embeddings" in file else "hidden_states"
        return bytes(file[name][0].tobytes())


def test_several_shards_are_made_again_at_once(made: tuple[Path, dict[str, bytes]]) -> None:
    cache, whole = made
    for name in shards(whole):
        (cache / name).unlink()
    done = again(cache, *shards(whole))

    assert [one["file"] for one in done] == shards(whole)
    assert files(cache) == whole


def test_rows_are_found_through_the_splits_whatever_the_order_of_the_data_set(
    tmp_path: Path,
) -> None:
    """Extracted split by split, and named the other way round when a shard is lost."""
    orders: dict[str, list[Id]] = {"val": [9, 5, 4], "train": [4, 7, 9, 3, 5]}
    source = source_of()
    source.splits = {
        name: [VqaExample(i, image, f"q{image}", ("x",)) for i, image in enumerate(images)]
        for name, images in orders.items()
    }
    for name in orders:
        plan = make_plan(source, splits=[name], text=Text())
        extract(source, plan, cache=tmp_path, images=Images(), text=Text(), dtype=FLOAT32)
    whole = files(tmp_path)
    for name in shards(whole):
        (tmp_path / name).unlink()
        again(tmp_path, name, source=source)
        assert files(tmp_path) == whole


def test_other_rounding_is_told_and_taken(made: tuple[Path, dict[str, bytes]]) -> None:
    """As another GPU would give; the spec is the same."""
    cache, whole = made

    class Rounded(Images):
        def encode(self, pixels: Any) -> Any:
            patches, cls = super().encode(pixels)
            return patches * (1 + 2**-20), cls

    (done,) = again(cache, "images/00001.h5", images=Rounded())
    assert not done["same_bytes"]
    after = files(cache)
    assert set(whole) - set(after) == {"images/00001.h5"}
    assert set(after) - set(whole) == {"images/00001~2.h5"}
    assert {name for name in set(after) & set(whole) if whole[name] != after[name]} == {
        "cache.json", "cache.copy.json"
    }  # fmt: skip
    FeatureCache(cache).split("val")
    (once_more,) = again(cache, "images/00001~2.h5")
    assert not once_more["same_bytes"]
    assert files(cache)["images/00001.h5"] == whole["images/00001.h5"]


def test_a_shard_whose_rows_cannot_be_found_again_is_not_replaced(
    made: tuple[Path, dict[str, bytes]],
) -> None:
    cache, whole = made
    changed = source_of(3)
    changed.splits = {"train": SPLITS["train"][::-1], "val": [SPLITS["val"][0]] * 2}
    changed.splits["train"] = [
        VqaExample(e.question_id, "a", "other?", ()) for e in SPLITS["train"]
    ]
    for name in ("images/00000.h5", "questions/00001.h5"):
        (cache / name).unlink()
        with pytest.raises(
            CacheError, match=rf"{name}: no other file tells which rows it held, .*\(train, val\)"
        ):
            again(cache, name, source=changed)
        assert not (cache / name).exists()
        again(cache, name)
    assert files(cache) == whole


def test_pictures_that_are_gone_are_not_left_out(made: tuple[Path, dict[str, bytes]]) -> None:
    cache, whole = made
    with pytest.raises(SourceError, match=r"picture 9.png: truncated .*1 pictures of this shard"):
        again(cache, "images/00001.h5", source=source_of(3, 9))
    with pytest.raises(SourceError, match=r"pictures of this shard are not in the given data set"):
        again(cache, "images/00000.h5", splits=["val"])
    assert files(cache) == whole


@pytest.mark.parametrize("name", ["images/00009.h5", "splits/val.h5", "../secret", "cache.json"])
def test_what_is_no_shard_is_refused(name: str, made: tuple[Path, dict[str, bytes]]) -> None:
    cache, whole = made
    with pytest.raises(CacheError, match=r"is not a shard of this cache; .*verify-cache"):
        again(cache, name)
    assert files(cache) == whole


def test_a_shard_of_a_cache_without_splits_is_found_by_its_place_in_the_data_set(
    tmp_path: Path,
) -> None:
    """With a picture in its middle that could not be read."""
    source = source_of("a")
    plan = make_plan(source, splits=["train", "val"], text=Text())
    extract(
        source, plan, cache=tmp_path, images=Images(), text=Text(), dtype=FLOAT32, batch_size=2,
        shard_bytes=450,
    )  # fmt: skip
    manifest = replace(load_manifest(tmp_path), splits={})
    for name in ("cache.json", "cache.copy.json"):
        (tmp_path / name).write_text(manifest.to_json())
    lost = (tmp_path / "images" / "00000.h5").read_bytes()
    (tmp_path / "images" / "00000.h5").unlink()
    (done,) = again(tmp_path, "images/00000.h5", source=source)

    assert done == {"file": "images/00000.h5", "rows": 2, "same_bytes": True}
    assert (tmp_path / "images" / "00000.h5").read_bytes() == lost


def test_a_mistyped_cache_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="there is no cache here"):
        again(tmp_path / "typo", "images/00000.h5")
    assert not (tmp_path / "typo").exists()


def test_a_shard_is_made_again_with_its_own_batch_size(
    made: tuple[Path, dict[str, bytes]],
) -> None:
    cache, whole = made
    for asked, batches in ((None, [2, 1]), (1, [1, 1, 1])):
        images = Images()
        (done,) = again(cache, "images/00001.h5", images=images, batch_size=asked)
        assert images.batches == batches
        assert done["same_bytes"]
    assert files(cache) == whole
