"""A Hugging Face data set, by its name on the Hub or as parquet on this disk.

    hub:lmms-lab/VQAv2     `datasets` downloads and prepares all of it, once
    hub:FOLDER             data/<split>-*.parquet, <split>.parquet, or any layout of `datasets`
    hub:FILE.parquet       the split in its name; any one split if it has another name

Local parquet is read where it lies, one split at a time. So fetch only the split that you need:
`hf download lmms-lab/VQAv2 --repo-type dataset --include "data/validation*" --local-dir FOLDER`.

Columns are those of `lmms-lab/VQAv2`, or `answer` for the answers; `columns` renames them. An empty
name means that the set has no such column: {"answers": ""} for a test split, {"image_id": ""} to
know pictures by content.
"""

import os.path
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from frozen_vqa.pipeline.errors import ImageError, SourceError, is_out_of_memory
from frozen_vqa.pipeline.sources.example import Form, Id, LeftOut, VqaExample
from frozen_vqa.pipeline.sources.hub_files import (
    UNREADABLE,
    Layout,
    Rows,
    Table,
    find_layout,
)
from frozen_vqa.pipeline.sources.hub_rows import PictureColumn, example_of, fits, records_of
from frozen_vqa.pipeline.sources.selection import Selection, did_you_mean, split_like
from frozen_vqa.pipeline.sources.validation import id_or_none, shown

FIELDS = (
    *("image", "question", "answers", "question_id", "image_id", "question_type", "answer_type"),
    *("choices", "right_choice"),
)
"""The fields of a question; each is also its default column name."""
ANSWER = "answer"
"""The column of the answers if none is named `answers`."""
OTHERS = {
    "answers": (ANSWER, "direct_answers"),
    "question_id": ("questionId", "qid"),
    "image_id": ("imageId", "img_id"),
    "answer_type": ("category",),
    "right_choice": ("correct_choice_idx", ANSWER),
}
"""Other names of columns in copies of known data sets; one counts if its type fits the field."""

_NEEDED = ("image", "question", "answers")
_HUB_NAME = re.compile(r"[^\W_][\w.-]*(/[^\W_][\w.-]*)?(?<!\.parquet)")
_COMPARED = 16
"""Pictures of each split that are compared with those of the others."""

_MENDS = {  # by words in the message of `datasets` 5; the first match counts
    "scripts are no longer supported": "it is a loading script, which `datasets` no longer runs. "
    "Take a copy in parquet, or fetch the files and give their folder.",
    "is a gated dataset": "it is gated. Ask for access on its page on huggingface.co, then log "
    "in by `hf auth login`.",
    "Length of header": "a row of its CSV file has more cells than the header has names. Name each "
    "column, and put texts with a comma in quotation marks.",
    "Config name is missing": "it has several configurations. Fetch one by "
    "`hf download --repo-type dataset --include …` and give its folder.",
    "fflineMode": "offline mode is on (HF_HUB_OFFLINE) and it is not in the local cache. "
    "Switch it off for the first run, or give a local folder.",
    "Couldn't reach": "the Hub cannot be reached. Check the network, or give a local folder.",
    "doesn't exist": "there is no such folder here, and no such data set on the Hub that you may "
    "read. Check the name; a private one needs `hf auth login`.",
}


class HubSource:
    """The questions and pictures of one `datasets` data set."""

    def __init__(self, name: str, columns: Mapping[str, str] | None = None) -> None:
        """Raise `SourceError` if a field is unknown or a path does not exist; load nothing yet."""
        for field in columns or {}:
            if field not in FIELDS:
                raise SourceError(
                    f"--column {field}=…: no field {field!r}; there are {', '.join(FIELDS)}."
                    f"{did_you_mean(field, FIELDS)}"
                )
        self._place, self._columns = f"hub:{name}", dict(columns or {})
        self._path = Path(os.path.expanduser(name))
        self._is_local = self._path.exists()
        if not self._is_local and not _HUB_NAME.fullmatch(name):
            raise SourceError(f"hub:{name}: there is no such file or folder. Check the path.")
        self._name = str(self._path.resolve()) if self._is_local else name
        if self._is_local and "::" in self._name:
            raise SourceError(
                f"hub:{name}: its path holds '::', which `datasets` takes for an archive within "
                f"another. Rename the folder, or make a link without '::' and give that."
            )
        self.ids_are_digests = True  # of the bytes of the pictures, in all splits so far
        self._pictures: dict[str, PictureColumn] = {}  # by split
        self._rows: dict[Id, tuple[str, int]] = {}
        self._left_out: dict[str, list[LeftOut]] = {}
        self._layout: Layout | None = None
        self._found: dict[str, dict[str, str]] = {}  # columns by field, by the name of a split
        self._read_as: dict[str, str] = {}  # split of the data set: the name it was asked for by

    def examples(self, split: str) -> Sequence[VqaExample]:
        name, table = self._load(split)
        columns = self._found[split] = self._find_columns(table)
        pictures = self._pictures[name] = PictureColumn(table, columns["image"])
        hashes = None if "image_id" in columns else pictures.hashes()
        selection = Selection("row", {}, ". Rows are counted by --column question_id=")
        try:
            for row, (record, readers) in enumerate(records_of(self._place, table, columns)):
                if hashes:
                    record["image_id"] = next(hashes)
                question_id = id_or_none(record.get("question_id", row))
                make = partial(example_of, record, row, readers)
                selection.add(row, self._where(name, row), question_id, make)
        except UNREADABLE as error:
            raise SourceError(_explain(self._place, error)) from error
        selection.finish(f"{self._place}, {name}")
        self._remember(selection, name)
        self.ids_are_digests &= hashes is not None and not pictures.has_paths
        self._left_out[split] = selection.left_out
        return selection.examples

    def left_out(self, split: str) -> Sequence[LeftOut]:
        return self._left_out[split]

    def picture(self, image_id: Id) -> Path | bytes:
        """Return one picture, undecoded; raise `ImageError` if the row has none in the data set."""
        split, row = self._rows[image_id]
        try:
            content, path = self._pictures[split].value(row)
        except UNREADABLE as error:
            raise ImageError(f"cannot be read ({error})") from error
        if content is not None:
            return content
        if not path:
            raise ImageError("the row has no picture")
        if "://" in path:
            raise ImageError(f"the row has an address, {path!r}, in place of the picture")
        return self._require_inside(path)

    def where(self, image_id: Id) -> str:
        return self._where(*self._rows[image_id])

    def splits(self) -> Sequence[str]:
        """Return the splits of the set; none if it is a single file without a split's name."""
        return [name for name in self._find_layout().splits if name]

    def form(self, split: str) -> Form:
        return Form("a Hugging Face data set", self._place, self._found[split])

    def cure(self, image_id: Id) -> str:
        return ""  # pictures lie in the rows

    def _where(self, split: str, row: int) -> str:
        return f"{self._place}, {split} row {row}"

    def _require_inside(self, path: str) -> Path:
        """Return the file of a picture, which must lie in the data set's folder or in a cache."""
        import datasets
        from huggingface_hub.constants import HF_HUB_CACHE

        here = self._path if self._path.is_dir() else self._path.parent
        file = Path(os.path.abspath(here / path))  # as in `own/pictures.py`, a link is followed
        folders = [Path(HF_HUB_CACHE), Path(datasets.config.HF_DATASETS_CACHE)]
        if self._is_local:  # `datasets` gets the resolved path, and may return it
            folders += [here.absolute(), here.resolve()]
        if not any(file.is_relative_to(os.path.abspath(folder)) for folder in folders):
            raise ImageError(f"path {path!r} leaves the data folder; copy the picture there")
        return file

    def _load(self, asked: str) -> tuple[str, Table]:
        """Return the name of the split in this data set, and its rows."""
        layout = self._find_layout()
        split = self._match_split(asked, layout.splits)
        with self._explained():
            return split or asked, Table(layout.open(split))

    def _find_layout(self) -> Layout:
        if not self._layout:
            columns = {field: self._columns.get(field, field) for field in FIELDS}
            columns |= {} if "answers" in self._columns else {ANSWER: ANSWER}
            with self._explained():
                path = self._path if self._is_local else None
                self._layout = find_layout(self._name, path, columns)
        return self._layout

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what goes wrong with a data set into a `SourceError`."""
        try:
            yield
        except SourceError:
            raise
        except Exception as error:  # datasets, httpx, fsspec and pyarrow each have their own
            if is_out_of_memory(error):
                raise
            raise SourceError(_explain(self._place, error)) from error

    def _match_split(self, asked: str, splits: Collection[str]) -> str:
        """Return the one of `splits` that `asked` means; "" means a file without a split's name."""
        found = "" if list(splits) == [""] else split_like(asked, splits)
        if found is None:
            raise SourceError(
                f"{self._place}: no split {asked!r}; there are: {', '.join(splits) or 'none'}."
                f"{did_you_mean(asked, splits)}"
            )
        before = self._read_as.setdefault(found, asked)
        if before != asked and not found:
            raise SourceError(
                f"{self._place}: was read as split {before!r}, so it cannot be {asked!r} too. Name "
                f"the files {before}.parquet and {asked}.parquet, and give their folder."
            )
        if before != asked:
            raise SourceError(
                f"{self._place}: {asked!r} and {before!r} are one split here, {found!r}. "
                "Give each split once."
            )
        return found

    def _find_columns(self, table: Table) -> dict[str, str]:
        """Return the column of each field, which must be the same in all files of a split."""
        found = [self._columns_of(rows) for rows in table.files]
        for rows, columns in zip(table.files, found, strict=True):
            if odd := sorted(columns.items() ^ found[0].items()):
                raise SourceError(
                    f"{self._place}: column {odd[0][1]!r} is in {table.files[0].file} or in "
                    f"{rows.file}, but not in both. Give it to all files of the split or to none."
                )
        return found[0]

    def _columns_of(self, rows: Rows) -> dict[str, str]:
        names, present = rows.schema.names, {}
        for field in FIELDS:
            column = self._columns.get(field, field)
            if field not in self._columns and field not in names:
                others = [other for other in OTHERS.get(field, ()) if other in names]
                column = next((one for one in others if fits(rows, field, one)), column)
                if field == "answers" and ANSWER in names and "choices" not in names:
                    column = ANSWER  # or its type would not be found to be wrong
            if names.count(column) > 1:
                raise SourceError(
                    f"{self._place}: {names.count(column)} columns are named {column!r}. Rename "
                    "all but one."
                )
            if column in names:
                if field in ("choices", "right_choice") and field not in self._columns:
                    known = field == "choices" or "choices" in present
                    if not (known and fits(rows, field, column)):
                        continue  # a column of the owner's own
                present[field] = column
            elif column and (field in _NEEDED or field in self._columns):
                if field == "answers" and field not in self._columns and "choices" in names:
                    continue  # the right choice is the answer, where it is known
                if field == "image" and field not in self._columns and "imageId" in names:
                    raise SourceError(
                        f"{self._place}: no column 'image', because GQA's pictures are another "
                        "configuration. Read its official files: gqa:PATH."
                    )
                example = "question=query" if field == "question" else f"{field}=NAME"
                none = f", or --column {field}= if it has none" if field == "answers" else ""
                raise SourceError(
                    f"{self._place}: no column {column!r} for the {field}; there are: "
                    f"{', '.join(names)}. Name it by --column {example}{none}."
                )
        for field in ("image", "question"):
            if field not in present:
                raise SourceError(
                    f"--column {field}=: a column for the {field} is needed. Name it by --column "
                    f"{field}=NAME."
                )
        return present

    def _remember(self, selection: Selection, split: str) -> None:
        """Keep the first row of each picture; refuse ids that start anew in each split."""
        compared = 0
        for example in selection.examples:
            row = selection.numbers[example.question_id]
            before = self._rows.setdefault(example.image_id, (split, row))
            if before[0] == split or compared == _COMPARED:
                continue
            compared += 1  # a few suffice, because ids that start anew collide from the first
            there = self._pictures[before[0]].content(before[1])
            if there != self._pictures[split].content(row):
                raise SourceError(
                    f"{self._place}: image_id {shown(example.image_id)} is one picture in "
                    f"{before[0]} and another in {split}; one id must mean one picture. Tell them "
                    "apart by content: --column image_id="
                )


def _explain(where: str, error: BaseException) -> str:
    """Return in one sentence why a data set did not load, and what to do."""
    while isinstance(error.__cause__, Exception) and "occurred while generating" in str(error):
        error = error.__cause__  # such as a damaged file or a full disk
    reason = " ".join(str(error).split())
    for words, mend in _MENDS.items():
        if words in reason:
            return f"{where}: {mend}"
    return f"{where}: cannot be loaded ({type(error).__name__}: {reason[:300]}). Check the data."
