"""The rows of docs/bad-inputs.md about questions with choices, or about several pictures."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from frozen_vqa.cache import CacheError
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.train.data import load_train_data
from tests.support.bad_inputs import REFUSED
from tests.support.bad_inputs import Row as Found
from tests.support.caches import Row, make_cache
from tests.support.trainings import small

CHOSEN, OPEN = Row(0, 1, choices=(0, 1), right=1), Row(0, 0, ("a",))
PAIR, THREE = Row(0, 0, ("a",), more_images=(1,)), Row(0, 0, ("a",), more_images=(1, 2))


def trained(train: list[Row], val: list[Row], **changes: object) -> Callable[[Path], Found]:
    """A case of a training on splits with these questions."""

    def make(folder: Path) -> Found:
        made = make_cache(folder / "features", {"train": train, "val": val})
        config = small(**changes)
        with pytest.raises((CacheError, ConfigError)) as caught:
            load_train_data(made.directory, config).shape_head(config)
        return REFUSED, str(caught.value)

    return make


SEVERAL: Mapping[str, Callable[[Path], Found]] = {
    "a question without choices among those with": trained([CHOSEN], [CHOSEN, OPEN]),
    "no choices to validate with": trained([CHOSEN], [OPEN]),
    "a right choice that is not known": trained([Row(0, 1, choices=(0, 1))], [CHOSEN]),
    "a file of answers for questions with choices": trained(
        [CHOSEN], [CHOSEN], answers_file="answers.txt"
    ),
    "choices for a head that reads no text": trained([CHOSEN], [CHOSEN], fusion="image-only"),
    "questions about one picture and about two": trained([PAIR, OPEN], [PAIR]),
    "two pictures to train with, and three to validate with": trained([PAIR], [THREE]),
}
