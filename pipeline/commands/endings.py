"""How a command ends: one line for an expected error, and how to continue after a stop.

Nothing heavy is imported here, because `--help` comes through here too.
"""

import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TextIO

from frozen_vqa.pipeline.errors import OutputError

INTERRUPTED, TERMINATED = 130, 143


def run_to_the_end(app: Callable[[], object]) -> None:
    """Run a command. Only here does an expected error become one line and exit code 1.

    Ctrl-C and SIGTERM end it with 130 and 143, and with a line that says how to continue.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    _open_closed_streams()
    try:
        app()
    except SystemExit as end:
        if end.code in (INTERRUPTED, TERMINATED) and os.environ.get("RANK", "0") == "0":
            from frozen_vqa.pipeline.system.texts import printable

            say(printable(f"stopped{_how_to_continue(sys.argv[1:])}"))
        raise
    except Exception as error:
        if not _is_expected(error):
            raise
        from frozen_vqa.pipeline.system.texts import printable

        rank = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
        say(printable(f"error: {rank}{_with_remedy(error)}"))
        sys.exit(1)
    finally:
        signal.signal(signal.SIGTERM, before)
        for stream in (sys.stdout, sys.stderr):
            _settle(stream)


def say(line: str) -> None:
    """Print a line on stderr, if somebody reads it."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def print_result(text: str) -> None:
    """Print the result of a command on stdout; where that fails, keep it in a file.

    Raises `OutputError`, which says where it is, because all other work is done.
    """
    stdout: TextIO | None = sys.stdout
    try:
        if stdout is None:
            raise ValueError("closed before the command began")
        stdout.write(f"{text}\n")
        stdout.flush()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is closed"
        raise OutputError(
            f"stdout: the result cannot be written ({reason}). The work is done and its files are "
            f"stored; {_keep(text)}"
        ) from error


def _keep(text: str) -> str:
    """Write a result that stdout did not take to a new file; say where."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="frozen-vqa-", suffix=".json", encoding="utf-8", delete=False
        ) as file:
            file.write(f"{text}\n")
    except OSError:
        return f"the result is {text}"
    return f"the result is in {file.name}"


def _open_closed_streams() -> None:
    """Let what was closed, as by `>&-`, lead nowhere: the next file would get its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            if name != "stdout":  # a result is not to vanish: `print_result` will miss stdout
                setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def _settle(stream: TextIO | None) -> None:
    """Drop what a stream could not write, or Python would end with a code and words of its own."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


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
