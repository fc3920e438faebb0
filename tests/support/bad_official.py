"""The rows of docs/bad-inputs.md about data sets in their authors' files."""

import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support.bad_inputs import LEFT_OUT, REFUSED, Row
from tests.support.official_files import TEXTS, dump
from tests.support.official_layouts import LAYOUTS

Case = Callable[[Path], Row]


def refused(name: str, folder: Path) -> Row:
    """The row of a split that cannot be read."""
    with pytest.raises(SourceError) as caught:
        open_source(f"{name}:{folder}").examples(LAYOUTS[name].split)
    return REFUSED, str(caught.value)


def left_out(name: str, folder: Path) -> Row:
    """The row of a question that is left out."""
    source = open_source(f"{name}:{folder}")
    assert source.examples(LAYOUTS[name].split)
    (fault,) = source.left_out(LAYOUTS[name].split)
    return LEFT_OUT, f"{fault.where}: {fault.reason}"


def missing(name: str, folder: Path) -> Row:
    LAYOUTS[name].write(folder, LAYOUTS[name].split, TEXTS)
    (folder / LAYOUTS[name].split_file).unlink()
    return refused(name, folder)


def blank(name: str, folder: Path) -> Row:
    LAYOUTS[name].write(folder, LAYOUTS[name].split, (TEXTS[0], " "))
    return left_out(name, folder)


def spoilt(name: str, fields: dict[str, Any], folder: Path) -> Row:
    """The row of a set in a list, whose second entry has these fields."""
    LAYOUTS[name].write(folder, LAYOUTS[name].split, TEXTS)
    file = folder / LAYOUTS[name].split_file
    first, second = json.loads(file.read_text(encoding="utf-8"))
    dump(file, [first, second | fields])
    return left_out(name, folder)


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this would run",)


def pickled(content: object, folder: Path) -> Row:
    LAYOUTS["pathvqa"].write(folder, "val", TEXTS)
    (folder / "pvqa/qas/val/val_qa.pkl").write_bytes(pickle.dumps(content, protocol=3))
    return refused("pathvqa", folder)


def form(images: str, folder: Path) -> Row:
    dump(folder / "q.json", {"questions": []})
    with pytest.raises(SourceError) as caught:
        open_source(f"vqav2:{folder / 'q.json'}", images=Path(images) if images else None)
    return REFUSED, str(caught.value)


OFFICIAL: dict[str, Case] = {
    **{f"`{name}:` a file is missing": partial(missing, name) for name in LAYOUTS},
    **{f"`{name}:` a blank question": partial(blank, name) for name in LAYOUTS},
    "a right choice beyond the choices": partial(spoilt, "aokvqa", {"correct_choice_idx": 4}),
    "a right choice that is true": partial(spoilt, "aokvqa", {"correct_choice_idx": True}),
    "choices that are a text": partial(spoilt, "aokvqa", {"choices": "red"}),
    "a choice that is a number": partial(spoilt, "aokvqa", {"choices": [1, 2]}),
    "a flag that is a text": partial(spoilt, "aokvqa", {"difficult_direct_answer": "no"}),
    "a COCO picture whose id is a text": partial(spoilt, "aokvqa", {"image_id": "42"}),
    "a picture outside of the folder": partial(spoilt, "tallyqa", {"image": "../x.jpg"}),
    "a picture at an absolute path": partial(spoilt, "tallyqa", {"image": "/etc/passwd"}),
    "a picture that is an address": partial(spoilt, "tallyqa", {"image": "https://example.org/x"}),
    "a name of a picture that is a number": partial(spoilt, "tallyqa", {"image": 7}),
    "a side file of macOS": partial(spoilt, "vizwiz", {"image": "._VizWiz_val_00000001.jpg"}),
    "a pickle that names code": partial(pickled, [_Runs()]),
    "a pickle of another class": partial(pickled, [Path("x")]),
    "a pickle that is no list": partial(pickled, {"a": 1}),
    "`vqav2:FILE` without --images": partial(form, ""),
    "`vqav2:FILE`, --images without an id": partial(form, "pictures"),
    "`vqav2:FILE`, --images with a huge width": partial(form, "{image_id:99999999999d}.jpg"),
}
