"""Files of answers that a user could have written."""

from pathlib import Path


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "answers.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
