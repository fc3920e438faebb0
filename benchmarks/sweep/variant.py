"""One sweep, or one training, in a process of its own. `python -m benchmarks.sweep` starts this.

    python -m benchmarks.sweep.variant CACHE RUN --heads JSON

One head is trained as by `train-head`, several as by `train-head --sweep`.
"""

import time

STARTED = time.perf_counter()  # before what takes seconds to import

import argparse  # noqa: E402
import json  # noqa: E402
from pathlib import Path  # noqa: E402

from benchmarks.harness import peak_rss  # noqa: E402
from frozen_vqa.pipeline.config import TrainConfig  # noqa: E402
from frozen_vqa.pipeline.system.console import console  # noqa: E402
from frozen_vqa.pipeline.system.device import choose_device  # noqa: E402
from frozen_vqa.pipeline.train.sweep import sweep  # noqa: E402
from frozen_vqa.pipeline.train.train import train  # noqa: E402


def main() -> None:
    """Train and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--heads", type=json.loads, required=True)
    args = parser.parse_args()
    console.quiet = True
    heads = {name: TrainConfig(**settings) for name, settings in args.heads.items()}
    device = choose_device("auto")
    if len(heads) == 1:
        train(args.cache, args.run, config=next(iter(heads.values())), device=device)
    else:
        sweep(args.cache, args.run, heads=heads, device=device)
    result = {
        "seconds": time.perf_counter() - STARTED,
        "cpu_seconds": time.process_time(),
        "peak_bytes": peak_rss(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
