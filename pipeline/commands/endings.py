"""How a command ends: one line for an expected error, and how to continue after a stop.

Nothing heavy is imported here, because `--help` comes through here too.
"""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

INTERRUPTED, TERMINATED = 130, 143


def run_to_the_end(app: Callable[[], object]) -> None:
    """Run a command. Only here does an expected error become one line and exit code 1.

    Ctrl-C and SIGTERM end it with 130 and 143, and with a line that says how to continue.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except SystemExit as end:
        if end.code in (INTERRUPTED, TERMINATED) and os.environ.get("RANK", "0") == "0":
            from frozen_vqa.pipeline.system.texts import printable

            print(printable(f"stopped{_how_to_continue(sys.argv[1:])}"), file=sys.stderr)
        raise
    except Exception as error:
        if not _is_expected(error):
            raise
        from frozen_vqa.pipeline.system.texts import printable

        rank = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
        print(printable(f"error: {rank}{_with_remedy(error)}"), file=sys.stderr)
        sys.exit(1)
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_expected(error: Exception) -> bool:
    from frozen_vqa.cache.errors import CacheError
    from frozen_vqa.pipeline.errors import PipelineError

    return isinstance(error, CacheError | PipelineError)


def _with_remedy(error: Exception) -> str:
    """Return the message of an error; every damage of a cache says what to do about it."""
    from frozen_vqa.cache.errors import CacheDamagedError

    text = str(error).strip()
    if not isinstance(error, CacheDamagedError) or "verify-cache" in text:
        return text
    return f"{text.rstrip('.')}. Run `frozen-vqa verify-cache CACHE`: it names what is damaged."


def _terminate(*_: object) -> None:
    """Raise `SystemExit`, so that locks are released and unfinished files removed."""
    sys.exit(TERMINATED)


def _how_to_continue(words: Sequence[str]) -> str:
    command, ranks = words[0] if words else "", "RANK" in os.environ
    if command == "train-head" and _has_state(words):
        if ranks:
            return "; to go on, run the same torchrun command again with --resume"
        again = [word for word in words if word not in ("--overwrite", "--resume")]
        return f"; to go on: {shlex.join(['frozen-vqa', *again, '--resume'])}"
    if command not in ("extract-features", "convert-cache"):
        return ""
    if ranks:
        return "; every finished shard is stored. To go on, run the same torchrun command again"
    return f"; every finished shard is stored. To go on: {shlex.join(['frozen-vqa', *words])}"


def _has_state(words: Sequence[str]) -> bool:
    """Whether the run that a command names has a state to resume from."""
    runs = [following for word, following in pairwise(words) if word == "--run"]
    runs += [word.removeprefix("--run=") for word in words if word.startswith("--run=")]
    # The run's own state, or the states of the heads of a sweep.
    states = ((Path(run, "state"), *Path(run).glob("*/state")) for run in runs)
    return any(state.is_dir() for found in states for state in found)
