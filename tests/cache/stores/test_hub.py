"""A data set of the Hub: objects one by one, one commit, and what the Hub's answers mean."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from httpx2 import Request, Response
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from frozen_vqa.cache import CacheBusyError
from frozen_vqa.cache.errors import StoreError
from frozen_vqa.cache.stores import store as stores
from tests.support import hub_stub
from tests.support.hub_stub import HubStub, hub_on_loopback
from tests.support.several_shards import write
from tests.support.stores import content, pull, push

URL, NAME = "hf://datasets/user/vqa", "datasets/user/vqa"


def answered(kind: type[HfHubHTTPError], code: int) -> HfHubHTTPError:
    return kind("said", response=Response(code, request=Request("GET", "http://x")))


@dataclass
class Uploads:
    """What `HfApi` is asked to do; it ends in the stub, which gives the files."""

    hub: HubStub
    sent: list[str] = field(default_factory=list)
    made: list[dict[str, Any]] = field(default_factory=list)
    commits: int = 0
    refuse: HfHubHTTPError | None = None

    @property
    def files(self) -> dict[str, bytes]:
        return self.hub.commits[NAME][self.hub.branches[NAME]["main"]]

    def repo_info(self, repo: str, **_: Any) -> Any:
        if NAME not in self.hub.commits:
            raise answered(RepositoryNotFoundError, 404)
        return SimpleNamespace(sha=self.hub.branches[NAME]["main"])

    def create_repo(self, repo: str, **how: Any) -> None:
        self.made.append(how)
        self.hub.commits[NAME] = {"0" * 40: {".gitattributes": b""}}
        self.hub.branches[NAME] = {"main": "0" * 40}

    def list_repo_tree(self, repo: str, folder: str, **_: Any) -> list[Any]:
        if NAME not in self.hub.commits:
            raise answered(RepositoryNotFoundError, 404)
        some = {name: data for name, data in self.files.items() if name.startswith(f"{folder}/")}
        return [SimpleNamespace(path=name, size=len(data)) for name, data in some.items()]

    def preupload_lfs_files(self, repo: str, added: list[CommitOperationAdd], **_: Any) -> None:
        self.sent += [one.path_in_repo for one in added]

    def create_commit(
        self, repo: str, operations: list[Any], *, parent_commit: str, **_: Any
    ) -> None:
        if self.refuse:
            raise self.refuse
        assert parent_commit == self.hub.branches[NAME]["main"]
        files = dict(self.files)
        for one in operations:
            if isinstance(one, CommitOperationAdd):
                files[one.path_in_repo] = bytes(one.path_or_fileobj)  # type: ignore[arg-type]
            else:
                del files[one.path_in_repo]
        commit = hashlib.sha1(str(self.commits).encode()).hexdigest()
        self.hub.commits[NAME][commit] = files
        self.hub.branches[NAME]["main"] = commit
        self.commits += 1


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploads]:
    with hub_on_loopback(tmp_path / "hub") as hub:
        found = Uploads(hub)
        for name in (
            *("repo_info", "create_repo", "list_repo_tree"),
            *("preupload_lfs_files", "create_commit"),
        ):
            method = getattr(found, name)
            monkeypatch.setattr(HfApi, name, lambda _, *a, m=method, **k: m(*a, **k))
        monkeypatch.setattr(stores, "FIRST_WAIT", 0.0)
        template = hub.base + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(
            huggingface_hub.file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False
        )
        yield found


def test_one_commit_shows_all_and_a_new_data_set_is_private(
    uploads: Uploads, tmp_path: Path
) -> None:
    write(tmp_path / "cache")
    assert push(tmp_path / "cache", URL).sent == 7
    assert (uploads.commits, uploads.made[0]["private"]) == (1, True)
    assert len(uploads.sent) == len(set(uploads.sent)) == 7
    assert push(tmp_path / "cache", URL).sent == 0
    assert len(uploads.sent) == 7
    assert pull(tmp_path / "back", url=URL) == 8
    assert content(tmp_path / "back") == content(tmp_path / "cache")


def test_what_the_hub_refuses_is_a_sentence(uploads: Uploads, tmp_path: Path) -> None:
    write(tmp_path / "cache")
    uploads.hub.push(NAME, (tmp_path / "cache" / "splits"))
    for fault, sentence in (
        (hub_stub.status(401), r"the Hub gives no access, or has no such data set"),
        (hub_stub.status(503), r"gave no whole answer in 5 tries \(code 503\)"),
        (hub_stub.status(404, error="EntryNotFound"), r"there is no cache here"),
    ):
        uploads.hub.faults["cache.json"] = fault
        with pytest.raises(StoreError, match=sentence) as found:
            pull(tmp_path / "back", url=URL)
        assert "hf_of_a_test" not in str(found.value)
    uploads.hub.faults.clear()
    before = dict(uploads.files)
    uploads.refuse = answered(HfHubHTTPError, 412)
    with pytest.raises(CacheBusyError, match="somebody else has changed this data set meanwhile"):
        push(tmp_path / "cache", URL)
    assert uploads.files == before
