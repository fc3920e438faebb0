"""The form of a file leaves no trace in a cache: the same rows are the same bytes and digests."""

import json
from pathlib import Path

from frozen_vqa.cache import load_manifest
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.origin import describe_origin
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.own.source import OwnSource
from tests.support.frozen import Images, Text, picture
from tests.support.own_data import write_csv

ROWS = [
    {"question": "Why, oh why?", "answer": "dog", "image": "a.png", "question_id": 7},
    {"question": 'Who is "it";\nand why?', "answer": "1,5", "image": "b.png", "question_id": "x"},
]


def write_forms(folder: Path) -> list[Path]:
    for number, name in enumerate(("a.png", "b.png")):
        (folder / name).write_bytes(picture(number))
    (folder / "0.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    (folder / "1.json").write_text(json.dumps(ROWS, indent=2))
    write_csv(folder / "2.csv", ROWS, ";", "utf-8-sig")
    write_csv(folder / "3.tsv", ROWS, "\t", "utf-16")
    return [folder / name for name in ("0.jsonl", "1.json", "2.csv", "3.tsv")]


def test_any_form_leaves_the_same_cache(tmp_path: Path) -> None:
    found = []
    for file in write_forms(tmp_path):
        source, text, cache = OwnSource(file), Text(), tmp_path / f"cache{file.suffix}"
        plan = make_plan(source, splits=["train"], text=text)
        digests = describe_origin(f"jsonl:{file}", {}, plan.splits, None, 2)["digests"]
        extract(source, plan, cache=cache, images=Images(), text=text, batch_size=2)  # type: ignore[arg-type]
        files = load_manifest(cache).files
        found.append((digests, [(one.file, (cache / one.file).read_bytes()) for one in files]))
    assert found == [found[0]] * 4
