"""A push ends in the same objects, wherever it was killed and however the store behaves."""

from pathlib import Path

import pytest

from frozen_vqa.cache import CacheBusyError, CacheDamagedError, CacheError, load_manifest
from frozen_vqa.cache.errors import CacheMismatchError, StoreError
from frozen_vqa.cache.stores import lease
from frozen_vqa.cache.stores.copies import object_name
from tests.support import stores
from tests.support.caches import Row, make_cache, make_spec
from tests.support.stores import Flaky, Killed, content, memory, objects, pull, push

MANIFEST = "/bucket/vqa/cache.json"


empty, cache = stores.empty, stores.cache  # fixtures; the first is in force in every test


def test_what_is_pushed_comes_back_and_is_sent_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch) as store:
        first = push(cache)
        assert (first.files, first.sent) == (7, 7)  # two splits are one object
        assert set(store.sent.values()) == {1}
        there = objects()
        again = push(cache)
        assert (again.files, again.sent, objects()) == (7, 0, there)
        assert pull(tmp_path / "back") == 8
        assert content(tmp_path / "back") == content(cache)
        assert pull(tmp_path / "back") == 0
    names = {f"/bucket/vqa/{object_name(one)}" for one in load_manifest(cache).files}
    assert set(there) == names | {"/bucket/vqa/cache.json", "/bucket/vqa/README.md"}


@pytest.mark.parametrize(
    "after", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["before", "after"]
)
def test_killed_at_any_call_a_rerun_ends_in_the_same_objects(
    tmp_path: Path, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile there is always a whole cache: the old version or the new one."""
    monkeypatch.setattr(lease, "LEASE_STALE", -1.0)  # this process is dead, and yet it runs
    rows = [Row(0, 0, ("a",)), Row(3, 1, ("b",))]
    old = make_cache(tmp_path / "old", {"val": rows}).directory
    new = make_cache(tmp_path / "new", {"val": rows[::-1], "test": rows[:1]}).directory
    versions, whole = [], []
    with memory(monkeypatch):
        for directory in (old, new):
            push(directory)
            versions.append(objects())
            files = load_manifest(directory).files
            needed = [f"/bucket/vqa/{object_name(one)}" for one in files]
            whole.append({name: versions[-1][name] for name in [*needed, MANIFEST]})
    dies = 1
    while True:
        stores.forget()
        with memory(monkeypatch):
            push(old)
        try:
            with memory(monkeypatch, Flaky(dies=dies, after=after)):
                push(new)
            break
        except Killed:
            assert any(objects().items() >= one.items() for one in whole)
        sent = {path for path in objects() if path.endswith(".h5")}
        with memory(monkeypatch) as second:
            push(new)
        assert objects() == versions[1]
        assert not sent & set(second.sent), "an object that is there was sent again"
        dies += 1
    assert dies > 14


def test_a_store_that_fails_cuts_and_is_slow_holds_the_same(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch) as good:
        push(cache)
        pull(tmp_path / "good")
    there, usual = objects(), good.calls
    for seed in range(2):
        stores.forget()
        flaky = Flaky(fails=0.05, cuts=0.01, seconds=0.001, seed=seed)
        with memory(monkeypatch, flaky):
            push(cache)
            assert objects() == there
            pull(tmp_path / f"back{seed}")
        assert content(tmp_path / f"back{seed}") == content(cache)
        assert flaky.calls < 1.5 * usual


def test_a_store_that_never_answers_is_asked_a_few_times(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch, Flaky(fails=1.0)) as store:
        with pytest.raises(StoreError, match=r"gave no whole answer in 5 tries \(SlowDown\)"):
            push(cache)
        assert store.calls == 5


def test_versions_share_objects_and_old_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Row(0, 0, ("a",)), Row(3, 1, ("b",))]
    old = make_cache(tmp_path / "old", {"val": rows}).directory
    new = make_cache(tmp_path / "new", {"val": rows, "test": rows[:1]}).directory
    with memory(monkeypatch):
        push(old)
        assert push(new).sent == 1
        with pytest.raises(CacheMismatchError, match=r"more than it \(split 'test' differs\)"):
            push(old)
        pull(tmp_path / "back")
        assert content(tmp_path / "back") == content(new)


def test_other_caches_and_other_peoples_cards_are_left_alone(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = make_cache(tmp_path / "other", {"val": [Row(0, 0)]}).directory
    more = make_cache(tmp_path / "more", {"val": [Row(0, 0)]}, spec=make_spec(dtype="float32"))
    with memory(monkeypatch) as store:
        push(cache)
        store.pipe_file("/bucket/vqa/README.md", b"by hand", chunksize=0)
        store.pipe_file("/bucket/vqa/images/notes.h5", b"by hand", chunksize=0)
        store.pipe_file(f"/bucket/vqa/images/{'0' * 32}.h5", b"of a killed push", chunksize=0)
        push(cache)
        there = objects()
        assert there["/bucket/vqa/README.md"] == b"by hand"
        assert there["/bucket/vqa/images/notes.h5"] == b"by hand"
        assert f"/bucket/vqa/images/{'0' * 32}.h5" not in there
        for directory, what in ((others, "images"), (more.directory, "dtype")):
            with pytest.raises(CacheMismatchError, match=rf"more than it \({what} differs\)"):
                push(directory)
        assert objects() == there


def test_a_cut_object_is_sent_anew_and_a_damaged_file_is_not(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = object_name(load_manifest(cache).images[0])
    with memory(monkeypatch) as store:
        store.pipe_file(f"/bucket/vqa/{name}", b"cut", chunksize=0)
        push(cache)
        pull(tmp_path / "back")
        path = tmp_path / "back" / load_manifest(cache).images[1].file
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        stores.forget()
        with pytest.raises(CacheDamagedError, match="so it is not given to others"):
            push(tmp_path / "back")
        assert "/bucket/vqa/cache.json" not in objects()


def test_any_answer_may_be_lost_of_what_was_done(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch) as store:
        push(cache)
        whole, calls = objects(), store.calls
    for number in range(1, calls + 1):
        stores.forget()
        with memory(monkeypatch, Flaky(loses=number)) as store:
            push(cache)
            assert store.calls <= calls + 2, number  # one more try, and a look at the lease
            assert objects().keys() == whole.keys()


def test_a_second_writer_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from frozen_vqa.cache.stores.open_store import open_store

    with memory(monkeypatch):
        with lease.sole_writer_at(open_store(stores.URL)) as require:
            require()
            with pytest.raises(CacheBusyError, match=r"is writing there \(process .* try again"):
                push(cache)
            monkeypatch.setattr(lease, "LEASE_STALE", -1.0)
            push(cache)  # this one takes over, and gives back
            with pytest.raises(CacheBusyError, match="no longer holds the writers' lease"):
                require()
        assert not [path for path in objects() if "leases" in path]


def test_a_part_is_not_pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row(0, 0, ("a",)), Row(3, 1, ("b",))]
    whole = make_cache(tmp_path / "whole", {"val": rows[:1], "test": rows}).directory
    with memory(monkeypatch):
        push(whole)
        pull(tmp_path / "part", "val")
        with pytest.raises(CacheError, match=r"without 1 of 2 shards of pictures\. Bring the"):
            push(tmp_path / "part")
