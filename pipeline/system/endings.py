"""How a command ends: one line for what a person can mend, and how to continue after a stop.

Nothing heavy is imported here, because `--help` comes through here too.
"""

import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TextIO

from frozen_vqa.pipeline.errors import OutputError
from frozen_vqa.pipeline.system.texts import printable, shortened

INTERRUPTED, TERMINATED = 130, 143

SMALLER = {
    "extract-features": "Make --batch-size or --image-size smaller, or take smaller models; every "
    "finished shard is stored.",
    "train-head": "Make --batch-size, --width or --layers smaller, give --residency mapped, or "
    "train fewer heads at once; half of --batch-size with twice --accumulate trains alike.",
    "evaluate": "Evaluate fewer runs at once, or a smaller head.",
    "ask": "Ask a smaller head, or one of smaller encoders.",
    "serve": "Serve a smaller head, or one of smaller encoders.",
}
"""What to do in a command whose memory does not suffice."""


def run_to_the_end(app: Callable[[], object]) -> None:
    """Run a command. Only here does an error that a person can mend become one line and code 1.

    Ctrl-C and SIGTERM end it with 130 and 143, and with a line that says how to continue.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    _open_closed_streams()
    try:
        _require_working_folder()
        app()
    except (KeyboardInterrupt, SystemExit) as end:
        # typer turns Ctrl-C into an exit, but not while it reads the options.
        code = end.code if isinstance(end, SystemExit) else INTERRUPTED
        if code in (INTERRUPTED, TERMINATED) and _rank() in (None, "0"):
            _say(f"stopped{_how_to_continue(sys.argv[1:])}")
        sys.exit(code)
    except Exception as error:
        from frozen_vqa.cache.errors import without_secrets

        message = _explain(error)
        if message is None:
            raise
        rank = _rank()
        whose = "" if rank is None else f"rank {rank}: "
        _say(shortened(printable(f"error: {whose}{without_secrets(message.strip())}")))
        sys.exit(1)
    finally:
        signal.signal(signal.SIGTERM, before)
        for stream in (sys.stdout, sys.stderr):
            _settle(stream)


def _rank() -> str | None:
    """Return the number that torchrun gave this process; None without torchrun."""
    from frozen_vqa.pipeline.system.ranks import by_torchrun

    return os.environ["RANK"] if by_torchrun() else None


def _say(line: str) -> None:
    """Print a line on stderr, if somebody reads it; a terminal breaks it at words."""
    from frozen_vqa.pipeline.system.texts import break_lines, printable

    with suppress(OSError, ValueError):
        columns = shutil.get_terminal_size().columns if sys.stderr.isatty() else 0
        text = break_lines(line, columns) if columns else printable(line)
        print(text, file=sys.stderr, flush=True)


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
    path = None
    try:
        handle, path = tempfile.mkstemp(prefix="frozen-vqa-", suffix=".json")
        with open(handle, "w", encoding="utf-8") as file:
            file.write(f"{text}\n")
    except OSError:
        if path:  # half a result is none
            with suppress(OSError):
                os.unlink(path)
        return f"the result is {text}"
    return f"the result is in {path}"


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


def _explain(error: Exception) -> str | None:
    """Return the line about an error that a person can mend; None for a bug."""
    from frozen_vqa.cache.errors import CacheError
    from frozen_vqa.pipeline.errors import PipelineError, is_out_of_memory

    if isinstance(error, CacheError | PipelineError):
        return _with_remedy(error)
    if is_out_of_memory(error):
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        on_gpu = any(name in reason for name in ("CUDA", "HIP", "CUBLAS", "CUDNN"))
        whose = "the GPU" if on_gpu else "this machine"
        found = f"the memory of {whose} does not suffice" + (f" ({reason})" if reason else "")
        smaller = SMALLER.get("".join(sys.argv[1:2]), "Take a machine with more of it.")
        return f"{found}. {smaller} Or {'give --device cpu' if on_gpu else 'end other programs'}."
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        # Whatever no other place explains: a name that is too long, a failing disk, ...
        path = os.fsdecode(error.filename)
        path = path if len(path) <= 300 else f"{path[:297]}..."
        return f"{path}: {error.strerror}; check the path, its permissions and its disk"
    if isinstance(error, OSError) and error.strerror:  # of a stream, such as that of --help
        return f"stdout or a file: {error.strerror}; check where the output leads, and the disk"
    return _blame_environment(error)


def _blame_environment(error: Exception) -> str | None:
    """Return the line about an environment variable that a library cannot read as a number."""
    kinds = r"invalid literal for int\(\) with base \d+|could not convert string to float"
    found = re.fullmatch(rf"(?:{kinds}): (['\"])(.*)\1", str(error))
    names = [name for name, value in os.environ.items() if found and value == found[2]]
    if not names:
        return None
    return (
        f"the environment variable {' or '.join(names[:3])} is {os.environ[names[0]]!r}, and a "
        f"library needs a number there; unset it"
    )


def _require_working_folder() -> None:
    from frozen_vqa.pipeline.errors import ConfigError

    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError(
            f"the working folder cannot be used ({error.strerror}), because it was removed or is "
            f"closed to you; change to another folder with cd"
        ) from None


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
    command, ranks = words[0] if words else "", _rank() is not None
    if command == "train-head" and _has_state(words):
        if ranks:
            return "; to go on, run the same torchrun command again with --resume"
        again = [word for word in words if word not in ("--overwrite", "--resume")]
        return f"; to go on: {shlex.join(['frozen-vqa', *again, '--resume'])}"
    if command == "download":
        return f"; what has come is kept. To go on: {shlex.join(['frozen-vqa', *words])}"
    if command not in ("extract-features", "convert-cache"):
        return ""
    if ranks:
        return "; every finished shard is stored. To go on, run the same torchrun command again"
    return f"; every finished shard is stored. To go on: {shlex.join(['frozen-vqa', *words])}"


def _has_state(words: Sequence[str]) -> bool:
    """Whether the run that a command names has a state to resume from."""
    runs = [following for word, following in pairwise(words) if word == "--run"]
    runs += [word.removeprefix("--run=") for word in words if word.startswith("--run=")]
    folders = [Path(os.path.expanduser(run)) for run in runs]  # as `to_path` does
    # The run's own state, or the states of the heads of a sweep.
    states = ((run / "state", *run.glob("*/state")) for run in folders)
    return any(state.is_dir() for found in states for state in found)
