"""The card of a cache at a URL: README.md, which the Hub shows as the page of a data set.

It is made from the manifest alone, so that the same cache has the same card.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from frozen_vqa.cache import Manifest
from frozen_vqa.cache.format.records.files import KINDS
from frozen_vqa.pipeline.system.console import size
from frozen_vqa.pipeline.system.texts import markdown_table

MARK = "<!-- Written by frozen-vqa, and again by its next push while this line is here. -->"

LICENCES = """The numbers in this cache were computed by the models above from the pictures and
questions above. We do not know what rights others have in them, and claim none. Before you share
or use them, read:

- the licence of the text model. For Llama it is Meta's Llama licence, which asks to be named and to
  be passed on, and limits the use; it may apply to what the model computes.
- the licence of the image model. DINOv2 has the Apache licence 2.0; other models have their own.
- the terms of the data. Questions, answers and picture ids are stored as they are. Pictures are
  not, but each has its features and 64 grey values.

A private place is right until you have read them."""


def render_card(manifest: Manifest, url: str) -> str:
    """Return the card of a cache as Markdown."""
    return f"""---
library_name: frozen-vqa
task_categories:
- visual-question-answering
---
{MARK}

# Features for visual question answering

{size(manifest.bytes)}: features of {manifest.image_rows:,} pictures and \
{manifest.question_rows:,} distinct questions, computed
once by frozen encoders. A head is trained from them without the encoders.

## Splits

{_splits(manifest)}
## Encoders

{_encoders(manifest)}
## Use

```
frozen-vqa pull {url} --to features
frozen-vqa train-head features --run runs/a
```

`pull --split NAME` brings the shards that one split needs, and `train-head {url}` reads from here.
Each byte is compared with the digest in `cache.json`.

## Licences

{LICENCES}
"""


def names_folders(manifest: Manifest) -> Sequence[str]:
    """Return the folders of a machine that a manifest names, which readers of it learn."""
    origins = [origin for kind in KINDS for origin in manifest.shards(kind).origins()]
    origins += [record.origin for record in manifest.splits.values()]
    texts = [*_texts(origins), *_texts(manifest.spec.settings())]
    texts += [failure.where for failure in manifest.failures]
    paths = {text.rpartition(":")[2] if ":/" in text else text for text in texts}
    return sorted(path for path in paths if Path(path).is_absolute())


def _splits(manifest: Manifest) -> str:
    rows: list[Sequence[str]] = [("split", "questions", "left out", "data set", "metric")]
    for name, record in manifest.splits.items():
        dataset = _short(str(record.origin.get("dataset") or ""))
        left = f"{record.left_out:,}"
        rows.append((name, f"{record.rows:,}", left, dataset, record.metric or ""))
    return markdown_table(rows)


def _encoders(manifest: Manifest) -> str:
    settings = manifest.spec.settings()
    rows = [("", ""), *((name, _short(str(value))) for name, value in settings.items())]
    grid = " x ".join(map(str, manifest.spec.grid))
    rows.append(("patches of a picture", f"{grid}, of {manifest.spec.vision_dim} numbers"))
    return markdown_table(rows)


def _short(name: str) -> str:
    """Return a name without the folders of the machine that made it."""
    kind, colon, rest = name.rpartition(":")
    return kind + colon + (Path(rest).name if Path(rest).is_absolute() else rest)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
