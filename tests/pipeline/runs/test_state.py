"""A state from elsewhere: its counters and results have ranges, and fit each other."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from frozen_vqa.pipeline.errors import NotFiniteError, RunError
from frozen_vqa.pipeline.runs import sealed
from frozen_vqa.pipeline.runs.state import FORMAT, recover_state, save_state, state_files

LINE = {
    "epoch": 1,
    "loss": 0.5,
    "accuracy": 40.0,
    "learning_rate": 0.1,
    "seconds": 2.0,
    "questions_per_second": 9.0,
    "waited": 0.0,
}
RECORD: dict[str, Any] = {
    "format": FORMAT,
    "counters": {"epoch": 2, "batch": 3, "step": 9, "epoch_seconds": 1.5, "waited": 0.25},
    "progress": {
        "metrics": [LINE, LINE | {"epoch": 2, "accuracy": 50.0}],
        "best_accuracy": 50.0,
        "best_epoch": 2,
        "training_seconds": 4.0,
        "seconds": 5.0,
    },
    "fingerprint": {"config": {}, "cache": {}, "files": {}, "machine": {}},
}
NUMBERS = [
    (part, name)
    for part, name in [
        *(("counters", name) for name in RECORD["counters"]),
        *(("progress", name) for name in RECORD["progress"] if name != "metrics"),
        *(("metrics", name) for name in LINE),
    ]
]
VALUES = [-1, -0.5, 10**9, 10**30, 2**48 + 1, 1e300, -1e300, "NaN", "Infinity", "1", None, True, []]
POSSIBLE = {  # a large number that a training may have
    ("counters", "batch"): (10**9,),  # the plan tells
    ("counters", "step"): (10**9,),
    ("counters", "epoch_seconds"): (10**9,),
    ("counters", "waited"): (10**9,),
    ("progress", "training_seconds"): (10**9,),
    ("progress", "seconds"): (10**9,),
    ("metrics", "loss"): (10**9, 2**48 + 1),
    ("metrics", "seconds"): (10**9,),
    ("metrics", "questions_per_second"): (10**9, 2**48 + 1),
    ("metrics", "waited"): (10**9,),
}


def write(run: Path, text: str) -> None:
    """Write a state whose record is any JSON, with the digest that fits it."""
    path = state_files(run).current
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors, record = {"a": torch.zeros(2)}, json.loads(text)
    whole = text[:-1] + f', "xxh3": "{sealed.tensors_digest(tensors, record)}"}}'
    path.write_bytes(safetensors.torch.save(tensors, {"run": whole}))


def test_a_possible_state_is_read(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(RECORD))
    assert vars(recover_state(tmp_path).counters) == RECORD["counters"]


@pytest.mark.parametrize(("part", "name"), NUMBERS)
def test_every_number_has_its_range(part: str, name: str, tmp_path: Path) -> None:
    for value in VALUES:
        record = json.loads(json.dumps(RECORD))
        place = record["progress"]["metrics"][0] if part == "metrics" else record[part]
        place[name] = "HERE"
        spelled = value if value in ("NaN", "Infinity") else json.dumps(value)
        write(tmp_path, json.dumps(record).replace('"HERE"', str(spelled)))
        if value in POSSIBLE.get((part, name), ()) and type(value) is int:
            recover_state(tmp_path)
            continue
        with pytest.raises(RunError, match=r"state\.safetensors: (does not fit|carries no d)"):
            recover_state(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"best_accuracy": 49.0},
        {"best_accuracy": -1},
        {"best_epoch": 1},
        {"best_epoch": 0},
        {"best_epoch": 3},
        {"training_seconds": 0},
        {"metrics": []},
        {"metrics": [LINE]},
        {"metrics": [LINE, LINE]},
        {"metrics": [LINE] * 4},
        {"metrics": [LINE | {"epoch": 2}, LINE]},
        {"metrics": [LINE, 5]},
        {"metrics": [LINE, LINE | {"more": 1}]},
        {"metrics": [LINE, {}]},
        {"metrics": {}},
    ],
)
def test_results_fit_each_other(changes: dict[str, Any], tmp_path: Path) -> None:
    record = {**RECORD, "progress": {**RECORD["progress"], **changes}}
    write(tmp_path, json.dumps(record))
    with pytest.raises(RunError, match="does not fit the format of a training state"):
        recover_state(tmp_path)


def test_a_state_of_no_finite_weights_is_not_written(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(RECORD))
    state, before = recover_state(tmp_path), state_files(tmp_path).current.read_bytes()
    spoilt = replace(state, tensors={"model.a": torch.tensor([1.0, torch.nan])})
    with pytest.raises(NotFiniteError, match=r"after epoch 3 the weights model\.a are not finite"):
        save_state(tmp_path, spoilt)
    assert state_files(tmp_path).current.read_bytes() == before
