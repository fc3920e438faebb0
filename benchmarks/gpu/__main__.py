"""The tests and figures that need a GPU, in one go and one JSON object.

    python -m benchmarks.gpu [--small] [--part NAME]... [--json] [--out FILE]

1. The tests that carry the marker `gpu`, which lie in one file.
2. Stage one: 2,000 JPEG files of 640 x 480, DINOv2-base with random weights, tiny text encoder.
3. Stage two at VQAv2's shape (stage_two.py), with the default head and with preset `large`.
4. Pictures decoded by the GPU (benchmarks/jpegs.py), and stage one with `--gpu-jpegs`.
5. What is not in the product: the image encoder (encoder.py) and the default head's training,
   compiled and as CUDA graphs.

Each part runs in a fresh process. A part that fails is noted, and the others go on; then the exit
code is 1. Without a GPU, or with --small, it is all done in miniature, which shows that it works.
Parts 1 to 3 are meant to end within 8 minutes on one GPU, the installation included; unmeasured so
far. FILE is written after each part, so nothing is lost with the last ones.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.end_to_end.bare_encoder import data_set
from benchmarks.gpu.encoder import WAYS
from benchmarks.harness import ROOT, Json, MeasurementError, finish, fresh, machine, watched
from benchmarks.models import SIZES, write_dinov2
from frozen_vqa.pipeline.system.console import console

PICTURES, FEW = 2000, 6
SECONDS, COMPARED, MOMENT = 45.0, 15.0, 0.2
"""Of training: for each head, for each way that is not the product's, and in miniature."""

TESTS = "tests/system/test_gpu.py"
PRESETS = ("", "large")


def run_tests() -> Json:
    """Run the tests for a GPU; without one they are skipped."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", TESTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        raise MeasurementError(f"{' '.join(command)}:\n{done.stdout[-3000:]}{done.stderr[-500:]}")
    return {"said": lines[-1] if lines else ""}


def run_stage_one(folder: Path, *more: str, small: bool) -> Json:
    """Extract features of pictures as a camera makes them; `more` are further options."""
    folder.mkdir()
    data = data_set(folder / "data", FEW if small else PICTURES)
    vision = write_dinov2(folder / "vision", SIZES["tiny" if small else "base"][0])
    words = ["--dataset", data, "--cache", folder / "cache", "--split", "train"]
    words += ["--vision-model", vision, "--image-size", "224", "--text-model", "tiny", "--json"]
    return watched("frozen_vqa.cli", ["extract-features", *words, *more])


def run_stage_two(preset: str, *, small: bool, way: str = next(iter(WAYS))) -> Json:
    """Train at VQAv2's shape."""
    seconds = MOMENT if small else SECONDS if WAYS[way] is None else COMPARED
    words: list[object] = ["--preset", preset, "--seconds", seconds, "--way", way]
    return fresh("benchmarks.gpu.stage_two", [*words, *(["--small"] if small else [])])


def run_jpegs(*, small: bool) -> Json:
    """Decode pictures by every library, and by the GPU."""
    amounts = ["--pictures", FEW, "--rounds", 1] if small else ["--pictures", 200, "--rounds", 3]
    return fresh("benchmarks.jpegs", [*amounts, "--json"], threads=1)


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--small", action="store_true", help="in miniature, as without a GPU")
    parser.add_argument("--part", action="append", help="only this one; repeat for several")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    started, small = time.monotonic(), options.small or not torch.cuda.is_available()
    result: Json = {"machine": machine(), "small": small, "failed": {}}
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Callable[[], Json]] = {
            "tests": run_tests,
            "stage_one": partial(run_stage_one, Path(folder) / "one", small=small),
        }
        for preset in PRESETS:
            part = f"stage_two {preset or 'default'}"
            parts[part] = partial(run_stage_two, preset, small=small)
        parts["jpegs"] = partial(run_jpegs, small=small)
        if not small:
            on_gpu = partial(run_stage_one, Path(folder) / "two", "--gpu-jpegs", small=False)
            parts["stage_one --gpu-jpegs"] = on_gpu
        parts["encoder"] = partial(fresh, "benchmarks.gpu.encoder", ["--small"] if small else [])
        for way in list(WAYS)[1:]:
            parts[f"stage_two default, {way}"] = partial(run_stage_two, "", small=small, way=way)
        if not set(options.part or ()) <= set(parts):
            parser.error(f"the parts are {', '.join(parts)}")
        for name in options.part or parts:
            began = time.monotonic()
            try:
                result[name] = parts[name]()
            except MeasurementError as error:
                result["failed"][name] = str(error)
            console.print(f"{name}: {time.monotonic() - began:.1f} s", result.get(name, "failed"))
            result["seconds"] = time.monotonic() - started
            finish(result, as_json=False, path=options.out)
    finish(result, as_json=options.json, path=options.out)
    for name, reason in result["failed"].items():
        console.print(f"{name} failed: {reason}")
    sys.exit(1 if result["failed"] else 0)


if __name__ == "__main__":
    main()
