"""What one picture costs the decoder, and one question the head; each in a process of its own.

    python -m benchmarks.rehearsal.parts decode VQAV2 VISION_MODEL
    python -m benchmarks.rehearsal.parts step CACHE --config JSON

`decode` reads and fits each picture on one thread: seconds of the processor for one, after one that
warms up. `step` trains from a cache: the operations that PyTorch counts for a question in training
and in evaluation, and the share that a step reaches of the peak of one large matrix product. Prints
one JSON object.
"""

import argparse
import json
import time
from pathlib import Path

from benchmarks.gpu.stage_two import measure_steps
from benchmarks.harness import Json
from benchmarks.models import IMAGE_SIZE
from benchmarks.peak import operations_of
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.config import make_config
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.extract.decoder import PictureDecoder
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.predict import predict
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import choose_device, use_cores
from frozen_vqa.pipeline.train.data import load_train_data
from frozen_vqa.pipeline.train.trainer import Trainer

SECONDS = 30.0
"""Of training, at most."""


def decode(vqav2: Path, model: Path) -> Json:
    """Return the processor's seconds for a picture."""
    source = open_source(f"vqav2:{vqav2}")
    plan = make_plan(source, splits=["train", "val"], text=TextEncoder("tiny"))
    decoder = PictureDecoder(source, ImageEncoder(str(model), image_size=IMAGE_SIZE))
    decoder.decode(plan.images[0])
    began = time.process_time()
    for image_id in plan.images:
        decoder.decode(image_id)
    return {"cpu_seconds": (time.process_time() - began) / len(plan.images)}


def step(cache: Path, settings: Json) -> Json:
    """Return what `measure_steps` does, and the operations of a question in evaluation."""
    device = choose_device("auto")
    use_cores()
    config = make_config(settings)
    data = load_train_data(cache, config)
    steps = data.bytes_of_steps([config], device)
    features = ResidentFeatures(data.cache, residency="auto", device=device, steps=steps)
    trainer = Trainer(features, data, config=config)

    def answer() -> None:
        reader, split = trainer.val_reader, trainer.val_split
        predict([trainer.scored], reader, split, batch_size=config.batch_size)

    return {
        "training": measure_steps(trainer, warmup=1, seconds=SECONDS),
        "operations_per_answer": operations_of(answer) / len(trainer.val_split),
    }


def main() -> None:
    """Measure one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=("decode", "step"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--config", type=json.loads)
    options = parser.parse_args()
    console.quiet = True
    found = (
        decode(options.folder, options.model)
        if options.part == "decode"
        else step(options.folder, options.config)
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
