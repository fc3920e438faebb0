"""The rows of docs/bad-inputs.md about caches and runs: commands given a wrong or a changed one."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.runs.sealed import seal_json
from tests.support.bad_inputs import NAMED, REFUSED, Row
from tests.support.caches import Made, make_cache, make_spec
from tests.support.caches import Row as Question
from tests.support.command import error_of, run_command
from tests.support.heads import make_run
from tests.support.run_folders import edit_json

Change = Callable[[Path], object]
QUESTIONS = [Question(0, 0, ("red",) * 10), Question(1, 1, ("2",) * 10)]


@cache
def template() -> Path:
    """A small cache and a head of it, which cost more to make than to copy."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    splits = {"train": QUESTIONS, "val": QUESTIONS, "test": [Question(0, 0)], "none": []}
    splits["some"] = [QUESTIONS[0], Question(1, 1)]
    make_run(make_cache(folder / "cache", splits), folder / "run")
    return folder


def place(folder: Path) -> None:
    """Put them into DATA/cache and DATA/run."""
    shutil.copytree(template(), folder, dirs_exist_ok=True)
    (folder / "run/run.json").write_bytes(seal_json({"cache": str(folder / "cache")}))


def refused(words: str, change: Change = lambda folder: None) -> Callable[[Path], Row]:
    """A case of a command that ends with an error; @ is the folder of the case."""

    def make(folder: Path) -> Row:
        place(folder)
        change(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: False)  # the page names no GPU
            found = run_command(*(word.replace("@", str(folder)) for word in words.split()))
        return REFUSED, error_of(found)

    return make


def verified(change: Change) -> Callable[[Path], Row]:
    """A case of damage that `verify-cache` names; all that it says on it."""

    def make(folder: Path) -> Row:
        place(folder)
        change(folder)
        found = run_command("verify-cache", folder / "cache")
        assert found.code == 1, found
        said = [line.strip() for line in found.err.splitlines() if "verify, bytes" not in line]
        return NAMED, said[0]

    return make


def write(path: str, content: str | bytes) -> Change:
    def change(folder: Path) -> None:
        data = content if isinstance(content, bytes) else content.encode()
        (folder / path).write_bytes(data)

    return change


def edited(path: str, **values: object) -> Change:
    return lambda folder: edit_json(folder / path, lambda found: found.update(values))


def removed(path: str) -> Change:
    def change(folder: Path) -> None:
        found = folder / path
        shutil.rmtree(found) if found.is_dir() else found.unlink()

    return change


def moved(one: str, two: str) -> Change:
    return lambda folder: (folder / one).rename(folder / two)


def cut(path: str, count: int) -> Change:
    def change(folder: Path) -> None:
        data = (folder / path).read_bytes()
        (folder / path).write_bytes(data[:count])

    return change


def flipped(path: str, place: int) -> Change:
    def change(folder: Path) -> None:
        data = bytearray((folder / path).read_bytes())
        data[place] ^= 1
        (folder / path).write_bytes(data)

    return change


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def other_encoder(folder: Path) -> None:
    shutil.rmtree(folder / "cache")
    spec = make_spec(vision={"model": "another", "image size": 28})
    make_cache(folder / "cache", {"val": QUESTIONS}, spec=spec)


def two_heads(folder: Path) -> None:
    """A sweep's folder: the runs lie below it."""
    made = Made(folder / "cache", None, (), {})  # type: ignore[arg-type]
    make_run(made, folder / "sweep" / "one", seed=1)
    make_run(made, folder / "sweep" / "two", seed=2, fusion="concat")


def other_answers(folder: Path) -> None:
    made = Made(folder / "cache", None, (), {})  # type: ignore[arg-type]
    make_run(made, folder / "other", vocabulary=Vocabulary(("red", "blue", "2")))


def without_digest(folder: Path) -> None:
    edit_json(folder / "run/run.json", lambda found: found.pop("xxh3"))


INSPECT, VERIFY = "inspect-cache @/cache", "verify-cache @/cache"
EVALUATE = "evaluate --run @/run"
TRAIN = "train-head --cache @/cache --run @/new --epochs 1 --min-answer-count 1"
ASK = "ask --image a.png --question what? --run"

CACHES_AND_RUNS: dict[str, Callable[[Path], Row]] = {
    "folder that does not exist, as cache": refused("inspect-cache @/nothing"),
    "empty folder as cache": refused("inspect-cache @/new", lambda f: (f / "new").mkdir()),
    "file as cache": refused("inspect-cache @/cache/cache.json"),
    "folder above a cache": refused("inspect-cache @/"),
    "folder of a cache's images": refused("inspect-cache @/cache/images"),
    "run as cache": refused("inspect-cache @/run"),
    "`verify-cache` on the folder above": refused("verify-cache @/"),
    "`convert-cache` of no cache": refused("convert-cache @/nothing --cache @/new"),
    "`convert-cache` to a larger type": refused(
        "convert-cache @/cache --cache @/new --dtype float32"
    ),
    "`train-head` on the folder above a cache": refused(TRAIN.replace("@/cache", "@/")),
    "`cache.json` lost, its copy there": refused(INSPECT, removed("cache/cache.json")),
    "`cache.json` empty": refused(INSPECT, write("cache/cache.json", "")),
    "`cache.json` cut short": refused(INSPECT, cut("cache/cache.json", 200)),
    "`cache.json` that is a list": refused(INSPECT, write("cache/cache.json", "[]")),
    "`cache.json` of binary": refused(INSPECT, write("cache/cache.json", b"\xff\xfe\0")),
    "`cache.json` edited by hand": refused(INSPECT, edited("cache/cache.json", images=[])),
    "`cache.json` is a folder": refused(
        INSPECT, both(removed("cache/cache.json"), lambda f: (f / "cache/cache.json").mkdir())
    ),
    "cache of an older format": refused(INSPECT, edited("cache/cache.json", format=2)),
    "cache of a newer format": refused(INSPECT, edited("cache/cache.json", format=99)),
    "cache of no known format": refused(INSPECT, edited("cache/cache.json", format="x")),
    "shard lost": refused(EVALUATE, removed("cache/images/00001.h5")),
    "shard cut short": refused(EVALUATE, cut("cache/images/00000.h5", 999)),
    "shard is a folder": refused(
        EVALUATE,
        both(removed("cache/images/00000.h5"), lambda f: (f / "cache/images/00000.h5").mkdir()),
    ),
    "bit flipped in a split": refused(EVALUATE, flipped("cache/splits/val.h5", 2100)),
    "bit flipped in a shard's structure": refused(EVALUATE, flipped("cache/images/00000.h5", 20)),
    "bit flipped in a shard's features": refused(EVALUATE, flipped("cache/images/00000.h5", -9)),
    "bit flipped in hidden states": refused(EVALUATE, flipped("cache/questions/00000.h5", -9)),
    "`verify-cache`: shard lost": verified(removed("cache/images/00001.h5")),
    "`verify-cache`: shard cut short": verified(cut("cache/images/00001.h5", 99)),
    "`verify-cache`: bit flipped in features": verified(flipped("cache/images/00000.h5", -9)),
    "`verify-cache`: bit flipped in a structure": verified(flipped("cache/images/00000.h5", 20)),
    "`verify-cache`: bit flipped in a split": verified(flipped("cache/splits/val.h5", 2100)),
    "`verify-cache`: copy of `cache.json` lost": verified(removed("cache/cache.copy.json")),
    "`verify-cache`: file that is a folder": verified(
        both(removed("cache/splits/val.h5"), lambda f: (f / "cache/splits/val.h5").mkdir())
    ),
    "`train-head` on a split that is not there": refused(TRAIN + " --train-split training"),
    "`train-head` on an empty split": refused(TRAIN + " --train-split none"),
    "`train-head` on a split without answers": refused(TRAIN + " --train-split test"),
    "`train-head` validated on half-answered questions": refused(TRAIN + " --val-split some"),
    "`train-head` with no frequent answer": refused(TRAIN.replace("-count 1", "-count 99")),
    "`train-head` into a folder with a run": refused(TRAIN.replace("@/new", "@/run")),
    "`train-head --resume` of nothing": refused(TRAIN + " --resume"),
    "folder that does not exist, as run": refused("evaluate --run @/nothing"),
    "folder above a run": refused("evaluate --run @/"),
    "folder of a sweep": refused("evaluate --run @/sweep", two_heads),
    "folder inside a run": refused(
        "evaluate --run @/run/evaluation", lambda f: (f / "run/evaluation").mkdir()
    ),
    "cache as run": refused("evaluate --run @/cache"),
    "file as run": refused("evaluate --run @/run/config.json"),
    "`ask` with the folder above a run": refused(f"{ASK} @/"),
    "`ask` with no run": refused(f"{ASK} @/nothing"),
    "run of an older format": refused(EVALUATE, edited("run/config.json", format=5)),
    "run of a newer format": refused(EVALUATE, edited("run/config.json", format=99)),
    "run of no known format": refused(EVALUATE, edited("run/config.json", format=None)),
    "`config.json` of a run cut short": refused(EVALUATE, cut("run/config.json", 30)),
    "`config.json` of a run that is a list": refused(EVALUATE, write("run/config.json", "[]")),
    "`config.json` of another run": refused(EVALUATE, edited("run/config.json", dtype="float32")),
    "`answers.json` of another run": refused(EVALUATE, write("run/answers.json", '["a"]')),
    "`answers.json` lost": refused(EVALUATE, removed("run/answers.json")),
    "`config.toml` edited": refused(EVALUATE, write("run/config.toml", "layers = 1")),
    "`run.json` lost": refused(EVALUATE, removed("run/run.json")),
    "`run.json` edited": refused(EVALUATE, edited("run/run.json", cache="/elsewhere")),
    "`run.json` without its digest": refused(EVALUATE, without_digest),
    "weights lost": refused(EVALUATE, removed("run/model.safetensors")),
    "weights cut short": refused(EVALUATE, cut("run/model.safetensors", 300)),
    "weights of another file": refused(EVALUATE, write("run/model.safetensors", "hello")),
    "bit flipped in weights": refused(EVALUATE, flipped("run/model.safetensors", -3)),
    "cache of the training moved": refused(EVALUATE, moved("cache", "elsewhere")),
    "cache of other encoders": refused(f"{EVALUATE} --cache @/cache", other_encoder),
    "cache without the split": refused(f"{EVALUATE} --split validation"),
    "`evaluate` on an empty split": refused(f"{EVALUATE} --split none"),
    "`evaluate` on a half-answered split": refused(f"{EVALUATE} --split some"),
    "`--compare` on a split without answers": refused(f"{EVALUATE} --split test --compare @/run"),
    "`--table` of another kind": refused(f"{EVALUATE} --table @/t.csv"),
    "`--run` twice with one seed": refused(f"{EVALUATE} --run @/run"),
    "heads of other answers as one ensemble": refused(
        f"{EVALUATE} --ensemble @/other", other_answers
    ),
    "`--run` of two kinds of heads": refused(
        "evaluate --run @/sweep/one --run @/sweep/two", two_heads
    ),
    "`--device` of another library": refused(f"{EVALUATE} --device gpu"),
    "`--device` that no machine has": refused(f"{EVALUATE} --device cuda:77"),
}
