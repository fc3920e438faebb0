"""What people read, on stderr only."""

import re

import pytest
from rich.table import Column, Table

import frozen_vqa.pipeline.system.console
from frozen_vqa.pipeline.system.console import console, duration, progress, size
from frozen_vqa.pipeline.system.texts import printable
from tests.support.hostile import EVERY, is_harmless, shows
from tests.support.sources import modules


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_500_000, "1.5 MB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (24e9, "24.0 GB"),
        (3.21e12, "3.2 TB"),
        (5.4321e15, "5432.1 TB"),
    ],
)
def test_size(count: float, expected: str) -> None:
    assert size(count) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.0 s"),
        (0.04, "0.0 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (60, "1 min 00 s"),
        (61.4, "1 min 01 s"),
        (119.6, "2 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (3725, "1 h 02 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_duration(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


class Clock:
    """Time that passes only when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(frozen_vqa.pipeline.system.console.time, "monotonic", lambda: self.now)


def test_plain_lines_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One every ten seconds and one at the end, each whole; nothing on stdout."""
    clock = Clock(monkeypatch)
    with progress("pictures", 2000) as advance:
        for _ in range(20):
            clock.now += 2.5
            advance(100, note="a [b] c" + "!" * 100)
    found = capsys.readouterr()

    assert found.out == ""
    tail = ", a [b] c" + "!" * 100
    assert found.err.splitlines() == [
        f"pictures: 400/2,000, 40/s, 40.0 s left{tail}",
        f"pictures: 800/2,000, 40/s, 30.0 s left{tail}",
        f"pictures: 1,200/2,000, 40/s, 20.0 s left{tail}",
        f"pictures: 1,600/2,000, 40/s, 10.0 s left{tail}",
        f"pictures: 2,000/2,000, 40/s{tail}",
    ]


def test_a_short_loop_has_one_plain_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with progress("epoch 1/2", 3) as advance:
        for _ in range(3):
            clock.now += 0.5
            advance()
    assert capsys.readouterr() == ("", "epoch 1/2: 3/3, 2/s\n")


def test_the_first_step_may_take_no_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Clock(monkeypatch)
    with progress("rows", 1) as advance:
        advance()
    assert capsys.readouterr().err.startswith("rows: 1/1, ")


def test_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_force_terminal", True)
    monkeypatch.setenv("TERM", "xterm")
    with progress("pictures", 7) as advance:
        advance(3, note="half [way]")
        advance(4, note="all")
    found = capsys.readouterr()
    assert found.out == ""
    assert "7/7" in found.err
    assert "pictures" in found.err


def test_the_console_writes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console.print("12 of [/tmp/x]", markup=False)
    assert capsys.readouterr() == ("", "12 of [/tmp/x]\n")


def to_the_terminal(text: str) -> None:
    """Every way by which a text gets there."""
    console.print(text)
    console.print(f"a {text}: b", "c", sep="\n")
    table = Table(text, Column("b"), title=text, caption=text)
    table.add_row("1", text)
    console.print(table)
    with progress(text, 1) as advance:
        advance(1, note=text)


@pytest.mark.parametrize("name", EVERY)
def test_every_text_is_shown_whole_and_not_obeyed(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    to_the_terminal(EVERY[name])
    found = capsys.readouterr()
    assert found.out == ""
    assert is_harmless(found.err)
    before, rest = found.err.split("\n", 1)
    assert before == printable(EVERY[name])
    table, after = rest.split("└")
    assert shows(table.split("┏")[0], EVERY[name])  # the title
    assert all(shows(part, EVERY[name]) for part in (table.split("┡")[1], after))


@pytest.mark.parametrize("name", ["colour", "title of the window", "markup", "closing markup"])
def test_a_bar_does_not_obey_a_text(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_force_terminal", True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with progress(EVERY[name], 2) as advance:
        advance(2, note=EVERY[name])
    found = capsys.readouterr().err
    assert found.count(printable(EVERY[name])) >= 2
    assert "\x1b[31mred" not in found
    assert "\x1b]0;owned" not in found


def test_nothing_else_writes_to_the_terminal() -> None:
    """A text that goes another way would be obeyed; the error line and --json have their own."""
    way = re.compile(
        r"(?<!def )(?<![.\w])print\(|sys\.std(out|err)\.w|file=sys|[ =]Console\(|from_markup"
    )
    found = {name for name, source in modules().items() if way.search(source)}
    assert found == {"pipeline.system.endings"}
