"""A trained head that answers questions about pictures: from a run or the Hub, with its encoders.

It stands above the commands, because `ask` does what the command of that name does.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from frozen_vqa.pipeline.commands.ask import look_at, ranked, run_encoders
from frozen_vqa.pipeline.encoders.pieces import token_spans
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ModelError, RunError
from frozen_vqa.pipeline.report.words import words_of
from frozen_vqa.pipeline.runs import pretrained

if TYPE_CHECKING:
    from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder

TakenPicture = str | Path | bytes | Image.Image | np.ndarray
"""A file, the bytes of one, pixels, or an array: (height, width, 3) or (height, width) uint8."""


@dataclass(frozen=True)
class Answers:
    """What a head answers to one question about one picture.

    Attributes:
        ranked: The most likely answers, the first one most, each with its probability from 0 to 1.
            A head judges each answer by itself, so they need not add up to 1.
        words: The words of the question, after a start that stands for the token before it; ()
            without attention.
        attention: (words, heads, rows, columns) which patches of the picture, as the encoder sees
            it, each word attends to in the last layer; a map adds up to 1. None unless it was asked
            for, or if the head has no such attention.
    """

    ranked: tuple[tuple[str, float], ...]
    words: tuple[str, ...] = ()
    attention: np.ndarray | None = field(default=None, repr=False)

    @property
    def best(self) -> str:
        """The most likely answer."""
        return self.ranked[0][0]

    @property
    def probability(self) -> float:
        """Its probability."""
        return self.ranked[0][1]


class VqaHead(pretrained.VqaHead):
    """A head that the Hub's library can load, save and push, and that answers questions."""

    _encoders: "tuple[ImageEncoder, TextEncoder] | None" = None

    def ask(
        self, image: TakenPicture, question: str, *, top: int = 5, attention: bool = False
    ) -> Answers:
        """Answer a question about a picture.

        The first call loads the encoders whose features the head was trained on, which may take
        minutes and memory; later calls use them again.

        Raises:
            RunError: if the head is not that of a run, or the question is empty or too long.
            ImageError: if the picture cannot be read.
            ModelError: if an encoder cannot be loaded.
            PluginError: if the run names an encoder that the user has not named.
        """
        if self.run is None:
            raise RunError(
                "this head is not that of a run, so nothing says what its answers mean; load one "
                "with VqaHead.from_pretrained(RUN)"
            )
        device = self.head.weight.device
        picture = load_rgb(_pick(image))
        if self._encoders is None or self._encoders[0].device != device:
            self._encoders = run_encoders(self.run, device)
        images, words = self._encoders
        found = look_at(self.run, picture, question, images=images, words=words)
        answers = Answers(tuple(ranked(self.run, found.logits, top)))
        if not attention or found.to_patches is None:
            return answers
        weights = found.to_patches[0].cpu().numpy()  # (tokens, heads, patches)
        try:
            (spans,) = token_spans(self.run.encoders["text"], [question])
        except ModelError:  # tokens are numbered
            spans = []
        known = words_of(question, spans, len(weights))
        maps = known.mean(weights).reshape(len(known.texts), weights.shape[1], *self.config.grid)
        return replace(answers, words=known.texts, attention=maps)


def _pick(image: TakenPicture) -> Path | bytes | Image.Image:
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    return Path(image) if isinstance(image, str) else image
