"""Training at VQAv2's shape, with made-up features where they would be.

    python -m benchmarks.gpu.stage_two [--small] [--preset NAME] [--seconds 60] [--way compiled]

82,783 pictures of 256 x 768 numbers and 443,757 questions. A cache of a few thousand pictures is
written, and uploaded as a training does it; where a GPU has room, its rows are repeated to all
pictures, else as many pictures take part as fit. --small is less of everything, for a CPU too.
--way compiles the head's forward and backward pass, or replays them as CUDA graphs.
Prints one JSON object: questions a second, the share of the device's peak, waiting, validation,
memory, what a save costs, and whether the same steps give the same bits again.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.generated import split_table, write_cache
from benchmarks.gpu.encoder import TRACED, WAYS
from benchmarks.harness import Json, peak_rss
from benchmarks.peak import operations_of, peak_of_products, synchronize
from benchmarks.step.data import ANSWERS, GRID, TEXT_DIM, VISION_DIM
from frozen_vqa.cache import CacheSpec
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.config import PRESETS, TrainConfig, make_config
from frozen_vqa.pipeline.predict import predict
from frozen_vqa.pipeline.runs.state import Progress, TrainingFingerprint, TrainState, save_state
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import (
    choose_device,
    keep_freed_memory,
    repeatable,
    training_dtype,
    use_cores,
)
from frozen_vqa.pipeline.system.saver import Saver
from frozen_vqa.pipeline.train.data import TrainData, load_train_data
from frozen_vqa.pipeline.train.trainer import Trainer


@dataclass(frozen=True)
class Amounts:
    """How much is measured.

    Attributes:
        cached: Pictures of the cache,
        pictures: and of the training.
        questions: Of the training.
        validated: Questions that are answered.
        distinct: Texts of questions.
        grid, vision_dim, text_dim, answers: Shapes.
        warmup: Steps before the measurement.
        compiling: The same of compiled steps, so that batches of every shape are among them.
        repeated: Steps that are made twice and compared.
    """

    cached: int = 3000
    pictures: int = 82_783
    questions: int = 443_757
    validated: int = 20_000
    distinct: int = 20_000
    grid: tuple[int, int] = GRID
    vision_dim: int = VISION_DIM
    text_dim: int = TEXT_DIM
    answers: int = ANSWERS
    warmup: int = 20
    compiling: int = 60
    repeated: int = 10


SMALL = Amounts(
    cached=40,
    pictures=120,
    questions=640,
    validated=64,
    distinct=60,
    grid=(4, 4),
    vision_dim=32,
    text_dim=48,
    answers=20,
    warmup=1,
    compiling=1,
    repeated=3,
)


def make_data(folder: Path, amounts: Amounts, config: TrainConfig, pictures: int) -> TrainData:
    """Return questions about so many pictures, with the text of a small cache."""
    spec = CacheSpec(
        vision={"model": "generated"},
        text={"model": "generated"},
        grid=amounts.grid,
        vision_dim=amounts.vision_dim,
        text_dim=amounts.text_dim,
    )
    if not folder.exists():
        write_cache(
            folder,
            images=amounts.cached,
            questions_per_image=5,
            distinct_questions=amounts.distinct,
            answers=amounts.answers,
            spec=spec,
        )
    data = load_train_data(folder, config)
    each = round(amounts.questions / amounts.pictures)
    rng = np.random.default_rng(0)
    table = split_table(range(pictures), each, amounts.distinct, amounts.answers, rng)
    wanted = min(len(table), amounts.questions * pictures // amounts.pictures)
    train = table.take(np.sort(rng.permutation(len(table))[:wanted]))
    val = table.take(np.arange(min(amounts.validated, len(table))))
    return replace(data, splits={config.train_split: train, config.validation: val})


def lay_out(features: ResidentFeatures, amounts: Amounts, room: int) -> int:
    """Repeat the pictures on a GPU as often as there is room; return how many there are."""
    table = features.on_gpu
    if table is None:
        return features.cache.manifest.image_rows
    row = table[0].nbytes
    pictures = min(amounts.pictures, len(table) + room // row)
    every = torch.empty((pictures, *table.shape[1:]), dtype=table.dtype, device=table.device)
    for first in range(0, pictures, len(table)):
        every[first : first + len(table)] = table[: pictures - first]
    features.on_gpu = every
    return pictures


def measure_steps(trainer: Trainer, warmup: int, seconds: float) -> Json:
    """Train for some seconds; return the speed and its share of the device's peak."""
    device, reader, plan = trainer.device, trainer.train_reader, trainer.begin(0)
    steps = questions = 0
    began = waited = 0.0
    batches = reader.batches(plan)
    for number, batch in enumerate(batches):
        if number == warmup:
            synchronize(device)
            began, waited = time.perf_counter(), reader.waited
        trainer.learn(batch)
        if number >= warmup:
            steps, questions = steps + 1, questions + len(batch.questions)
            if time.perf_counter() - began > seconds:
                break
    synchronize(device)
    wall = time.perf_counter() - began
    waited = reader.waited - waited
    batches.close()  # type: ignore[attr-defined]
    few = trainer.begin(0)[:5]

    def train() -> None:
        for batch in reader.batches(few):
            trainer.learn(batch)

    each = operations_of(train) / few.questions
    dtype = training_dtype(trainer.config.precision, device)
    peak = peak_of_products(device, dtype)
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "steps": steps,
        "questions_per_second": questions / wall,
        "data_wait_fraction": waited / wall,
        "operations_per_question": each,
        "peak_operations_per_second": peak,
        "share_of_peak": each * questions / wall / peak,
    }


def measure_validation(trainer: Trainer) -> Json:
    """Answer the questions of the validation split."""
    began = time.perf_counter()
    predict(
        [trainer.scored],
        trainer.val_reader,
        trainer.val_split,
        batch_size=trainer.config.batch_size,
    )
    return {"questions_per_second": len(trainer.val_split) / (time.perf_counter() - began)}


def measure_save(trainer: Trainer, run: Path) -> Json:
    """Save a state behind a few steps; the second save finds its memory ready."""
    saver, found = Saver(), {}
    nothing = Progress([], best_accuracy=-1.0, best_epoch=0, training_seconds=0, seconds=0)
    began = TrainingFingerprint({"keep": "best"}, {}, {}, {})
    for name in ("first", "next"):
        state = TrainState(trainer.tensors(), replace(trainer.counters), nothing, began)

        def write(tensors: Mapping[str, Tensor], state: TrainState = state) -> None:
            save_state(run, replace(state, tensors=tensors))

        synchronize(trainer.device)
        clock = time.perf_counter()
        saver.save(state.tensors, write, behind=True)
        stood = time.perf_counter() - clock
        saver.wait()
        found[name] = {"stood": stood, "written_after": time.perf_counter() - clock}
    saver.close()
    nbytes = sum(tensor.nbytes for tensor in state.tensors.values())
    return {"bytes": nbytes, **found, "pause": saver.pause}


def same_again(features: ResidentFeatures, data: TrainData, config: TrainConfig, n: int) -> bool:
    """Whether two trainings of a few steps end in the same bits."""
    ends = []
    for _ in range(2):
        trainer = Trainer(features, data, config=config)
        for batch in trainer.train_reader.batches(trainer.begin(0)[:n]):
            trainer.learn(batch)
        ends.append([parameter.detach().cpu() for parameter in trainer.model.parameters()])
    return all(map(torch.equal, *ends))


def measure(amounts: Amounts, preset: str, seconds: float, folder: Path, way: str) -> Json:
    """Return everything that is measured; of another way than the product's, only the training."""
    device = choose_device("auto")
    use_cores()
    keep_freed_memory()
    sizes = {"width": 16, "heads": 2, "batch_size": 32} if amounts is SMALL else {}
    given = {"preset": preset} if preset else {}
    config = make_config({**given, **sizes, "min_answer_count": 1, "top_answers": amounts.answers})
    data = make_data(folder / "cache", amounts, config, amounts.cached)
    steps = data.bytes_of_steps([config], device)
    clock = time.perf_counter()
    features = ResidentFeatures(data.cache, residency="auto", device=device, steps=steps)
    synchronize(device)
    loaded = time.perf_counter() - clock
    free = features.free_on_gpu or 0
    pictures = lay_out(features, amounts, max(0, min(int(0.7 * free), free - steps)))
    data = make_data(folder / "cache", amounts, config, pictures)
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) if on_gpu else 0
    with repeatable(device):
        trainer = Trainer(features, data, config=config)
        if (options := WAYS[way]) is not None:
            trainer.model.compile(**(TRACED if amounts is SMALL else options))
            return {"way": way, "training": measure_steps(trainer, amounts.compiling, seconds)}
        result = {
            "preset": preset or "default",
            "pictures": pictures,
            "questions": len(data.splits[config.train_split]),
            "features": features.describe(),
            "seconds_to_load": loaded,
            "bytes_loaded": features.need,
            "training": measure_steps(trainer, amounts.warmup, seconds),
            "validation": measure_validation(trainer),
            "save": measure_save(trainer, folder / "run"),
            "reckoned_bytes_of_steps": steps,
        }
        peak = torch.cuda.max_memory_allocated(device) if on_gpu else peak_rss()
        result["peak_bytes"], result["peak_bytes_of_steps"] = peak, peak - before
        result["same_again"] = same_again(features, data, config, amounts.repeated)
    return result


def main() -> None:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--small", action="store_true", help="less of everything")
    parser.add_argument("--preset", choices=("", *PRESETS), default="")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--way", choices=WAYS, default=next(iter(WAYS)))
    options = parser.parse_args()
    console.quiet = True
    amounts = SMALL if options.small else Amounts()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(amounts, options.preset, options.seconds, Path(folder), options.way)
        print(json.dumps(found))


if __name__ == "__main__":
    main()
