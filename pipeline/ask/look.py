"""Where a head looks while it answers, word by word."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from frozen_vqa.pipeline.ask.asker import Asker
from frozen_vqa.pipeline.encoders.pieces import token_spans
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.report.attention import Attended, watched
from frozen_vqa.pipeline.report.words import words_of
from frozen_vqa.pipeline.runs.run import Run


@dataclass(frozen=True)
class WordMaps:
    """What each word of a question attends to.

    Attributes:
        words: The words, after a start that stands for the token before the question.
        maps: (words, heads, rows, columns), each of which adds up to 1.
        question: (heads, rows, columns), what the whole question attends to.
    """

    words: tuple[str, ...]
    maps: np.ndarray
    question: np.ndarray


def look(
    asker: Asker, picture: Image.Image, questions: Sequence[str]
) -> tuple[Tensor, list[WordMaps]]:
    """Answer as `Asker.logits` does, and return where each question looked meanwhile.

    A head without attention to patches looks nowhere, so the list is empty.
    """
    with watched(asker.run.model) as seen:
        logits = asker.logits(picture, questions)
    if "patches" not in seen:
        return logits, []
    weights = seen["patches"][0].cpu().numpy()  # (questions, tokens, heads, patches)
    lengths = [len(asker.tokens(question)) for question in questions]
    return logits, [
        map_words(asker.run, question, weights[i, :length])
        for i, (question, length) in enumerate(zip(questions, lengths, strict=True))
    ]


def map_words(run: Run, question: str, weights: np.ndarray) -> WordMaps:
    """Join the (tokens, heads, patches) weights of a question to words, which may be numbered."""
    try:
        (spans,) = token_spans(run.encoders["text"], [question])
    except ModelError:  # the tokenizer is not at hand
        spans = []
    known = words_of(question, spans, len(weights))
    grid = run.model.config.grid
    return WordMaps(
        known.texts,
        known.mean(weights).reshape(len(known.texts), -1, *grid),
        Attended(weights, None).question_map().reshape(-1, *grid),
    )
