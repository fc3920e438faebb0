"""A Hugging Face data set, by its name on the Hub or as parquet on this disk.

    hub:lmms-lab/VQAv2     downloaded and prepared as a whole by `datasets`, once
    hub:FOLDER             data/<split>-*.parquet, <split>.parquet, or what `datasets` can load
    hub:FILE.parquet       the split it is named after; any one split under another name

A local folder is read one split at a time. So of a large set, fetch the one you need first:
`hf download lmms-lab/VQAv2 --repo-type dataset --include "data/validation*" --local-dir FOLDER`.

Columns are those of `lmms-lab/VQAv2`; `columns` renames them. An empty name says that the set has
no such column: {"answers": ""} for a test split, {"image_id": ""} to tell pictures by content.
"""

import re
from collections.abc import Iterator, Mapping
from glob import escape
from pathlib import Path
from typing import Any

import xxhash

from pipeline.errors import ImageError, SourceError
from pipeline.examples import Id, VqaExample
from pipeline.sources import answers_of, did_you_mean, id_of, shown, split_like, text_of

FIELDS = ("image", "question", "answers", "question_id", "image_id", "question_type", "answer_type")
"""What a column can hold; each is also its default column name."""

_NEEDED = ("image", "question", "answers")
_HUB_NAME = re.compile(r"[^\W_][\w.-]*(/[^\W_][\w.-]*)?(?<!\.parquet)")
_BATCH = 1000
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

    def examples(self, split: str) -> list[VqaExample]:
        """Return the questions of `split` in the order of the data set.

        Raises:
            SourceError: if the set cannot be loaded, has no such split, lacks a column, or holds
                something else in it.
        """
        split, data = self._load(split)
        columns = self._present(data)
        self._pictures[split] = _picture_column(data, columns["image"], f"hub:{self._name}")
        del columns["image"]
        hashes = None if "image_id" in columns else _hashes(self._pictures[split])
        seen: dict[Id, int] = {}
        examples = []
        for row, record in enumerate(_records(data, columns)):
            where = f"hub:{self._name}, {split} row {row}"
            if hashes:
                record["image_id"] = next(hashes)
            example = _example(record, row, where)
            if example.question_id in seen:
                raise SourceError(
                    f"{where}: question_id {shown(example.question_id)} was used in row "
                    f"{seen[example.question_id]}; each must occur once. Name another column, or "
                    "none: --column question_id="
                )
            seen[example.question_id] = row
            examples.append(example)
        self._remember(examples, split)
        return examples

    def picture(self, image_id: Id) -> Path | bytes:
        """Fetch one picture, undecoded.

        Raises:
            ImageError: if the row has none.
        """
        split, row = self._rows[image_id]
        value = _value(self._pictures[split], row)
        if value["bytes"] is not None:
            return value["bytes"]
        if not value["path"]:
            raise ImageError("the row has no picture")
        if "://" in value["path"]:
            raise ImageError(f"the row has an address, {value['path']!r}, in place of the picture")
        folder = self._path if self._path.is_dir() else self._path.parent
        return folder / value["path"]

    def where(self, image_id: Id) -> str:
        """Return data set, split and row of a picture."""
        split, row = self._rows[image_id]
        return f"hub:{self._name}, {split} row {row}"

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

    def _remember(self, examples: list[VqaExample], split: str) -> None:
        """Keep the first row of each picture, and see that ids do not start anew in each split."""
        compared = 0
        for row, example in enumerate(examples):
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


def _hashes(pictures: Any) -> Iterator[str]:
    """Yield an id per row from the content of its picture, so that a picture is encoded once."""
    for row in range(len(pictures)):  # one at a time, to keep memory flat
        yield xxhash.xxh3_128_hexdigest(_content(_value(pictures, row)))


def _records(data: Any, columns: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the fields of each row without touching its picture."""
    texts = data.select_columns(list(set(columns.values())))
    classes = {  # a class is stored as its number; the name is what the author wrote
        field: texts.features[column]
        for field, column in columns.items()
        if hasattr(texts.features[column], "int2str")
    }
    for batch in texts.iter(batch_size=_BATCH):
        for values in zip(*(batch[column] for column in columns.values()), strict=True):
            record = dict(zip(columns, values, strict=True))
            yield {
                field: classes[field].int2str(value)
                if field in classes and value is not None
                else value
                for field, value in record.items()
            }


def _example(record: dict[str, Any], row: int, where: str) -> VqaExample:
    """Make an example of one row; optional texts may be null, as on a test split."""
    given = record.get("answers")
    if isinstance(given, dict):
        given = given.get("answer")  # older sets store a list of records so
    if isinstance(given, list):
        given = [answer.get("answer") if isinstance(answer, dict) else answer for answer in given]
    return VqaExample(
        question_id=id_of(record.get("question_id", row), "question_id", where),
        image_id=id_of(record["image_id"], "image_id", where),
        question=text_of(record["question"], "question", where),
        answers=answers_of(given, where),
        question_type=text_of(record.get("question_type") or "", "question_type", where),
        answer_type=text_of(record.get("answer_type") or "", "answer_type", where),
    )


def _sentence(where: str, error: Exception) -> str:
    """Say in one sentence why a data set did not load, and what mends it."""
    while isinstance(error.__cause__, Exception) and "occurred while generating" in str(error):
        error = error.__cause__  # such as a damaged file or a full disk
    reason = " ".join(str(error).split())
    for words, mend in _MENDS.items():
        if words in reason:
            return f"{where}: {mend}"
    return f"{where}: cannot be loaded ({type(error).__name__}: {reason[:300]}). Check the data."
