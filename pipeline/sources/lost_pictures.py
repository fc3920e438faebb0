"""Where a picture may be that is not at its path."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from frozen_vqa.cache.errors import quoted

ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm"),
    *(".jp2", ".j2k", ".avif", ".dcm"),
)
MOST_FILES = 200_000
"""Files that are looked through for a picture that is not where its path says."""


def find_cure(root: Path, path: str) -> str:
    """Return what to do about a picture that is not at its path, as a sentence.

    Below `root` it may be in another folder, have another ending, or differ in capital letters.
    """
    name, stem = PurePosixPath(path).name, PurePosixPath(path).stem.lower()
    ranks = (
        lambda file: file.name == name,
        lambda file: file.name.lower() == name.lower(),
        lambda file: file.suffix.lower() in ENDINGS and file.stem.lower() == stem,
    )
    best, found = len(ranks), None
    for file in _files_below(root):
        rank = next((i for i, fits in enumerate(ranks) if fits(file)), best)
        if rank < best:
            best, found = rank, file
    if not found:
        return "If the pictures are elsewhere, give their folder by --images."
    if best == 0:
        folder = found.parent
        for part in reversed(PurePosixPath(path).parent.parts):
            folder = folder.parent if folder.name == part else folder
        return f"But {found} is there: give --images {quoted(folder)}."
    differs = "its capital letters differ" if best == 1 else "its ending differs"
    return f"But {found} is there; {differs}: write the name as the file has it."


def _files_below(root: Path) -> Iterator[Path]:
    left = MOST_FILES
    for folder, inside, files in os.walk(root):
        inside.sort()
        for name in sorted(files)[:left]:
            yield Path(folder, name)
        left -= min(left, len(files))
