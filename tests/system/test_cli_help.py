"""The first screen: what every command and option is for, in groups, as wide as the terminal."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import frozen_vqa
from frozen_vqa.pipeline.commands import train_head
from frozen_vqa.pipeline.commands.parse.help import GROUP_OF, GROUPS, OTHERS
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.metrics.find import METRICS
from tests.support.command import run_command
from tests.support.command_lines import COMMANDS, unnamed, working_lines

OPTIONS = [
    pytest.param(command, option, id=f"{command} {option.opts[0]}")
    for command in COMMANDS
    for option in COMMANDS[command].params
]
ABSENT = (None, False, [], ())


@pytest.fixture
def _terminal_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(request.param))


def help_of(*words: str) -> str:
    found = run_command(*words, "--help")
    assert (found.code, found.err) == (0, "")
    return found.out


def sections(shown: str) -> dict[str, list[str]]:
    """Return the names in each group of a help, in their order."""
    found: dict[str, list[str]] = {}
    for line in shown.splitlines():
        if heading := re.fullmatch(r"(\w[\w ]+):", line):
            found[heading[1]] = []
        elif found and (name := re.match(r"  (-[\w-]+|[a-z][a-z-]+)", line)):
            list(found.values())[-1].append(name[1])
    return found


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_every_option_says_what_it_does(command: str, option: Any) -> None:
    assert re.fullmatch(r"[A-Za-z].*[.\])](  \[.*\])?", option.help or ""), option.help


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_has_each_option_once_in_its_group(command: str) -> None:
    shown = sections(help_of(command))
    names = [name for group in shown.values() for name in group]
    expected = [min(option.opts, key=len) for option in COMMANDS[command].params]
    assert sorted(names) == sorted([*expected, "-h"])
    assert [title for title in [*GROUPS, OTHERS] if title in shown] == list(shown)
    assert set(shown[OTHERS]) <= {"--json", "-q", "-h"}
    for option in COMMANDS[command].params:
        assert min(option.opts, key=len) in shown[GROUP_OF.get(option.name, OTHERS)]


def test_the_groups_name_options_that_there_are() -> None:
    known = {option.name for command in COMMANDS.values() for option in command.params}
    assert set(GROUP_OF) <= known


def test_the_first_screen_has_each_command_once() -> None:
    shown = sections(help_of())
    names = [name for group in shown.values() for name in group if not name.startswith("-")]
    assert sorted(names) == sorted(COMMANDS)
    assert list(shown)[-1] == OTHERS


@pytest.mark.parametrize("words", [(), *((command,) for command in COMMANDS)])
@pytest.mark.parametrize("_terminal_of", [52, 80, 200], indirect=True)
@pytest.mark.usefixtures("_terminal_of")
def test_the_help_fits_the_terminal(words: tuple[str, ...], request: Any) -> None:
    columns = request.node.callspec.params["_terminal_of"]
    lines = help_of(*words).partition("Examples:")[0].splitlines()
    widest = max(len(line) for line in lines if "|" not in line and "Usage" not in line)
    assert widest <= columns
    if columns == 200 and words == ("train-head",):
        assert widest > 100


def test_every_default_is_shown() -> None:
    settings = asdict(TrainConfig())
    for command in COMMANDS:
        shown = " ".join(help_of(command).split())
        for option in COMMANDS[command].params:
            default = option.default
            if command == "train-head" and default is None and option.name in settings:
                default = settings[option.name]
            default = option.opts[0].removeprefix("--") if default is True else default
            if default not in ABSENT:
                assert f"[default: {default}" in shown, (command, option.name, default)


@pytest.mark.parametrize("command", ["train-head", "evaluate", "score"])
def test_each_metric_is_a_word_of_the_help(command: str) -> None:
    shown = re.sub(r"-\s+", "-", help_of(command))  # a line may end behind a hyphen
    assert set(METRICS) <= set(re.findall(r"[\w-]+", shown))


def test_every_setting_on_the_command_line_reaches_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one of the metric too, which the help of other commands names."""
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(train_head, "train_command", lambda **how: seen.append(how["settings"]))
    settings = asdict(TrainConfig())
    options = {one.name: one for one in COMMANDS["train-head"].params if one.name in settings}
    assert {"metric", "lr", "keep", "group_by_image", "min_answer_count"} <= options.keys()
    for name, option in options.items():
        other = {"metric": "plain", "fusion": "concat", "keep": "last"}.get(name, "2")
        value = [] if isinstance(settings[name], bool) else [other]
        flag = option.secondary_opts[0] if option.secondary_opts else option.opts[0]
        assert run_command("train-head", "c", "--run", "r", flag, *value).code == 0
        chosen = {key: found for key, found in seen.pop().items() if found is not None}
        assert list(chosen) == [name]
        assert chosen[name] != settings[name]


def test_short_names_and_the_version() -> None:
    assert run_command("-h") == run_command("--help")
    for command in COMMANDS:
        assert run_command(command, "-h") == run_command(command, "--help")
    found = run_command("--version")
    assert (found.code, found.out) == (0, f"frozen-vqa {frozen_vqa.__version__}\n")


def examples() -> Iterator[tuple[str, list[str]]]:
    for name, command in COMMANDS.items():
        lines = command.epilog.split("Examples:\n")[1].splitlines()
        yield from ((name, shlex.split(line)) for line in lines)


@pytest.mark.parametrize(("name", "line"), list(examples()))
def test_examples_are_commands_that_we_take(name: str, line: list[str]) -> None:
    assert line[:2] == ["frozen-vqa", name]
    COMMANDS[name].make_context(name, line[2:])


# What a command reads needs no name


@pytest.mark.parametrize("name", [name for name in COMMANDS if COMMANDS[name].unnamed])
def test_the_value_alone_is_the_value_with_its_name(name: str, tmp_path: Path) -> None:
    line = working_lines(tmp_path, tmp_path)[name]
    assert unnamed(line) != line
    by_name, alone = (
        COMMANDS[name].make_context(name, words[1:]).params for words in (line, unnamed(line))
    )
    assert by_name == alone
    assert by_name[COMMANDS[name].unnamed] not in ABSENT


def test_what_reads_a_run_or_a_cache_takes_it_without_its_name() -> None:
    taken = {name: COMMANDS[name].unnamed for name in COMMANDS if COMMANDS[name].unnamed}
    assert taken.keys() >= {"train-head", "evaluate", "ask", "inspect-cache", "verify-cache"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("inspect-cache", "a", "b"), "Got unexpected extra argument(s) (b)"),
        (("inspect-cache", "a", "--cache", "b"), "'a' and --cache name two; give only one"),
        (("ask", "a", "--run", "b"), "'a' and --run name two; give only one"),
        (("demo", "a"), "Got unexpected extra argument(s) (a)"),
    ],
)
def test_too_many_values(words: tuple[str, ...], said: str) -> None:
    found = run_command(*words)
    assert (found.code, found.err.splitlines()[-1]) == (2, f"Error: {said}")


def test_several_runs_are_those_with_and_without_the_name() -> None:
    params = COMMANDS["evaluate"].make_context("evaluate", ["a", "--run", "b", "c"]).params
    assert params["run"] == [Path("a"), Path("c"), Path("b")]


def test_the_learning_rate_has_its_long_name_too() -> None:
    line = ["c", "--run", "r", "--learning-rate", "0.5"]
    assert COMMANDS["train-head"].make_context("train-head", line).params["lr"] == 0.5
