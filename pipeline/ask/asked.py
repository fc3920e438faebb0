"""What `ask` is asked: questions about a picture, about each picture of a folder, or of a file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from frozen_vqa.pipeline.encoders.preprocess import AS_IT_IS, load_rgb
from frozen_vqa.pipeline.encoders.reading import Reading
from frozen_vqa.pipeline.errors import ImageError, RunError
from frozen_vqa.pipeline.sources.example import Id, Source
from frozen_vqa.pipeline.sources.open_source import open_source

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".jp2", ".j2k", ".avif", ".dcm"),
)


@dataclass(frozen=True)
class Asked:
    """One picture with the questions about it.

    Attributes:
        name: Its path, or the image id in a file of questions.
        load: Returns its RGB pixels; raises `ImageError` if they cannot be read.
        ids: The ids of the questions in a file of questions; else none.
    """

    name: str
    load: Callable[[], Image.Image]
    questions: Sequence[str]
    ids: Sequence[Id] = ()


def ask_about(image: Path, questions: Sequence[str], reading: Reading = AS_IT_IS) -> list[Asked]:
    """Return what is asked about one picture, or about all pictures in a folder, by name.

    Pictures are read as those that the run was trained on.

    Raises `RunError` if a question cannot be one, or the folder holds no picture.
    """
    for question in questions:
        require_question(question)
    if not image.is_dir():
        return [Asked(str(image), partial(load_file, image, reading), questions)]
    found = sorted(path for path in image.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise RunError(
            f"{image}: there is no picture in this folder ({', '.join(SUFFIXES)}); name a picture, "
            f"or the folder that holds some"
        )
    return [Asked(str(path), partial(load_file, path, reading), questions) for path in found]


def ask_from(file: Path, reading: Reading = AS_IT_IS) -> tuple[list[Asked], list[str]]:
    """Return the questions of a file, and why others of it cannot be used.

    The file is one that `--dataset jsonl:FILE` reads; its answers, if it has any, do not count.
    Raises `SourceError` if it cannot be read, or no question in it can be used.
    """
    source = open_source(f"jsonl:{file}")
    split = file.stem
    by_image: dict[Id, list[tuple[str, Id]]] = {}
    for example in source.examples(split):
        by_image.setdefault(example.image_id, []).append((example.question, example.question_id))
    asked = [
        Asked(
            str(image_id),
            partial(_load_from, source, image_id, reading),
            [question for question, _ in pairs],
            [question_id for _, question_id in pairs],
        )
        for image_id, pairs in by_image.items()
    ]
    return asked, [f"{one.where}: {one.reason}" for one in source.left_out(split)]


def load_file(image: Path, reading: Reading = AS_IT_IS) -> Image.Image:
    """Return the pixels of a file; raise `ImageError`, which names it."""
    try:
        return load_rgb(image, reading)
    except ImageError as error:
        raise ImageError(f"{image}: {error}") from error


def _load_from(source: Source, image_id: Id, reading: Reading) -> Image.Image:
    try:
        return load_rgb(source.picture(image_id), reading)
    except ImageError as error:
        raise ImageError(f"{source.where(image_id)}: {error}") from error


def require_question(question: str) -> None:
    """Raise `RunError` unless a question can be asked."""
    if not question.strip():
        raise RunError("the question is empty; ask something about the picture")
    try:
        question.encode()
    except UnicodeEncodeError as error:  # a byte that Python could not decode, or half of a pair
        raise RunError(
            f"the question {question!a:.60} is not UTF-8 at character {error.start + 1}; "
            f"write it in UTF-8"
        ) from None
    if "\0" in question:
        raise RunError("the question holds a NUL; remove that character")
