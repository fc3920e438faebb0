"""The rows of docs/bad-inputs.md about reports: what is missing, and what the report says on it."""

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from tests.support.bad_inputs import Row
from tests.support.caches import Row as Question
from tests.support.caches import make_cache, make_spec
from tests.support.command import run_command
from tests.support.heads import make_run
from tests.support.report_page import read_page

SAID, NOT_WRITTEN = "said in the report", "not written, exit 3"
Change = Callable[[Path], object]
ROWS = [Question(0, 0, ("red",) * 10), Question(1, 1, ("2",) * 10)]
VISION = {"model": "made-up-vision", "image size": 28, "fit": "whole", "resample": 3}


def shown(
    begins: str, change: Change = lambda folder: None, *, dataset: str = "jsonl:@/data"
) -> Callable[[Path], Row]:
    """A case of a report that is written all the same, and has a sentence that begins so."""

    def make(folder: Path) -> Row:
        _place(folder, dataset)
        change(folder)
        found = run_command("evaluate", "--run", folder / "run", "--report")
        assert found.code == 0, found.err
        page = read_page(folder / "run/evaluation/val/report.html")
        lines = [line.strip() for line in page.text.splitlines()]
        (sentence,) = (line for line in lines if line.startswith(begins))
        return SAID, sentence

    return make


def _place(folder: Path, dataset: str) -> None:
    """Put two black pictures, their cache and a head into the folder."""
    (folder / "data").mkdir()
    lines = []
    for i in range(2):
        Image.new("RGB", (28, 28)).save(folder / "data" / f"{i}.png")
        line = {"image": f"{i}.png", "image_id": f"picture {i}", "question": "what?"}
        lines.append(line | {"answer": "red"})
    (folder / "data/val.jsonl").write_text("\n".join(map(json.dumps, lines)))
    made = make_cache(
        folder / "cache",
        {"train": ROWS, "val": ROWS},
        spec=make_spec(vision=VISION),
        dataset=dataset.replace("@", str(folder)) or None,
    )
    make_run(made, folder / "run", vocabulary=Vocabulary(("red", "2")))


def _not_ours(folder: Path) -> Row:
    _place(folder, "")
    report = folder / "run/evaluation/val/report.html"
    report.parent.mkdir(parents=True)
    report.write_text("mine")
    found = run_command("evaluate", "--run", folder / "run", "--report")
    assert (found.code, report.read_text()) == (3, "mine")
    return NOT_WRITTEN, found.err.splitlines()[-1]


def _drop_first(folder: Path) -> None:
    lines = (folder / "data/val.jsonl").read_text().splitlines()
    (folder / "data/val.jsonl").write_text(lines[1])


REPORTS: dict[str, Callable[[Path], Row]] = {
    "a cache that names no data set": shown("The cache does not", dataset=""),
    "a data set that was moved": shown(
        "The pictures", lambda folder: (folder / "data").rename(folder / "moved")
    ),
    "a data set on the Hub": shown("The pictures", dataset="hub:lmms-lab/VQAv2"),
    "a data set of an unknown kind": shown("The pictures", dataset="tfds:coco"),
    "a picture that is gone": shown(
        "Pictures that", lambda folder: (folder / "data/0.png").unlink()
    ),
    "another picture under the same name": shown(
        "Pictures that",
        lambda folder: Image.new("RGB", (28, 28), "white").save(folder / "data/0.png"),
    ),
    "a picture that is cut short": shown(
        "Pictures that", lambda folder: (folder / "data/0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    ),
    "a picture that the data set no longer names": shown("Pictures that", _drop_first),
    "a text encoder that is not on this machine": shown("Tokens are numbered"),
    "somebody's `report.html` in the run": _not_ours,
}
"""By the input, as the page names it."""
