"""The `runs` command: what heads are in a folder and how they score, from their records alone.

No weights are read and no torch is loaded. A damaged run is listed with its fault.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.table import Table

from frozen_vqa.cache.errors import CacheError
from frozen_vqa.pipeline.config import load_run_config
from frozen_vqa.pipeline.errors import PipelineError, RunError
from frozen_vqa.pipeline.runs.description import (
    Scores,
    caveats_of,
    read_description,
    read_record,
    read_sealed_json,
)
from frozen_vqa.pipeline.system.console import console

DEEPEST = 4
"""Levels of folders that are searched."""


def list_command(folder: Path) -> dict[str, Any]:
    """Show the runs in a folder, the best score first; raise `RunError` if there is no folder."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise RunError(f"{folder}: there is {found} here; give the folder that holds your runs")
    runs = [_describe(path) for path in _find(folder)]
    runs.sort(key=lambda run: (-(run.get("accuracy") or -1.0), run["run"]))
    if runs:
        _show(runs)
    else:
        console.show(f"{folder}: there is no run here; train-head makes one")
    return {"folder": str(folder), "runs": runs}


def _find(folder: Path) -> Iterator[Path]:
    """Yield the run folders in a folder, or itself; links are not followed."""
    for place, inside, files in os.walk(folder):
        path = Path(place)
        if {"config.json", "config.toml"} <= set(files):
            yield path
            inside.clear()
        elif len(path.relative_to(folder).parts) >= DEEPEST:
            inside.clear()


def _describe(path: Path) -> dict[str, Any]:
    """Return what the records of a run say; "faults" says which of them cannot be read."""
    found: dict[str, Any] = {"run": str(path)}
    faults = found["faults"] = []
    with _noting(faults):
        record, config = read_record(path), load_run_config(path)
        found |= {
            "fusion": config.fusion,
            "dataset": record.get("dataset"),
            "split": config.validation,
            "epochs": record.get("epochs", config.epochs),
            "finished": "best_accuracy" in record,
            "accuracy": record.get("best_accuracy"),
            "best_epoch": record.get("best_epoch"),
            "parameters": record.get("trainable_parameters"),
            "caveats": caveats_of(read_description(path).encoders),
        }
    found["evaluations"] = []
    for one in sorted(path.glob("evaluation/*/scores.json")):
        with _noting(faults):
            found["evaluations"].append(_score(one))
    return found


@contextmanager
def _noting(faults: list[str]) -> Iterator[None]:
    """Let the listing go on if a record in the block cannot be read; add the reason to `faults`."""
    try:
        yield
    except (PipelineError, CacheError) as error:
        faults.append(str(error))


def _score(path: Path) -> dict[str, Any]:
    scores = read_sealed_json(path, Scores)
    return {
        "split": scores["split"],
        "accuracy": scores["accuracy"]["overall"] if "accuracy" in scores else None,
        "interval": scores["interval"],
        "trained_on": scores.get("trained_on", False),
    }


def _show(runs: list[dict[str, Any]]) -> None:
    caveats = sorted({caveat for run in runs for caveat in run.get("caveats", ())})
    table = Table("run", "fusion", caption="; ".join(caveats))
    for title in ("accuracy, %", "epoch", "parameters", "evaluated"):
        table.add_column(title, justify="left" if title == "evaluated" else "right")
    for run in runs:
        table.add_row(run["run"], *_cells(run), ", ".join(map(_spell, run["evaluations"])))
    console.show(table)
    for fault in (fault for run in runs for fault in run["faults"]):
        console.warn(fault)


def _cells(run: dict[str, Any]) -> tuple[str, str, str, str]:
    if "fusion" not in run:
        return "damaged", "", "", ""
    if not run["finished"]:
        return run["fusion"], "unfinished", "", ""
    accuracy, epoch = run["accuracy"], f"{run['best_epoch']}/{run['epochs']}"
    return run["fusion"], f"{accuracy:.2f} on {run['split']}", epoch, f"{run['parameters']:,}"


def _spell(score: dict[str, Any]) -> str:
    if score["accuracy"] is None:
        return f"{score['split']} (no answers)"
    trained_on = " (trained on it)" if score["trained_on"] else ""
    return f"{score['split']} {score['accuracy']:.2f}{trained_on}"
