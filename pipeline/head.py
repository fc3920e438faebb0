"""A trained head that answers questions about pictures: from a run or the Hub, with its encoders.

It stands above the commands, because `ask` does what the command of that name does.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from frozen_vqa.pipeline.commands.ask import ask, run_encoders
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import RunError
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
    """

    ranked: tuple[tuple[str, float], ...]

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

    def ask(self, image: TakenPicture, question: str, *, top: int = 5) -> Answers:
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
        found = ask(self.run, picture, question, top=top, device=device, encoders=self._encoders)
        return Answers(tuple(found))


def _pick(image: TakenPicture) -> Path | bytes | Image.Image:
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    return Path(image) if isinstance(image, str) else image
