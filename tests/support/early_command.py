"""Runs command lines of stdin one by one, and ends each where it would load torch.

A process of its own: `[argv, ...]` as JSON on stdin, `[[exit code, stderr], ...]` on stdout.
"""

import json
import sys
from collections.abc import Sequence

import datasets  # before the guard, because it asks whether there is a torch

from tests.support.command import run_command

LOADS_TORCH = 99


class Guard:
    """Ends the program at the first import of torch or transformers."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> None:
        if name in ("torch", "transformers"):
            sys.exit(LOADS_TORCH)


if __name__ == "__main__":
    datasets.disable_progress_bars()
    sys.meta_path.insert(0, Guard())  # type: ignore[arg-type]
    found = [run_command(*words) for words in json.load(sys.stdin)]
    json.dump([(one.code, one.err) for one in found], sys.stdout)
