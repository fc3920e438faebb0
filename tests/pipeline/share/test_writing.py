"""An extraction to a URL ends in the objects of a local one that was pushed, whoever died."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from frozen_vqa.cache import load_manifest
from frozen_vqa.cache.stores import lease
from frozen_vqa.pipeline.share import writing
from frozen_vqa.pipeline.share.card import render_card
from tests.support import stores
from tests.support.command import run_command
from tests.support.stores import URL, Flaky, Killed, memory, objects, push
from tests.support.tiny_commands import TINY, _home

__all__ = ["_home"]
WORDS = ("extract-features", "--dataset", "shapes:8", "--split", "train", "--split", "val", *TINY)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    cache = tmp_path_factory.mktemp("local") / "cache"
    assert run_command(*WORDS, "--cache", cache).code == 0
    stores.forget()
    with memory(pytest.MonkeyPatch()):
        push(cache, card=render_card(load_manifest(cache), URL).encode())
    return objects()


@pytest.fixture(autouse=True)
def empty(expected: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(writing, "EVERY", 0.01)
    stores.forget()
    yield
    stores.forget()


def extract(place: Path, *words: object) -> int:
    return run_command(*WORDS, "--cache", URL, "--stage", place, *words).code


def test_it_ends_in_what_a_push_sends(
    expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch) as store:
        assert extract(tmp_path / "stage", "--prometheus", tmp_path / "x.prom") == 0
        assert objects() == expected
        figure = f'frozen_vqa_store_requests_total{{folder="{URL}"}} '
        (line,) = [
            line for line in (tmp_path / "x.prom").read_text().splitlines() if figure in line
        ]
        assert 10 < float(line.removeprefix(figure)) <= store.calls
        assert store.sent["/bucket/vqa/cache.json"] > 1, "nothing was sent before the end"
        shards = [count for path, count in store.sent.items() if path.endswith(".h5")]
        assert set(shards) == {1}
        # The same folder is the default of both.
        read = run_command("inspect-cache", URL, "--stage", tmp_path / "stage")
        assert (read.code, read.err.count(URL)) == (0, 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("dies", [4, 9, 14, 18, 22, 28, 35, 45])
def test_another_machine_goes_on_from_the_store_alone(
    dies: int, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_STALE", -1.0)
    with memory(monkeypatch, Flaky(dies=dies)), pytest.raises(Killed):
        extract(tmp_path / "first")
    with memory(monkeypatch) as store:
        there = {path for path in objects() if path.endswith(".h5")}
        assert extract(tmp_path / "second") == 0
        assert objects() == expected
        assert not there & set(store.sent)


@pytest.mark.slow
def test_a_store_that_fails_and_cuts_holds_the_same(
    expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        stores.forget()
        with memory(monkeypatch, Flaky(fails=0.05, cuts=0.01, seconds=0.002, seed=seed)):
            assert extract(tmp_path / str(seed)) == 0
        assert objects() == expected


def test_a_dry_run_and_torchrun_need_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch) as store:
        found = run_command(*WORDS, "--cache", URL, "--dry-run")
        assert (found.code, store.calls) == (2, 0)
        assert "--dry-run and --rebuild take the folder of a cache" in found.err
        monkeypatch.setattr(writing, "by_torchrun", lambda: True)
        found = run_command(*WORDS, "--cache", URL, "--stage", tmp_path)
        assert (found.code, store.calls) == (1, 0)
        assert "one process alone writes to a URL, and torchrun started several" in found.err
