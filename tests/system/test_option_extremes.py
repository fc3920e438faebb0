"""No value of any option is a traceback: each is taken, or refused in one line."""

from pathlib import Path

import pytest

from frozen_vqa.pipeline.train.loop import TrainingLoop
from tests.support.command import run_command
from tests.support.command_lines import (
    COMMANDS,
    extremes,
    with_option,
    working_lines,
)
from tests.support.tiny_commands import (
    _home,  # noqa: F401  (a fixture)
)

TAKEN, FAILED, USAGE, LEFT_OUT = 0, 1, 2, 3


class Enough(Exception):
    """The command has accepted its options, and would work from here on."""


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let long work end where it begins."""

    def stop(*_: object, **__: object) -> None:
        raise Enough

    monkeypatch.setattr(TrainingLoop, "run_to_end", stop)
    monkeypatch.setattr(
        "frozen_vqa.pipeline.extract.speed.estimate.time_pictures", lambda *_: (1, 0)
    )
    monkeypatch.setattr("frozen_vqa.pipeline.commands.demo.make_plan", stop)
    monkeypatch.setattr("frozen_vqa.pipeline.serve.answerer.Answerer.__init__", stop)
    monkeypatch.setattr("frozen_vqa.pipeline.download.transfer.Transfer.size", stop)


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("command", COMMANDS)
def test_no_value_of_an_option_is_a_traceback(
    command: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = []
    for number, (_, option, value) in enumerate(e for e in extremes() if e[0] == command):
        line = working_lines(place, tmp_path / f"{number}")[command]
        words = with_option(line, option, value)
        try:
            found = run_command(*words)
        except Enough:
            continue
        except Exception as error:
            wrong.append((option, value[:40], repr(error)[:200]))
            continue
        errors = [one for one in found.err.splitlines() if one.startswith("error: ")]
        if found.code == FAILED:
            sound = len(errors) == 1 and found.err.endswith(f"{errors[0]}\n")
        else:
            sound = found.code in (TAKEN, USAGE, LEFT_OUT) and not errors
        if not sound or "Traceback" in found.err:
            wrong.append((option, value[:40], f"{found.code} {found.err[-300:]}"))
    assert wrong == []
