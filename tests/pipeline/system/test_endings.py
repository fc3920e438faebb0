"""How a command ends on an error."""

import sys
from contextlib import nullcontext

import pytest
import typer

from frozen_vqa.cache.errors import CacheDamagedError, CacheError
from frozen_vqa.pipeline.commands.parse.finish import finish
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.endings import run_to_the_end


def ended(error: Exception, capsys: pytest.CaptureFixture[str]) -> str:
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        run_to_the_end(fail)
    assert end.value.code == 1
    found = capsys.readouterr()
    assert (found.out, found.err.count("\n")) == ("", 1)
    return found.err.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize("kind", [CacheError, PipelineError])
def test_an_error_is_its_message(kind: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(kind(" a\x1b[31m\nb "), capsys) == r"a\x1b[31m\nb"


@pytest.mark.parametrize("world", [None, "2"])
def test_only_torchrun_makes_ranks(
    world: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler's RANK alone changes no message and no exit code."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world:
        monkeypatch.setenv("WORLD_SIZE", world)
    assert ended(PipelineError("why"), capsys) == ("rank 1: why" if world else "why")
    with pytest.raises(typer.Exit) if world is None else nullcontext():
        finish({"not_written": ["why"]}, as_json=False)
    with pytest.raises(SystemExit):
        run_to_the_end(lambda: sys.exit(143))
    assert ("stopped" in capsys.readouterr().err) == (world is None)


def test_ctrl_c_is_a_line_at_any_time(capsys: pytest.CaptureFixture[str]) -> None:
    def app() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run_to_the_end(app)
    assert (end.value.code, capsys.readouterr().err[:7]) == (130, "stopped")


def test_no_error_and_no_warning_shows_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    def app() -> None:
        console.warn("no answer from https://me:SECRET@host")
        raise CacheError("no answer from https://me:SEC@RET@host/x")

    with pytest.raises(SystemExit):
        run_to_the_end(app)
    said = "no answer from https://…host"
    assert capsys.readouterr().err == f"warning: {said}\nerror: {said}/x\n"


def test_every_damage_of_a_cache_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    said = ended(CacheDamagedError("c/splits/val.h5: points outside the cache"), capsys)
    assert said.startswith("c/splits/val.h5: points outside the cache. Run `frozen-vqa verify-ca")
    whole = "c/a.h5: is missing. Run `frozen-vqa verify-cache c`: ..."
    assert ended(CacheDamagedError(whole), capsys) == whole


def test_a_path_that_is_too_long_is_cut_and_not_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    said = ended(OSError(36, "File name too long", "x" * 5000), capsys)
    assert said.startswith(f"{'x' * 297}...: File name too long; ")
