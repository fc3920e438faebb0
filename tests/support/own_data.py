"""Data sets as people have them: the same scenes and questions, each written in another way."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.sources.shapes import ShapesSource

SCENES, QUESTIONS = 6, 3

Question = dict[str, Any]


@dataclass(frozen=True)
class OwnData:
    """A data set on the disk: what the command is given first, and what after its message.

    Attributes:
        message: What the first try says; "" if it works.
        told: The options that the message advises.
    """

    spec: str
    splits: Sequence[str]
    message: str = ""
    told: Sequence[str] = ()


def draw(folder: Path, name: str = "{}.png") -> list[Question]:
    """Draw scenes into a folder and return questions about them, in a plain form."""
    source = ShapesSource(images=SCENES)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for example in source.examples("train"):
        file = name.format(example.image_id)
        if not (folder / file).exists():
            source.picture(example.image_id).save(folder / file)
        row = {"image": file, "question": example.question, "answer": example.answers[0]}
        if sum(one["image"] == file for one in rows) < QUESTIONS:
            rows.append(row)
    return rows


def write_csv(
    file: Path, rows: Sequence[Question], delimiter: str = ",", encoding: str = "utf-8"
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding=encoding, newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)


def renamed(rows: Sequence[Question], **names: str) -> list[Question]:
    return [{names.get(field, field): value for field, value in row.items()} for row in rows]


def excel(folder: Path) -> OwnData:
    """Excel's "CSV UTF-8" where the comma is for decimals; the pictures lie in images/."""
    rows = draw(folder / "images")
    rows = renamed(rows, image="Image", question="Question", answer="Answer")
    write_csv(folder / "train.csv", rows, ";", "utf-8-sig")
    images = folder / "images"
    return OwnData(
        f"jsonl:{folder / 'train.csv'}",
        ["train"],
        f"give --images {images}",
        ["--images", str(images)],
    )


def metadata(folder: Path) -> OwnData:
    """A folder for `datasets`: metadata.csv beside the pictures."""
    write_csv(folder / "metadata.csv", renamed(draw(folder), image="file_name"))
    return OwnData(f"jsonl:{folder}", ["train"])


def json_list(folder: Path) -> OwnData:
    """A program's JSON list, with a split on each entry."""
    rows = draw(folder / "pictures")
    entries = [
        {
            "image_path": f"pictures/{row['image']}",
            "question": row["question"],
            "answers": [row["answer"]] * 3,
            "split": "val" if i >= len(rows) // 2 else "train",
        }
        for i, row in enumerate(rows)
    ]
    (folder / "questions.json").write_text(json.dumps(entries, indent=2))
    return OwnData(f"jsonl:{folder / 'questions.json'}", ["train", "val"])


def windows(folder: Path) -> OwnData:
    """A table of another machine, with its drive and its backslashes; UTF-16 with tabs."""
    rows = draw(folder / "pics")
    rows = [{**row, "image": f"C:\\Users\\me\\pics\\{row['image']}"} for row in rows]
    write_csv(folder / "questions.txt", rows, "\t", "utf-16")
    return OwnData(
        f"jsonl:{folder / 'questions.txt'}",
        ["train"],
        "give the folder of the pictures by --images",
        ["--images", str(folder / "pics")],
    )


def coco(folder: Path) -> OwnData:
    """COCO's names, with the pictures in a folder of their own far from the questions."""
    elsewhere = folder / "coco" / "train2014"
    rows = renamed(draw(elsewhere, "COCO_train2014_{:012d}.jpg"), image="file_name")
    lines = [json.dumps({**row, "image_id": int(row["file_name"][15:27])}) for row in rows]
    (folder / "vqa").mkdir()
    (folder / "vqa" / "train.jsonl").write_text("\n".join(lines))
    return OwnData(
        f"jsonl:{folder / 'vqa'}",
        ["train"],
        "none of the 6 pictures can be read",
        ["--images", str(folder / "coco")],
    )


OWN: dict[str, Callable[[Path], OwnData]] = {
    "Excel's CSV with a mark and semicolons": excel,
    "folder with metadata.csv": metadata,
    "JSON list": json_list,
    "paths of Windows": windows,
    "COCO's names in another folder": coco,
}
