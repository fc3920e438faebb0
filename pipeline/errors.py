"""What a user, a file or a model hub can cause.

Every message says where, what was found, what was needed and what to do next. `cli.py` turns
each into one line on stderr and exit code 1. A bug is none of these and keeps its traceback.
"""

import errno
import textwrap
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

MEMORY_WORDS = (
    "out of memory",
    "allocate memory",
    "not enough memory",
    "alloc_failed",
    "bad_alloc",
    "storage size calculation overflowed",
)
"""What torch, CUDA and the system say in a `RuntimeError` about memory that does not suffice."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, numpy, torch or the system says that memory does not suffice."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    of_torch = isinstance(error, RuntimeError) and any(words in text for words in MEMORY_WORDS)
    by_name = type(error).__name__ == "OutOfMemoryError"  # torch's, without its import
    return isinstance(error, MemoryError) or of_torch or by_name


def unless_out_of_memory(work: Callable[[], T]) -> T | None:
    """Return what `work` does, or None if memory does not suffice for it."""
    try:
        return work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Outside of the except block, whose traceback keeps the memory of what failed.
    return None


def reason_of(error: Exception) -> str:
    """Return what a library's error says, in one line; raise the error if it is about memory."""
    if is_out_of_memory(error):
        raise error
    return textwrap.shorten(str(error), 200, placeholder=" ...")


class PipelineError(Exception):
    """Base of everything that the person at the keyboard can mend."""


class SourceError(PipelineError):
    """A data set, its JSON or its folder layout is not what was needed."""


class DownloadError(PipelineError):
    """A file of a data set cannot be fetched or unpacked, or is not the one that was published."""


class ArchiveError(DownloadError):
    """An archive of a data set is damaged, or does what none of a data set does."""


class ImageError(PipelineError):
    """One picture cannot be read; stage one lists it and goes on."""


class ModelError(PipelineError):
    """A frozen encoder cannot be loaded or used."""


class ConfigError(PipelineError):
    """A setting is unknown or out of range."""


class PluginError(PipelineError):
    """Code of the user's own cannot be used, or a file names code that the user has not named."""


class OutputError(PipelineError):
    """The result of a command cannot be printed; its work is done."""


class RunError(PipelineError):
    """A run folder is missing, damaged or does not fit the cache."""


class RunBusyError(RunError):
    """Another process is writing to the run."""


class NotFiniteError(RunError):
    """A loss or a weight of a training is not a finite number."""


class MetricError(PipelineError):
    """Predictions and annotations do not belong together."""
