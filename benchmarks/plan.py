"""What the plan of an extraction costs in memory and time, on simulated data sets.

    python -m benchmarks.plan [--pictures 1000000 4000000] [--distinct 0.3] [--kept N]
                              [--json] [--out FILE]

Each picture has one question; a share of the questions is distinct. The steps are those of stage
one without encoders: questions read, plan made, digest, pictures merged, chunks found, and at the
end the table of the split. Each number of pictures has a process of its own. Shown is the most
memory during a step that lies in no file, less that of the start: such memory the system cannot
take back. `--kept` is the number of values up to which lists and dictionaries stay in memory.
"""

import argparse
import gc
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.harness import Json, finish, machine, show
from frozen_vqa.cache import CacheSpec, Manifest
from frozen_vqa.cache.large import lists
from frozen_vqa.cache.large.dicts import LargeDict
from frozen_vqa.pipeline.extract.chunks import find_missing_work
from frozen_vqa.pipeline.extract.origin import describe_origin
from frozen_vqa.pipeline.extract.plan import make_plan, merge_same_pictures, split_table
from frozen_vqa.pipeline.sources.example import Id, Picture, Source, VqaExample, question_list

SPEC = CacheSpec({"model": "none"}, {"model": "none"}, (16, 16), 768, 2048)
WORDS = [*"abcdefghijklmnopqr"]


class Simulated(Source):
    """A data set of `pictures` pictures, with `distinct` different questions."""

    def __init__(self, pictures: int, distinct: int) -> None:
        self._pictures, self._distinct = pictures, distinct

    def examples(self, split: str) -> Sequence[VqaExample]:
        made = question_list()
        for number in range(self._pictures):
            about = number * 7919 % self._distinct
            words = (WORDS[about // 18**place % 18] for place in range(4))
            name = f"images/{number // 1000:05d}/{number:09d}.jpg"
            text = f"{' '.join(words)} {about}?"
            made.append(VqaExample(number, name, text, (WORDS[number % 18],), "what", "other"))
        return made

    def picture(self, image_id: Id) -> Picture:
        return Image.new("RGB", (2, 2))


class Words:
    """A tokenizer of words."""

    name, max_tokens, causal = "words", 2048, True

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return [[1, *(hash(word) % 32_000 for word in text.split())] for text in texts]


def steps(pictures: int, distinct: int) -> Iterator[str]:
    """Take each step, and yield its name."""
    source, text, splits = Simulated(pictures, distinct), Words(), ["train"]
    read: Any = {"train": (source.examples("train"), ())}
    yield "questions read"
    plan = make_plan(source, splits=splits, text=text, read=read)  # type: ignore[arg-type]
    yield "plan made"
    origin = describe_origin("jsonl:/data", {}, plan.splits, None, 64) | {"batch_size": 64}
    yield "digest"
    plan = merge_same_pictures(plan, source)
    yield "pictures merged"
    with tempfile.TemporaryDirectory() as folder:
        work = find_missing_work(
            plan, Path(folder), Manifest(SPEC), shard_bytes=128 << 20, origin=origin
        )
    yield "chunks found"
    images = LargeDict.of((plan.name(one), row) for row, one in enumerate(plan.image_ids))
    questions = LargeDict.of((one, row) for row, one in enumerate(plan.questions))
    table = split_table(plan, plan.splits["train"], images, questions)
    yield "table of the split"
    del work
    assert table.to_hdf5().pieces
    yield "its bytes"


def anonymous() -> int:
    """Return the bytes of memory of this process that lie in no file."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


class Peak(threading.Thread):
    """The most anonymous memory since `most` was last set."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0

    def run(self) -> None:
        """Look twenty times a second."""
        while True:
            self.most = max(self.most, anonymous())
            time.sleep(0.05)


def _measured(pictures: int, distinct: int, kept: int) -> list[Json]:
    lists.KEPT = kept
    before, rows, begin, peak = anonymous(), [], time.process_time(), Peak()
    peak.start()
    for step in steps(pictures, distinct):
        most, now = peak.most - before, time.process_time()
        rows.append(
            {
                "pictures": pictures,
                "step": step,
                "MB": round(most / 1e6),
                "bytes a picture": round(most / pictures),
                "µs a picture": round((now - begin) / pictures * 1e6, 1),
            }
        )
        gc.collect()
        peak.most, begin = 0, now
    return rows


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=int, nargs="+", default=[1_000_000, 4_000_000])
    parser.add_argument("--distinct", type=float, default=0.3, help="share of the questions")
    parser.add_argument("--kept", type=int, default=lists.KEPT)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    rows: list[Json] = []
    for pictures in options.pictures:
        distinct = max(1, int(pictures * options.distinct))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows += pool.apply(_measured, (pictures, distinct, options.kept))
    show("The plan of an extraction", rows)
    finish({"machine": machine(), "rows": rows}, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
