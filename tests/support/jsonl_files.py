"""Files of questions, a line each, and what is made of them."""

import json
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.sources.example import LeftOut, VqaExample
from frozen_vqa.pipeline.sources.own.source import OwnSource

LINE = {"image": "images/a.png", "question": "What?", "answer": "dog"}


def write(file: Path, *records: dict[str, Any] | str) -> Path:
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def read(path: Path, *records: dict[str, Any] | str, split: str = "train") -> list[VqaExample]:
    return OwnSource(write(path / "d.jsonl", *records)).examples(split)


def left_out(path: Path, *records: dict[str, Any] | str) -> tuple[list[object], list[LeftOut]]:
    """Return the ids of the questions that are used, and what is left out; the file is d.jsonl."""
    source = OwnSource(write(path / "d.jsonl", *records))
    return [e.question_id for e in source.examples("train")], list(source.left_out("train"))
