"""Weights load as they were saved, or say in one sentence why not and what to do."""

import io
import json
import os
import pickle
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs import sealed
from frozen_vqa.pipeline.runs.folder import CURRENT, PREVIOUS, weight_files
from frozen_vqa.pipeline.runs.weights import Weights, load_weights, save_weights
from tests.support import weights
from tests.support.weights import epochs, made, names, same

links = weights.links  # a fixture


def test_the_last_two_are_kept(links: None, tmp_path: Path) -> None:
    save_weights(tmp_path, made(1))
    assert epochs(tmp_path) == (1,)
    save_weights(tmp_path, made(2))
    assert epochs(tmp_path) == (2, 1)
    save_weights(tmp_path, made(5))
    assert epochs(tmp_path) == (5, 2)
    assert names(tmp_path) == {CURRENT, PREVIOUS}


def test_any_reader_of_safetensors_loads_them(tmp_path: Path) -> None:
    save_weights(tmp_path, made(3))
    found = load_file(tmp_path / CURRENT)
    assert same(replace(made(3), tensors=found), made(3))
    with safe_open(tmp_path / CURRENT, "pt") as file:
        record = json.loads(file.metadata()["run"])
    assert (record["epoch"], record["accuracy"], len(record["xxh3"])) == (3, 37.5, 32)


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    files = set()
    for turn in range(5):
        (tmp_path / str(turn)).mkdir()
        save_weights(tmp_path / str(turn), made(3))
        files.add((tmp_path / str(turn) / CURRENT).read_bytes())
    assert len(files) == 1


def test_views_and_gradients_are_saved_by_value(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3).requires_grad_()
    save_weights(tmp_path, replace(made(1), tensors={"turned": whole.T}))
    assert load_weights(tmp_path).tensors["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_every_flipped_bit_is_found_or_changes_nothing(tmp_path: Path) -> None:
    save_weights(tmp_path, made(1))
    data = (tmp_path / CURRENT).read_bytes()
    said = []
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        (tmp_path / CURRENT).write_bytes(flipped)
        try:
            assert same(load_weights(tmp_path), made(1))
        except RunError as error:
            said.append(str(error))
    assert len(said) > 0.98 * len(data)
    assert all(line.startswith(f"{tmp_path / CURRENT}: ") for line in said)
    assert all(line.endswith(" or train the head again.") for line in said)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: replace(w, epoch=2),
        lambda w: replace(w, accuracy=12.6),
        lambda w: replace(w, files={**w.files, "answers.json": "00fe"}),
        lambda w: replace(w, tensors={**w.tensors, "more": torch.zeros(0)}),
        lambda w: replace(w, tensors={k: v for k, v in w.tensors.items() if k != "none"}),
        lambda w: replace(w, tensors={**w.tensors, "none": torch.zeros(2, 0)}),
        lambda w: replace(w, tensors={**w.tensors, "half": w.tensors["half"].view(torch.bfloat16)}),
        lambda w: replace(w, tensors={**w.tensors, "places": w.tensors["places"].reshape(4, 3)}),
        lambda w: replace(w, tensors={**w.tensors, "places": -w.tensors["places"]}),
        lambda w: replace(w, tensors={**w.tensors, "places": w.tensors["places"].flip(0)}),
        lambda w: replace(
            w, tensors={**w.tensors, "a": w.tensors["steps"], "steps": w.tensors["steps"] * 2}
        ),
    ],
)
def test_the_digest_covers_everything(
    change: Callable[[Weights], Weights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is sound in itself but for the digest, which is that of other weights."""
    save_weights(tmp_path, made(1))
    with safe_open(tmp_path / CURRENT, "pt") as file:
        digest = json.loads(file.metadata()["run"])["xxh3"]
    with monkeypatch.context() as patch:
        patch.setattr(sealed, "tensors_digest", lambda *_: digest)
        save_weights(tmp_path, change(made(1)))
        load_weights(tmp_path)
    (tmp_path / PREVIOUS).unlink()
    message = r"model\.safetensors: does not fit its digest; .* Restore it from a copy, or train"
    with pytest.raises(RunError, match=message):
        load_weights(tmp_path)


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {shlex.quote(str(self.path))}",)


def pickled(path: Path) -> bytes:
    return pickle.dumps(Payload(path))


def torch_saved(path: Path) -> bytes:
    data = io.BytesIO()
    torch.save({"head.bias": Payload(path)}, data)
    return data.getvalue()


@pytest.mark.parametrize("name", [CURRENT, PREVIOUS])
@pytest.mark.parametrize("save", [pickled, torch_saved])
def test_a_pickle_is_not_run(save: Callable[[Path], bytes], name: str, tmp_path: Path) -> None:
    data = save(tmp_path / "it ran")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RunError, match=r"model\.safetensors: "):
        load_weights(tmp_path)
    assert not (tmp_path / "it ran").exists()
    pickle.loads(pickled(tmp_path / "it ran"))  # it would have
    assert (tmp_path / "it ran").exists()


def without_digest(path: Path) -> None:
    save_file(load_file(path), path, metadata={"format": "pt"})


def other_record(record: str) -> Callable[[Path], None]:
    return lambda path: save_file(load_file(path), path, metadata={"run": record})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), "does not fit the format of weights"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), "does not fit the format of we"),
        (lambda path: path.write_bytes(bytes(range(256))), "does not fit the format of weights"),
        (lambda path: path.unlink(), "is missing"),
        (lambda path: (path.unlink(), path.mkdir()), r"cannot be read \(Is a directory\)"),
        (without_digest, "carries no digest, so it cannot be told from damaged weights"),
        (lambda path: save_file(load_file(path), path), "carries no digest"),
        (other_record("{"), "carries no digest"),
        (other_record("[]"), "carries no digest"),
        (other_record('{"epoch": 1}'), "carries no digest"),
        (other_record('{"xxh3": "0"}'), "does not fit its digest"),
    ],
)
def test_damaged_weights_and_the_way_back(
    damage: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    run = tmp_path / "my runs"
    run.mkdir()
    save_weights(run, made(3))
    save_weights(run, made(7))
    damage(run / CURRENT)

    with pytest.raises(RunError, match=message) as caught:
        load_weights(run)

    said = str(caught.value)
    assert said.startswith(f"{run / CURRENT}: ")
    assert "The weights before it, of epoch 3 (accuracy 37.50 %), are whole" in said
    assert said.endswith(", or train the head again.")
    if (run / CURRENT).is_dir():
        (run / CURRENT).rmdir()
    command = said.partition("`")[2].partition("`")[0]
    subprocess.run(command, shell=True, check=True)
    assert same(load_weights(run), made(3))


def test_a_way_back_is_offered_only_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there are no weights yet; its training was stopped in"):
        load_weights(tmp_path)
    for epoch in (1, 2):
        save_weights(tmp_path, made(epoch))
    for name in (CURRENT, PREVIOUS):
        data = bytearray((tmp_path / name).read_bytes())
        data[-1] ^= 1
        (tmp_path / name).write_bytes(data)
    with pytest.raises(
        RunError, match=r"fit its digest.*Restore it from a copy, or train the head"
    ):
        load_weights(tmp_path)


def test_a_file_whose_record_is_sealed_but_of_another_form(tmp_path: Path) -> None:
    """From elsewhere: whoever can write the file can write the digest."""
    tensors = {"a": torch.ones(2)}
    for record in ({}, {"epoch": 1, "accuracy": 2, "files": 3}, {"epoch": "x", "accuracy": 2}):
        whole = {**record, "xxh3": sealed.tensors_digest(tensors, record)}
        save_file(tensors, tmp_path / CURRENT, metadata={"run": json.dumps(whole)})
        with pytest.raises(RunError, match="does not fit the format of weights"):
            load_weights(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_not_saved(value: float, tmp_path: Path) -> None:
    for epoch in (1, 2):
        save_weights(tmp_path, made(epoch))
    bad = made(3)
    bad.tensors["half"][4] = value
    message = r"after epoch 3 the weights half are not finite; they were not saved.*Lower --lr"
    with pytest.raises(RunError, match=message):
        save_weights(tmp_path, bad)
    assert epochs(tmp_path) == (2, 1)
    assert names(tmp_path) == {CURRENT, PREVIOUS}


def test_all_weights_are_removed(links: None, tmp_path: Path) -> None:
    for epoch in (1, 2):
        save_weights(tmp_path, made(epoch))
    for name in (CURRENT, PREVIOUS, weight_files(tmp_path).coming.name):
        (tmp_path / f"{name}.partial").write_text("")
    (tmp_path / weight_files(tmp_path).coming.name).write_text("")
    (tmp_path / "mine.safetensors").write_text("")
    weight_files(tmp_path).remove()
    assert names(tmp_path) == {"mine.safetensors"}


def test_tensors_of_a_loaded_file_are_those_that_were_saved(tmp_path: Path) -> None:
    save_weights(tmp_path, made(2))
    found: dict[str, Tensor] = dict(load_weights(tmp_path).tensors)
    assert found.keys() == made(2).tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in made(2).tensors.items())


@pytest.mark.parametrize("depth", [900, 10**5])
def test_a_header_of_somebody_that_nests_too_deep_is_one_sentence(
    depth: int, tmp_path: Path
) -> None:
    deep = {"run": "[" * depth + "]" * depth}
    save_file({"a": torch.zeros(2)}, tmp_path / CURRENT, metadata=deep)

    with pytest.raises(RunError, match=r"model\.safetensors"):
        load_weights(tmp_path)


def test_a_record_that_nests_too_deeply_is_one_sentence(tmp_path: Path) -> None:
    """Python's json reads a little more deeply than it writes, so every depth is tried."""
    for depth in range(900, 1000):
        record = f'{{"xxh3": "", "x": {"[" * depth}{"]" * depth}}}'
        data = save({"a": torch.zeros(1)}, {"run": record})
        (tmp_path / "model.safetensors").write_bytes(data)
        with pytest.raises(RunError, match=r"model\.safetensors: "):
            load_weights(tmp_path)
