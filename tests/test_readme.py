"""The README and the manual: commands are accepted, links and file names lead somewhere.

The README is also the page of the package index, where no relative link works: it links to `HOME`.
"""

import re
import shlex
from pathlib import Path

import pytest
import typer

from frozen_vqa import cli
from frozen_vqa.pipeline import plugins
from tests.support.repository import ROOT

README = ROOT / "README.md"
MANUAL = [f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))]
HOME = r"https://(?:github|raw\.githubusercontent)\.com/frozen-vqa/frozen-vqa/"
MADE = ("commands.md", "names.md")
MOST_WORDS = 1300
SECTIONS = [
    "Try it",
    "What came out",
    "Your own data",
    "VQAv2 with the real models",
    "Commands",
    "What it promises",
    "Where things are",
    "What it does not do",
]
MOST_PROMISES = 8
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
    if words and words[0] == "torchrun" and "cli.py" in words:
        return words[words.index("cli.py") + 1 :]
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


def ours(text: str) -> list[list[str]]:
    """Return what our program is given in each of its command lines."""
    return [found for words in command_lines(text) if (found := arguments(words)) is not None]


def test_the_readme_shows_the_way_from_data_to_a_score() -> None:
    shown = {given[0] for given in ours(README.read_text(encoding="utf-8")) if given}
    assert shown >= {"extract-features", "train-head", "evaluate", "ask"}


@pytest.mark.parametrize("page", ["README.md", *MANUAL])
def test_every_command_line_is_one_that_we_take(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "trust", lambda name: name)  # code that only a reader has
    shown = ours((ROOT / page).read_text(encoding="utf-8"))
    assert [(" ".join(given), fault(given)) for given in shown if fault(given)] == []


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
        ("torchrun --nproc-per-node 2 -- cli.py train-head --cach c", "train-head has no --cach"),
    ],
)
def test_the_check_can_fail(line: str, said: str) -> None:
    (given,) = ours(f"text\n```bash\n{line}\n```\n")
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
    (given,) = ours(f"```\n{line}\n```\n")
    assert fault(given) == ""


@pytest.mark.parametrize("line", ["cli.py   parses, calls", "python other.py x", "pip install x"])
def test_what_is_no_command_of_ours_is_left_alone(line: str) -> None:
    assert [arguments(words) for words in command_lines(f"```\n{line}\n```\n")] == [None]


@pytest.mark.parametrize("page", ["README.md", *MANUAL])
def test_every_make_target_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    asked = {words[1] for words in command_lines(text) if words[0] == "make" and len(words) > 1}
    asked |= set(re.findall(r"`make ([a-z-]+)`", text))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    there = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert {word for word in asked if "=" not in word} <= there


@pytest.mark.parametrize("page", ["README.md", *MANUAL])
def test_every_file_of_ours_that_is_named_exists(page: str) -> None:
    """In commands and in prose, such as the settings given to --config, or `python -m`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    folders = "examples|benchmarks|docs|tests|pipeline|cache"
    named = set(re.findall(rf"(?<![\w/:.-])(?:{folders})/[\w./-]*\w", text))
    modules = set(re.findall(r"python -m (benchmarks[\w.]*\w)", text))
    missing = [name for name in named if not (ROOT / name).exists()]
    for path in (ROOT.joinpath(*name.split(".")) for name in modules):
        if not (path / "__main__.py").exists() and not path.with_suffix(".py").exists():
            missing.append(str(path))
    assert missing == []


def without_code(text: str) -> str:
    """Return a page without its code, in which brackets are no links."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def links(text: str) -> list[str]:
    """Return the targets of links and pictures, those in code left out."""
    prose = without_code(text)
    found = re.findall(r"\]\(\s*<?([^)\s>]+)", prose)
    found += re.findall(r"^\[[^\]\n]+\]:\s*<?([^\s>]+)", prose, re.MULTILINE)
    return found + re.findall(r"\b(?:src|href)=\"([^\"]+)\"", prose)


def undefined(text: str) -> list[str]:
    """Return the names in `[text][name]` and `([name])` that no line of the page defines."""
    prose = without_code(text)
    used = re.findall(r"\]\[([^\]\n]+)\]|\(\[([^\]\n]+)\]\)", prose)
    names = [first or second for first, second in used]
    return [name for name in names if f"\n[{name}]: " not in prose]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ +(.+?)\s*$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def leads_nowhere(link: str, page: Path) -> bool:
    """Whether a link of a page, relative or to our repository, has no file or heading."""
    inside = re.sub(rf"^{HOME}(?:(?:blob|tree)/)?main/", "", link)
    if re.match(r"[a-z]+:", inside):
        return False
    path, _, anchor = inside.partition("#")
    target = (page.parent if inside == link else ROOT) / path if path else page
    if not target.exists():
        return True
    return bool(anchor) and anchor not in anchors(target.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", *MANUAL])
def test_every_link_leads_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert [link for link in links(text) if leads_nowhere(link, ROOT / name)] == []
    assert undefined(text) == []


def test_links_and_anchors_are_found() -> None:
    text = (
        "# A Head-Line: two\n[a](b.md#c) ![p](docs/p.png 't') <img src=\"q.png\"> `[x](y)`\n"
        "[e][f] ([g]) `[h][i]`\n\n[f]: j.md\n"
    )
    assert links(text) == ["b.md#c", "docs/p.png", "j.md", "q.png"]
    assert undefined(text) == ["g"]
    assert anchors(text) == {"a-head-line-two"}


@pytest.mark.parametrize(
    ("link", "nowhere"),
    [
        ("cache.md", False),
        ("cache.md#layout", False),
        ("cache.md#no-such-heading", True),
        ("#no-such-heading", True),
        ("no-such-page.md", True),
        ("../README.md#try-it", False),
        ("https://github.com/frozen-vqa/frozen-vqa/blob/main/docs/cache.md", False),
        ("https://github.com/frozen-vqa/frozen-vqa/blob/main/docs/no-such-page.md", True),
        ("https://raw.githubusercontent.com/frozen-vqa/frozen-vqa/main/docs/demo.png", False),
        ("https://raw.githubusercontent.com/frozen-vqa/frozen-vqa/main/docs/no-such.png", True),
        ("https://visualqa.org/download.html", False),
    ],
)
def test_a_link_that_leads_nowhere_is_found(link: str, nowhere: bool) -> None:
    assert leads_nowhere(link, ROOT / "docs" / "README.md") == nowhere


def test_the_readme_is_short_and_in_order() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.split()) <= MOST_WORDS  # as `wc -w` counts
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    title, introduction, picture = text.split("\n\n")[:3]
    assert title == "# Frozen-VQA"
    assert introduction.count(". ") + introduction.endswith(".") == 2, "two sentences"
    assert picture.startswith("![")


def test_the_readme_promises_few_things() -> None:
    text = README.read_text(encoding="utf-8")
    (promises,) = re.findall(r"^## What it promises\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert 0 < promises.count("\n- ") <= MOST_PROMISES


def test_the_readme_has_no_link_that_only_works_in_the_repository() -> None:
    found = links(README.read_text(encoding="utf-8"))
    assert [link for link in found if not link.startswith("https://")] == []


def test_the_readme_maps_every_folder() -> None:
    (tree,) = (b for b in blocks(README.read_text(encoding="utf-8")) if b.startswith("cli.py"))
    mapped = set(re.findall(r"^ *(\w+)/", tree, re.MULTILINE))
    rooms = {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
    assert mapped == {"cache", "pipeline", "tests", "benchmarks", "docs", "examples"} | rooms


def test_the_index_of_the_manual_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = [page for page in MANUAL if page != "docs/README.md"]
    assert sorted(f"docs/{link}" for link in links(index) if "/" not in link) == pages


def test_the_site_has_every_page() -> None:
    """And those that docs/site_pages.py makes; the default tests do not build it."""
    nav, _, _ = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\ntheme:")
    pages = re.findall(r": ([\w-]+\.md)$", nav, re.MULTILINE)
    assert sorted(f"docs/{page}" for page in pages if page not in MADE) == MANUAL
    made = (ROOT / "docs" / "site_pages.py").read_text(encoding="utf-8")
    assert all(page in pages and f'"{page}"' in made for page in MADE)
