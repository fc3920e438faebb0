"""Data sets of parquet files, made here and read through the real `datasets`, without network."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features
from PIL import Image

from tests.support.lmms_lab import LMMS_LAB


@pytest.fixture(autouse=True)
def _offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), color).save(buffer, "PNG")
    return buffer.getvalue()


def row(question_id: int, image_id: int, color: str, answers: Sequence[str] | None) -> dict:
    return {
        "question_type": "what is" if answers else None,
        "multiple_choice_answer": answers[0] if answers else None,
        "answers": None
        if answers is None
        else [
            {"answer": a, "answer_confidence": "yes", "answer_id": n}
            for n, a in enumerate(answers, 1)
        ],
        "image_id": image_id,
        "answer_type": "other" if answers else None,
        "question_id": question_id,
        "question": f"Question {question_id}?",
        "image": {"bytes": png(color), "path": None},
    }


def save(file: Path, rows: list[dict], features: Features | None = LMMS_LAB) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(file)
    return file


def plain(file: Path, **columns: list[Any]) -> Path:
    """Save parquet without the notes that `datasets` leaves in a file of its own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)
    return file
