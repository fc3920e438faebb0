"""The data sets of `official_files.py`: what a source finds in each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from frozen_vqa.pipeline.sources.official.reader import OfficialSource
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support import official_files
from tests.support.official_files import TEXTS, Texts


class Layout(NamedTuple):
    """A data set: how it is written, its other split, and what its second question there is.

    `split_file` is the file of that split below the root, and `second` the fields of its question.
    """

    write: Callable[[Path, str, Texts], None]
    split: str
    split_file: str
    second: dict[str, Any]
    place: str = "entry 1"


ANSWERS = {"answers": ("blue",) * 10}
LAYOUTS = {
    "vqav2": Layout(
        official_files.vqav2,
        "val",
        "v2_OpenEnded_mscoco_val2014_questions.json",
        {"question_id": 510, "image_id": 51, **ANSWERS}
        | {"question_type": "four", "answer_type": "other"},
    ),
    "okvqa": Layout(
        official_files.okvqa,
        "val",
        "OpenEnded_mscoco_val2014_questions.json",
        {"question_id": 510, "image_id": 51, **ANSWERS}
        | {"question_type": "four", "answer_type": "other"},
    ),
    "vizwiz": Layout(
        official_files.vizwiz,
        "val",
        "Annotations/val.json",
        {"question_id": "VizWiz_val_00000001.jpg", "image_id": "VizWiz_val_00000001.jpg"}
        | {"answers": ("blue",) * 9 + ("",), "answer_type": "other"}
        | {"groups": {"answerable": "yes"}},
    ),
    "textvqa": Layout(
        official_files.textvqa,
        "val",
        "TextVQA_0.5.1_val.json",
        {"question_id": 51, "image_id": "0051ab", **ANSWERS},
    ),
    "gqa": Layout(
        official_files.gqa,
        "val",
        "val_balanced_questions.json",
        {"question_id": "051", "image_id": "n51", "answers": ("blue",)}
        | {"question_type": "queryAttr", "answer_type": "open"}
        | {"groups": {"balanced": "yes", "structural": "query", "semantic": "attr"}},
        "entry '051'",
    ),
    "clevr": Layout(
        official_files.clevr,
        "val",
        "CLEVR_v1.0/questions/CLEVR_val_questions.json",
        {"question_id": 1, "image_id": "CLEVR_val_000001.png", "answers": ("blue",)}
        | {"question_type": "query_color"},
    ),
    "aokvqa": Layout(
        official_files.aokvqa,
        "val",
        "aokvqa_v1p0_val.json",
        {"question_id": "Ab" * 10 + "51", "image_id": 51, **ANSWERS}
        | {"choices": ("green", "red", "blue", "black"), "right_choice": 2}
        | {"groups": {"difficult": "yes"}},
    ),
    "tallyqa": Layout(
        official_files.tallyqa,
        "test",
        "test.json",
        {"question_id": 51, "image_id": 951, "answers": ("1",)}
        | {"groups": {"source": "amt", "simple": "no"}},
    ),
    "visual7w": Layout(
        official_files.visual7w,
        "val",
        "dataset_v7w_telling.json",
        {"question_id": 510, "image_id": 51, "answers": ("blue.",), "question_type": "what"}
        | {"choices": ("A dog.", "blue.", "Rain.", "Green."), "right_choice": 1},
        "entry 3, 510",
    ),
    "vqa-rad": Layout(
        official_files.vqa_rad,
        "test",
        "VQA_RAD Dataset Public.json",
        {"question_id": 51, "image_id": "synpic51.jpg", "answers": ("2",)}
        | {"question_type": "PRES, POS", "answer_type": "OPEN"}
        | {"groups": {"organ": "HEAD", "phrase": "test_para"}},
    ),
    "slake": Layout(
        official_files.slake,
        "val",
        "Slake1.0/validate.json",
        {"question_id": 510, "image_id": 51, "answers": ("\u80ba",)}
        | {"question_type": "vqa", "answer_type": "OPEN"}
        | {"groups": {"language": "zh", "modality": "CT", "content": "Organ", "location": "Lung"}},
    ),
    "pathvqa": Layout(
        official_files.pathvqa,
        "val",
        "pvqa/qas/val/val_qa.pkl",
        {"question_id": 1, "image_id": "val_0001", "answers": ("red",), "answer_type": "OPEN"},
    ),
    "daquar": Layout(
        official_files.daquar,
        "test",
        "qa.894.raw.test.format_triple",
        {"question_id": 1, "image_id": "image51", "answers": ("lamp", "garbage_bin")},
        "5",
    ),
    "scienceqa": Layout(
        official_files.scienceqa,
        "val",
        "problems.json",
        {"question_id": "51", "image_id": "51", "answers": ("blue",), "question_type": "physics"}
        | {"question": f"Look.\n{TEXTS[1]}", "choices": ("red", "blue", "grey"), "right_choice": 1}
        | {"groups": {"subject": "natural science", "grade": "grade4"}},
        "entry '51'",
    ),
    "nlvr2": Layout(
        official_files.nlvr2,
        "val",
        "dev.json",
        {"question_id": "dev-1-1-0", "image_id": "dev-1-1-img0", "answers": ("True",)}
        | {"more_images": ("dev-1-1-img1",)},
        "2",
    ),
}
"""By the name of the source; `second` lacks the text of the question where that is `TEXTS[1]`."""


def opened(name: str, root: Path, texts: tuple[str, ...] = TEXTS) -> OfficialSource:
    LAYOUTS[name].write(root, "train", TEXTS)
    LAYOUTS[name].write(root, LAYOUTS[name].split, texts)
    source = open_source(f"{name}:{root}")
    assert isinstance(source, OfficialSource)
    return source
