"""A trained head from a run or the Hub that answers questions about pictures."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from huggingface_hub import HfApi
from PIL import Image

from frozen_vqa.pipeline.ask.asked import load_file, require_question
from frozen_vqa.pipeline.ask.asker import Asker
from frozen_vqa.pipeline.ask.look import map_words
from frozen_vqa.pipeline.ask.space import write_space
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.reading import Reading, reading_of
from frozen_vqa.pipeline.errors import ImageError, RunError
from frozen_vqa.pipeline.report.attention import watched
from frozen_vqa.pipeline.runs import pretrained

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

    _asker: Asker | None = None

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
        require_question(question)
        reading = reading_of(self.run.encoders["vision"])
        picture, device = _load(image, reading), self.head.weight.device
        if self._asker is None or self._asker.device != device:
            self._asker = Asker(self.run, device)
        with watched(self) as seen:
            logits = self._asker.logits(picture, [question])
        answers = Answers(tuple(self._asker.rank(logits[0], top)))
        if not attention or "patches" not in seen:
            return answers
        known = map_words(self.run, question, seen["patches"][0, 0].cpu().numpy())
        return replace(answers, words=known.words, attention=known.maps)

    def push_to_hub(self, repo_id: str, *, space: bool = False, **options: Any) -> str:
        """Upload the run that the head was loaded from to the Hub.

        Args:
            repo_id: The repository, such as "user/name", which is made if it is not there.
            space: Whether to make a Space there instead of a model: a page that answers with this
                head, as `frozen-vqa serve` does.
            options: As in `huggingface_hub`. A Space takes `private`, `token`, `commit_message`,
                `branch` and `create_pr`.

        Raises:
            RunError: as `save_pretrained` does, or if a Space could not load the encoders.
        """
        if not space:
            return super().push_to_hub(repo_id, **options)
        api = HfApi(token=options.pop("token", None))
        private, branch = options.pop("private", None), options.pop("branch", None)
        with TemporaryDirectory() as place:
            self.save_pretrained(place)
            assert self.run is not None  # or that had failed
            write_space(self.run, Path(place), repo_id.rpartition("/")[2])
            made = api.create_repo(
                repo_id, private=private, exist_ok=True, repo_type="space", space_sdk="gradio"
            )
            return api.upload_folder(
                repo_id=made.repo_id,
                repo_type="space",
                folder_path=place,
                revision=branch,
                **options,
            )


def _load(image: TakenPicture, reading: Reading) -> Image.Image:
    """Return a picture in RGB, or raise `ImageError`."""
    if isinstance(image, str | Path):
        return load_file(Path(image), reading)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.shape[2:] not in ((), (3,)) or not image.size:
            raise ImageError(
                f"found an array of {image.dtype} {image.shape}; uint8 of (height, width, 3) or "
                f"(height, width) is needed"
            )
        image = Image.fromarray(image)
    return load_rgb(image, reading)
