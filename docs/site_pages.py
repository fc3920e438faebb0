"""Pages of the docs site that are made from the code, and links that work there and on GitHub.

mkdocs calls these functions (`mkdocs.yml`, `make docs`).
"""

import re

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

import frozen_vqa
from frozen_vqa import cli

OUTSIDE = re.compile(r"\]\(\.\./([^)\s]+)\)")
EXAMPLES = re.compile(r"^Examples:\n((?:  .*\n?)+)", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code."""
    for name, content in {"commands.md": commands_page(), "names.md": names_page()}.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let a link to a file outside of docs/ lead to the repository."""
    return OUTSIDE.sub(rf"]({config.repo_url}/blob/main/\1)", markdown)


def commands_page() -> str:
    """Return the reference of the command line, from typer's own objects."""
    command = typer.main.get_command(cli.app)
    assert isinstance(command, typer.core.TyperGroup)
    for one in command.commands.values():
        one.short_help = (one.help or "").partition("\n")[0]  # or typer cuts it off
    context = typer.Context(command, info_name="frozen-vqa")
    page = get_docs_for_click(obj=command, ctx=context, name="frozen-vqa", title="Commands")
    return EXAMPLES.sub(r"Examples:\n\n```\n\1```\n", page)


def names_page() -> str:
    """Return the reference of all public names; mkdocstrings fills in their docstrings."""
    homes = sorted(frozen_vqa._HOMES.items(), key=lambda pair: pair[0].lower())
    every = "\n\n".join(f"::: frozen_vqa.{home}.{name}" for name, home in homes)
    return f"# All names\n\nEach is imported from `frozen_vqa`.\n\n{every}\n"
