"""The `ask` command: one picture and one question through the encoders and a trained head.

What is wrong with either, or with the run folder, is said before torch is loaded.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from frozen_vqa.cache import CacheError, load_manifest
from frozen_vqa.pipeline.encoders.own_model import is_own_model
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.errors import ImageError, NotFiniteError, RunError
from frozen_vqa.pipeline.extract.plan import length_fault
from frozen_vqa.pipeline.plugins import trusted
from frozen_vqa.pipeline.runs.description import read_description
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import choose_device, encoder_dtype

if TYPE_CHECKING:  # these import torch
    import torch
    from PIL import Image

    from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
    from frozen_vqa.pipeline.report.attention import Look
    from frozen_vqa.pipeline.runs.run import Run


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
        PluginError: if the run names code that the user has not named.
        RunError: if it is no longer the same checkpoint.
    """
    from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder

    vision, text = run.encoders["vision"], run.encoders["text"]
    compute = encoder_dtype(device)
    strange = not _cache_knows(run)
    own = [part["model"] for part in (vision, text) if is_own_model(part["model"])]
    for name in own:
        trusted(name, where=run.path, option="--encoder")
    asked = [
        part["model"]
        for part in (vision, text)
        if not (strange or part["model"] in (TINY, *own) or os.path.isdir(part["model"]))
    ]
    if asked:
        console.print(f"asking the Hub for {' and '.join(asked)}")
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
    run: "Run",
    picture: "Image.Image",
    question: str,
    *,
    top: int,
    device: "torch.device",
    encoders: "tuple[ImageEncoder, TextEncoder] | None" = None,
) -> list[tuple[str, float]]:
    """Return the most likely answers to a question about an RGB picture, as `look_at` has them."""
    images, words = encoders or run_encoders(run, device)
    found = look_at(run, picture, question, images=images, words=words)
    return ranked(run, found.logits, top)


def ranked(run: "Run", logits: "torch.Tensor", top: int) -> list[tuple[str, float]]:
    """Return the most likely answers of (1, answers) logits, each with its probability.

    A head judges each answer by itself, so it is a sigmoid.
    """
    values, classes = logits[0].sigmoid().topk(min(top, logits.shape[-1]))
    pairs = zip(classes.tolist(), values.tolist(), strict=True)
    return [(run.vocabulary.answers[i], float(value)) for i, value in pairs]


def look_at(
    run: "Run",
    picture: "Image.Image",
    question: str,
    *,
    images: "ImageEncoder",
    words: "TextEncoder",
) -> "Look":
    """Answer a question about an RGB picture with a head and its encoders.

    Raises:
        RunError: if the question is empty, or longer than the text encoder reads.
        NotFiniteError: if a number of the answer is not finite.
    """
    import torch

    from frozen_vqa.pipeline.batches.batch import FeatureBatch
    from frozen_vqa.pipeline.extract.feature_encoder import patches_to_numpy
    from frozen_vqa.pipeline.report.attention import look

    _require_question(question)
    device = words.device
    tokens = words.tokens([question])
    if fault := length_fault(tokens[0], words):
        raise RunError(fault)
    # Rounded between, as in the cache that the head was trained from.
    numbers, scales = patches_to_numpy(
        images.encode(images.pixels(picture)[np.newaxis])[0], run.dtype
    )
    stored = torch.float32 if run.dtype == "float32" else torch.float16
    length = len(tokens[0])
    batch = FeatureBatch(
        image_rows=torch.zeros(1, dtype=torch.long, device=device),
        patch_embeddings=torch.from_numpy(numbers).to(device),
        patch_scales=None if scales is None else torch.from_numpy(scales).to(device),
        hidden_states=words.encode(tokens)[0].to(stored),
        picture_prefixes=torch.arange(length, device=device)[None],
        token_prefixes=None,
        attention_mask=torch.ones(1, 1, length, dtype=torch.bool, device=device),
        question_slots=torch.zeros(1, dtype=torch.long, device=device),
        questions=np.zeros(1, dtype=np.int64),
    )
    found = look(run.model, batch)
    if not torch.isfinite(found.logits).all():
        raise NotFiniteError(
            f"{run.path}: the head's answer is not finite; its weights, or those of an encoder, "
            f"are too large. Take an earlier head, or train again with a lower --lr or --clip."
        )
    return found
