"""Whose a folder is: a command writes into its own folders alone, and removes only its own files.

    FOLDER/.frozen-vqa   what we made the folder for, then the name of each file that we wrote there

A folder is ours if it is absent, empty or carries this mark. A name is noted before its file is
written, so that a killed process leaves no file that the next one takes for somebody else's.
"""

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from frozen_vqa.cache.disk.files import (
    TEMPORARY,
    make_directory,
    read_file,
    sync_directory,
    write_atomically,
)
from frozen_vqa.cache.disk.lock import read_holder
from frozen_vqa.cache.errors import UnsafeNameError, link_to_nothing
from frozen_vqa.cache.names import path_in

MARK = ".frozen-vqa"
MADE_FOR = "Written by frozen-vqa, which made this folder for: "
LARGEST_MARK = 64 << 20
"""Bytes of a mark that are read; a file that we wrote adds about twenty."""


@dataclass(frozen=True)
class OwnFolder:
    """A folder for one purpose, such as "a cache"; `option` is how a user names another one.

    Its methods raise `error` for a folder or a file that is not ours, and `OSError` as files do.
    """

    path: Path
    purpose: str
    error: type[Exception]
    option: str
    _last: dict[tuple[int, ...], tuple[frozenset[str], Collection[str]]] = field(
        default_factory=dict, repr=False, compare=False
    )
    """What the mark held when it was last read: names, and the folders they lie in."""

    def is_marked(self) -> bool:
        """Whether the folder carries a mark, perhaps of another purpose."""
        return os.path.lexists(self.path / MARK)

    def require(self, known: Collection[str] = ()) -> None:
        """Raise if the folder may be somebody else's; this writes nothing.

        `known` are files that prove otherwise to be ours, where there is no mark.
        """
        paths = (self.path, *self.path.parents)
        there = next((path for path in paths if os.path.lexists(path)), None)
        if there and (broken := link_to_nothing(there)):
            raise self.error(
                f"{broken}. Make that folder, remove the link, or give {self.option} another one."
            )
        if there and not there.is_dir():
            raise self.error(
                f"{there}: this is no folder, and {self.purpose} needs one. Give {self.option} "
                f"a new or an empty folder."
            )
        if there and not os.access(there, os.W_OK | os.X_OK):  # before hours of work
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))
        if self.is_marked():
            self.names()
        elif self.path.is_dir() and not known:
            found = sorted(os.listdir(self.path))
            others = [name for name in found if not self._is_half_made(name)]
            more = f" and {len(others) - 1:,} more" if len(others) > 1 else ""
            if others:
                raise self.error(
                    f"{self.path}: the folder holds {others[0]!r}{more}, but no mark of frozen-vqa "
                    f"({MARK}), so it may be somebody else's and was left as it is. Give "
                    f"{self.option} a new or an empty folder."
                )

    def claim(self, known: Collection[str] = ()) -> None:
        """Make the folder and mark it, or raise as `require` does."""
        self.require(known)
        self.require_real(*self._folders_of(known))
        make_directory(self.path)
        if not self.is_marked():
            self._make_mark(known)

    def names(self) -> frozenset[str]:
        """Return the files that we wrote; raise unless the mark is of this purpose.

        A mark that has not changed is not read again, because it may have a hundred thousand names.
        """
        return self._noted()[0]

    def _noted(self) -> tuple[frozenset[str], Collection[str]]:
        """Return the names, and the folders in this one that they lie in."""
        try:
            found = (self.path / MARK).stat()
            stamp = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
            if stamp not in self._last:
                names = self._read_names()
                self._last.clear()
                self._last[stamp] = names, self._folders_of(names)
        except FileNotFoundError:
            return frozenset(), ()
        names, folders = self._last[stamp]
        self.require_real(*folders)
        return names, folders

    def _read_names(self) -> frozenset[str]:
        first, *names = read_file(self.path / MARK, most=LARGEST_MARK).split(b"\n")
        found = os.fsdecode(first)
        if not found.startswith(MADE_FOR):
            raise self.error(
                f"{self.path / MARK}: not a mark of frozen-vqa, so the folder may be somebody "
                f"else's and was left as it is. Give {self.option} another folder."
            )
        if found != MADE_FOR + self.purpose:
            raise self.error(
                f"{self.path}: frozen-vqa made this folder for {found.removeprefix(MADE_FOR)}, "
                f"and {self.purpose} needs one of its own. Give {self.option} another folder."
            )
        return frozenset(os.fsdecode(name) for name in names if name)

    def require_ours(self, *names: str) -> frozenset[str]:
        """Return the files that we wrote; raise if one of `names` is there that we did not write.

        This writes nothing.
        """
        noted = self.names()
        new = [name for name in names if name not in noted]
        self.require_real(*self._folders_of(new))
        for name in new:
            for there in self._paths_of(name):
                if os.path.lexists(there):
                    raise self.error(
                        f"{there}: frozen-vqa did not write this file, so it was left as it is. "
                        f"Move it elsewhere, or give {self.option} another folder."
                    )
        return noted

    def note(self, *names: str) -> None:
        """Note files that are about to be written, or raise as `require_ours` does."""
        noted = self.require_ours(*names)
        if not noted.issuperset(names):
            self._write(noted.union(names))

    def adopt(self, *names: str) -> None:
        """Note files that a library has just written for us, under names of its own."""
        self._write(self.names().union(names))

    def remove(self, names: Iterable[str], *, forget: bool = True) -> None:
        """Remove those of these files that we wrote, then folders in which nothing is left.

        They are noted no more, unless they are about to be written again.
        """
        noted = self.names()
        ours = [name for name in names if name in noted]
        for name in ours:
            for there in self._paths_of(name):
                there.unlink(missing_ok=True)
            for folder in list(Path(name).parents)[:-1]:
                with suppress(OSError):  # absent, or something is left in it
                    path_in(self.path, str(folder)).rmdir()
        if ours and forget:
            # Or a loss of power could bring back files that nobody knows to be ours.
            for place in (path_in(self.path, folder) for folder in self._folders_of(ours)):
                if place.is_dir():
                    sync_directory(place)
            self._write(noted.difference(ours))

    def remove_partials(self) -> None:
        """Remove what a killed process had not finished; call it with the lock of the folder."""
        noted, folders = self._noted()
        for folder in ("", *folders):
            place = path_in(self.path, folder) if folder else self.path
            found = os.listdir(place) if place.is_dir() else ()
            prefix = f"{folder}/" if folder else ""
            for name in found:  # fewer, as a rule, than unlink would be called for
                if name.endswith(TEMPORARY) and prefix + name.removesuffix(TEMPORARY) in noted:
                    path_in(place, name).unlink(missing_ok=True)
        for path in self.path.glob(f"{MARK}.*{TEMPORARY}"):
            path.unlink(missing_ok=True)

    def unmark(self) -> None:
        """Take the mark away from a folder that its own files show to be ours."""
        (self.path / MARK).unlink(missing_ok=True)

    def _folders_of(self, names: Iterable[str]) -> list[str]:
        """Return the folders in this one that hold such files; raise if a name leads out of it.

        A mark may come from a stranger, and its files are removed.
        """
        folders: set[str] = set()
        for name in names:
            try:
                if path_in(self.path, name) == self.path / MARK:
                    raise UnsafeNameError
            except UnsafeNameError:
                raise self.error(
                    f"{self.path / MARK}: names {name!r:.80}, which no file of ours can have, so "
                    f"nothing was changed. Remove that line if you trust the rest of the folder."
                ) from None
            if name.rpartition("/")[0] not in folders:
                folders.update(map(str, list(PurePath(name).parents)[:-1]))
        return sorted(folders)

    def _paths_of(self, name: str) -> tuple[Path, Path]:
        """Return where a file of ours is, and where it is while it is written."""
        return path_in(self.path, name), path_in(self.path, f"{name}{TEMPORARY}")

    def require_real(self, *names: str) -> None:
        """Raise if a folder in this one, where it exists, is a link, perhaps to elsewhere."""
        for folder in (path_in(self.path, name) for name in names):
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                raise self.error(
                    f"{folder}: a link or a file stands in place of a folder, and may belong to "
                    f"somebody else, so nothing was written there. Put the folder itself there, or "
                    f"give {self.option} another folder."
                )

    def _make_mark(self, names: Iterable[str]) -> None:
        """Write the first mark, or keep that of a process which was faster: it names its files."""
        new, mark = self.path / f"{MARK}.{os.urandom(4).hex()}{TEMPORARY}", self.path / MARK
        try:
            write_atomically(new, self._content(names))
            try:
                os.link(new, mark)  # which replaces nothing
            except (FileExistsError, FileNotFoundError):
                raise
            except OSError:  # not every file system has hard links
                new.replace(mark)
        except (FileExistsError, FileNotFoundError):  # of our new one too, as a leftover
            if not self.is_marked():
                raise
            self.names()
        finally:
            new.unlink(missing_ok=True)
        sync_directory(self.path)

    def _write(self, names: Iterable[str]) -> None:
        write_atomically(self.path / MARK, self._content(names), shared=True)

    def _content(self, names: Iterable[str]) -> bytes:
        return os.fsencode("\n".join([MADE_FOR + self.purpose, *sorted(names), ""]))

    def _is_half_made(self, name: str) -> bool:
        """Whether a killed process of ours left this before it could mark the folder."""
        if name.startswith(f"{MARK}."):
            return True
        return name == ".lock" and read_holder(self.path / ".lock") is not None


def require_own_file(
    path: Path, is_ours: Callable[[bytes], bool], error: type[Exception], option: str
) -> None:
    """Raise `error` unless a single file is absent, or `is_ours` knows what is in it."""
    try:
        ours = stat.S_ISREG(os.lstat(path).st_mode) and is_ours(read_file(path))
    except FileNotFoundError:
        return
    except OSError:  # a folder, or a file where a folder is needed
        ours = False
    if not ours:
        raise error(
            f"{path}: there is something in the way that frozen-vqa did not write, so it was "
            f"left as it is. Move it elsewhere, or give {option} another name."
        )
