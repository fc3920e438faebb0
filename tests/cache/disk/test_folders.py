"""A folder is written to only if it is ours, and of its files only those that we wrote."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.cache import CacheError, CacheWriter
from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.disk.folders import MADE_FOR, MARK, OwnFolder
from frozen_vqa.cache.disk.lock import sole_writer
from frozen_vqa.cache.writer import own_cache, remove_cache
from tests.support.caches import make_spec
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


@pytest.mark.parametrize("name", ["../theirs", "a/../../theirs", "{out}/theirs", "..", "a\0b"])
def test_a_forged_mark_reaches_nothing_outside(name: str, tmp_path: Path) -> None:
    """A mark may come with a stranger's folder, and a clean-up removes what it names."""
    folder, out = tmp_path / "folder", tmp_path / "out"
    put(folder, {"cache.json"}, "ours")
    for theirs in (tmp_path, out):
        put(theirs, {"theirs", "theirs.partial"}, "theirs")
    (folder / MARK).write_text(f"{MADE_FOR}a cache\ncache.json\n{name.format(out=out)}\n")
    before = tree(tmp_path)
    for act in (
        lambda: own(folder).remove(["cache.json", name.format(out=out)]),
        lambda: own(folder).remove_partials(),
        lambda: own(folder).note("more"),
        lambda: remove_cache(folder),
    ):
        with pytest.raises(CacheError, match="names a file outside of the folder"):
            act()
    assert tree(tmp_path) == before


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
        pytest.raises(CacheError, match=f"{linked}: it is a link"),
        CacheWriter(folder, make_spec()),
    ):
        raise AssertionError
    with pytest.raises(CacheError, match=f"{linked}: it is a link"):
        remove_cache(folder)
    assert tree(tmp_path) == before
