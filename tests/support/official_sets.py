"""Small data sets in the official layouts, made up, with what their metrics give.

A set has the content of its files: a list, an object, or a text as it stands.
"""

import json
from pathlib import Path

from tests.support.official_records import (
    AOKVQA,
    AOKVQA_SAID,
    OfficialSet,
    as_lines,
    gqa,
    objects,
    path_record,
    problem,
    ten,
    visual7w,
)

SETS: dict[str, OfficialSet] = {
    # The given "T-shirt" is never matched, because only the prediction is normalised.
    "vizwiz": OfficialSet(
        [
            {
                "image": f"VizWiz_val_{i:08}.jpg",
                "question": "?",
                "answers": objects(ten(*answers)),
                "answer_type": kind,
                "answerable": answerable,
            }
            for i, (answers, kind, answerable) in enumerate(
                [
                    (["T-shirt"] * 5, "other", 1),
                    (["soup", "soup"], "other", 1),
                    (["unanswerable"] * 4, "unanswerable", 0),
                ]
            )
        ],
        [
            {"image": "VizWiz_val_00000001.jpg", "answer": "The soup.", "answerable": 0.5},
            {"image": "VizWiz_val_00000000.jpg", "answer": "T-shirt", "answerable": 0.9},
            {"image": "VizWiz_val_00000002.jpg", "answer": "Unanswerable!", "answerable": 0.2},
        ],
        [0.0, 60.0, 100.0],
        {"answer_type": {"other": 30.0, "unanswerable": 100.0}},
        {"unanswerable, average precision": 100.0, "unanswerable, F1": 100.0},
    ),
    # Both sides are normalised even where all ten answers are one text.
    "textvqa": OfficialSet(
        {
            "data": [
                {"question_id": 1, "question": "?", "image_id": "a", "answers": ["Wendy's"] * 10},
                {"question_id": 2, "question": "?", "image_id": "b", "answers": ten("yes,sir")},
            ]
        },
        [{"question_id": 1, "answer": "wendy 's"}, {"question_id": 2, "answer": "yessir"}],
        [100.0, 30.0],
    ),
    # The unbalanced question only counts for consistency.
    "gqa": OfficialSet(
        {
            "1": gqa("red", "query", entailed=["1", "3"], groups={"global": "color"}),
            "2": gqa("yes", "verify"),
            "3": gqa("no", "verify", isBalanced=False),
        },
        [
            {"questionId": "1", "prediction": "red"},
            {"questionId": "2", "prediction": "Yes"},
            {"questionId": "3", "prediction": "no"},
            {"questionId": "9", "prediction": "not asked"},
        ],
        [100.0, 0.0],
        {
            "answer_type": {"open": 100.0, "binary": 0.0},
            "structural": {"query": 100.0, "verify": 0.0},
            "semantic": {"attr": 50.0},
            "global": {"color": 100.0},
            "steps": {"1": 50.0},
            "words": {"5": 50.0},
        },
        {"consistency": 100.0, "distribution (lower is better)": 0.0},
    ),
    "clevr": OfficialSet(
        {
            "questions": [
                {
                    "question_index": i,
                    "image_filename": "CLEVR_val_000000.png",
                    "question": "?",
                    "answer": answer,
                    "program": [{"function": "scene"}, step],
                }
                for i, (answer, step) in enumerate(
                    [
                        ("3", {"function": "count"}),
                        (True, {"type": "exist"}),
                        ("red", {"function": "query_color"}),
                        ("no", {"function": "less_than"}),
                        ("no", {"function": "equal_size"}),
                    ]
                )
            ]
        },
        [
            {"question_index": i, "answer": answer}
            for i, answer in enumerate(["three", "yes", "red", "no", "yes"])
        ],
        [0.0, 100.0, 100.0, 100.0, 0.0],
        {
            "question_type": {"count": 0.0, "query_color": 100.0, "less_than": 100.0},
            "program": {
                "count": 0.0,
                "exist": 100.0,
                "query": 100.0,
                "compare numbers": 100.0,
                "compare attribute": 0.0,
            },
        },
    ),
    "aokvqa": OfficialSet(AOKVQA, AOKVQA_SAID, [0.0, 100.0, 100.0], {}, {"chance": 25.0}),
    "aokvqa-da": OfficialSet(AOKVQA, AOKVQA_SAID, [100 * (2 / 3), 0.0]),
    # One id is a text and one answer a number, as in the real file; only the test split counts.
    "vqa-rad": OfficialSet(
        [
            {
                "qid": qid,
                "phrase_type": phrase,
                "question": "?",
                "answer": answer,
                "answer_type": kind,
                "question_type": "PRES",
                "image_organ": "HEAD",
            }
            for qid, phrase, answer, kind in [
                ("0", "test_freeform", "Yes", "CLOSED "),
                (1, "test_para", 4, "OPEN"),
                (2, "freeform", "no", "CLOSED"),
                (3, "test_freeform", "MRI", "CLOSED"),
            ]
        ],
        [
            {"qid": "0", "answer": "yes."},
            {"qid": 1, "answer": "four"},
            {"qid": 3, "answer": "no"},
        ],
        [100.0, 100.0, 0.0],
        {"answer_type": {"CLOSED": 50.0, "OPEN": 100.0}, "organ": {"HEAD": 200 / 3}},
        {"answered yes or no": 100.0},
    ),
    "slake": OfficialSet(
        [
            {
                "qid": qid,
                "q_lang": language,
                "question": "?",
                "answer": answer,
                "answer_type": kind,
                "modality": "CT",
                "content_type": "Organ",
            }
            for qid, language, answer, kind in [
                (1, "en", "X-Ray (chest)", "OPEN"),
                (2, "en", "Liver, Lung", "OPEN"),
                (3, "zh", "没有", "CLOSED"),
            ]
        ],
        [
            {"qid": 1, "answer": "x ray"},
            {"qid": 2, "answer": "Lung, Liver"},
            {"qid": 3, "answer": "异常"},
        ],
        [100.0, 0.0, 100.0],
        {"language": {"en": 50.0, "zh": 100.0}, "answer_type": {"OPEN": 50.0, "CLOSED": 100.0}},
    ),
    # Half of the words of "a cell" are in the answer; "2" has no letter, so no words to share.
    "pathvqa": OfficialSet(
        [path_record("the cell"), path_record("no"), path_record("2")],
        ["a cell", "No.", "2"],
        [100.0, 100.0, 100.0],
        {"answer_type": {"OPEN": 100.0, "CLOSED": 100.0}},
        {"shared words (the authors' exact match)": 75.0, "F1 of words": 75.0},
    ),
    "tallyqa": OfficialSet(
        [
            {
                "question_id": i,
                "image": "VG_100K/1.jpg",
                "question": "?",
                "answer": answer,
                "data_source": source,
                "issimple": simple,
            }
            for i, (answer, source, simple) in enumerate(
                [(2, "imported_vqa", True), (5, "amt", False), (1, "imported_genome", False)]
            )
        ],
        [{"question_id": i, "answer": answer} for i, answer in enumerate([2, 2, "1"])],
        [100.0, 0.0, 100.0],
        {
            "source": {"imported_vqa": 100.0, "amt": 0.0},
            "simple": {"yes": 100.0, "no": 50.0},
            "part": {"simple (not amt)": 100.0, "complex (amt)": 0.0},
        },
        {
            "RMSE": 3**0.5,
            "RMSE, part: complex (amt)": 3.0,
            "RMSE, part: simple (not amt)": 0.0,
            "RMSE, simple: no": 4.5**0.5,
        },
    ),
    "visual7w": OfficialSet(
        {
            "images": [
                {"image_id": 1, "split": "val", "qa_pairs": [visual7w(1, "A cup.", "what")]},
                {"image_id": 2, "split": "train", "qa_pairs": [visual7w(2, "Tea.", "what")]},
                {"image_id": 3, "split": "val", "qa_pairs": [visual7w(3, "Here.", "where")]},
            ]
        },
        [
            {"qa_id": 3, "candidates": [{"answer": "Here"}, {"answer": "here."}]},
            {"qa_id": 1, "candidates": [{"answer": "a CUP."}]},
        ],
        [100.0, 0.0],
        {"question_type": {"what": 100.0, "where": 0.0}},
        {"chance": 25.0, "any of the first 2 candidates": 100.0},
    ),
    # A sentence is consistent if all its pairs are right; a label with a space is wrong.
    "nlvr2": OfficialSet(
        as_lines(
            *(
                {"identifier": name, "sentence": "?", "label": label}
                for name, label in [
                    ("dev-0-0-0", "True"),
                    ("dev-0-1-0", "False"),
                    ("dev-0-0-1", "False"),
                    ("dev-1-0-0", "True"),
                ]
            )
        ),
        "dev-0-0-0,true\ndev-0-1-0, False\ndev-0-0-1,FALSE\ndev-1-0-0,True\ndev-9-9-9,True\n",
        [100.0, 0.0, 100.0, 100.0],
        {},
        {"consistency": 100 * 2 / 3},
    ),
    "scienceqa": OfficialSet(
        {
            "11": problem(0, 2, 4, subject="natural science", image="image.png"),
            "12": problem(1, 4, 7, subject="social science", hint="A hint."),
            "13": problem(2, 5, 12, subject="language science"),
            "14": problem(0, 2, 1, subject="natural science"),
            "15": problem(0, 2, 1, split="train"),
        },
        as_lines(
            {"question_id": "11", "prompt": "<image>", "text": "A. one"},
            {"question_id": "12", "prompt": "", "text": "So. The answer is B. Yes."},
            {"question_id": "13", "prompt": "", "text": "c"},
        ),
        [100.0, 100.0, 0.0, 0.0],
        {"subject": {"natural science": 50.0, "social science": 100.0}},
        {
            **{"NAT": 50.0, "SOC": 100.0, "LAN": 0.0, "G1-6": 50.0, "G7-12": 50.0},
            **{"IMG": 100.0, "TXT": 100.0, "NO": 0.0},
            "chance": 100 * (0.5 + 0.25 + 0.2 + 0.5) / 4,
            "<image> in the prompt": 100.0,
            "read as lmms-eval does, answered ones": 100 * 2 / 3,
        },
    ),
    # Without WordNet in the test: equal sets, whatever the order and repetition.
    "daquar": OfficialSet(
        "what is in the image1 ?\nlamp, book\nimage1\n"
        "what is there in the image2 ?\nchair\nimage2\nhow many in the image3 ?\n2\nimage3\n",
        "book,lamp, lamp\n\ntwo\n",
        [100.0, 0.0, 0.0],
    ),
}
"""A set for each metric of its own data set."""


def write_set(folder: Path, name: str) -> tuple[Path, Path]:
    """Write the files of a set; return annotations and predictions."""
    one, paths = SETS[name], (folder / "annotations", folder / "predictions")
    for path, content in zip(paths, (one.annotations, one.predictions), strict=True):
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        path.write_text(text, encoding="utf-8")
    return paths
