"""What tests of several modules of these folders share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What would be uploaded: for each time the repository, its type and its files."""
    found: list[dict[str, Any]] = []

    def create(self: HfApi, repo_id: str, **_: Any) -> Any:
        return type("Url", (), {"repo_id": repo_id})

    def upload(
        self: HfApi, *, repo_id: str, folder_path: Path, repo_type: str = "model", **_: Any
    ) -> str:
        files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        found.append({"repo": repo_id, "type": repo_type, "files": files})
        return "url"

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    return found
