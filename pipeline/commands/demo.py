"""The `demo` command: the whole pipeline on generated scenes, from pictures to a contact sheet.

The encoders are the tiny untrained ones. They know nothing of the world, but their features keep
what a picture and a question contain. The demo shows how much the fusion kind matters.
"""

import shutil
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frozen_vqa.cache import FeatureCache, SplitTable
from frozen_vqa.cache.disk.folders import OwnFolder
from frozen_vqa.cache.errors import explain_write_errors
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.writer import remove_cache
from frozen_vqa.pipeline.commands.evaluate import write_report_beside
from frozen_vqa.pipeline.commands.extract_features import show_plan, show_report
from frozen_vqa.pipeline.commands.tables import Row, show_comparison, show_heads
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.extract.origin import describe_origin
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.model.config import Fusion
from frozen_vqa.pipeline.pictures.contact_sheet import Tile, contact_sheet
from frozen_vqa.pipeline.sources.shapes import ShapesSource
from frozen_vqa.pipeline.system.console import beside_the_work, console, duration, loading
from frozen_vqa.pipeline.system.device import choose_device, encoder_dtype

if TYPE_CHECKING:  # it imports torch
    from frozen_vqa.pipeline.evaluate.evaluation import Evaluation

IMAGES = 4_000
SPLITS = ("train", "val", "test")
KINDS: dict[Fusion, int] = {"question-only": 3, "image-only": 3, "concat": 16, "co-attention": 12}
"""Fusion kinds and epochs. An epoch of `concat` takes a sixth of the time of co-attention's."""

SHEET_TILES = 12


def run_demo(out: Path, *, report: bool) -> dict[str, Any]:
    """Run everything; cache, runs and a contact sheet in `out` replace those of an earlier demo.

    The report is of the co-attention head, beside the other heads.
    """
    started = time.monotonic()
    own = OwnFolder(out, "the demo", PipelineError, "--out")
    with explain_write_errors(out, PipelineError, "Give another --out."):
        own.claim()
        own.require_real("cache", "runs", *(f"runs/{kind}" for kind in KINDS))
        own.note("contact_sheet.png")

    with loading():
        from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
        from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
        from frozen_vqa.pipeline.evaluate.compare import compare
        from frozen_vqa.pipeline.evaluate.evaluate import evaluate
        from frozen_vqa.pipeline.evaluate.seed_groups import SeedGroup
        from frozen_vqa.pipeline.extract.extract import extract
        from frozen_vqa.pipeline.runs.run import load_run
        from frozen_vqa.pipeline.train.train import train

        device = choose_device("auto")
    remove_cache(out / "cache")
    source = ShapesSource(images=IMAGES)
    console.rule("stage one: run the frozen encoders once")
    compute = encoder_dtype(device)
    images = ImageEncoder(TINY, device=device, compute_dtype=compute)
    text = TextEncoder(TINY, device=device, compute_dtype=compute)
    plan = make_plan(source, splits=SPLITS, text=text)
    show_plan(plan, images, text)
    origin = describe_origin(f"shapes:{IMAGES}", {}, plan.splits, None, None)
    extracted = extract(source, plan, cache=out / "cache", images=images, text=text, origin=origin)
    show_report(extracted, out / "cache")
    heads: dict[Fusion, Evaluation] = {}
    for kind, epochs in KINDS.items():
        console.rule(f"stage two: train the {kind} head")
        run = path_in(out / "runs", kind)
        config = TrainConfig(fusion=kind, epochs=epochs, width=128, batch_size=128)
        train(out / "cache", run, config=config, device=device, overwrite=True)
        heads[kind] = evaluate(load_run(run, device), FeatureCache(out / "cache"), "test")
    console.rule("results")
    attention, concat = (SeedGroup((heads[kind],)) for kind in ("co-attention", "concat"))
    differences = compare(attention, concat)
    show_comparison(attention, concat, differences)
    accuracies = {str(kind): head.accuracy for kind, head in heads.items() if head.accuracy}
    show_heads(accuracies, "Official VQA accuracy in %, unseen test scenes, untrained encoders")
    sheet = out / "contact_sheet.png"
    lost: list[str] = []
    with beside_the_work(lost):
        contact_sheet(_make_tiles(source, attention.first, concat.first), sheet)
    drawn = not lost
    seconds = time.monotonic() - started
    _show_next_steps(sheet, seconds)
    found: dict[str, str] = {}
    if report:  # last, so that its path is the last line
        best, cache = load_run(out / "runs" / "co-attention", device), FeatureCache(out / "cache")
        rows = [Row(attention), Row(concat, differences)]
        found = write_report_beside(best, cache, rows, lost, brief=True)
    return {
        **found,
        "heads": {kind: head.to_json() for kind, head in heads.items()},
        "co-attention against concat": [row.to_json() for row in differences],
        "contact_sheet": str(sheet) if drawn else None,
        "seconds": round(seconds, 1),
        **({"not_written": lost} if lost else {}),
    }


def _make_tiles(source: ShapesSource, attention: "Evaluation", concat: "Evaluation") -> list[Tile]:
    table = attention.table
    examples = {example.question_id: example for example in source.examples("test")}
    tiles = []
    for row in _choose_rows(table):
        example = examples[table.question_ids[row]]
        picture = load_rgb(source.picture(example.image_id))
        said = [("co-attention", attention.answers[row]), ("concat", concat.answers[row])]
        tiles.append(Tile(picture, example.question, example.answers[0], said))
    return tiles


def _choose_rows(table: SplitTable) -> list[int]:
    """Return one question of each type in turn, each about another picture."""
    chosen: dict[int, int] = {}  # row by picture
    for wanted in islice(cycle(sorted(set(table.question_types))), SHEET_TILES):
        rows = enumerate(zip(table.question_types, table.image_rows.tolist(), strict=True))
        row, image = next((i, im) for i, (kind, im) in rows if kind == wanted and im not in chosen)
        chosen[image] = row
    return list(chosen.values())


def _show_next_steps(sheet: Path, seconds: float) -> None:
    console.show(f"done in {duration(seconds)}; look at the pictures and answers in {sheet}")
    # Name the program as the reader has to type it: a fresh .venv is not on the PATH.
    typed = Path(sys.argv[0])
    program = str(typed) if typed.name == "frozen-vqa" else "python cli.py"
    program = "frozen-vqa" if shutil.which("frozen-vqa") else program
    console.print(
        "",
        "To use your own data, put a file beside the pictures, with one line for each question:",
        '  {"image": "cat.jpg", "question": "what color is the cat?", "answer": "black"}',
        "",
        f"  {program} extract-features --dataset jsonl:DATA --split train --split val "
        "--cache features",
        f"  {program} train-head --cache features --run runs/first",
        f"  {program} evaluate --run runs/first",
        "",
        sep="\n",
    )
