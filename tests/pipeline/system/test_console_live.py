"""What a terminal shows: lines that fit it, that end between words, and nothing with -q."""

import io
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from frozen_vqa.pipeline.system import endings
from frozen_vqa.pipeline.system.console import console, fit_line, loading, progress
from frozen_vqa.pipeline.system.texts import break_lines, printable

RATE, LEFT = "12,345/s", "59 min 59 s left"


@pytest.fixture
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(console, "_force_terminal", True)
    monkeypatch.setattr(console, "is_interactive", True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "results_only", True)


# One line of progress


@pytest.mark.usefixtures("_terminal")
@pytest.mark.parametrize("note", ["", "best 67.20 %, epoch 12", "a note " * 20])
@pytest.mark.parametrize("title", ["epoch 12/150", "a title that is rather long " * 3, "問題 3/15"])
def test_rate_and_time_left_stay_where_the_rest_has_no_room(
    note: str, title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in range(40, 161, 8):
        monkeypatch.setattr(console, "_width", columns)
        line = fit_line(title, "123,456/4,437,570", RATE, LEFT, note, 30.0).plain
        assert cell_len(line) < columns
        assert RATE in line
        assert LEFT in line
        if columns >= 80 and len(title) < 20 and len(note) < 30:
            assert line.startswith(title)
            assert note in line
        if columns >= 120 and len(title) < 20 and len(note) < 30:
            assert "123,456/4,437,570" in line
            assert "━" in line


def drawn(line: Text) -> int:
    return sum(span.style == "green" for span in line.spans)


@pytest.mark.usefixtures("_terminal")
def test_the_bar_grows_with_the_share_that_is_done() -> None:
    full = [
        fit_line("a", "1/9", "", "", "", percent).plain.count("━") for percent in (0.0, 50.0, 100.0)
    ]
    assert len(set(full)) == 1  # all of it is drawn, in two colours
    assert drawn(fit_line("a", "1/9", "", "", "", 50.0)) == 1


@pytest.mark.usefixtures("_terminal")
def test_what_was_done_before_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("training", 100, done=60) as advance:
        advance(40, title="epoch 2/2", note="best")
    found = capsys.readouterr().err
    assert "100/100" in found
    assert "epoch 2/2" in found


def test_a_log_counts_what_was_done_before_but_not_its_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 20.0, 30.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with progress("training", 100, done=60) as advance:
        advance(20, title="epoch 2/2")
        advance(20, title="epoch 2/2", note="best")
    assert capsys.readouterr().err.splitlines() == [
        "epoch 2/2: 80/100, 1/s, 20.0 s left",
        "epoch 2/2: 100/100, 1/s, best",
    ]


# Lines that end between words

WORDS = st.lists(st.text(st.characters(categories=["L", "N", "P"]), min_size=1), min_size=1)


@given(WORDS, st.integers(40, 120))
def test_words_and_long_paths_stay_whole(words: list[str], columns: int) -> None:
    lines = break_lines(" ".join(words), columns).split("\n")
    assert " ".join(lines) == printable(" ".join(words))
    assert all(len(line) <= columns or " " not in line for line in lines)


@pytest.mark.usefixtures("_terminal")
def test_a_terminal_gets_lines_and_a_log_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/a/" + "long/" * 30
    text = f"{path} is the folder in which all of these many words have been found today; " * 2
    console.print(text)
    lines = capsys.readouterr().err.splitlines()
    assert [line.strip() for line in lines].count(path) == 2
    assert max(len(line) for line in lines if path not in line) <= 80
    monkeypatch.setattr(console, "_force_terminal", False)
    console.print(text)
    assert capsys.readouterr().err.count("\n") == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_error_on_a_terminal_is_broken_at_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    text = "error: " + "word " * 30
    for stream, most in ((Terminal(), 50), (io.StringIO(), 200)):
        monkeypatch.setattr(sys, "stderr", stream)
        endings._say(text)
        found = stream.getvalue()
        assert found.split() == text.split()
        assert max(map(len, found.splitlines())) <= most
        assert (found.count("\n") == 1) == (most == 200)


# Only results


@pytest.mark.usefixtures("_terminal", "_quiet")
def test_quiet_shows_results_and_warnings_alone(capsys: pytest.CaptureFixture[str]) -> None:
    console.print("how it goes")
    console.rule("a rule")
    with progress("pictures", 2) as advance:
        advance(2)
    with loading("something"):
        pass
    console.show("a result")
    console.warn("a caveat")
    assert capsys.readouterr().err == "a result\nwarning: a caveat\n"


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.usefixtures("_terminal")
def test_the_silence_of_loading_is_announced(
    loaded: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if loaded:
        monkeypatch.setitem(sys.modules, "torch", io)
    else:
        monkeypatch.delitem(sys.modules, "torch", raising=False)
    with loading():
        time.sleep(0.2)
    assert ("loading PyTorch" in capsys.readouterr().err) == (not loaded)


def test_a_log_has_no_line_about_loading(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with loading():
        pass
    assert capsys.readouterr().err == ""
