"""The `ask` command: one picture and one question through the encoders and a trained head.

What is wrong with either, or with the run folder, is said before torch is loaded.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import numpy as np

from frozen_vqa.cache import CacheError, load_manifest
from frozen_vqa.cache.typed_json import FILE_PATH, UnfitValueError, decode
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.errors import ImageError, NotFiniteError, RunError
from frozen_vqa.pipeline.extract.plan import length_fault
from frozen_vqa.pipeline.runs.description import read_description
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import choose_device, encoder_dtype

if TYPE_CHECKING:  # these import torch
    import torch
    from PIL import Image

    from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
    from frozen_vqa.pipeline.runs.run import Run

Name = Annotated[str, FILE_PATH]
Size = Annotated[int, (1, 2**16)]


_Vision = TypedDict(
    "_Vision", {"model": Name, "revision": str, "image size": Size, "fit": Literal["whole", "crop"]}
)


class _Text(TypedDict):
    model: Name
    revision: str
    layer: Annotated[int, (-1000, 1000)]


class _Encoders(TypedDict):
    """What has to be known of the encoders to load them."""

    vision: _Vision
    text: _Text


def ask_command(*, run: Path, image: Path, question: str, top: int, device: str) -> dict[str, Any]:
    """Answer one question about one picture."""
    read_description(run)
    _require_question(question)
    picture = _read_picture(image)

    from frozen_vqa.pipeline.runs.run import load_run

    chosen = choose_device(device)
    answers = ask(load_run(run, chosen), picture, question, top=top, device=chosen)
    for answer, probability in answers:
        console.print(f"{100 * probability:5.1f} %  {answer}")
    return {
        "question": question,
        "image": str(image),
        "answers": [{"answer": a, "probability": round(p, 6)} for a, p in answers],
    }


def _require_question(question: str) -> None:
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


def _read_picture(image: Path) -> "Image.Image":
    try:
        return load_rgb(image)
    except ImageError as error:
        raise ImageError(f"{image}: {error}") from error


def run_encoders(run: "Run", device: "torch.device") -> "tuple[ImageEncoder, TextEncoder]":
    """Return the encoders whose features the head was trained on.

    The Hub is asked only for models of the run's cache, and stderr says so before.

    Raises:
        ModelError: if one cannot be loaded.
        RunError: if it is no longer the same checkpoint.
    """
    from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder

    try:
        asked = decode(_Encoders, run.encoders)
    except UnfitValueError as error:
        raise RunError(
            f"{run.path / 'config.json'}: encoders.{error}, so it does not say which encoders to "
            f"ask. Train the head from a cache that extract-features made."
        ) from None
    vision, text = asked["vision"], asked["text"]
    compute = encoder_dtype(device)
    strange = not _cache_knows(run)
    strangers = [
        part["model"]
        for part in (vision, text)
        if not (strange or part["model"] == TINY or os.path.isdir(part["model"]))
    ]
    if strangers:
        console.print(f"asking the Hub for {' and '.join(strangers)}")
    images = ImageEncoder(
        vision["model"],
        image_size=vision["image size"],
        fit=vision["fit"],
        device=device,
        compute_dtype=compute,
        local_only=strange,
    )
    words = TextEncoder(
        text["model"],
        layer=text["layer"],
        device=device,
        compute_dtype=compute,
        local_only=strange,
    )
    for trained, found in ((vision, images.settings), (text, words.settings)):
        if trained["revision"] != found["revision"]:
            raise RunError(
                f"{run.path}: trained on features of {trained['model']} at {trained['revision']}, "
                f"but that model is now at {found['revision']}; train the head again"
            )
    return images, words


def _cache_knows(run: "Run") -> bool:
    """Whether the cache of a run is here and holds features of the models that the run names.

    A run may come from anywhere, and could let this machine ask the Hub for any repository.
    """
    from frozen_vqa.pipeline.runs.run import encoder_settings

    try:
        spec = load_manifest(run.cache).spec
    except CacheError:  # another machine's
        return False
    return encoder_settings(spec) == run.encoders


def ask(
    run: "Run", picture: "Image.Image", question: str, *, top: int, device: "torch.device"
) -> list[tuple[str, float]]:
    """Return the most likely answers to a question about an RGB picture.

    Each has its probability, judged by itself (sigmoid).

    Raises:
        RunError: if the question is longer than the text encoder reads.
        NotFiniteError: if a number of the answer is not finite.
    """
    import torch

    from frozen_vqa.pipeline.extract.feature_encoder import patches_to_numpy

    images, words = run_encoders(run, device)
    tokens = words.tokens([question])
    if fault := length_fault(tokens[0], words):
        raise RunError(fault)
    with torch.inference_mode():
        patches, _ = images.encode(images.pixels(picture)[np.newaxis])
        states = words.encode(tokens)
        mask = torch.ones(1, *states.shape[:2], dtype=torch.bool, device=device)
        # Rounded between, as in the cache that the head was trained from.
        numbers, scales = patches_to_numpy(patches, run.dtype)
        logits: Any = run.model(
            torch.from_numpy(numbers).to(device),
            states.to(torch.float32 if run.dtype == "float32" else torch.float16).unsqueeze(0),
            mask,
            None if scales is None else torch.from_numpy(scales).to(device),
        )
    if not torch.isfinite(logits).all():
        raise NotFiniteError(
            f"{run.path}: the head's answer is not finite; its weights, or those of an encoder, "
            f"are too large. Take an earlier head, or train again with a lower --lr or --clip."
        )
    values, classes = logits[0].sigmoid().topk(min(top, logits.shape[-1]))
    return [
        (run.vocabulary.answers[i], float(value))
        for i, value in zip(classes.tolist(), values.tolist(), strict=True)
    ]
