"""A damaged shard is made again alone, with the same rows, by the command that is printed."""

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache import CacheError, FeatureCache, load_manifest
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.feature_encoder import FeatureEncoder
from frozen_vqa.pipeline.extract.origin import describe_origin, rebuild_command
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.extract.rebuild import rebuild
from frozen_vqa.pipeline.sources.example import Id, VqaExample
from tests.support.command import Finished, run_command
from tests.support.frozen import BAD, Images, Source, Text, files, picture

IMAGE_IDS: list[Id] = [7, "a", 3, 9, 5, 4, 8, 6]
QUESTIONS = {
    "train": [VqaExample(i, image, f"ab{i}", ("x",)) for i, image in enumerate(IMAGE_IDS[:6])],
    "val": [VqaExample(i, image, f"{i}xy", ("y",)) for i, image in enumerate(IMAGE_IDS[3:])],
}
FLOAT32 = "float32"


def source_of(*bad: Id) -> Source:
    pictures = {image_id: picture(seed) for seed, image_id in enumerate(IMAGE_IDS)}
    return Source(QUESTIONS, pictures | dict.fromkeys(bad, BAD))


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    source = source_of(3)
    plan = make_plan(source, splits=["train", "val"], text=Text())
    extract(
        source, plan, cache=tmp_path, images=Images(), text=Text(), dtype=FLOAT32, batch_size=2,
        shard_bytes=450,
    )  # fmt: skip
    assert len(load_manifest(tmp_path).images) == 3
    assert len(load_manifest(tmp_path).questions) >= 3
    return tmp_path, files(tmp_path)


def again(cache: Path, *names: str, source: Source | None = None, **changes: Any) -> list[dict]:
    source = source or source_of(3)
    parts: dict[str, Any] = {"images": Images(), "text": Text(), "batch_size": 2} | changes
    splits = parts.pop("splits", ["train", "val"])
    plan = make_plan(source, splits=splits, text=parts["text"])
    encoder = FeatureEncoder(source, plan, parts["images"], parts["text"], FLOAT32)
    return rebuild(encoder, names, cache=cache, batch_size=parts["batch_size"])


def shards(whole: dict[str, bytes]) -> list[str]:
    return sorted(name for name in whole if name.startswith(("images/", "questions/")))


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
    import h5py

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
    changed.splits = {"train": QUESTIONS["train"][::-1], "val": [QUESTIONS["val"][0]] * 2}
    changed.splits["train"] = [
        VqaExample(e.question_id, "a", "other?", ()) for e in QUESTIONS["train"]
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


def test_the_origin_of_a_cache_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parquet").mkdir()
    for dataset, expected in {
        "jsonl:data": f"jsonl:{tmp_path}/data",
        "vqav2:../x": f"vqav2:{tmp_path.parent}/x",
        "hub:lmms-lab/VQAv2": "hub:lmms-lab/VQAv2",
        "hub:parquet": f"hub:{tmp_path}/parquet",
        "shapes:20": "shapes:20",
        "shapes": "shapes",
    }.items():
        found = describe_origin(dataset, {"question": "query"}, ["val", "train"], 7, None)
        assert found == {
            "dataset": expected,
            "columns": {"question": "query"},
            "splits": ["val", "train"],
            "limit": 7,
            "batch_size": None,
        }


def tiny_cache(cache: Path) -> Finished:
    return run_command(
        "extract-features", "--dataset", "shapes:12", "--split", "train", "--split", "test",
        "--cache", cache, "--vision-model", "tiny", "--text-model", "tiny", "--image-size", 56,
    )  # fmt: skip


def test_the_printed_commands_mend_the_cache(tmp_path: Path) -> None:
    cache = tmp_path / "a cache"
    assert tiny_cache(cache).code == 0
    whole = files(cache)
    damaged = [name for name in whole if name.endswith(".h5")]
    assert len(damaged) == 4
    for name in damaged:
        (cache / name).write_bytes(whole[name][:-1] + b"?")

    found = run_command("verify-cache", cache, "--json")
    assert found.code == 1
    commands = [one["rebuild"] for one in found.json()["damaged"]]
    assert sorted(one["file"] for one in found.json()["damaged"]) == sorted(damaged)
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "frozen-vqa"
        ended = run_command(*words)
        assert ended.code == 0, ended.err
    assert run_command("verify-cache", cache).code == 0
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


def tiny(cache: Path, *words: object) -> None:
    found = run_command(
        "extract-features", "--cache", cache, "--vision-model", "tiny", "--text-model", "tiny",
        "--image-size", 56, *words,
    )  # fmt: skip
    assert found.code == 0, found.err


def test_the_printed_commands_know_where_each_shard_came_from(tmp_path: Path) -> None:
    """Two data sets in one cache, one of them first in part and then whole."""
    cache, data = tmp_path / "two  spaces", tmp_path / "data"
    data.mkdir()
    for seed in range(3):
        (data / f"{seed}.png").write_bytes(picture(seed))
    lines = [f'{{"image": "{seed}.png", "question": "q{seed}?"}}' for seed in range(3)]
    (data / "mine.jsonl").write_text("\n".join(lines))
    tiny(cache, "--dataset", "shapes:12", "--split", "train", "--limit", 3)
    tiny(cache, "--dataset", f"jsonl:{data}", "--split", "mine", "--batch-size", 2)
    tiny(cache, "--dataset", "shapes:12", "--split", "train", "--split", "val")
    tiny(cache, "--dataset", "shapes:12", "--split", "train", "--limit", 2)
    whole = files(cache)
    assert len([name for name in whole if name.startswith("images/")]) == 3
    for name in shards(whole):
        (cache / name).unlink()
        damaged = run_command("verify-cache", cache, "--json").json()["damaged"]
        (command,) = [one["rebuild"] for one in damaged]
        ended = run_command(*shlex.split(command)[1:])
        assert ended.code == 0, ended.err
        assert files(cache) == whole


def test_a_printed_command_keeps_the_spaces_of_a_path(tmp_path: Path) -> None:
    cache = tmp_path / "two  spaces"
    tiny(cache, "--dataset", "shapes:4", "--split", "train")
    (cache / "cache.json").write_text("{}")

    said = run_command("inspect-cache", cache).err
    subprocess.run(shlex.split(said.split("`")[1]), check=True)
    assert run_command("inspect-cache", cache).code == 0


def test_a_mistyped_cache_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="there is no cache here"):
        again(tmp_path / "typo", "images/00000.h5")
    assert not (tmp_path / "typo").exists()


def test_the_command_of_a_cache_without_splits_leaves_places_to_fill_in(
    made: tuple[Path, dict[str, bytes]],
) -> None:
    cache, _ = made
    manifest = load_manifest(cache)
    unfinished = type(manifest)(spec=manifest.spec, images=manifest.images)

    command = rebuild_command(cache, unfinished, "images/00001.h5")
    assert command.startswith(
        "frozen-vqa extract-features --dataset DATASET --batch-size 2 --split SPLIT"
    )
    assert command.endswith("--rebuild images/00001.h5")


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
