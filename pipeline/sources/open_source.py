"""Opens the data set that `--dataset SPEC` names.

    NAME:PATH           a data set in its authors' files, such as vqav2:PATH     official/
    vqav2:FILE          a file in VQAv2's form, with --images and --annotations  official/joined.py
    jsonl:PATH          your own JSONL, JSON, CSV or TSV: a file, or one per split   own/source.py
    wds:PATTERN         tar shards of a WebDataset, here or at URLs              own/wds.py
    hub:NAME_OR_PATH    a Hugging Face data set, or parquet on this disk             hub.py
    shapes[:N]          generated scenes, N of them                                  shapes.py
    MODULE:NAME         code of the user's own, called without arguments             CodeSource

`validation.py` and `selection.py` have the rules for questions. Nothing here opens a file.
"""

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from frozen_vqa.cache.large.dicts import LargeDict
from frozen_vqa.cache.stores.address import is_url
from frozen_vqa.pipeline.errors import ImageError, PluginError, SourceError
from frozen_vqa.pipeline.plugins import is_own, running, trusted
from frozen_vqa.pipeline.sources.example import Id, LeftOut, Picture, Source, VqaExample
from frozen_vqa.pipeline.sources.selection import Selection
from frozen_vqa.pipeline.sources.validation import (
    UnusableError,
    id_or_none,
    make_example,
)

OFFICIAL = {
    "vqav2": "vqav2:Vqav2Source",
    "okvqa": "vqav2:OkVqaSource",
    "vizwiz": "vizwiz:VizWizSource",
    "textvqa": "textvqa:TextVqaSource",
    "gqa": "gqa:GqaSource",
    "clevr": "clevr:ClevrSource",
    "aokvqa": "choices.aokvqa:AokvqaSource",
    "tallyqa": "tallyqa:TallyQaSource",
    "visual7w": "choices.visual7w:Visual7wSource",
    "vqa-rad": "medical.vqa_rad:VqaRadSource",
    "slake": "medical.slake:SlakeSource",
    "pathvqa": "medical.pathvqa:PathVqaSource",
    "daquar": "daquar:DaquarSource",
    "scienceqa": "choices.scienceqa:ScienceQaSource",
    "nlvr2": "nlvr2:Nlvr2Source",
}
"""The class of each data set in its authors' files, below `official/`."""

FORMS = {
    **{name: f"{name}:PATH" for name in OFFICIAL},
    "jsonl": "jsonl:PATH",
    "wds": "wds:PATTERN",
    "hub": "hub:NAME_OR_PATH",
    "shapes": "shapes[:N]",
}
OWN = "MODULE:NAME (code of your own)"


def open_source(
    spec: str,
    *,
    columns: Mapping[str, str] | None = None,
    images: Path | None = None,
    annotations: Path | None = None,
) -> Source:
    """Return the source that `spec` names.

    Args:
        columns: For `hub:` and `jsonl:`, the column of the data set for a field, such as
            {"question": "query"}; see `pipeline/sources/hub.py`.
        images: For data sets in files, the folder of the pictures, if it is another; for one file
            in VQAv2's form, the path of a picture, such as "val2014/{image_id:012d}.jpg".
        annotations: The file of the annotations of one file of questions in VQAv2's form.

    Raises:
        SourceError: if `spec` has none of the forms, or its data set does not exist.
        PluginError: if code of the user's own cannot be used, or the user has not named it.
    """
    kind, colon, rest = spec.partition(":")
    own = is_own_source(spec)
    if not own and (kind not in FORMS or (kind != "shapes" and not rest) or (colon and not rest)):
        raise SourceError(_bad_spec(spec, kind))
    if columns and kind not in ("hub", "jsonl", "wds"):
        raise SourceError(f"{spec}: --column is for hub:, jsonl: and wds: data sets. Leave it out.")
    if images and kind not in (*OFFICIAL, "jsonl"):
        raise SourceError(f"{spec}: --images is for data sets in files. Leave it out.")
    if is_url(rest) and kind in (*OFFICIAL, "jsonl"):
        raise SourceError(
            f"{kind}:{rest.partition('://')[0]}://…: questions are read from this machine. "
            f"Download their files; the pictures of jsonl: may stay at their URLs."
        )
    path = Path(os.path.expanduser(rest))
    is_file = kind == "vqav2" and path.is_file()
    if annotations and not is_file:
        raise SourceError(f"{spec}: --annotations is for one file, vqav2:FILE. Leave it out.")
    if own:
        return CodeSource(spec)
    # These imports are late, because `datasets` alone takes seconds.
    if is_file:
        from frozen_vqa.pipeline.sources.official.joined import FileInVqav2Form

        return FileInVqav2Form(path, annotations, images)
    if kind in OFFICIAL:
        module, _, name = OFFICIAL[kind].partition(":")
        official = importlib.import_module(f"frozen_vqa.pipeline.sources.official.{module}")
        opened: Source = getattr(official, name)(path, images)
        return opened
    if kind == "jsonl":
        from frozen_vqa.pipeline.sources.own.source import OwnSource

        return OwnSource(path, images, columns)
    if kind == "wds":
        from frozen_vqa.pipeline.sources.own.wds import WdsSource

        return WdsSource(rest, columns)
    if kind == "hub":
        from frozen_vqa.pipeline.sources.hub import HubSource

        return HubSource(rest, columns)
    from frozen_vqa.pipeline.sources.shapes import ShapesSource

    if not rest:
        return ShapesSource()
    if not (rest.isascii() and rest.isdigit() and 0 < len(rest) < 10 and int(rest)):
        raise SourceError(
            f"{spec}: {rest!r} is not a number of images. Write for example shapes:500."
        )
    return ShapesSource(images=int(rest))


def is_own_source(spec: str) -> bool:
    """Whether a data set is code of the user's own, and no mistyped form; nothing is imported."""
    kind = spec.partition(":")[0]
    top = kind.partition(".")[0]
    if kind in FORMS or not is_own(spec):
        return False
    return top in sys.modules or importlib.util.find_spec(top) is not None


def _bad_spec(spec: str, kind: str) -> str:
    others = [form for name, form in FORMS.items() if name not in OFFICIAL]
    forms = ", ".join([*others, OWN, f"or NAME:PATH of {', '.join(OFFICIAL)}"])
    if kind in FORMS:
        return f"dataset {spec!r}: nothing follows {kind!r}; write {FORMS[kind]}."
    from frozen_vqa.pipeline.sources.own.tables import SUFFIXES

    close = difflib.get_close_matches(kind.lower(), FORMS, n=1)
    if close:
        hint = f" Did you mean {spec.replace(kind, close[0], 1)!r}?"
    elif Path(spec).suffix.lower() in SUFFIXES or Path(spec).is_dir():
        hint = f" Did you mean {'jsonl:' + spec!r}?"
    elif is_own(spec):
        hint = f" There is no module {kind!r}: install it, or name its folder in PYTHONPATH."
    else:
        hint = ""
    return f"dataset {spec!r} has none of the forms {forms}.{hint}"


class CodeSource(Source):
    """What the user's own code returns: its questions pass the same checks as any others.

    Raises:
        PluginError: if the user has not named it, it cannot be called, or it lacks a method.
    """

    def __init__(self, name: str) -> None:
        self._name, make = name, trusted(name, option="--dataset")
        with running(name, "the call"):
            self._source: Source = make()
        lacking = [m for m in ("examples", "picture") if not hasattr(self._source, m)]
        if lacking:
            raise PluginError(
                f"{name}: found {type(self._source).__name__} without {' and '.join(lacking)}; a "
                f"frozen_vqa.Source is needed"
            )
        if metric := getattr(self._source, "metric", None):
            self.metric = str(metric)
        self._pictures = LargeDict[Id, str]()
        self._left_out: dict[str, list[LeftOut]] = {}

    def examples(self, split: str) -> Sequence[VqaExample]:
        selection = Selection("example", self._pictures)
        for number, one in enumerate(self._given(split), start=1):
            where = f"{self._name}, split {split!r}, example {number}"
            if not isinstance(one, VqaExample):
                raise SourceError(f"{where}: found {type(one).__name__}; a VqaExample is needed.")
            selection.add(number, where, id_or_none(one.question_id), partial(_checked, one))
        with running(self._name, f"examples({split!r})"):
            selection.left_out += getattr(self._source, "left_out", lambda _: ())(split)
        selection.finish(f"{self._name}, split {split!r}")
        self._left_out[split] = selection.left_out
        return selection.examples

    def _given(self, split: str) -> Iterator[VqaExample]:
        """Yield what the code returns, or yields, one at a time."""
        with running(self._name, f"examples({split!r})"):
            yield from self._source.examples(split)

    def left_out(self, split: str) -> Sequence[LeftOut]:
        return self._left_out[split]

    def picture(self, image_id: Id) -> Picture:
        try:
            with running(self._name, f"picture({image_id!r:.40})"):
                found = self._source.picture(image_id)
        except PluginError as error:  # of one picture, which is left out
            raise ImageError(str(error)) from error
        if isinstance(found, str):
            return Path(found)
        if not isinstance(found, Path | bytes | Image.Image):
            raise ImageError(
                f"found {type(found).__name__}; a path, bytes or a PIL image is needed"
            )
        return found

    def where(self, image_id: Id) -> str:
        return f"{self._name}, picture {image_id!r:.80}"


def _checked(one: VqaExample) -> tuple[VqaExample, str]:
    """Return an example whose fields are valid, and what its image id means."""
    if isinstance(one.answers, str):
        raise UnusableError("answers are one text; a tuple of texts is needed")
    fields = {name: getattr(one, name) for name in VqaExample.__slots__}
    return make_example(fields), ""  # one id is one picture, because `picture` is asked by id
