"""Forged files of runs: records, settings, weights, states, scores, what `ask` is told to load."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from frozen_vqa.pipeline.model.config import ModelConfig
from frozen_vqa.pipeline.runs.description import Outcome
from frozen_vqa.pipeline.runs.state import Counters, Progress, TrainingFingerprint
from tests.support.forged import edit_sealed
from tests.support.forged_cache_files import ELSEWHERE, Change, names
from tests.support.forged_runs import WEIGHTS, Forgery, forge
from tests.support.forged_values import (
    TEXTS,
    below,
    edit_plain,
    forgeries,
    replaced,
    written,
)
from tests.support.heads import seal

SCORES = ("accuracy", "interval", "ceiling", "split", "questions", "metric", "dataset", "own_cache")


def edit_meaning(path: Path, change: Callable[[Any], object]) -> None:
    """Change config.json, and let the weights carry its digest."""
    edit_plain(path, change)
    seal(path.parent)


def setting(text: str) -> Change:
    """Replace a line of config.toml, and let the weights carry its digest."""

    def forge_setting(folder: Path) -> None:
        path = folder / "finished/config.toml"
        name = text.partition(" ")[0]
        lines = [line for line in path.read_text().splitlines() if line.split()[0] != name]
        path.write_text("\n".join([*lines, text]) + "\n")
        seal(folder / "finished")

    return forge_setting


def answers(content: str) -> Change:
    def forge_answers(folder: Path) -> None:
        (folder / "finished/answers.json").write_text(content)
        seal(folder / "finished")

    return forge_answers


def sealed_text(file: str, content: str | bytes) -> Change:
    def forge_text(folder: Path) -> None:
        path = folder / file
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        seal(path.parent)

    return forge_text


RUN_FILES = (
    *("config.json", "config.toml", "answers.json", "run.json", "model.safetensors"),
    *("model.previous.safetensors", "metrics.jsonl", "environment.json", "README.md"),
    *(".frozen-vqa", ".lock", "evaluation", "evaluation/val", "evaluation/val/results.json"),
    *("evaluation/val/scores.json", "evaluation/val/logits.safetensors"),
)
RUN: dict[str, Change] = {
    **forgeries("finished/run.json", below((), names(Outcome)), edit_sealed, each=3),
    **forgeries(
        "finished/config.json",
        [
            *below((), ("format", "model", "encoders", "dtype")),
            *below(("model",), names(ModelConfig)),
            *below(("encoders",), ("vision", "text")),
            ("encoders", "vision", "model"),
        ],
        edit_meaning,
        each=2,
    ),
    **forgeries(
        "finished/evaluation/val/scores.json", below((), SCORES), edit_sealed, each=3, first=5
    ),
    **{f"val_split is {n!a:.40}": setting(f"val_split = {json.dumps(n)}") for n in ELSEWHERE},
    **{f"answers.json: {name}": answers(text) for name, text in {
        "escapes": json.dumps(["\x1b[2J", "\x1b]0;a\x07"]),
        "numbers": "[1, 2]",
        "twice": '["red", "red"]',
        "one": '["red"]',
        "empty": '["", "a"]',
        "half of a pair": '["\\ud83d", "a"]',
        "NUL": '["a\\u0000", "a"]',
        "long": json.dumps(["x" * 5_000_000, "blue"]),
        "many": json.dumps([f"answer {i}" for i in range(300_000)]),
    }.items()},
    **written("finished/run.json", TEXTS),
    **written("finished/metrics.jsonl", TEXTS),
    **written("finished/environment.json", TEXTS),
    **written("finished/README.md", TEXTS),
    **written("finished/evaluation/val/scores.json", TEXTS),
    **written("finished/.frozen-vqa", TEXTS | {"a path": "../secret/file\n/etc/hostname\n"}),
    **dict(replaced(f"finished/{name}" for name in RUN_FILES)),
    "10,000 evaluations": lambda folder: [
        shutil.copytree(folder / "finished/evaluation/val", folder / f"finished/evaluation/v{i}")
        for i in range(300)
    ],
}  # fmt: skip


def header(change: Callable[[dict[str, Any]], object], *, length: int | None = None) -> Change:
    """Change the header of the weights, which no digest of ours covers before it is read."""

    def forge_header(folder: Path) -> None:
        path = folder / "finished/model.safetensors"
        data = path.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        found = json.loads(data[8 : 8 + size])
        change(found)
        text = json.dumps(found).encode(errors="surrogatepass")
        start = struct.pack("<Q", len(text) if length is None else length)
        path.write_bytes(start + text + data[8 + size :])

    return forge_header


def _first(found: dict[str, Any]) -> dict[str, Any]:
    return next(value for name, value in found.items() if name != "__metadata__")


HEADERS: dict[str, Change] = {
    "length 0": header(lambda h: None, length=0),
    "length 2**63": header(lambda h: None, length=2**63),
    "length 99 MB": header(lambda h: None, length=99 << 20),
    "no metadata": header(lambda h: h.pop("__metadata__")),
    "metadata of numbers": header(lambda h: h.update(__metadata__={"run": 1})),
    "metadata deep": header(lambda h: h["__metadata__"].update(run="[" * 200_000)),
    "metadata long": header(lambda h: h["__metadata__"].update(run="1" * 5_000_000)),
    "an unknown type": header(lambda h: _first(h).update(dtype="X99")),
    "a type of 8 bits": header(lambda h: _first(h).update(dtype="F8_E4M3")),
    "offsets beyond": header(lambda h: _first(h).update(data_offsets=[0, 2**40])),
    "offsets turned": header(lambda h: _first(h).update(data_offsets=[64, 0])),
    "offsets that overlap": header(lambda h: [_first(h), h.update(other=_first(h))]),
    "a shape of 2**62": header(lambda h: _first(h).update(shape=[2**31, 2**31])),
    "a shape of zeros": header(lambda h: _first(h).update(shape=[0, 2**62])),
    "a shape of -1": header(lambda h: _first(h).update(shape=[-1])),
    "10,000 names": header(
        lambda h: h.update(
            {f"n{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(10_000)}
        )
    ),
    "names with escapes": header(lambda h: h.update({"\x1b[2J": _first(h)})),
}
NUMBERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "NaN": lambda t: torch.full_like(t, float("nan") if t.is_floating_point() else 255),
    "3e38": lambda t: torch.full_like(t, 3e38 if t.is_floating_point() else 1),
    "float64": lambda t: t.double(),
    "complex": lambda t: t.to(torch.complex64),
    "of no dimension": lambda t: torch.zeros(()),
    "empty": lambda t: torch.zeros(0),
    "of another shape": lambda t: torch.zeros(3, 1, 2),
    "integers": lambda t: t.long(),
    "truth values": lambda t: t.bool(),
}


def tensor(prefix: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Forgery:
    """Change the first tensor whose name begins so."""

    def forge_tensor(tensors: dict[str, Any], record: dict[str, Any]) -> None:
        name = min(name for name in tensors if name.startswith(prefix))
        tensors[name] = change(tensors[name].clone()).contiguous()

    return forge_tensor


def in_file(file: str, change: Forgery) -> Change:
    return lambda folder: forge(folder / file, change)


def _edit_record(path: Path, change: Callable[[Any], object]) -> None:
    forge(path, lambda tensors, record: change(record))


WEIGHT_FILE, STATE_FILE = "finished/model.safetensors", "stopped/state/state.safetensors"
WEIGHTS_CASES: dict[str, Change] = {
    **{name: in_file(WEIGHT_FILE, change) for name, change in WEIGHTS.items()},
    **{f"header: {name}": change for name, change in HEADERS.items()},
    **{
        f"{prefix} {name}": in_file(WEIGHT_FILE, tensor(prefix, change))
        for prefix in ("layers", "head")
        for name, change in NUMBERS.items()
    },
    **forgeries(WEIGHT_FILE, below((), ("epoch", "accuracy", "files")), _edit_record, each=8),
}


def both_states(change: Forgery) -> Change:
    """Forge both states, or the one before would do."""

    def forge_both(folder: Path) -> None:
        forge(folder / STATE_FILE, change)
        shutil.copyfile(folder / STATE_FILE, folder / "stopped/state/state.previous.safetensors")

    return forge_both


def _edit_states(path: Path, change: Callable[[Any], object]) -> None:
    both_states(lambda tensors, record: change(record))(path.parents[2])


STATE: dict[str, Change] = {
    **forgeries(
        STATE_FILE,
        [
            *below((), ("format", "counters", "progress", "fingerprint")),
            *below(("counters",), names(Counters)),
            *below(("progress",), names(Progress)),
            *below(("fingerprint",), names(TrainingFingerprint)),
            *below(("fingerprint", "config"), ("epochs", "seed", "train_split")),
        ],
        _edit_states,
        each=4,
    ),
    **{
        f"{prefix} {name}": both_states(tensor(prefix, change))
        for prefix in ("model", "optimizer", "epoch.loss", "rng.cpu")
        for name, change in NUMBERS.items()
    },
    **{
        f"{name} {value}": both_states(
            lambda t, r, name=name, value=value: r["counters"].update({name: value})
        )
        for name in ("epoch", "batch", "step")
        for value in (-1, 1, 5, 10**9, 2**60)
    },
    **dict(
        replaced(
            f"stopped/{name}"
            for name in (
                *("state", "state/state.safetensors", "state/state.previous.safetensors"),
                *("config.toml", "metrics.jsonl", "model.safetensors", ".frozen-vqa"),
            )
        )
    ),
}

MODELS = (
    *("who/else", "../secret/folder", "/dev/zero", "/etc", "https://example.org/model"),
    *(
        "file:///etc/hostname",
        "a" * 5000,
        "",
        "~root",
        "\x1b[2J",
        "a\0b",
        "\ud83d",
        "..",
        "a b/c d",
    ),
    *(None, 1, ["tiny"], True, {"a": 1}),
)
ENCODER: dict[str, list[Any]] = {
    "image size": [44_800, 0, -1, 2**40, 1.5, "112", None, float("nan"), [112]],
    "fit": ["", "crop\x1b[2J", None, 1, ["whole"]],
    "layer": [10**9, -(10**9), "1", None, 0.5, float("nan")],
    "revision": ["", None, 1, "x" * 500_000, "\x1b[2J"],
}
ASK: dict[str, Change] = {}


def _encoder(part: str, name: str, value: Any) -> Change:
    def put(found: Any) -> None:
        found["encoders"][part][name] = value

    return lambda folder: edit_meaning(folder / "asked/config.json", put)


for _part in ("vision", "text"):
    for _model in MODELS:
        ASK[f"{_part} model {_model!a:.40}"] = _encoder(_part, "model", _model)
    for _name, _values in ENCODER.items():
        if (_name == "layer") == (_part == "text") or _name == "revision":
            for _value in _values:
                ASK[f"{_part} {_name} {_value!a:.40}"] = _encoder(_part, _name, _value)
ASK |= dict(replaced(["data/a.png", "asked/config.json", "asked/model.safetensors"]))
ASK |= {
    f"cache {name!a:.40}": lambda folder, name=name: edit_sealed(
        folder / "asked/run.json", lambda found: found.update(cache=name)
    )
    for name in ("/dev/zero", "a\0b", "\x1b[2J", "", "/proc/self/mem")
}
