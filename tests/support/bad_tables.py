"""The rows of docs/bad-inputs.md about own files of questions and the pictures that they name."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.extract.data_check import check_data, require_pictures
from frozen_vqa.pipeline.extract.plan import read_questions
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support.bad_inputs import LEFT_OUT, REFUSED, STORED, Row

GOOD = "question,image,answer\nWhat?,a.png,dog\n"
HEAD = "question,image,answer\n"


def table(
    content: str | bytes,
    name: str = "train.csv",
    *,
    sentence: str = "",
    pictures: tuple[str, ...] = ("a.png",),
    images: str = "",
    columns: Mapping[str, str] | None = None,
) -> Callable[[Path], Row]:
    """A case of one file of questions beside some pictures; `sentence` says how it is used."""

    def make(folder: Path) -> Row:
        for picture in pictures:
            (folder / picture).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(folder / picture)
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        elsewhere = folder / images if images else None
        return outcome(f"jsonl:{folder}", sentence, elsewhere, columns)

    return make


def outcome(
    spec: str, sentence: str, images: Path | None = None, columns: Mapping[str, str] | None = None
) -> Row:
    """The row of a data set: refused, with a question left out, or used as `sentence` says."""
    try:
        source = open_source(spec, images=images, columns=columns)
        checks = check_data(source, read_questions(source, ["train"]))
        require_pictures(source, checks, None)
    except SourceError as error:
        return REFUSED, str(error)
    (check,) = checks
    if check.left_out:
        fault = check.left_out[0]
        return LEFT_OUT, f"{fault.where}: {fault.reason}"
    assert sentence, "the case is used, and has to say how"
    assert not check.missing
    return STORED, sentence


def two_files(folder: Path) -> Row:
    (folder / "train.csv").write_text(GOOD)
    (folder / "train.jsonl").write_text("{}")
    return outcome(f"jsonl:{folder}", "")


def other_names(folder: Path) -> Row:
    for name in ("a", "b"):
        (folder / f"{name}.csv").write_text(GOOD)
    return outcome(f"jsonl:{folder}", "")


def no_folder_of_images(folder: Path) -> Row:
    (folder / "train.csv").write_text(GOOD)
    return outcome(f"jsonl:{folder}", "", folder / "imgs")


def row(image: str) -> str:
    return f"{GOOD}Where?,{image},cat\n"


ENTRIES = [{"question": "What?", "image": "a.png", "answer": "dog"}]

TABLES: dict[str, Callable[[Path], Row]] = {
    "CSV with semicolons and a byte order mark": table(
        b"\xef\xbb\xbf" + GOOD.replace(",", ";").encode(), sentence="as it is"
    ),
    "CSV in UTF-16 with tabs": table(GOOD.replace(",", "\t").encode("utf-16"), sentence="as it is"),
    "CSV that is named .jsonl": table(GOOD, "train.jsonl", sentence="the content decides"),
    "JSONL that is named .csv": table(json.dumps(ENTRIES[0]), sentence="the content decides"),
    "JSON list": table(json.dumps(ENTRIES), "train.json", sentence="as it is"),
    "list in a JSON object": table(
        json.dumps({"version": 2, "data": ENTRIES}), "train.json", sentence="the list"
    ),
    "JSON object with two lists": table('{"a": [1],\n"b": [2]}', "train.json"),
    "JSON list that is cut short": table('[{"question": "What?",\n "image"', "train.json"),
    "JSON list with an entry that is no object": table(
        json.dumps([*ENTRIES, "What?"]), "train.json"
    ),
    "CSV in Windows-1252": table(f"{HEAD}Où?,a.png,dog\n".encode("cp1252")),
    "CSV in UTF-16 without its mark": table(GOOD.encode("utf-16-le")),
    "UTF-16 that is cut short": table(GOOD.encode("utf-16")[:-1]),
    "quotation mark that is not closed": table(f'{HEAD}"What?,a.png,dog\n'),
    "comma in a text without quotation marks": table(f"{GOOD}Who, me?,a.png,cat\n"),
    "row with too few cells": table(f"{GOOD}Who?\n"),
    "row without an answer among others": table(f"{GOOD}Who?,a.png,\n"),
    "table without a row": table(HEAD),
    "names in capital letters or with spaces": table(
        "Question,File Name,ANSWER\nWhat?,a.png,dog\n", sentence="the same fields"
    ),
    "column that is nearly named as ours": table("question,image,anwser\nWhat?,a.png,dog\n"),
    "column of no known name": table("Frage,image,answer\nWhat?,a.png,dog\n"),
    "column named by --column": table(
        "Frage,image\nWhat?,a.png\n", columns={"question": "Frage"}, sentence="as that field"
    ),
    "--column with a name that is not there": table(GOOD, columns={"question": "Frage"}),
    "two columns of one field": table("question,Image,image\nWhat?,a.png,a.png\n"),
    "two columns of one name": table("question,image,x,x\nWhat?,a.png,1,2\n"),
    "several answers in a cell": table(
        'question,image,answers\nWhat?,a.png,"[""a"", ""b""]"\n', sentence="a JSON list"
    ),
    "several answers in a cell, as Python prints them": table(
        "question,image,answers\nWhat?,a.png,[x]\n" + "Who?,a.png,\"['a', 'b']\"\n"
    ),
    "backslashes in a path": table(
        row("sub\\b.png"), pictures=("a.png", "sub/b.png"), sentence="read as /"
    ),
    "path with a drive": table(row("C:\\pics\\a.png")),
    "path with a drive, and --images": table(
        f"{HEAD}What?,C:\\me\\pics\\a.png,dog\n",
        pictures=("pics/a.png",),
        images="pics",
        sentence="the file in --images that has the longest end of the path",
    ),
    "two paths that are one file in --images": table(
        f"{HEAD}What?,train/a.png,dog\nWhat?,val/a.png,cat\n", images="."
    ),
    "address in place of a path": table(row("https://example.org/a.png")),
    "pictures that lie in images/": table(GOOD, pictures=("images/a.png",)),
    "pictures in capital letters": table(GOOD, pictures=("A.PNG",)),
    "pictures with another ending": table(GOOD, pictures=("a.jpg",)),
    "no picture anywhere": table(GOOD, pictures=()),
    "folder of --images that is not there": no_folder_of_images,
    "folder with two files of a split": two_files,
    "folder whose files have other names than the split": other_names,
    "folder with one file of any name": table(
        GOOD, "questions.csv", sentence="one split of any name"
    ),
    "folder with metadata.csv": table(
        GOOD.replace("image", "file_name"), "metadata.csv", sentence="one split of any name"
    ),
    "folder of each split with metadata.csv": table(
        GOOD.replace("image", "file_name"),
        "train/metadata.csv",
        pictures=("train/a.png",),
        sentence="with the pictures in it",
    ),
}
