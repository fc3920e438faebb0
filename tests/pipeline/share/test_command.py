"""`push`, `pull` and the commands that read a URL, as a user types them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import stores
from tests.support.caches import Row, make_cache
from tests.support.command import run_command
from tests.support.stores import URL, memory


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    stores.forget()
    yield
    stores.forget()


def test_a_cache_goes_to_a_url_and_is_read_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    splits = {"val": [Row(0, 0, ("a",))], "test": [Row(3, 1)]}
    cache = make_cache(tmp_path / "cache", splits, dataset="jsonl:/home/me/data").directory
    with memory(monkeypatch) as store:
        found = run_command("push", cache, "--to", URL, "--json")
        assert found.code == 0
        assert "names folders of this machine (/home/me/data), which whoever may" in found.err
        said = json.loads(found.out)
        assert (said["url"], said["sent"]) == (URL, 5)
        assert b"/home/me" not in stores.objects()["/bucket/vqa/README.md"]
        there = run_command("inspect-cache", URL)
        assert there.code == 0
        assert URL in there.err
        there = run_command("verify-cache", URL, "--json")
        assert json.loads(there.out)["damaged"] == []
        part = run_command("pull", URL, "--to", tmp_path / "part", "--split", "val")
        assert "a part: 1 of 2 shards of pictures belong to other splits" in part.err
        assert "1 shards of pictures are not here" in run_command(
            "inspect-cache", tmp_path / "part"
        ).err.replace("\n", " ")
        path = next(path for path in stores.objects() if "/images/" in path)
        store.pipe_file(path, b"changed", chunksize=0)
        for one in (tmp_path / "own").rglob("*.h5"):
            one.unlink()
        broken = run_command("verify-cache", URL, "--json")
        assert broken.code == 1
        (damage,) = json.loads(broken.out)["damaged"]
        assert damage["rebuild"] == f"frozen-vqa push CACHE --to {URL}"


@pytest.mark.parametrize(
    "words",
    [
        ("convert-cache", "features", "--cache", URL),
        ("pull", URL, "--to", URL),
        ("push", URL, "--to", URL),
    ],
)
def test_a_url_in_place_of_a_folder_is_said(words: tuple[str, ...], tmp_path: Path) -> None:
    found = run_command(*words)
    assert found.code == 2
    assert "a URL stands where a file or a folder of this machine is needed" in found.err
