"""Another folder as a store, such as a share that other machines mount: file:///share/vqa."""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from frozen_vqa.cache.disk.files import (
    TEMPORARY,
    make_directory,
    open_regular,
    sync_directory,
    write_atomically,
)
from frozen_vqa.cache.errors import StoreError, link_to_nothing, no_folder
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.stores.store import GoneError, Store, shorten

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors of a file system without hard links, as those of many shares and USB disks."""


class FolderStore(Store):
    """Files below a folder; only regular ones are read."""

    def sizes(self, folder: str) -> Mapping[str, int]:
        found = {}
        with (
            self._explained(folder),
            suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(self._path(folder)) as entries,
        ):
            for entry in entries:
                with suppress(FileNotFoundError):  # another process has removed it since
                    if entry.is_file():
                        size = entry.stat(follow_symlinks=False).st_size
                        found[f"{folder}/{entry.name}"] = size
        return found

    def read(self, name: str, *, most: int, first: int = 0) -> bytes:
        self.insist(name, lambda: None)
        with self._explained(name, reads=True), open_regular(self._path(name)) as file:
            data, wanted = b"", most + 1
            file.seek(first)
            while len(data) < wanted and (more := file.read(wanted - len(data))):
                data += more
            return data

    def create(self, name: str, data: bytes) -> bool:
        with self._explained(name):
            path = self._own_place(name)
            new = path_in(path.parent, f"{path.name}.{os.urandom(4).hex()}{TEMPORARY}")
            self._write(name, new, data)
            try:
                _name_once(new, path)
            except FileExistsError:
                return False
            finally:
                new.unlink(missing_ok=True)
            sync_directory(path.parent)
        return True

    def replace(self, name: str, data: bytes) -> None:
        with self._explained(name):
            path = self._own_place(name)
            for left in self._unfinished(name):
                left.unlink(missing_ok=True)
            self._write(name, path, data)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            with self._explained(name):
                for path in (self._own_place(name), *self._unfinished(name)):
                    path.unlink(missing_ok=True)
            with suppress(OSError):  # absent, or something is left in it
                self._path(name).parent.rmdir()

    def _write(self, name: str, path: Path, data: bytes) -> None:
        self.insist(name, lambda: None)
        make_directory(path.parent)
        write_atomically(path, data, shared=True)

    def _own_place(self, name: str) -> Path:
        """Return the path of an object that will change; raise if a link leads it elsewhere."""
        path = self._path(name)
        if "/" in name and path.parent.is_symlink():
            raise StoreError(
                f"{self}/{name}: {path.parent} is a link, perhaps to somebody else's files, so "
                f"nothing was changed there. Put a folder in its place, or give another URL."
            )
        return path

    def _unfinished(self, name: str) -> list[Path]:
        """Return what killed processes have left of an object that they made."""
        path = self._path(name)
        return [*path.parent.glob(f"{path.name}.*{TEMPORARY}")]

    def _path(self, name: str) -> Path:
        return path_in(Path(self.address.path), name)

    @contextmanager
    def _explained(self, name: str, *, reads: bool = False) -> Iterator[None]:
        """Turn an `OSError` of the block into a `StoreError`."""
        try:
            yield
        except OSError as error:
            where = f"{self}/{name}"
            if reads and isinstance(error, FileNotFoundError):
                raise GoneError(f"{where}: the store has no such object") from None
            path = self._path(name)
            what = link_to_nothing(path) or no_folder(path) or error.strerror or shorten(error)
            more = "Make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Mend that"
            raise StoreError(
                f"{where}: {what}. {more}, and run the same command again to go on."
            ) from None


def _name_once(new: Path, path: Path) -> None:
    """Give a file its name; raise `FileExistsError` if there is one of this name."""
    try:
        os.link(new, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        path.touch(exist_ok=False)
        os.replace(new, path)  # a kill before this leaves an empty file, which is no object
