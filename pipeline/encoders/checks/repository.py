"""The files of a model on the Hub, all of one commit: what is there, what is here, what is fetched.

Only a commit is ever fetched, so that the local Hub cache keeps the branch where it was until all
files of the new commit are here: a run that fails in between leaves what offline use needs. The
branch moves in `follow`.
"""

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from frozen_vqa.cache.disk.files import open_regular, read_file
from frozen_vqa.cache.errors import UnsafeNameError
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.typed_json import finite_json
from frozen_vqa.pipeline.encoders.checks.no_code import require_no_code
from frozen_vqa.pipeline.errors import ModelError

_SHA256 = re.compile("[0-9a-f]{64}")
COMMIT = re.compile("[0-9a-f]{40}")
_REVISION = re.compile(r"\w[\w/-]*(\.[\w/-]+)*", re.ASCII)
CONFIG, WEIGHTS, ADAPTER = "config.json", "model.safetensors", "adapter_config.json"
INDEX = f"{WEIGHTS}.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
LARGEST_TEXT = 256 << 20
"""Bytes of a model's files but for its weights; the tokenizer of Llama 3 has nine million."""

NOTE_SECONDS = 5.0
"""How long the Hub may take to say where the main branch is."""


def recorded_commit(revision: object) -> str | None:
    """Return the commit that a cache or run recorded; None if that is a digest of a folder."""
    return revision if isinstance(revision, str) and COMMIT.fullmatch(revision) else None


class Repository:
    """A model's repository at the commit that a revision is now; errors are the library's.

    Args:
        revision: A branch, a tag or a commit; None for the main branch.
        local_only: Whether the Hub is not asked for anything.
    """

    def __init__(self, name: str, revision: str | None, *, local_only: bool) -> None:
        if revision and not _REVISION.fullmatch(revision):
            raise ModelError(
                f"{name}: the revision {revision!r:.80} is none of the Hub; give a branch, a tag "
                f"or a commit of 40 digits"
            )
        from huggingface_hub import constants

        self.name, self.revision = name, revision
        self._local_only = local_only
        if local_only:  # or the library asks the Hub which programs there are that might run it
            constants.HF_HUB_DISABLE_TELEMETRY = True
        self.commit = self._commit(revision or "main")
        self.folder = Path(self._download(CONFIG)).parent
        self._fetch_if_there(ADAPTER, may_fail=True)

    def _commit(self, revision: str) -> str:
        """Return the commit that a revision is; `ModelError` for an adapter, which has no config.

        Whoever opens the repository refuses an adapter that has one.
        """
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return str(self._look_for(CONFIG, revision).commit_hash)
        except EntryNotFoundError:
            with suppress(EntryNotFoundError):
                self._look_for(ADAPTER, revision)
                raise adapter(self.name) from None
            raise

    def fetch(self, last: str, before: Sequence[str] = ()) -> None:
        """Fetch some files, of which a model may lack any; `last` comes last.

        If that is here, so was all that the model has, and a lost network does not matter. Each
        file is looked at for code before the next one is fetched.
        """
        whole = self._here(last)
        for name in (*before, last):
            if self._fetch_if_there(name, may_fail=whole is not None):
                require_no_code(self.name, self.folder)

    def weights(self) -> list[str]:
        """Return the names of the files of weights; `ModelError` if they are only a pickle."""
        if self._fetch_if_there(INDEX, may_fail=self._here(WEIGHTS) is not None):
            return indexed_weights(self.folder)
        from huggingface_hub.errors import EntryNotFoundError

        try:
            self._look_for(WEIGHTS, self.commit)
        except EntryNotFoundError:
            for pickle in PICKLES:
                with suppress(EntryNotFoundError):
                    self._look_for(pickle, self.commit)
                    raise ModelError(pickle_only(self.name)) from None
            raise
        return [WEIGHTS]

    def missing_bytes(self) -> int:
        """Return the bytes of weights that are not here yet; asking for each shows the access."""
        found = [self._look_for(name, self.commit) for name in self.weights()]
        return sum(one.file_size or 0 for one in found if one.will_download)

    def fetch_weights(self) -> None:
        """Fetch the weights, if they are not here, and let the branch follow."""
        for name in self.weights():
            new = self._here(name) is None
            path = Path(self._download(name))
            if new:
                _require_hash(self.name, path)
        self._follow()

    def newest(self) -> str | None:
        """Return the commit that the main branch is now; None if that cannot be found out."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        with suppress(Exception):  # a note is not worth an error of the network, nor a long wait
            url = hf_hub_url(self.name, CONFIG)
            return get_hf_file_metadata(url, timeout=NOTE_SECONDS).commit_hash
        return None

    def _follow(self) -> None:
        """Let the local branch name this commit, as the library does before anything is here."""
        branch = self.revision or "main"
        if not (self._local_only or COMMIT.fullmatch(branch)):
            with suppress(Exception):  # all that is needed is here
                if self._look_for(CONFIG, branch).commit_hash == self.commit:
                    self._download(CONFIG, branch)

    def _fetch_if_there(self, name: str, *, may_fail: bool) -> bool:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

        known = try_to_load_from_cache(self.name, name, revision=self.commit)
        if known is not None:  # a path, or what says that the model has no such file
            return isinstance(known, str)
        try:
            self._download(name)
        except RemoteEntryNotFoundError:
            return False
        except LocalEntryNotFoundError:
            if may_fail or self._local_only:
                return False
            raise
        return True

    def _here(self, name: str) -> str | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.name, name, revision=self.commit)
        return found if isinstance(found, str) else None

    def _look_for(self, name: str, revision: str) -> Any:
        from huggingface_hub import hf_hub_download

        return hf_hub_download(self.name, name, revision=revision, dry_run=True, **self._options)

    def _download(self, name: str, revision: str | None = None) -> str:
        from huggingface_hub import hf_hub_download

        return hf_hub_download(self.name, name, revision=revision or self.commit, **self._options)

    @property
    def _options(self) -> dict[str, Any]:
        # Nobody is asked, so nobody needs the login.
        return {"local_files_only": True, "token": False} if self._local_only else {}


def _require_hash(name: str, path: Path) -> None:
    """Remove a file that was just fetched, and raise `ModelError`, if it is not what the Hub has.

    The library compares sizes alone. It names a large file by its SHA-256, as the Hub tells it.
    """
    blob = path.resolve()
    if not _SHA256.fullmatch(blob.name):
        return
    with open_regular(blob) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != blob.name:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise ModelError(
            f"{name}: {path.name} came with SHA-256 {found[:12]}…, and the Hub says "
            f"{blob.name[:12]}…, so it was changed on the way and is removed; run the same command "
            f"again, and check HF_ENDPOINT and the proxy if it happens again"
        )


def indexed_weights(folder: Path) -> list[str]:
    """Return what the indices of a folder name; `ModelError` if that lies elsewhere."""
    names = {
        name
        for index in folder.glob("*.safetensors.index.json")
        for name in finite_json(read_file(index, most=LARGEST_TEXT))["weight_map"].values()
    }
    for name in sorted(names, key=str):
        try:
            if path_in(folder, name).parent != folder:
                raise UnsafeNameError
        except (UnsafeNameError, AttributeError):  # it may be a number
            raise ModelError(
                f"{folder}: its index of weights names {name!r:.80}, which is not in this folder; "
                f"take another copy of the model"
            ) from None
    return sorted(names)


def no_revisions(name: str) -> ModelError:
    """Return the error for a revision of what is not on the Hub."""
    return ModelError(
        f"{name} is not on the Hub, and only a model there has revisions; leave out "
        f"--vision-revision or --text-revision"
    )


def adapter(name: str) -> ModelError:
    """Return the error for what is no whole model."""
    return ModelError(
        f"{name} holds an adapter ({ADAPTER}), whose weights are those of another model; give a "
        f"whole model"
    )


def pickle_only(name: str) -> str:
    """Return the sentence about a model without .safetensors."""
    return (
        f"{name} has no .safetensors file, and other formats are not read because a pickle "
        f"can run code; save the model as safetensors or take another copy"
    )
