"""Forged files of settings, answers and predictions."""

import json
from dataclasses import fields
from pathlib import Path

from frozen_vqa.pipeline.config import TrainConfig
from tests.support import hostile
from tests.support.forged_cache_files import Change
from tests.support.forged_values import TEXTS, below, edit_plain, forgeries, replaced, written

TOML = {
    "null": '""', "true": "true", "-1": "-1", "0": "0", "NaN": "nan", "infinity": "-inf",
    "2**63": str(2**63), "5,000 digits": "9" * 5000, "1e308": "1e308", "a list": "[]",
    "a path": '"../secret/file"', "an escape": '"\\u001b[2J"', "a table": "{a = 1}",
    "a date": "1979-05-27", "a long text": '"' + "x" * 500_000 + '"', "a NUL": '"a\\u0000b"',
    "a tiny": "1e-320", "2**31": str(2**31), "a million": "1000000", "text": '"a"',
}  # fmt: skip


def toml_cases(file: str, *, each: int, first: int) -> dict[str, Change]:
    """Return changes of each setting in a file of them."""
    found: dict[str, Change] = {}
    kinds, at = list(TOML), first
    for field in fields(TrainConfig):
        for _ in range(each):
            kind, at = kinds[at % len(kinds)], at + 1

            def change(folder: Path, name: str = field.name, kind: str = kind) -> None:
                path = folder / file
                kept = [t for t in path.read_text().splitlines() if not t.startswith(f"{name} ")]
                path.write_text("\n".join([f"{name} = {TOML[kind]}", *kept]) + "\n")

            found[f"{file}: {field.name} is {kind}"] = change
    return found


CONFIG: dict[str, Change] = {
    **toml_cases("config.toml", each=3, first=0),
    **written("config.toml", TEXTS | {"many keys": "".join(f"k{i} = 1\n" for i in range(100_000))}),
    **dict(replaced(["config.toml"])),
}
SWEEP: dict[str, Change] = {
    **toml_cases("sweep.toml", each=1, first=7),
    **written(
        "sweep.toml",
        {
            **{f"name {n!a:.30}": f"[[head]]\nname = {json.dumps(n)}\n" for n in (
                "../secret/x", "/etc/x", "", "..", "a/b", "a\0b", "\x1b[2J", "x" * 400, "~")},
            "10**9 heads": "".join(f"{n} = {list(range(1, 11))}\n" for n in
                                   ("seed", "layers", "width", "heads", "lr")),
            "10**6 tables": "[[head]]\n" * 10**5,
            "nested lists": "lr = [[[[1]]]]",
        },
    ),
    **dict(replaced(["sweep.toml"])),
}  # fmt: skip
ANSWERS: dict[str, Change] = {
    **written("answers.txt", TEXTS | {
        "a million": "".join(f"a{i}\n" for i in range(10**6)),
        "one of 20 MB": "a" * (20 << 20),
        "twice": "a\na\n",
        "hostile": "\n".join(t for t in hostile.STORED.values() if "\n" not in t),
    }),
    **dict(replaced(["answers.txt"])),
}  # fmt: skip
SCORE: dict[str, Change] = {
    **forgeries("data/results.json", [(0,), *below((0,), ("question_id", "answer"))], edit_plain,
                each=12),
    **forgeries(
        "data/given.json",
        [
            ("annotations",), ("annotations", 0),
            *below(("annotations", 0), ("question_id", "answers", "question_type", "answer_type")),
            ("annotations", 0, "answers", 0), ("annotations", 0, "answers", 0, "answer"),
        ],
        edit_plain,
        each=6,
    ),
    **written("data/results.json", TEXTS),
    **written("data/given.json", {"many": json.dumps({"annotations": [{}] * 300_000})}),
    **dict(replaced(["data/results.json", "data/given.json"])),
    **{
        f"types {name}": lambda folder, text=text: edit_plain(
            folder / "data/given.json",
            lambda found: found["annotations"][0].update(question_type=text, answer_type=text),
        )
        for name, text in hostile.EVERY.items()
    },
    "an answer of 20 MB": lambda folder: (folder / "data/results.json").write_text(
        json.dumps([{"question_id": 1, "answer": "a b's, " * 3_000_000}])
    ),
}  # fmt: skip
