"""Which file the path of a picture means.

A path is that of a file below the folder of the pictures. Windows' backslashes count as "/". A
picture in a bucket or on the Hub has a URL in place of a path, which stands for it everywhere.
"""

import os
import re
from functools import cached_property
from pathlib import Path, PurePosixPath

from frozen_vqa.cache.errors import StoreError
from frozen_vqa.pipeline.sources.pictures.stored import StoredPicture, is_taken
from frozen_vqa.pipeline.sources.validation import UnusableError, shown

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_DRIVE = re.compile(r"[a-z]:/", re.IGNORECASE)


class PictureFolder:
    """The folder that paths begin from.

    Args:
        root: The folder of the data.
        elsewhere: The folder of the pictures, if it is another. Then a path means the file in it
            that has the longest end of the path, so that paths of another machine lead there too.
            It may lie in a folder of that folder, if in only one.
    """

    def __init__(self, root: Path, elsewhere: Path | None = None) -> None:
        self.root, self._elsewhere = elsewhere or root, elsewhere is not None
        self._written: dict[str, str] = {}  # by the path that was found for it
        self._found: dict[PurePosixPath, str] = {}  # and the other way round

    def find(self, written: str, below: str = "") -> tuple[str, str]:
        """Return the path that stands for a picture in a cache, and that of its file from `root`.

        `below` is the folder that the path begins from, seen from the root of the data.

        Raises:
            UnusableError: if it is an address of the web, or a path that leaves the folder.
        """
        if _ADDRESS.match(written):
            url = _url_of(written)
            return url, url
        path = written
        if "\\" in written and not self._is_there(f"{below}/{written}" if below else written):
            path = written.replace("\\", "/")
        pure = PurePosixPath(path)
        if pure.is_absolute() and pure.is_relative_to(os.path.abspath(self.root)):
            pure = pure.relative_to(os.path.abspath(self.root))
        elif below:
            pure = below / pure
        leaves = pure.is_absolute() or _DRIVE.match(path) or ".." in pure.parts
        if (leaves and not self._elsewhere) or pure == PurePosixPath("."):
            raise UnusableError(
                f"image {shown(written)} is not a path inside the data folder; copy or link it "
                "there, or give the folder of the pictures by --images"
            )
        if not self._elsewhere:
            return str(pure), str(pure)
        file = self._found.get(pure) or self._found.setdefault(pure, self._longest_end(pure))
        before = self._written.setdefault(file, written)
        if before != written:
            raise UnusableError(
                f"image {shown(written)} and image {shown(before)} are both {file} in the folder "
                "of --images; keep the folders that tell them apart"
            )
        return (file if leaves else str(pure)), file

    def _longest_end(self, path: PurePosixPath) -> str:
        """Return the longest end of a path that is there; its name alone if none is."""
        parts = [*path.parts]
        while ".." in parts:
            del parts[: parts.index("..") + 1]
        parts = [part for part in parts if part != "/" and not _DRIVE.match(f"{part}/")]
        ends = ["/".join(parts[first:]) for first in range(len(parts))]
        for end in ends:
            if self._is_there(end):
                return end
            inside = [f"{folder}/{end}" for folder in self._folders]
            inside = [path for path in inside if self._is_there(path)]
            if len(inside) == 1:
                return inside[0]
        return ends[-1] if ends else ""

    def _is_there(self, path: str) -> bool:
        return os.path.exists(self.root / path)

    @cached_property
    def _folders(self) -> list[str]:
        """The folders in the one of the pictures, such as train2014 and val2014."""
        return sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())


def _url_of(written: str) -> str:
    if not is_taken(written):
        raise UnusableError(
            f"image {shown(written)} is an address; download the picture and write its path, or "
            f"put it into a bucket (s3://, gs://) or on the Hub (hf://)"
        )
    try:
        return str(StoredPicture(written))
    except StoreError as error:
        raise UnusableError(f"image {error}") from None
