"""A data set of the Hub as a store: objects are uploaded one by one, and one commit shows them all.

The Hub knows a large file by the digest of its content, so an upload that was interrupted goes on:
what has come is not sent again. A new data set is private, and its owner decides who may see it.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any, TypeVar

from frozen_vqa.cache.errors import CacheBusyError, StoreError
from frozen_vqa.cache.stores.address import Address
from frozen_vqa.cache.stores.store import GoneError, PassingError, Store, shorten

T = TypeVar("T")

REFUSED = {401, 403}
PASSING = {408, 429, 500, 502, 503, 504}
STALLED_SECONDS = 30.0


class HubStore(Store):
    """The files of hf://datasets/USER/NAME."""

    commits = True

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._repository = address.path.removeprefix("datasets/")
        self._operations: dict[str, Any] = {}
        self._making = threading.Lock()

    def sizes(self, folder: str) -> Mapping[str, int]:
        def request() -> dict[str, int]:
            tree = self._api.list_repo_tree(self._repository, folder, repo_type="dataset")
            return {one.path: one.size for one in tree if hasattr(one, "size")}

        try:
            return self._ask(folder, request)
        except GoneError:
            return {}

    def read(self, name: str, *, most: int, first: int = 0) -> bytes:
        from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
        from huggingface_hub.utils._headers import build_hf_headers

        url = hf_hub_url(self._repository, name, repo_type="dataset")

        def request() -> bytes:
            data = bytearray()
            headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
            if first:
                headers["Range"] = f"bytes={first}-{first + most}"
            with get_session().stream(
                "GET", url, headers=headers, follow_redirects=True, timeout=STALLED_SECONDS
            ) as answer:
                if first and answer.status_code == 416:
                    return b""
                hf_raise_for_status(answer)
                skip = first if answer.status_code == 200 else 0  # who knows of no ranges sends all
                for piece in answer.iter_raw():
                    skip, piece = max(0, skip - len(piece)), piece[skip:]
                    data += piece
                    if len(data) > most:
                        break
            return bytes(data[: most + 1])

        return self._ask(name, request)

    def create(self, name: str, data: bytes) -> bool:
        from huggingface_hub import CommitOperationAdd

        added = CommitOperationAdd(name, data)
        how: dict[str, Any] = {"repo_type": "dataset", "num_threads": 1}
        with self._making:
            self._parent  # noqa: B018 - the data set has to be there
        self._ask(name, lambda: self._api.preupload_lfs_files(self._repository, [added], **how))
        self._operations[name] = added
        return True

    def replace(self, name: str, data: bytes) -> None:
        from huggingface_hub import CommitOperationAdd

        self._operations[name] = CommitOperationAdd(name, data)

    def remove(self, names: Iterable[str]) -> None:
        from huggingface_hub import CommitOperationDelete

        self._operations |= {name: CommitOperationDelete(name) for name in names}

    def commit(self) -> None:
        operations, parent = list(self._operations.values()), self._parent
        how = {"repo_type": "dataset", "parent_commit": parent}
        message = "Features of frozen encoders, by frozen-vqa"

        def request() -> None:
            self._api.create_commit(self._repository, operations, commit_message=message, **how)

        self._ask("", request)
        self._operations.clear()

    @cached_property
    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(library_name="frozen-vqa")

    @cached_property
    def _parent(self) -> str:
        """The commit that this one follows; the data set is made if there is none."""
        how: dict[str, Any] = {"repo_type": "dataset"}
        with suppress(GoneError):
            return self._ask("", lambda: self._api.repo_info(self._repository, **how).sha)
        make = {**how, "private": True, "exist_ok": True}
        self._ask("", lambda: self._api.create_repo(self._repository, **make))
        return self._ask("", lambda: self._api.repo_info(self._repository, **how).sha)

    def _ask(self, name: str, request: Callable[[], T]) -> T:
        from httpx2 import HTTPError
        from huggingface_hub import errors

        where = f"{self}/{name}".rstrip("/")

        def once() -> T:
            try:
                return request()
            except errors.GatedRepoError:
                raise _refused(where) from None
            except (errors.RepositoryNotFoundError, errors.EntryNotFoundError) as error:
                code = getattr(getattr(error, "response", None), "status_code", 404)
                if code in REFUSED:  # the Hub tells nobody else whether it is there
                    raise _refused(where) from None
                raise GoneError(f"{where}: the Hub has no such file") from None
            except errors.HfHubHTTPError as error:
                code = error.response.status_code
                if code in REFUSED:
                    raise _refused(where) from None
                if code in (409, 412):
                    raise CacheBusyError(
                        f"{self}: somebody else has changed this data set meanwhile, so nothing "
                        f"was changed. Run the same command again."
                    ) from None
                if code in PASSING:
                    raise PassingError(f"code {code}") from None
                raise StoreError(f"{where}: the Hub refuses ({shorten(error)})") from None
            except (HTTPError, OSError) as error:
                raise PassingError(shorten(error)) from None

        return self.insist(name, once)


def _refused(where: str) -> StoreError:
    return StoreError(
        f"{where}: the Hub gives no access, or has no such data set. Run `hf auth login` with a "
        f"token that may read it (to push: write it), and look at the spelling."
    )
