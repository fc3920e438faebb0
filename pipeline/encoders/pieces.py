"""Which characters of a question each token covers, from the tokenizer alone: no model is loaded.

A cache holds tokens as numbers. The tokenizer that made them is found on this machine by the name
and revision that the cache records; the Hub is never asked.
"""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.cache.typed_json import Json
from frozen_vqa.pipeline.encoders.checkpoint import weights_digest
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import ModelError, reason_of

FILE = "tokenizer.json"
_COMMIT = re.compile("[0-9a-f]{40}")
LARGEST_FILE = 64 << 20
"""Bytes of a tokenizer that are read; that of Llama 3 has 9 million."""

Span = tuple[int, int]


def token_spans(text: Mapping[str, Json], questions: Sequence[str]) -> list[list[Span]]:
    """Return the first and one past the last character of each token, without BOS.

    Args:
        text: The settings of the text encoder, as in `CacheSpec.text`.
        questions: The questions as their authors wrote them.

    Raises:
        ModelError: if the tokenizer is not on this machine, or no longer the same.
    """
    from tokenizers import Tokenizer

    path = _find(str(text.get("model")), str(text.get("revision")))
    try:
        tokenizer = Tokenizer.from_buffer(read_file(path, most=LARGEST_FILE))
        tokenizer.encode_special_tokens = True  # what looks like a control token stays text
        tokenizer.no_truncation()
        tokenizer.no_padding()
        found = tokenizer.encode_batch(list(questions), add_special_tokens=False)
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"{path}: the tokenizer cannot be read ({reason_of(error)})") from error
    return [one.offsets for one in found]


def _find(model: str, revision: str) -> Path:
    """Return the file of the tokenizer of a model at a revision, or raise `ModelError`."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    folder = tiny_checkpoint("text") if model == TINY else Path(model)
    if model == TINY or os.path.isdir(folder):
        if weights_digest(folder) != revision:
            raise ModelError(f"{model}: the text model has changed since the cache was made")
        return folder / FILE
    found = None
    if _COMMIT.fullmatch(revision):  # anything else might lead out of the Hub's own folder
        with suppress(HFValidationError):  # a folder of another machine
            found = try_to_load_from_cache(model, FILE, revision=revision)
    if not isinstance(found, str):
        raise ModelError(f"{model}: the tokenizer of the text model is not on this machine")
    return Path(found)
