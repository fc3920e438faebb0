"""One rank of an extraction with encoders made of arithmetic; `torchrun` starts it.

torchrun ... ranks_worker.py CACHE [RANK:N]    rank RANK is killed at its N-th batch
"""

import os
import signal
import sys
import time
from pathlib import Path

import frozen_vqa.pipeline.extract.extract
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.example import VqaExample
from frozen_vqa.pipeline.system.ranks import torchrun_ranks
from tests.support.frozen import Images, Source, Text, picture

IMAGE_IDS = [7, "a", 3, 9, 5, 4, 8, 6, "b", 12, 13, 14]
BAD = 9
QUESTIONS = {
    "train": [VqaExample(i, image, f"{i % 7}ab{i % 5}", ("yes",)) for i, image in
              enumerate(IMAGE_IDS[:9])],
    "val": [VqaExample(i, image, f"{i % 3}xyz{i}", ("no",)) for i, image in
            enumerate(IMAGE_IDS[4:])],
}  # fmt: skip


def main(cache: Path, dies: str = "") -> None:
    """Extract, as one rank or as the only process."""
    fatal, _, batch = dies.partition(":")
    batches = 0

    def before() -> None:
        nonlocal batches
        batches += 1
        if os.environ.get("RANK", "0") != "0":
            time.sleep(0.1)  # the first rank has to wait for the others
        if fatal == os.environ.get("RANK") and batches == int(batch):
            os.kill(os.getpid(), signal.SIGKILL)

    if os.environ.get("RANK", "0") != "0":  # the first rank must not go on before all have read
        real = frozen_vqa.pipeline.extract.extract.load_manifest
        frozen_vqa.pipeline.extract.extract.load_manifest = lambda path: (
            time.sleep(0.5) or real(path)
        )
    pictures = {image_id: picture(seed) for seed, image_id in enumerate(IMAGE_IDS)}
    copies = {"b": pictures[7], 13: pictures["b"], 14: pictures[4]}
    source = Source(QUESTIONS, pictures | {BAD: b"no picture"} | copies)
    text = Text(before)
    with torchrun_ranks() as ranks:
        report = extract(
            source,
            make_plan(source, splits=list(QUESTIONS), text=text),
            cache=cache,
            images=Images(before),
            text=text,
            dtype="float32",
            batch_size=2,
            shard_bytes=450,
            ranks=ranks,
        )
    if ranks.lead:
        print(report.to_json()["images"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
