"""A cache knows what each shard came from, and prints the commands that mend it."""

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from frozen_vqa.cache import load_manifest
from frozen_vqa.pipeline.extract.origin import describe_origin, of_split, rebuild_command
from frozen_vqa.pipeline.sources.example import VqaExample
from tests.support import lost_shards
from tests.support.caches import Made
from tests.support.command import Finished, run_command
from tests.support.frozen import files, picture
from tests.support.lost_shards import shards

ASKED = VqaExample(1, "a.png", "What é?", ("dog", "cat"), "what", "number")
made = lost_shards.made  # a fixture


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
        splits = {"val": [ASKED], "train": []}
        found = describe_origin(dataset, {"question": "query"}, splits, 7, None)
        digests = found.pop("digests")
        assert list(digests) == ["val", "train"]
        assert found == {
            "dataset": expected,
            "columns": {"question": "query"},
            "splits": ["val", "train"],
            "limit": 7,
            "batch_size": None,
        }


def test_another_folder_of_pictures_is_noted_only_if_there_is_one(tmp_path: Path) -> None:
    found = describe_origin("jsonl:data", {}, {"val": [ASKED]}, None, None, tmp_path / "a" / "..")
    assert found["images"] == str(tmp_path)
    assert of_split(found, "val")["images"] == str(tmp_path)


def test_the_file_of_annotations_is_named_in_the_command(scenes: Made) -> None:
    manifest = load_manifest(scenes.directory)
    found = describe_origin(
        "vqav2:q.json", {}, {"val": [ASKED]}, None, None, Path("{image_id}.png"), Path("a.json")
    )
    record = replace(manifest.splits["val"], origin=of_split(found, "val"))
    manifest = replace(manifest, splits={"val": record})

    words = shlex.split(rebuild_command(scenes.directory, manifest, record.file))
    assert words[words.index("--annotations") + 1] == str(Path("a.json").resolve())
    assert words[words.index("--images") + 1] == str(Path("{image_id}.png").resolve())


def digest(*examples: VqaExample) -> str:
    return describe_origin("shapes", {}, {"train": examples}, None, None)["digests"]["train"]


@pytest.mark.parametrize("field", VqaExample.__slots__)
def test_the_digest_is_of_every_field_of_every_question(field: str) -> None:
    other = replace(ASKED, **{field: ("cat", "dog") if field == "answers" else "other"})
    assert digest(ASKED) == digest(replace(ASKED))
    seen = {digest(), digest(ASKED), digest(other), digest(ASKED, other), digest(other, ASKED)}
    assert len(seen) == 5


def test_the_digest_stays_what_it_is() -> None:
    """Another one would say of every cache that its data set was changed."""
    assert digest(ASKED) == "f76eca4ccafd09fa91849dbc76e76655"


def test_the_table_of_a_split_tells_of_no_other() -> None:
    origin = describe_origin("shapes", {}, {"val": [ASKED], "train": []}, None, 8)
    assert of_split(origin, "val") == {
        "dataset": "shapes",
        "columns": {},
        "splits": ["val"],
        "digests": {"val": digest(ASKED)},
        "limit": None,
    }
    assert of_split({}, "val") == {}


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
