"""SLAKE 1.0: questions in English and Chinese about the same pictures.

ROOT/validate.json              [{"qid", "img_id", "img_name", "question", "answer", …}]
ROOT/imgs/xmlab42/source.jpg
"""

from collections.abc import Mapping
from typing import Any

from frozen_vqa.pipeline.sources.official.reader import OfficialSource, name_in


class SlakeSource(OfficialSource):
    """Both languages; the group "language" tells them apart."""

    name, title, metric = "slake", "SLAKE", "slake"
    get_it = "https://www.med-vqa.com/slake"
    tail = 2  # all are named source.jpg
    unpacked = "Slake1.0"
    files = {
        "train": ("train.json",),
        "val": ("validate.json", "validation.json"),
        "test": ("test.json",),
    }
    keys = {
        "question_id": "qid",
        "image_id": "img_id",
        "question": "question",
        "answers": "answer",
        "question_type": "base_type",
        "answer_type": "answer_type",
    }
    groups = {
        "language": "q_lang",
        "modality": "modality",
        "content": "content_type",
        "location": "location",
    }

    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        return f"imgs/{name_in(entry, 'img_name')}"
