"""Another folder as a store, such as a share that other machines mount: file:///share/vqa."""

import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from frozen_vqa.cache.disk.files import (
    TEMPORARY,
    make_directory,
    open_regular,
    sync_directory,
    write_atomically,
)
from frozen_vqa.cache.errors import StoreError
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.stores.store import GoneError, Store, shorten


class FolderStore(Store):
    """Files below a folder; only regular ones are read."""

    def sizes(self, folder: str) -> Mapping[str, int]:
        try:
            paths = sorted(self._path(folder).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise self._explain(folder, error) from None
        return {f"{folder}/{path.name}": path.lstat().st_size for path in paths if path.is_file()}

    def read(self, name: str, *, most: int, first: int = 0) -> bytes:
        self.insist(name, lambda: None)
        try:
            with open_regular(self._path(name)) as file:
                data, wanted = b"", most + 1
                file.seek(first)
                while len(data) < wanted and (more := file.read(wanted - len(data))):
                    data += more
                return data
        except OSError as error:
            raise self._explain(name, error) from None

    def create(self, name: str, data: bytes) -> bool:
        path = self._path(name)
        new = path_in(path.parent, f"{path.name}.{os.urandom(4).hex()}{TEMPORARY}")
        try:
            self._write(name, new, data)
            os.link(new, path)
            sync_directory(path.parent)
        except FileExistsError:
            return False
        except OSError as error:
            raise self._explain(name, error) from None
        finally:
            new.unlink(missing_ok=True)
        return True

    def replace(self, name: str, data: bytes) -> None:
        for left in self._unfinished(name):
            left.unlink(missing_ok=True)
        self._write(name, self._path(name), data)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                for path in (self._path(name), *self._unfinished(name)):
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise self._explain(name, error) from None
            with suppress(OSError):  # absent, or something is left in it
                self._path(name).parent.rmdir()

    def _write(self, name: str, path: Path, data: bytes) -> None:
        self.insist(name, lambda: None)
        try:
            make_directory(path.parent)
            write_atomically(path, data, shared=True)
        except OSError as error:
            raise self._explain(name, error) from None

    def _unfinished(self, name: str) -> list[Path]:
        """Return what killed processes have left of an object that they made."""
        path = self._path(name)
        return [*path.parent.glob(f"{path.name}.*{TEMPORARY}")]

    def _path(self, name: str) -> Path:
        return path_in(Path(self.address.path), name)

    def _explain(self, name: str, error: OSError) -> StoreError:
        where = f"{self}/{name}"
        if isinstance(error, FileNotFoundError):
            return GoneError(f"{where}: the store has no such object")
        more = "Make room, and" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Mend that, and"
        return StoreError(
            f"{where}: {error.strerror or shorten(error)}. {more} run the same command again to "
            f"go on."
        )
