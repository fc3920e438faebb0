"""Several processes make the cache that one makes, byte for byte, whichever of them dies."""

from pathlib import Path

import pytest
import torch.distributed as dist

from frozen_vqa.cache import load_manifest
from frozen_vqa.pipeline.system.ranks import Ranks, _failed_before, by_torchrun, torchrun_ranks
from tests.support.frozen import files
from tests.support.ranks_worker import main
from tests.support.repository import ROOT
from tests.support.torchrun import torchrun

WORKER = ROOT / "tests" / "support" / "ranks_worker.py"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The cache that one process makes."""
    directory = tmp_path_factory.mktemp("alone")
    main(directory)
    assert len(load_manifest(directory).images) > 3
    assert len(load_manifest(directory).questions) > 3
    return files(directory)


@pytest.mark.stops
@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_make_the_bytes_of_one_process(
    ranks: int, alone: dict[str, bytes], tmp_path: Path
) -> None:
    done = torchrun(ranks, WORKER, tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("'skipped': 1") == 1  # only the first rank speaks
    assert done.stderr.count("questions: ") == 1
    assert files(tmp_path) == alone


@pytest.mark.stops
@pytest.mark.parametrize("deaths", [["1:2"], pytest.param(["1:2", "0:3"], marks=pytest.mark.slow)])
def test_a_dead_rank_leaves_a_cache_that_any_number_of_ranks_finishes(
    deaths: list[str], alone: dict[str, bytes], tmp_path: Path
) -> None:
    for dies in deaths:
        done = torchrun(2, WORKER, tmp_path, dies)
        assert done.returncode != 0
        assert "SIGKILL" in done.stderr
        manifest = load_manifest(tmp_path)
        assert manifest.splits == {}
        for record in manifest.files:
            assert (tmp_path / record.file).read_bytes() == alone[record.file]
    assert files(tmp_path) != alone

    main(tmp_path)
    assert files(tmp_path) == alone


def test_every_piece_of_work_is_somebodys() -> None:
    for world in (1, 2, 3, 7):
        shares = [Ranks(rank, world).mine("abcde") for rank in range(world)]
        assert sorted(piece for share in shares for piece in share) == list(enumerate("abcde"))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("given", "lacking"), [("WORLD_SIZE", "RANK"), ("RANK", "WORLD_SIZE")])
def test_one_variable_of_torchrun_is_no_torchrun(
    given: str, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(given, "2")
    monkeypatch.delenv(lacking, raising=False)
    with torchrun_ranks() as ranks:
        assert ranks == Ranks(0, 1)
    assert not by_torchrun()


def test_the_first_rank_to_fail_says_why() -> None:
    """A signal is no failure, but what follows from one."""
    store = dist.HashStore()
    assert [_failed_before(store, fails) for fails in (False, True, True, False)] == [
        False,
        False,
        True,
        True,
    ]
