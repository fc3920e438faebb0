"""What of a run goes to others: files that a training wrote, checked, and a card that is made anew.

A run may come from anybody, and a link in it may lead to a file that is for nobody else.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from frozen_vqa.cache.disk.files import read_file, write_atomically
from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.errors import RunError, reason_of
from frozen_vqa.pipeline.runs.card import CARD, owns_card, render_card, strip_folders
from frozen_vqa.pipeline.runs.description import Outcome, read_record
from frozen_vqa.pipeline.runs.environment import parse_environments
from frozen_vqa.pipeline.runs.folder import (
    CURRENT,
    ENVIRONMENT,
    LARGEST_TEXT,
    claim_published,
    explain_run_write_errors,
)
from frozen_vqa.pipeline.runs.run import MEANING, require_meaning
from frozen_vqa.pipeline.runs.sealed import seal_json
from frozen_vqa.pipeline.runs.state import parse_epochs
from frozen_vqa.pipeline.runs.weights import load_weights

LOCAL = {"not_written"}
"""What run.json says of this machine alone."""


def publish_run(path: Path, target: Path) -> None:
    """Copy a run without states and evaluations, and without names of folders of this machine.

    The names of encoders belong to the meaning of the weights, so they stay even for local folders.
    Raises `RunError` as `read_published` does, or if the target may be somebody else's.
    """
    files = read_published(path)
    own = claim_published(target)
    if not owns_card(target):
        files.pop(CARD, None)
    with explain_run_write_errors(target):
        for name, data in files.items():
            write_atomically(path_in(target, name), data)
        own.remove_partials()
        own.unmark()  # from here on run.json shows whose the folder is


def read_published(path: Path) -> dict[str, bytes]:
    """Return the files of a run that go to others, by name, run.json last.

    Raises `RunError` if one is a link, or holds what no training writes.
    """
    require_meaning(path, load_weights(path))
    checks: dict[str, Callable[[bytes], object]] = {
        **dict.fromkeys((*MEANING, CURRENT, "run.json"), lambda data: data),  # by their digests
        "metrics.jsonl": parse_epochs,
        ENVIRONMENT: parse_environments,
    }
    files = {}
    for name, check in checks.items():
        file = path_in(path, name)
        _require_no_link(path, file)
        try:
            files[name] = read_file(file, most=None if name == CURRENT else LARGEST_TEXT)
            check(files[name])
        except FileNotFoundError:
            continue  # a training that was stopped may have no figures
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise RunError(
                f"{file}: not written by a training ({reason_of(error)}), so it is not given to "
                f"others. Remove it, or restore it from a copy."
            ) from None
    found = read_record(path)
    if "best_accuracy" in found:
        files[CARD] = render_card(path, cast(Outcome, found)).encode()
    known = set(Outcome.__annotations__) - LOCAL  # with those of its base
    told: dict[str, Any] = {name: value for name, value in found.items() if name in known}
    for name in {"cache", "run", "dataset"} & told.keys():
        told[name] = strip_folders(told[name] or "")
    del files["run.json"]
    return {**files, "run.json": seal_json(told)}


def _require_no_link(run: Path, file: Path) -> None:
    """Raise `RunError` if a file of a run is a link, unless the Hub's library has made it."""
    hub = run.resolve().parent.parent / "blobs"  # REPOSITORY/snapshots/COMMIT/FILE
    if file.is_symlink() and file.resolve().parent != hub:
        raise RunError(
            f"{file}: a link, perhaps to a file that is not for others, so it is not given to "
            f"them. Put the file itself there."
        )
