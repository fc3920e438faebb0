"""The `check-data` command: what a data set has, what would be left out, and a sheet of samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from frozen_vqa.cache.disk.folders import require_own_file
from frozen_vqa.pipeline.encoders.picture_files.levels import Window
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.reading import Reading
from frozen_vqa.pipeline.errors import ImageError, PipelineError, SourceError
from frozen_vqa.pipeline.extract.data_check import (
    FREQUENT,
    SplitCheck,
    check_data,
    narrow_bits,
    require_pictures,
    splits_of,
)
from frozen_vqa.pipeline.extract.plan import read_questions
from frozen_vqa.pipeline.pictures.contact_sheet import Tile, contact_sheet, is_sheet
from frozen_vqa.pipeline.sources.example import Id, Source, VqaExample
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.system.console import console

SHOWN = 20
"""Left-out questions that are listed."""

TILES = 12
MOST_COLUMNS = 8


def check_data_command(
    *,
    dataset: str,
    splits: Sequence[str],
    columns: Mapping[str, str],
    pictures: Path | None,
    annotations: Path | None = None,
    sheet: Path | None,
    window: Window | None,
) -> dict[str, Any]:
    """Read a data set, look for all its pictures, and show what was found.

    Raises `SourceError` if no split can be read, or no picture of one is there.
    """
    if sheet:
        require_own_file(sheet, is_sheet, PipelineError, "--sheet")
    source = open_source(dataset, columns=columns or None, images=pictures, annotations=annotations)
    checks, refused = _read_splits(source, splits)
    show_checks(checks, SHOWN)
    reading = Reading(window)
    require_pictures(source, checks, None, reading)
    show_missing(checks)
    bits = None if window else narrow_bits(source, checks)
    show_narrow(bits)
    for check in checks:
        _show_contents(check)
    for reason in refused.values():
        console.print(reason)
    if sheet:
        contact_sheet(_sample(source, checks, reading), sheet, advice="give another --sheet")
        console.print(f"sheet of samples: {sheet}")
    return {
        "dataset": dataset,
        "splits": [check.to_json() for check in checks],
        "refused": refused,
        "grey_bits": bits,
        "sheet": str(sheet) if sheet else None,
    }


def _read_splits(source: Source, splits: Sequence[str]) -> tuple[list[SplitCheck], dict[str, str]]:
    """Return what is in the splits; without names, in all of them, and why some cannot be read."""
    if splits:
        return check_data(source, read_questions(source, splits)), {}
    found: list[SplitCheck] = []
    refused: dict[str, str] = {}
    for name in splits_of(source):
        try:
            found += check_data(source, read_questions(source, [name]))
        except SourceError as error:
            refused[name] = str(error)
    if not found:
        raise SourceError(next(iter(refused.values())))
    return found, refused


def _show_contents(check: SplitCheck) -> None:
    answers = check.answers()
    frequent = ", ".join(
        f"{shorten(answer, 40, placeholder=' ...')} ({n:,})"
        for answer, n in answers.most_common(FREQUENT)
    )
    console.print(
        f"{check.name}: {len(check.examples):,} questions about {len(check.images):,} pictures, "
        f"{check.answered:,} with answers; {len(answers):,} different answers"
        f"{f', most often {frequent}' if frequent else ''}"
    )


def show_checks(checks: Sequence[SplitCheck], most: int = 1) -> None:
    """Print how each split is written and what is wrong with it; at most `most` left-out lines."""
    for check in checks:
        if (form := check.form) and form.place:
            columns = ", ".join(
                field if field == name.casefold() else f"{name} as the {field}"
                for field, name in form.columns.items()
            )
            others = ", ".join(form.ignored[:MOST_COLUMNS])
            ignored = f"; not used: {others}" if others else ""
            used = f": {columns}" if columns else ""
            console.show(f"{check.name}: {form.kind}, {form.place}{used}{ignored}")
        if check.examples and not check.answered:
            console.show(f"split {check.name!r}: no question has an answer")
    unusable = [fault for check in checks for fault in check.left_out]
    if unusable:
        first, *more = [f"{fault.where}: {fault.reason}" for fault in unusable[:most]]
        console.show(f"{len(unusable):,} questions cannot be used; the first is {first}")
        for line in more:
            console.show(f"  {line}")
        if 1 < most < len(unusable):
            console.show(f"  and {len(unusable) - most:,} more; --json lists all")


def show_missing(checks: Sequence[SplitCheck]) -> None:
    """Print how many pictures are missing, and what to do."""
    for check in checks:
        if check.missing:
            cure = f". {check.cure}" if check.cure else ""
            console.show(
                f"{check.missing:,} of the {check.looked:,} pictures that were looked for are "
                f"missing in {check.name!r}, such as {check.where}{cure}"
            )


def show_narrow(bits: int | None) -> None:
    """Print that pictures of 16 bits hold fewer, which makes them dark."""
    if bits:
        console.warn(
            f"the 16-bit pictures that were looked at hold values of {bits} bits, up to "
            f"{2**bits - 1:,} of 65,535, so they come out nearly black. Give --window 0 "
            f"{2**bits - 1}, or the range of values that matters."
        )


def _sample(source: Source, checks: Sequence[SplitCheck], reading: Reading) -> list[Tile]:
    """Return some questions about different pictures, evenly spread over all splits."""
    firsts: dict[Id, VqaExample] = {}
    for check in checks:
        for example in check.examples:
            firsts.setdefault(example.image_id, example)
    examples = list(firsts.values())
    tiles: list[Tile] = []
    step = max(1, -(-len(examples) // TILES))
    for example in (example for start in range(step) for example in examples[start::step]):
        if len(tiles) == TILES:
            break
        try:
            picture = load_rgb(source.picture(example.image_id), reading)
        except ImageError:
            continue
        answer = example.answers[0] if example.answers else ""
        tiles.append(Tile(picture, example.question, answer, (("answer", answer),)))
    return tiles
