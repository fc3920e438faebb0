"""How much memory of its own a training takes over a mapped cache of any size.

    python -m benchmarks.end_to_end.memory [--gigabytes 8] [--width 256] [--quick]
                                           [--json] [--out FILE]

Writes a cache of that size: rows of 256 x 768 float16, five questions a picture. Then `train-head`
trains each fusion kind for one epoch in a fresh process. `anonymous` is the most memory that no
file backs, sampled every 20 ms. `resident` also counts mapped pages, which the system takes back
when memory is short.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.generated import write_cache
from benchmarks.harness import Json, finish, machine, show, watched
from benchmarks.step.data import ANSWERS, GRID, TEXT_DIM, VISION_DIM
from frozen_vqa.cache import CacheSpec

CLI = "frozen_vqa.cli"
KINDS = ("co-attention", "concat")
QUESTIONS_PER_PICTURE, DISTINCT = 5, 20_000


def measure(gigabytes: float, width: int) -> Json:
    """Write the cache, train each kind on it; return what each took."""
    spec = CacheSpec({}, {}, GRID, VISION_DIM, TEXT_DIM)
    pictures = max(2, int(gigabytes * 1e9) // (spec.patches * VISION_DIM * 2))
    rows = []
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        folder = Path(name)
        write_cache(
            folder / "cache",
            images=pictures,
            questions_per_image=QUESTIONS_PER_PICTURE,
            distinct_questions=min(DISTINCT, pictures),
            answers=ANSWERS,
            spec=spec,
        )
        for kind in KINDS:
            words = ["--cache", folder / "cache", "--run", folder / kind, "--fusion", kind]
            words += ["--width", width, "--epochs", 1, "--residency", "mapped", "--device", "cpu"]
            words += ["--min-answer-count", 1, "--json"]
            found = watched(CLI, ["train-head", *words])
            rows.append(
                {
                    "kind": kind,
                    "anonymous_mb": found["anonymous_mb"],
                    "resident_mb": found["resident_mb"],
                    "seconds": found["wall"],
                }
            )
    return {"pictures": pictures, "width": width, "trainings": rows}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gigabytes", type=float, help="of pictures (8; with --quick 0.05)")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--quick", action="store_true", help="small, to see that all of it runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="write the JSON object to this file")
    options = parser.parse_args()
    gigabytes = options.gigabytes or (0.05 if options.quick else 8.0)
    result = {"machine": machine(), **measure(gigabytes, options.width)}
    show(f"{gigabytes:g} GB of pictures, mapped, width {options.width}", result["trainings"])
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
