"""What the command `download` does and says."""

import difflib
import shlex
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.download.catalogue import DATA_SETS, NOT_FETCHED, DataSet
from frozen_vqa.pipeline.download.download import Download, Step
from frozen_vqa.pipeline.errors import DownloadError
from frozen_vqa.pipeline.system.console import console, size
from frozen_vqa.pipeline.system.disk import free_bytes


def download_command(name: str, *, to: Path) -> dict[str, Any]:
    """Fetch a data set into a folder; what is there already stays."""
    data = _find(name)
    download = Download(name, data, to)
    plan = download.plan()
    _show_plan(name, data, plan, to)
    download.run(plan)
    missing = [step for step in plan if not step.done]
    console.show(f"{name} is in {to}" if missing else f"{name} was in {to} already")
    for pictures in data.pictures:
        again = shlex.join(["frozen-vqa", "download", pictures, "--to", str(to)])
        console.print(f"its pictures are apart, because other data sets share them: {again}")
    if data.advice:
        console.print(data.advice)
    return {
        "name": name,
        "to": str(to),
        "licence": data.licence,
        "page": data.page,
        "files": [
            {"url": step.remote.url, "bytes": step.bytes, "was_there": step.done} for step in plan
        ],
        "dataset": f"{data.source}:{to}" if data.source else None,
        "pictures": list(data.pictures),
    }


def _find(name: str) -> DataSet:
    if name in NOT_FETCHED:
        raise DownloadError(f"{name}: this data set is not fetched, because {NOT_FETCHED[name]}.")
    if name not in DATA_SETS:
        close = difflib.get_close_matches(name.lower(), [*DATA_SETS, *NOT_FETCHED], n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise DownloadError(
            f"{name!r:.80} is no data set that is fetched; these are {', '.join(DATA_SETS)}.{hint}"
        )
    return DATA_SETS[name]


def _show_plan(name: str, data: DataSet, plan: list[Step], to: Path) -> None:
    console.show(f"{name}: licence {data.licence}; {data.page}")
    missing = [step for step in plan if not step.done]
    if missing:
        come = sum(step.bytes - step.so_far for step in missing)
        there = sum(step.so_far for step in missing)
        before = f", {size(there)} came before" if there else ""
        console.show(
            f"{len(missing)} of {len(plan)} files to fetch, {size(come)}{before}; they take "
            f"{size(sum(step.missing for step in missing))} more on disk until they are unpacked, "
            f"and {size(free_bytes(to))} are free"
        )
