"""Turn an easy-VQA folder into one that `frozen-vqa --dataset jsonl:OUT` reads.

    python examples/easy_vqa_to_jsonl.py SOURCE OUT

    SOURCE/train/questions.json   [["what color is the shape?", "blue", 0], …]
    SOURCE/train/images/0.png     and the same under SOURCE/test
    OUT/train.jsonl, OUT/test.jsonl
    OUT/images/train/0.png        hard links to SOURCE where the disk allows, else copies

Image ids start again at 0 in `test`, so the records hold none: each picture is known by its path.
easy-VQA: https://github.com/vzhou842/easy-VQA (MIT).
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

SPLITS = ("train", "test")

# A question gets the first type that it starts with, so longer types come first.
QUESTION_TYPES = (
    "what is the color",
    "what is the",
    "what color",
    "what shape",
    "does the image not",
    "does the image",
    "is there not",
    "is there",
    "is no",
    "is a",
)


def convert(source: Path, out: Path) -> str:
    """Write `out` and return one line that describes it.

    Raises:
        ValueError: if `source` is not an easy-VQA folder.
        OSError: if a file cannot be read or written.
    """
    if not source.is_dir():
        raise ValueError(f"{source}: there is no such folder")
    # Everything is read before anything is written, so that a wrong SOURCE leaves no partial OUT.
    splits = {split: read_questions(source / split / "questions.json") for split in SPLITS}
    written, first_id = [], 1
    for split, questions in splits.items():
        images = sorted({image_id for _, _, image_id in questions})
        place_pictures(source / split / "images", out / "images" / split, images)
        lines = [
            json.dumps(record(split, first_id + number, *question))
            for number, question in enumerate(questions)
        ]
        temporary = out / f"{split}.jsonl.tmp"
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        temporary.replace(out / f"{split}.jsonl")
        first_id += len(questions)
        written.append(f"{split}: {len(questions):,} questions about {len(images):,} pictures")
    return f"Wrote {out} ({'; '.join(written)}). Use it as --dataset jsonl:{out}"


def read_questions(file: Path) -> list[tuple[str, str, int]]:
    """Return question, answer and image id of each entry.

    Raises:
        ValueError: if the file is missing or not in the form of easy-VQA.
    """
    if not file.is_file():
        raise ValueError(f"{file}: there is no such file; SOURCE must be an easy-VQA `data` folder")
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: is not JSON ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{file}: it must be a list of [question, answer, image id]")
    for number, entry in enumerate(entries):
        match entry:
            case [str(), str(), int()]:
                continue
        raise ValueError(
            f"{file}: entry {number} is {entry!r:.60}, but must be [question, answer, image id]"
        )
    return [(question, answer, image_id) for question, answer, image_id in entries]


def record(
    split: str, question_id: int, question: str, answer: str, image_id: int
) -> dict[str, str | int]:
    """Return one line of the JSON Lines file."""
    return {
        "image": f"images/{split}/{image_id}.png",
        "question": question,
        "answer": answer,
        "question_id": question_id,
        "question_type": question_type(question),
        "answer_type": "yes/no" if answer in ("yes", "no") else "other",
    }


def question_type(question: str) -> str:
    """Return the start of the question: one of `QUESTION_TYPES`, or else its first two words."""
    for start in QUESTION_TYPES:
        if question.startswith(f"{start} "):
            return start
    return " ".join(question.split()[:2])


def place_pictures(source: Path, out: Path, image_ids: Sequence[int]) -> None:
    """Put `<id>.png` of each image into `out`.

    Raises:
        ValueError: if pictures are missing; then nothing is placed.
    """
    missing = [image_id for image_id in image_ids if not (source / f"{image_id}.png").is_file()]
    if missing:
        shown = ", ".join(f"{image_id}.png" for image_id in missing[:5])
        raise ValueError(f"{source}: {len(missing)} of {len(image_ids)} pictures missing ({shown})")
    out.mkdir(parents=True, exist_ok=True)
    for image_id in image_ids:
        picture, place = source / f"{image_id}.png", out / f"{image_id}.png"
        if place.exists() and place.samefile(picture):
            continue
        place.unlink(missing_ok=True)
        try:
            os.link(picture, place)
        except OSError:  # another disk, or a file system without hard links
            shutil.copyfile(picture, place)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description="Turn an easy-VQA folder into JSON Lines.")
    parser.add_argument("source", type=Path, help="folder with train/ and test/ of easy-VQA")
    parser.add_argument("out", type=Path, help="folder to write train.jsonl and test.jsonl to")
    options = parser.parse_args(arguments)
    if options.source.resolve() == options.out.resolve():
        parser.error("SOURCE and OUT must be two folders")
    try:
        print(convert(options.source, options.out))
    except (ValueError, OSError) as error:
        print(f"easy_vqa_to_jsonl: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
