"""A file without a name: the system takes it back when the process ends, killed or not."""

import mmap
import os
import tempfile
import weakref
from pathlib import Path

from frozen_vqa.cache.errors import CacheError, explain_write_errors

VAR_TMP = Path("/var/tmp")  # on a disk, where /tmp is often memory
_ADVICE = (
    "The plan of millions of questions needs some GB there: make room, or set TMPDIR to a folder "
    "on another disk."
)


def folder() -> Path:
    """Return the folder whose disk has the files: TMPDIR, /var/tmp, or what Python takes."""
    named = "TMPDIR" in os.environ or not os.access(VAR_TMP, os.W_OK)
    return Path(tempfile.gettempdir()) if named else VAR_TMP


class NamelessFile:
    """Bytes in a file, written at its end and read anywhere, by several threads too.

    Raises:
        CacheError: when it is made or written, if the disk is full or cannot be written.
    """

    def __init__(self) -> None:
        with explain_write_errors(VAR_TMP, CacheError, _ADVICE):
            self._folder, self.size = folder(), 0
        with (
            explain_write_errors(self._folder, CacheError, _ADVICE),
            tempfile.TemporaryFile(dir=self._folder, buffering=0) as file,
        ):
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)

    def append(self, data: bytes | bytearray) -> None:
        """Write bytes at the end."""
        with explain_write_errors(self._folder, CacheError, _ADVICE):
            left = memoryview(data)
            while left:
                written = os.pwrite(self._file, left, self.size)
                self.size, left = self.size + written, left[written:]

    def read(self, begin: int, end: int) -> bytes:
        """Return some bytes."""
        return os.pread(self._file, end - begin, begin)

    def mapped(self, size: int) -> mmap.mmap:
        """Return a map of so many bytes, zeros at first, whose pages the system may write out."""
        with explain_write_errors(self._folder, CacheError, _ADVICE):
            if hasattr(os, "posix_fallocate"):  # or a full disk would end the process
                os.posix_fallocate(self._file, 0, size)
            else:
                self.append(bytes(size))
            return mmap.mmap(self._file, size)
