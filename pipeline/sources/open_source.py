"""Opens the data set that `--dataset SPEC` names.

    vqav2:PATH          official JSON files beside train2014/, val2014/, test2015/   vqav2.py
    jsonl:PATH          your own JSONL, JSON, CSV or TSV: a file, or one per split   own/source.py
    hub:NAME_OR_PATH    a Hugging Face data set, or parquet on this disk             hub.py
    shapes[:N]          generated scenes, N of them                                  shapes.py

`validation.py` and `selection.py` have the rules for questions. Nothing here opens a file.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import Source

FORMS = {
    "vqav2": "vqav2:PATH",
    "jsonl": "jsonl:PATH",
    "hub": "hub:NAME_OR_PATH",
    "shapes": "shapes[:N]",
}


def open_source(
    spec: str, *, columns: Mapping[str, str] | None = None, images: Path | None = None
) -> Source:
    """Return the source that `spec` names.

    Args:
        columns: For `hub:` and `jsonl:`, the column of the data set for a field, such as
            {"question": "query"}; see `pipeline/sources/hub.py`.
        images: For `jsonl:` and `vqav2:`, the folder of the pictures, if it is another.

    Raises:
        SourceError: if `spec` has none of the forms, or its data set does not exist.
    """
    kind, colon, rest = spec.partition(":")
    if kind not in FORMS or (kind != "shapes" and not rest) or (colon and not rest):
        raise SourceError(_bad_spec(spec, kind))
    if columns and kind not in ("hub", "jsonl"):
        raise SourceError(f"{spec}: --column is for hub: and jsonl: data sets. Leave it out.")
    if images and kind not in ("jsonl", "vqav2"):
        raise SourceError(f"{spec}: --images is for jsonl: and vqav2: data sets. Leave it out.")
    # These imports are late, because `datasets` alone takes seconds.
    if kind == "vqav2":
        from frozen_vqa.pipeline.sources.vqav2 import Vqav2Source

        return Vqav2Source(Path(os.path.expanduser(rest)), images)
    if kind == "jsonl":
        from frozen_vqa.pipeline.sources.own.source import OwnSource

        return OwnSource(Path(os.path.expanduser(rest)), images, columns)
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


def _bad_spec(spec: str, kind: str) -> str:
    forms = ", ".join(FORMS.values())
    if kind in FORMS:
        return f"dataset {spec!r}: nothing follows {kind!r}; write {FORMS[kind]}."
    from frozen_vqa.pipeline.sources.own.tables import SUFFIXES

    close = difflib.get_close_matches(kind.lower(), FORMS, n=1)
    if close:
        hint = f" Did you mean {spec.replace(kind, close[0], 1)!r}?"
    elif Path(spec).suffix.lower() in SUFFIXES or Path(spec).is_dir():
        hint = f" Did you mean {'jsonl:' + spec!r}?"
    else:
        hint = ""
    return f"dataset {spec!r} has none of the forms {forms}.{hint}"
