"""The tests and figures that need a GPU, in one go and one JSON object.

    python -m benchmarks.gpu [--small] [--json] [--out FILE]

1. The tests that carry the marker `gpu`, which lie in one file.
2. Stage one: 2,000 JPEG files of 640 x 480, DINOv2-base with random weights, tiny text encoder.
3. Stage two at VQAv2's shape (stage_two.py), with the default head and with preset `large`.

Each part runs in a fresh process. A part that fails is noted, and the others go on; then the exit
code is 1. Without a GPU, or with --small, it is all done in miniature, which shows that it works.
Meant to end within 8 minutes on one GPU, the installation included; unmeasured so far.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.end_to_end.bare_encoder import data_set
from benchmarks.harness import ROOT, Json, MeasurementError, finish, fresh, machine, watched
from benchmarks.models import SIZES, write_dinov2
from frozen_vqa.pipeline.system.console import console

PICTURES, FEW = 2000, 6
SECONDS, MOMENT = 45.0, 0.2
"""Of training, for each head."""

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


def run_stage_one(folder: Path, *, small: bool) -> Json:
    """Extract features of pictures as a camera makes them."""
    data = data_set(folder / "data", FEW if small else PICTURES)
    vision = write_dinov2(folder / "vision", SIZES["tiny" if small else "base"][0])
    words = ["--dataset", data, "--cache", folder / "cache", "--split", "train"]
    words += ["--vision-model", vision, "--image-size", "224", "--text-model", "tiny", "--json"]
    return watched("frozen_vqa.cli", ["extract-features", *words])


def run_stage_two(preset: str, *, small: bool) -> Json:
    """Train at VQAv2's shape."""
    words: list[object] = ["--preset", preset, "--seconds", MOMENT if small else SECONDS]
    return fresh("benchmarks.gpu.stage_two", [*words, *(["--small"] if small else [])])


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--small", action="store_true", help="in miniature, as without a GPU")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    started, small = time.monotonic(), options.small or not torch.cuda.is_available()
    result: Json = {"machine": machine(), "small": small, "failed": {}}
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Callable[[], Json]] = {
            "tests": run_tests,
            "stage_one": lambda: run_stage_one(Path(folder), small=small),
        }
        for preset in PRESETS:
            part = f"stage_two {preset or 'default'}"
            parts[part] = lambda preset=preset: run_stage_two(preset, small=small)  # type: ignore[misc]
        for name, part_of in parts.items():
            began = time.monotonic()
            try:
                result[name] = part_of()
            except MeasurementError as error:
                result["failed"][name] = str(error)
            console.print(f"{name}: {time.monotonic() - began:.1f} s", result.get(name, "failed"))
    result["seconds"] = time.monotonic() - started
    finish(result, as_json=options.json, path=options.out)
    for name, reason in result["failed"].items():
        console.print(f"{name} failed: {reason}")
    sys.exit(1 if result["failed"] else 0)


if __name__ == "__main__":
    main()
