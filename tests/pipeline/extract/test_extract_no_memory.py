"""Memory that runs out while pictures or questions are encoded halves what is encoded at once."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError
from tests.support.extractions import run, shards
from tests.support.frozen import Images, Text
from tests.support.memory_errors import ERRORS


class Small:
    """Lets `work` fail for more than `most` of what it is given, in each way in turn."""

    def __init__(self, work: Callable, most: int, size: Callable[..., int]) -> None:
        self.work, self.most, self.size = work, most, size
        self.kinds, self.failed = itertools.cycle(ERRORS), 0

    def __call__(self, *args: object) -> object:
        if self.size(*args) > self.most:
            self.failed += 1
            raise next(self.kinds)()
        return self.work(*args)


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("step", ["pictures", "questions"])
def test_halves_give_the_same_cache(step: str, most: int, tmp_path: Path) -> None:
    run(tmp_path / "roomy", batch_size=8, shard_bytes=10**6)
    images, text = Images(), Text()
    small = Small((images if step == "pictures" else text).encode, most, len)
    (images if step == "pictures" else text).encode = small
    run(tmp_path / "tight", batch_size=8, shard_bytes=10**6, images=images, text=text)
    assert small.failed
    assert shards(tmp_path / "tight") == shards(tmp_path / "roomy")


def test_trees_of_half_the_questions_give_the_same_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to rounding: a tree has several questions, and a state sees its own beginnings alone."""
    found = []
    for most in (10**6, 4):
        text = TextEncoder("tiny")
        small = Small(text.encode_tree, most, lambda tokens, parents: len(tokens))
        monkeypatch.setattr(text, "encode_tree", small)
        run(tmp_path / str(most), text=text, shard_bytes=10**6)  # type: ignore[arg-type]
        questions = FeatureCache(tmp_path / str(most)).questions
        found.append([questions.states(row) for row in range(len(questions.texts))])
        assert bool(small.failed) == (most == 4)
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("kind", ERRORS)
def test_one_that_does_not_fit_alone_is_told(
    kind: Callable[[], Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Sequence[object]) -> torch.Tensor:
        raise kind()

    text, images = Text(), Images()
    monkeypatch.setattr(text, "encode", fail)
    with pytest.raises(ModelError, match=r"fake-text: a question of . tokens does not fit the mem"):
        run(tmp_path / "text", text=text)
    monkeypatch.setattr(images, "encode", fail)
    with pytest.raises(ModelError, match="fake-vision: one picture of 12 pixels does not fit the"):
        run(tmp_path / "images", images=images)
