"""VQAv2 in miniature through the real commands, and what the whole of it would take.

    python -m benchmarks.rehearsal [--pictures 64] [--questions 256] [--size base] [--gpu FILE]
                                   [--json] [--out FILE]

Writes DINOv2-base and Llama-3.2-1B with random weights (models.py) and a made-up VQAv2 in its
official files (data.py). Runs extract-features, train-head and evaluate, each in a fresh process,
and measures their time and memory, that of their children included. From these parts, and from
published figures (published.py), it reckons disk, memory and time for all of VQAv2 on 1, 8 and 64
GPUs, and hours, terabytes and dollars for 10⁶ to 10⁹ pictures (scales.py). Both stand apart, and
each reckoned figure names those that it comes from. `--gpu` takes the JSON of `make gpu` in place
of published figures. `--size 8b` takes Llama-3.1-8B, and `tiny` shows that all of it works. With
`base` it needs 9 GB of memory, 4 GB in the folder for temporary files (TMPDIR), and about five
minutes on 2 cores.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Json, finish, fresh, machine, show, watched
from benchmarks.rehearsal.book import Book
from benchmarks.rehearsal.data import write_vqav2
from benchmarks.rehearsal.published import note_published
from benchmarks.rehearsal.reckon import reckon_all
from benchmarks.rehearsal.scales import reckon_scales
from frozen_vqa.pipeline.system.console import console

HEAD: Json = {"width": 1024, "batch_size": 64, "min_answer_count": 1}
"""The width is that of the README; few questions make small batches and rare answers."""

EPOCHS = 2
STAGES = ("extract-features", "train-head", "evaluate")
PARTS = "benchmarks.rehearsal.parts"


def run_stages(folder: Path, size: str, pictures: int, questions: int) -> Json:
    """Make models and data, run each command, and return what each said and took."""
    models, vqav2, cache, run = (folder / name for name in ("models", "VQA", "cache", "run"))
    found: Json = {"models": watched("benchmarks.models", [models, "--size", size])}
    found["data"] = write_vqav2(vqav2, pictures, questions)
    encoders: list[object] = ["--vision-model", models / "vision", "--text-model", models / "text"]
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in HEAD.items()]
    words: dict[str, list[object]] = {
        "extract-features": [
            *("--dataset", f"vqav2:{vqav2}", "--split", "train", "--split", "val"),
            *("--cache", cache, "--image-size", 224, *encoders),
        ],
        "train-head": [cache, "--run", run, "--no-report", "--epochs", EPOCHS, *settings],
        "evaluate": [run, "--split", "val"],
    }
    for name in STAGES:
        found[name] = watched("frozen_vqa.cli", [name, *words[name], "--json"])
        console.print(f"{name}: {found[name]['wall']:.0f} s")
    found["decode"] = fresh(PARTS, ["decode", vqav2, models / "vision"])
    found["step"] = fresh(PARTS, ["step", cache, "--config", json.dumps(HEAD)], timeout=1800)
    for kind in ("images", "questions"):
        files = (cache / kind).glob("*.h5")
        found[f"bytes of {kind}"] = sum(file.stat().st_size for file in files)
    found["bytes of a run"] = sum(f.stat().st_size for f in run.rglob("*") if f.is_file())
    return found


def note_measured(book: Book, found: Json) -> None:
    """Note what the stages took."""
    command = "this command"

    def note(name: str, value: float, unit: str, source: str = command) -> None:
        book.note("measured", name, value, unit, source)

    for stage in STAGES:
        note(f"most memory of {stage}", found[stage]["family_mb"] / 1000, "GB")
        note(f"most of it that no file backs, {stage}", found[stage]["anonymous_mb"] / 1000, "GB")
        note(f"time of {stage}", found[stage]["wall"], "s")
    data, told = found["data"], found["extract-features"]
    speed = told["extraction"]
    encoding = speed["pictures"] / speed["images_per_second"]
    encoding += speed["questions"] / speed["questions_per_second"]
    note("start of extract-features", told["wall"] - encoding, "s", "all but encoding")
    head = found["train-head"]
    note("start of train-head", head["wall"] - head["seconds"], "s", "all but training")
    note("decoding a picture", found["decode"]["cpu_seconds"], "CPU s", "one thread")
    for part in ("encoding", "waiting", "reading", "writing"):
        note(f"{part} in stage one", speed[part], "s", "extract-features")
    note("pictures in stage one", speed["images_per_second"], "pictures/s", "extract-features")
    note("questions in stage one", speed["questions_per_second"], "questions/s", "extract-features")
    note("an epoch", data["train questions"] / head["questions_per_second"], "s")
    training = found["step"]["training"]
    each = training["operations_per_question"]
    counted = "counted by PyTorch"
    note("operations of a question, training", each, "", counted)
    note(
        "operations of a question, evaluation", found["step"]["operations_per_answer"], "", counted
    )
    note("share of a step of this machine's peak", training["share_of_peak"], "", training["dtype"])
    for kind, what in (("vision", "picture"), ("text", "token")):
        model = found["models"][kind]
        note(f"operations of a {what}", model["operations"], "", counted)
        note(f"weights of the {kind} model", model["weights"], "")
    both = found["models"]
    note("files of both encoders", both["vision"]["bytes"] + both["text"]["bytes"], "bytes")
    note("text of a question", data["text_bytes"] / data["questions"], "bytes")
    note("a JPEG", data["jpeg_bytes"] / data["pictures"], "bytes")
    note("features of a picture", found["bytes of images"] / told["images"]["encoded"], "bytes")
    note(
        "features of a prefix", found["bytes of questions"] / told["questions"]["prefixes"], "bytes"
    )
    note("a run", found["bytes of a run"], "bytes")


def show_book(book: Book, load: float) -> None:
    """Print what was measured, what is given, and what is reckoned, apart from each other."""
    for title, kinds in (
        (f"measured; load at the start {load}", ("measured",)),
        ("published, or chosen", ("published", "chosen")),
    ):
        rows = [
            {
                "": book.label(f.name),
                "figure": f.name,
                "is": f.value,
                "unit": f.unit,
                "by": f.source,
            }
            for f in book.of_kind(*kinds)
        ]
        show(title, rows)
    rows = [
        {"": book.label(f.name), "figure": f.name, "is": f.value, "unit": f.unit}
        | {"how": f.source, "from": " ".join(map(book.label, f.of))}
        for f in book.of_kind("reckoned")
    ]
    show("reckoned; nobody has measured it", rows)


def read_gpu(file: Path) -> Json:
    """Return the JSON of `make gpu`; exit with a sentence if it is none of a GPU."""
    try:
        found: Json = json.loads(file.read_bytes())
        whole = found["machine"]["gpu"] and not found["small"] and not found["failed"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        sys.exit(f"{file}: this is no JSON of `make gpu` ({error!r}); run `make gpu` on a GPU")
    if not whole:
        sys.exit(f"{file}: its figures are in miniature or failed; run `make gpu` on a GPU")
    return found


def main() -> None:
    """Rehearse, reckon, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--questions", type=int, default=256)
    parser.add_argument("--size", choices=("base", "8b", "tiny"), default="base")
    parser.add_argument("--gpu", type=Path, help="what `make gpu` wrote on a GPU")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    parser.add_argument("--reckon", type=Path, help="reckon anew from the JSON of an earlier run")
    options = parser.parse_args()
    gpu = read_gpu(options.gpu) if options.gpu else None
    book = Book()
    if options.reckon:
        before: Json = json.loads(options.reckon.read_bytes())
        result: Json = {name: before[name] for name in ("machine", "size")}
        found = before["stages"]
    else:
        result = {"machine": machine(), "size": options.size}
        with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
            found = run_stages(Path(folder), options.size, options.pictures, options.questions)
    note_measured(book, found)
    note_published(book)
    reckon_all(book, gpu)
    reckon_scales(book)
    show_book(book, result["machine"]["load_at_start"])
    result |= book.to_json() | {"stages": found}
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
