"""A folder is written to only if it is ours, and of its files only those that we wrote."""

import errno
import os
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.cache import CacheError, CacheWriter
from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.disk.folders import MADE_FOR, MARK, OwnFolder
from frozen_vqa.cache.disk.lock import sole_writer
from frozen_vqa.cache.writer import own_cache, remove_cache, require_own_cache
from tests.support.caches import make_spec
from tests.support.disk_calls import watch
from tests.support.writing import tree, write

NAMES = ["cache.json", "images/00000.h5", "images/cat.jpg", "splits/val.h5", "a/b/c", "ü\udcff"]
FILES = st.sets(st.sampled_from(NAMES))


def put(folder: Path, names: set[str], text: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def own(folder: Path, purpose: str = "a cache") -> OwnFolder:
    return OwnFolder(folder, purpose, CacheError, "--cache")


@given(theirs=FILES, mine=FILES)
@settings(max_examples=40, deadline=None)
def test_only_what_was_noted_is_removed(theirs: set[str], mine: set[str]) -> None:
    with TemporaryDirectory() as made:
        folder = Path(made) / "new" / "cache"
        own(folder).claim()
        put(folder, theirs, "theirs")
        for name in sorted(mine):
            if name in theirs:
                with pytest.raises(CacheError, match="did not write this file"):
                    own(folder).note(name)
            else:
                own(folder).note(name)
                put(folder, {name}, "mine")
        assert own(folder).names() == mine - theirs
        own(folder).remove({*mine, *theirs})
        assert tree(folder) == dict.fromkeys(theirs, b"theirs")
        assert own(folder).names() == set()
        assert all(any(d.iterdir()) for d in folder.rglob("*") if d.is_dir())


@given(theirs=FILES.filter(bool))
@settings(max_examples=30, deadline=None)
def test_a_folder_of_somebody_else_stays_as_it_is(theirs: set[str]) -> None:
    with TemporaryDirectory() as made:
        folder = Path(made)
        put(folder, theirs, "theirs")
        for attempt in (lambda: CacheWriter(folder, make_spec()).__enter__(),
                        lambda: remove_cache(folder), own(folder).claim):  # fmt: skip
            with pytest.raises(CacheError):
                attempt()
        assert tree(folder) == dict.fromkeys(theirs, b"theirs")
        assert not (folder / MARK).exists()


def test_a_mark_is_of_one_purpose(tmp_path: Path) -> None:
    own(tmp_path).claim()
    own(tmp_path).claim()
    with pytest.raises(CacheError, match=r"made this folder for a cache, and a run needs one of"):
        own(tmp_path, "a run").claim()
    for content in ("", "mine", MADE_FOR):
        (tmp_path / MARK).write_text(content)
        with pytest.raises(CacheError):
            own(tmp_path).claim()
        assert (tmp_path / MARK).read_text() == content


def test_what_a_killed_process_left_before_its_mark_is_ours(tmp_path: Path) -> None:
    (tmp_path / f"{MARK}.0123abcd.partial").write_text("Writ")
    with sole_writer(tmp_path):
        pass
    own(tmp_path).claim()
    assert own(tmp_path).names() == set()


def test_a_copy_without_the_mark_is_known_by_its_manifest(tmp_path: Path) -> None:
    write(tmp_path)
    names = own_cache(tmp_path).names()
    (tmp_path / MARK).unlink()
    (tmp_path / "images" / "00009.h5").write_text("theirs")
    with CacheWriter(tmp_path, make_spec()):
        pass
    assert names <= own_cache(tmp_path).names()
    remove_cache(tmp_path)
    assert tree(tmp_path) == {"images/00009.h5": b"theirs"}


def test_a_hard_link_of_the_lock_keeps_its_words(tmp_path: Path) -> None:
    thesis, folder = tmp_path / "thesis.txt", tmp_path / "cache"
    folder.mkdir()
    for words in ("three years", "", '{"host": "h", "boot": "", "pid": 1}'):
        thesis.write_text(words)
        (folder / ".lock").unlink(missing_ok=True)
        os.link(thesis, folder / ".lock")
        with sole_writer(folder) as held:
            held.require()
            with pytest.raises(CacheError, match=r"\(unknown\)"), sole_writer(folder):
                pass
        assert thesis.read_text() == words


def test_words_of_somebody_else_in_a_lock_stay(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("three years")
    with sole_writer(tmp_path) as held:
        held.require()
    assert (tmp_path / ".lock").read_text() == "three years"


def test_the_log_is_no_way_into_a_linked_file(tmp_path: Path) -> None:
    """A copy of a cache may be made of hard links."""
    write_atomically(tmp_path / "a", b"1")
    os.link(tmp_path / "a", tmp_path / "b")
    write_atomically(tmp_path / "a", b"2")
    assert (tmp_path / "b").read_bytes() == b"1"


OUTSIDE = {
    "a path above": "../thesis",
    "a path above, from within": "images/../../thesis",
    "an absolute path": "{outside}/thesis",
    "a path through a link": "linked/thesis",
    "the mark itself": MARK,
    "a name that no file has": "a\0b",
}


@pytest.mark.parametrize("name", OUTSIDE.values(), ids=OUTSIDE)
def test_a_mark_of_a_stranger_names_no_file_elsewhere(tmp_path: Path, name: str) -> None:
    """Neither a file that it names is removed, nor the rest of one that was not finished."""
    folder = tmp_path / "cache"
    write(folder)
    put(tmp_path, {"thesis", "thesis.partial"}, "mine")
    (folder / "linked").symlink_to(tmp_path)
    with (folder / MARK).open("a") as mark:
        mark.write(f"{name.format(outside=tmp_path)}\n")
    before = tree(tmp_path)
    for attempt in (
        lambda: CacheWriter(folder, make_spec()).__enter__(),
        lambda: remove_cache(folder),
        lambda: own(folder).remove_partials(),
        lambda: own(folder).note("linked/new"),
    ):
        with pytest.raises(CacheError, match="nothing was"):
            attempt()
        assert tree(tmp_path) == before


def test_nothing_new_is_written_through_a_link_or_over_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    own(folder).claim()
    (folder / "linked").symlink_to(tmp_path)
    put(folder, {"file"}, "mine")
    for name in ("linked/new", "linked/deeper/new", "file/new"):
        with pytest.raises(CacheError, match="stands in place of a folder"):
            own(folder).note(name)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    put(tmp_path, {"file"}, "mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    what = "this is no folder, and a cache needs one"
    broken = "dangling is a link to nowhere, which is not there. Make that folder, remove the link"
    for name in ("file", "file/below", "file/far/below", "dangling", "dangling/far/below"):
        for attempt in (own(tmp_path / name).require, own(tmp_path / name).claim):
            with pytest.raises(CacheError, match=broken if "dangling" in name else what):
                attempt()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_known_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = os.W_OK | os.X_OK  # a folder without X_OK takes no file
    monkeypatch.setattr(os, "access", lambda place, mode: (place, mode) != (tmp_path, needed))
    for name in ("", "new", "far/below"):
        with pytest.raises(CacheError, match=r"cannot be written \(Permission denied\)"):
            require_own_cache(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("linked", ["images", "questions", "splits"])
def test_a_linked_folder_is_not_followed(linked: str, tmp_path: Path) -> None:
    """Neither to write nor to clean up: what lies there may be anybody's."""
    folder, out = tmp_path / "folder", tmp_path / "out"
    write(folder)
    (folder / linked).rename(out)
    put(out, {"theirs.h5", "00000.h5.partial", f"{'0' * 32}.shard"}, "theirs")
    (folder / linked).symlink_to(out)
    before = tree(tmp_path)
    with (
        pytest.raises(CacheError, match=f"{linked}: a link or a file stands"),
        CacheWriter(folder, make_spec()),
    ):
        raise AssertionError
    with pytest.raises(CacheError, match=f"{linked}: a link or a file stands"):
        remove_cache(folder)
    assert tree(tmp_path) == before


def no_links(*_: object) -> None:
    raise OSError(errno.EPERM, "no links")


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_of_two_that_claim_a_folder_at_once_neither_forgets_what_the_other_noted(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever step of the one the whole of the other comes before."""
    for number in count(1):
        folder, steps = tmp_path / str(number), count(1)

        def step(folder: Path = folder, steps: "count[int]" = steps, number: int = number) -> None:
            if next(steps) == number:
                own(folder).claim()
                own(folder).note("cache.json")
                own(folder).remove_partials()  # it holds the lock

        with monkeypatch.context() as patch:
            watch(step, patch)
            if not links:
                patch.setattr(os, "link", no_links)
            own(folder).claim()
        if next(steps) <= number:
            assert number > 5
            return
        if links:
            assert own(folder).names() == {"cache.json"}, number
        own(folder).note("images/00000.h5")
        assert [path.name for path in folder.iterdir()] == [MARK]


def test_a_name_with_a_line_break_is_not_noted_as_two(tmp_path: Path) -> None:
    own(tmp_path / "noted").claim()
    put(tmp_path / "known", {"a\nthesis"}, "theirs")
    for attempt in (
        lambda: own(tmp_path / "noted").note("a\nthesis"),
        lambda: own(tmp_path / "known").claim(["a\nthesis"]),
    ):
        with pytest.raises(CacheError, match="which no file of ours can have"):
            attempt()
    assert own(tmp_path / "noted").names() == own(tmp_path / "known").names() == set()
