"""The README: the program takes each command line in it, and what it links to is there."""

import re
import shlex

import pytest
import typer

from frozen_vqa import cli
from tests.support.repository import ROOT

README = ROOT / "README.md"
ENDS = {"&&", "||", "|", ";", ">", ">>", "2>", "&"}


def blocks(text: str) -> list[str]:
    """Return the contents of all fenced code blocks."""
    return re.findall(r"^ *```[^\n]*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def command_lines(text: str) -> list[list[str]]:
    """Return the shell commands in the code blocks, split into words."""
    found: list[list[str]] = []
    for block in blocks(text):
        for line in block.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(line.strip().removeprefix("$ "), comments=True)
            except ValueError:  # no shell command: an apostrophe in a listing, say
                continue
            command: list[str] = []
            for word in words:
                if word.rstrip(";") in ENDS or word.endswith(";"):
                    found.append([*command, *([word[:-1]] if len(word) > 1 else [])])
                    command = []
                else:
                    command.append(word)
            found.append(command)
    return [words for words in found if words]


def arguments(words: list[str]) -> list[str] | None:
    """Return what our program is given in this command, or None if it is another's."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if words and re.fullmatch(r"(.*/)?frozen-vqa", words[0]):
        return words[1:]
    # A listing of files may have `cli.py` alone; that is no command.
    if len(words) > 1 and re.fullmatch(r"(.*/)?python3?", words[0]) and words[1] == "cli.py":
        return words[2:]
    return None


def fault(given: list[str]) -> str:
    """Return what our program would say against these arguments, or ""."""
    commands = typer.main.get_command(cli.app).commands
    if given in (["--help"], ["--version"], []):
        return "" if given != ["--version"] else "there is no --version"
    name, *rest = given
    if name not in commands:
        return f"no command {name!r}"
    if "--help" in rest:
        return ""
    known = {flag for p in commands[name].params for flag in (*p.opts, *p.secondary_opts)}
    for word in rest:
        if word.startswith("--") and word.partition("=")[0] not in known:
            return f"{name} has no {word}"
    if "..." in rest or "…" in rest:
        return ""  # shortened: only its flags can be checked
    try:
        commands[name].make_context(name, rest)
    except Exception as error:  # click's usage errors have no public home in typer
        return f"{name}: {error.format_message()}"  # type: ignore[attr-defined]
    return ""


def test_every_command_line_of_the_readme_is_one_that_we_take() -> None:
    ours = [
        given
        for words in command_lines(README.read_text(encoding="utf-8"))
        if (given := arguments(words)) is not None
    ]
    shown = {given[0] for given in ours if given}
    assert shown >= {"extract-features", "train-head", "evaluate"}
    assert [(" ".join(given), fault(given)) for given in ours if fault(given)] == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("frozen-vqa extract --cache c", "no command 'extract'"),
        ("python cli.py train-head --cache c --run r --epoch 3", "train-head has no --epoch"),
        ("frozen-vqa train-head --cache c", "train-head: .*run"),
        ("frozen-vqa train-head --cache c --run r --fusion sum", "train-head: .*sum"),
        (
            "frozen-vqa train-head --cache c \\\n  --run r --epochs many",
            "train-head: .*--epochs.*integer",
        ),
        ("$ .venv/bin/frozen-vqa demo --no-such  # a comment", "demo has no --no-such"),
        ("make x && HF_HOME=h frozen-vqa inspect-cache", "inspect-cache: .*"),
        ("frozen-vqa ask --run r ... --size 5", "ask has no --size"),
    ],
)
def test_the_check_can_fail(line: str, said: str) -> None:
    (given,) = [
        given
        for words in command_lines(f"text\n```bash\n{line}\n```\n")
        if (given := arguments(words)) is not None
    ]
    assert re.match(said, fault(given)), fault(given)


@pytest.mark.parametrize(
    "line",
    [
        "frozen-vqa demo",
        "frozen-vqa --help",
        "python cli.py train-head --cache c --run r --plain-order --json | jq .best_accuracy",
        "frozen-vqa extract-features --dataset shapes ... --cache c  # and so on",
        'frozen-vqa ask --run r --image a.jpg --question "what color is it?"',
    ],
)
def test_what_we_take_is_not_a_fault(line: str) -> None:
    (given,) = [
        given
        for words in command_lines(f"```\n{line}\n```\n")
        if (given := arguments(words)) is not None
    ]
    assert fault(given) == ""


@pytest.mark.parametrize("line", ["cli.py   parses, calls", "python other.py x", "pip install x"])
def test_what_is_no_command_of_ours_is_left_alone(line: str) -> None:
    assert [arguments(words) for words in command_lines(f"```\n{line}\n```\n")] == [None]


def test_every_make_target_of_the_readme_exists() -> None:
    text = README.read_text(encoding="utf-8")
    asked = {words[1] for words in command_lines(text) if words[0] == "make" and len(words) > 1}
    asked |= set(re.findall(r"`make ([a-z-]+)`", text))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    there = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert {word for word in asked if "=" not in word} <= there


def test_every_file_of_ours_that_the_readme_names_exists() -> None:
    """In commands and in prose, such as the settings given to --config."""
    text = README.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/:.-])(?:examples|benchmarks|docs|tests)/[\w./-]*\w", text))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def links(text: str) -> list[str]:
    """Return the targets of links and pictures, those in code left out."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    found = re.findall(r"\]\(\s*<?([^)\s>]+)", prose) + re.findall(r"\bsrc=\"([^\"]+)\"", prose)
    return found + re.findall(r"\bhref=\"([^\"]+)\"", prose)


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ +(.+?)\s*$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in links(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists(), f"{page} links to {path}, which is not there"
        if anchor and not path:
            assert anchor in anchors(text), f"{page} links to #{anchor}, which no heading has"


def test_links_and_anchors_are_found() -> None:
    text = "# A Head-Line: two\n[a](b.md#c) ![p](docs/p.png 't') <img src=\"q.png\"> `[x](y)`"
    assert links(text) == ["b.md#c", "docs/p.png", "q.png"]
    assert anchors(text) == {"a-head-line-two"}
