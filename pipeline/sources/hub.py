"""A Hugging Face data set, by its name on the Hub or as parquet on this disk.

    hub:lmms-lab/VQAv2     downloaded and prepared as a whole by `datasets`, once
    hub:FOLDER             data/<split>-*.parquet, <split>.parquet, or what `datasets` can load
    hub:FILE.parquet       the split it is named after; any one split under another name

A local folder is read one split at a time. So of a large set, fetch the one you need first:
`hf download lmms-lab/VQAv2 --repo-type dataset --include "data/validation*" --local-dir FOLDER`.

Columns are those of `lmms-lab/VQAv2`; `columns` renames them. An empty name says that the set has
no such column: {"answers": ""} for a test split, {"image_id": ""} to tell pictures by content.
"""

import os.path
import re
from collections.abc import Iterator, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

import xxhash

from frozen_vqa.pipeline.errors import ImageError, SourceError
from frozen_vqa.pipeline.sources.example import Id, LeftOut, VqaExample
from frozen_vqa.pipeline.sources.hub_rows import classes_of, example_of, records_of
from frozen_vqa.pipeline.sources.split_names import did_you_mean, split_like
from frozen_vqa.pipeline.sources.validation import UnusableError, id_or_none, require_some, shown

FIELDS = ("image", "question", "answers", "question_id", "image_id", "question_type", "answer_type")
"""What a column can hold; each is also its default column name."""

_NEEDED = ("image", "question", "answers")
_HUB_NAME = re.compile(r"[^\W_][\w.-]*(/[^\W_][\w.-]*)?(?<!\.parquet)")
_MENDS = {  # by what the message of `datasets` 5 contains; the first that fits
    "scripts are no longer supported": "it is a loading script, which `datasets` no longer runs. "
    "Take a copy in parquet, or fetch the files and give their folder.",
    "is a gated dataset": "it is gated. Ask for access on its page on huggingface.co, then log "
    "in by `hf auth login`.",
    "Config name is missing": "it has several configurations. Fetch one by "
    "`hf download --repo-type dataset --include …` and give its folder.",
    "fflineMode": "offline mode is on (HF_HUB_OFFLINE) and it is not in the local cache. "
    "Switch it off for the first run, or give a local folder.",
    "Couldn't reach": "the Hub cannot be reached. Check the network, or give a local folder.",
    "BatchSize must be greater than 0": "a parquet file has no rows, and a split needs one at "
    "least. Check the file, or ask for another split.",
    "doesn't exist": "there is no such folder here, and no such data set on the Hub that you may "
    "read. Check the name; a private one needs `hf auth login`.",
}
_COMPARED = 16


class HubSource:
    """The questions and pictures of one `datasets` data set."""

    def __init__(self, name: str, columns: Mapping[str, str] | None = None) -> None:
        """Check the arguments. Nothing is loaded yet.

        Args:
            name: Name on the Hub, or path of a folder or parquet file.
            columns: Column name by field, where it differs from the default; see above.

        Raises:
            SourceError: if a field is unknown, or a path does not exist.
        """
        for field in columns or {}:
            if field not in FIELDS:
                raise SourceError(
                    f"--column {field}=…: no field {field!r}; there are {', '.join(FIELDS)}."
                    f"{did_you_mean(field, FIELDS)}"
                )
        self._name, self._columns = name, dict(columns or {})
        self._path = Path(name).expanduser()
        self._is_local = self._path.exists()
        if not self._is_local and not _HUB_NAME.fullmatch(name):
            raise SourceError(f"hub:{name}: there is no such file or folder. Check the path.")
        self._file_split: str | None = None
        self._pictures: dict[str, Any] = {}  # split: its picture column, a datasets.Dataset
        self._rows: dict[Id, tuple[str, int]] = {}
        self._left_out: dict[str, list[LeftOut]] = {}
        self._read_as: dict[str, str] = {}  # split of the data set: the name it was asked for by

    def examples(self, split: str) -> list[VqaExample]:
        """Return the questions of `split` that can be used, in the order of the data set.

        Raises:
            SourceError: if the set cannot be loaded, has no such split, lacks a column, or no row
                can be used.
        """
        name, data = self._load(split)
        place = f"hub:{self._name}, {name}"
        columns = self._present(data)
        self._pictures[name] = _picture_column(data, columns["image"], f"hub:{self._name}")
        del columns["image"]
        hashes = None if "image_id" in columns else _hashes(self._pictures[name])
        classes = classes_of(data, columns)
        first: dict[Id, int] = {}
        examples: list[VqaExample] = []
        left_out: list[LeftOut] = []
        for row, record in enumerate(records_of(data, columns)):
            if hashes:
                record["image_id"] = next(hashes)
            try:
                example = example_of(record, row, classes)
                if example.question_id in first:
                    raise UnusableError(
                        f"question_id {shown(example.question_id)} was used before, in row "
                        f"{first[example.question_id]}; the first is kept. Rows are counted by "
                        "--column question_id="
                    )
            except UnusableError as error:
                question_id = id_or_none(record.get("question_id", row))
                left_out.append(LeftOut(question_id, f"{place} row {row}", str(error)))
            else:
                first[example.question_id] = row
                examples.append(example)
        require_some(examples, left_out, place)
        self._remember(examples, first, name)
        self._left_out[split] = left_out
        return examples

    def left_out(self, split: str) -> Sequence[LeftOut]:
        """Return the rows that `examples(split)` could not use."""
        return self._left_out[split]

    def picture(self, image_id: Id) -> Path | bytes:
        """Fetch one picture, undecoded.

        Raises:
            ImageError: if the row has none, or one outside the data set.
        """
        split, row = self._rows[image_id]
        value = _value(self._pictures[split], row)
        if value["bytes"] is not None:
            return value["bytes"]
        if not value["path"]:
            raise ImageError("the row has no picture")
        if "://" in value["path"]:
            raise ImageError(f"the row has an address, {value['path']!r}, in place of the picture")
        return self._file(value["path"])

    def where(self, image_id: Id) -> str:
        """Return data set, split and row of a picture."""
        split, row = self._rows[image_id]
        return f"hub:{self._name}, {split} row {row}"

    def _file(self, path: str) -> Path:
        """Return the file of a picture, which must lie in the data set's folder or in a cache.

        Only the path is judged: a link that the owner of the folder has put there is followed.
        """
        import datasets
        from huggingface_hub.constants import HF_HUB_CACHE

        here = self._path if self._path.is_dir() else self._path.parent
        file = Path(os.path.abspath(here / path))
        folders = [Path(HF_HUB_CACHE), Path(datasets.config.HF_DATASETS_CACHE)]
        if self._is_local:  # `datasets` is given the resolved path, and may give it back
            folders += [here.absolute(), here.resolve()]
        if not any(file.is_relative_to(os.path.abspath(folder)) for folder in folders):
            raise ImageError(f"path {path!r} leaves the data folder; copy the picture there")
        return file

    def _load(self, asked: str) -> tuple[str, Any]:
        """Return the name of the split in this data set, and its `datasets.Dataset`."""
        import datasets

        files = _parquet_files(self._path) if self._is_local else {}
        try:
            if files:
                split = self._file_of(asked, files)
                paths = [escape(str(file)) for file in files[split]]
                builder = datasets.load_dataset_builder("parquet", data_files={"train": paths})
                builder.download_and_prepare()
                return asked if split == "" else split, builder.as_dataset(split="train")
            path = str(self._path.resolve()) if self._is_local else self._name
            builder = datasets.load_dataset_builder(path)
            split = self._known(asked, list(builder.info.splits or builder.config.data_files or ()))
            builder.download_and_prepare()
            return split, builder.as_dataset(split=split)
        except SourceError:
            raise
        except Exception as error:  # datasets, httpx, fsspec and pyarrow each have their own
            raise SourceError(_sentence(f"hub:{self._name}", error)) from error

    def _file_of(self, asked: str, files: dict[str, list[Path]]) -> str:
        """Return the key of `files` to read; "" is a file that is named after no split."""
        if list(files) != [""]:
            return self._known(asked, list(files))
        if self._file_split not in (None, asked):
            raise SourceError(
                f"hub:{self._name}: was read as split {self._file_split!r}, so it cannot be "
                f"{asked!r} too. Name the files {self._file_split}.parquet and {asked}.parquet, "
                "and give their folder."
            )
        self._file_split = asked
        return ""

    def _known(self, asked: str, splits: list[str]) -> str:
        found = split_like(asked, splits)
        if found is None:
            raise SourceError(
                f"hub:{self._name}: no split {asked!r}; there are: {', '.join(splits) or 'none'}."
                f"{did_you_mean(asked, splits)}"
            )
        before = self._read_as.setdefault(found, asked)
        if before != asked:
            raise SourceError(
                f"hub:{self._name}: {asked!r} and {before!r} are one split here, {found!r}. "
                "Give each split once."
            )
        return found

    def _present(self, data: Any) -> dict[str, str]:
        """Return the column of each field that this data set has."""
        present = {}
        for field in FIELDS:
            column = self._columns.get(field, field)
            if column in data.column_names:
                present[field] = column
            elif column and (field in _NEEDED or field in self._columns):
                example = "question=query" if field == "question" else f"{field}=NAME"
                none = f", or --column {field}= if it has none" if field == "answers" else ""
                raise SourceError(
                    f"hub:{self._name}: no column {column!r} for the {field}; there are: "
                    f"{', '.join(data.column_names)}. Name it by --column {example}{none}."
                )
        for field in ("image", "question"):
            if field not in present:
                raise SourceError(f"--column {field}=: a column for the {field} is needed.")
        return present

    def _remember(self, examples: list[VqaExample], rows: Mapping[Id, int], split: str) -> None:
        """Keep the first row of each picture, and see that ids do not start anew in each split."""
        compared = 0
        for example in examples:
            row = rows[example.question_id]
            before = self._rows.setdefault(example.image_id, (split, row))
            if before[0] == split or compared == _COMPARED:
                continue
            compared += 1  # a few will do, for ids that start anew collide from the first
            here, there = self._pictures[split], self._pictures[before[0]]
            if _content(_value(there, before[1])) != _content(_value(here, row)):
                raise SourceError(
                    f"hub:{self._name}: image_id {shown(example.image_id)} is one picture in "
                    f"{before[0]} and another in {split}; one id must mean one picture. Tell them "
                    "apart by content: --column image_id="
                )


def _parquet_files(path: Path) -> dict[str, list[Path]]:
    """Return the parquet files of each split in a plain layout; none where there is another."""
    if path.is_file():
        split = split_like(_split_in(path), ("train", "val", "test", "test-dev"))
        return {_split_in(path) if split else "": [path]}
    files: dict[str, list[Path]] = {}
    folder = path / "data" if any((path / "data").glob("*.parquet")) else path
    for file in sorted(folder.glob("*.parquet")):
        files.setdefault(_split_in(file), []).append(file)
    return files


def _split_in(file: Path) -> str:
    """Return "validation" of "validation-00000-of-00068.parquet"."""
    return re.sub(r"-\d+(-of-\d+)?(-[0-9a-f]+)?$", "", file.stem)


def _picture_column(data: Any, column: str, where: str) -> Any:
    """Return the picture column as bytes or a path, so that rows are never decoded."""
    import datasets

    feature = data.features[column]
    of_image = isinstance(feature, dict) and {"bytes", "path"} & set(feature)
    plain = getattr(feature, "dtype", "") in ("string", "large_string", "binary", "large_binary")
    if not (isinstance(feature, datasets.Image) or of_image or plain):
        raise SourceError(
            f"{where}: column {column!r} holds {feature}, and pictures are needed. Name the "
            "picture column by --column image=NAME."
        )
    return data.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def _value(pictures: Any, row: int) -> dict[str, Any]:
    (value,) = pictures[row].values()
    return value or {"bytes": None, "path": None}


def _content(value: dict[str, Any]) -> bytes:
    return value["bytes"] if value["bytes"] is not None else (value["path"] or "").encode()


def _hashes(pictures: Any) -> Iterator[str | None]:
    """Yield an id per row from the content of its picture, so that a picture is encoded once."""
    for row in range(len(pictures)):  # one at a time, to keep memory flat
        content = _content(_value(pictures, row))
        yield xxhash.xxh3_128_hexdigest(content) if content else None


def _sentence(where: str, error: Exception) -> str:
    """Say in one sentence why a data set did not load, and what mends it."""
    while isinstance(error.__cause__, Exception) and "occurred while generating" in str(error):
        error = error.__cause__  # such as a damaged file or a full disk
    reason = " ".join(str(error).split())
    for words, mend in _MENDS.items():
        if words in reason:
            return f"{where}: {mend}"
    return f"{where}: cannot be loaded ({type(error).__name__}: {reason[:300]}). Check the data."
