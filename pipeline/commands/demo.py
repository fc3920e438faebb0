"""The whole pipeline on generated scenes: extract, train four heads, evaluate, compare, show.

The encoders are the tiny untrained ones. They know nothing of the world, but keep what a picture
and a question contain; what is to be seen is the difference that the fusion makes.
"""

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.commands.contact_sheet import Tile, contact_sheet
from frozen_vqa.pipeline.commands.extract_features import show_plan, show_report
from frozen_vqa.pipeline.commands.tables import show_comparison
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.evaluate.compare import Difference, compare
from frozen_vqa.pipeline.evaluate.evaluate import Evaluation, evaluate
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.model.vqa_model import Fusion
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.sources.shapes import ShapesSource
from frozen_vqa.pipeline.system.console import console, duration
from frozen_vqa.pipeline.system.device import choose_device, encoder_dtype
from frozen_vqa.pipeline.train.train import train

IMAGES = 4_000
SPLITS = ("train", "val", "test")
PRIOR_EPOCHS, CONCAT_EPOCHS, ATTENTION_EPOCHS = 3, 16, 12
KINDS: dict[Fusion, int] = {
    "question-only": PRIOR_EPOCHS,
    "image-only": PRIOR_EPOCHS,
    "concat": CONCAT_EPOCHS,
    "co-attention": ATTENTION_EPOCHS,
}
"""Fusion kinds and epochs. An epoch of `concat` takes a sixth of one of co-attention."""

SHEET_TILES = 12


def run_demo(out: Path) -> dict[str, Any]:
    """Run everything and leave cache, runs and a contact sheet in `out`.

    Args:
        out: A folder; what an earlier demo left in it is replaced.
    """
    started = time.monotonic()
    device = choose_device("auto")
    for old in ("cache", "runs"):
        shutil.rmtree(out / old, ignore_errors=True)
    source = ShapesSource(images=IMAGES)
    console.rule("stage one: frozen encoders, once")
    compute = encoder_dtype(device)
    images = ImageEncoder(TINY, device=device, compute_dtype=compute)
    text = TextEncoder(TINY, device=device, compute_dtype=compute)
    plan = make_plan(source, splits=SPLITS, text=text)
    show_plan(plan, images, text)
    show_report(extract(source, plan, cache=out / "cache", images=images, text=text), out / "cache")
    heads: dict[Fusion, Evaluation] = {}
    for kind, epochs in KINDS.items():
        console.rule(f"stage two: {kind}")
        run = out / "runs" / kind
        config = TrainConfig(fusion=kind, epochs=epochs, width=128, batch_size=128)
        train(out / "cache", run, config=config, device=device)
        heads[kind] = evaluate(load_run(run, device), FeatureCache(out / "cache"), "test")
    console.rule("what came out")
    rows = compare(heads["co-attention"], heads["concat"])
    show_comparison(heads["co-attention"], heads["concat"].run, rows)
    _show_heads(heads)
    sheet = out / "contact_sheet.png"
    contact_sheet(_tiles(source, heads), sheet)
    seconds = time.monotonic() - started
    _show_next_steps(sheet, seconds)
    return _summary(heads, rows, sheet, seconds)


def _show_heads(heads: dict[Fusion, Evaluation]) -> None:
    table = Table("head", title="Official VQA accuracy in %, unseen test scenes")
    some = next(iter(heads.values()))
    assert some.accuracy is not None
    columns = ["overall", *sorted(some.accuracy.by_answer_type)]
    for name in columns:
        table.add_column(name, justify="right")
    for kind, evaluation in heads.items():
        found = evaluation.accuracy
        assert found is not None
        values = [found.overall, *(found.by_answer_type[name] for name in columns[1:])]
        table.add_row(kind, *(f"{value:.2f}" for value in values))
    console.print(table)


def _tiles(source: ShapesSource, heads: dict[Fusion, Evaluation]) -> list[Tile]:
    """Take one question of each kind in turn, each of another picture."""
    ours, theirs = heads["co-attention"], heads["concat"]
    table = ours.table
    text = {e.question_id: e for e in source.examples("test")}
    kinds = sorted(set(table.question_types))
    chosen: list[int] = []
    seen: set[int] = set()
    while len(chosen) < SHEET_TILES:
        kind = kinds[len(chosen) % len(kinds)]
        row = next(
            i
            for i, (name, image) in enumerate(
                zip(table.question_types, table.image_rows, strict=True)
            )
            if name == kind and int(image) not in seen
        )
        seen.add(int(table.image_rows[row]))
        chosen.append(row)
    examples = [text[table.question_ids[row]] for row in chosen]
    return [
        Tile(
            image=load_rgb(source.picture(example.image_id)),
            question=example.question,
            truth=example.answers[0],
            predictions=[("co-attention", ours.answers[row]), ("concat", theirs.answers[row])],
        )
        for row, example in zip(chosen, examples, strict=True)
    ]


def _show_next_steps(sheet: Path, seconds: float) -> None:
    console.print(f"done in {duration(seconds)}; look at {sheet}", soft_wrap=True)
    # As the reader has to type it: a fresh .venv is on no PATH.
    typed = Path(sys.argv[0])
    program = str(typed) if typed.name == "frozen-vqa" else "python cli.py"
    program = "frozen-vqa" if shutil.which("frozen-vqa") else program
    console.print(
        "\nYour own data, a line a question, beside its pictures:\n"
        '  {"image": "cat.jpg", "question": "what color is the cat?", "answer": "black"}\n\n'
        f"  {program} extract-features --dataset jsonl:DATA --split train --split val "
        "--cache features\n"
        f"  {program} train-head --cache features --run runs/first\n"
        f"  {program} evaluate --run runs/first\n",
        markup=False,
        soft_wrap=True,
    )


def _summary(
    heads: dict[Fusion, Evaluation], rows: Sequence[Difference], sheet: Path, seconds: float
) -> dict[str, Any]:
    return {
        "heads": {kind: evaluation.to_json() for kind, evaluation in heads.items()},
        "co-attention against concat": [row.to_json() for row in rows],
        "contact_sheet": str(sheet),
        "seconds": round(seconds, 1),
    }
