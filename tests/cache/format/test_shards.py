"""What a shard says of its rows: the largest number, and the name of one that is not finite."""

from dataclasses import replace

import numpy as np
import pytest

from frozen_vqa.cache import CacheError
from frozen_vqa.cache.format.shards import NewQuestions, image_shard, question_shard
from tests.support.caches import TEXT_DIM, make_spec, new_images
from tests.support.writing import CLS, IDS, PICTURES


@pytest.mark.parametrize("factor", [2.0**-8, 1, 2.0**8])
def test_the_largest_number_of_pictures_and_of_states(factor: float) -> None:
    pictures, cls = (factor * PICTURES).astype(np.float16), (factor * CLS).astype(np.float16)
    record = image_shard(make_spec(), new_images(IDS, pictures, cls)).record
    assert record.largest == max(np.abs(pictures).max(), np.abs(cls).max())
    states = (factor * np.linspace(-0.5, 0.25, 3 * TEXT_DIM)).reshape(3, TEXT_DIM)
    assert question_shard(make_spec(), questions(states)).record.largest == np.float16(factor / 2)


def questions(states: np.ndarray) -> NewQuestions:
    """Two questions with the prefixes 7, 8 and 7, 9 of a cache that holds seven."""
    return NewQuestions(
        texts=["a b", "a c"],
        paths=[[7, 8], [7, 9]],
        parents=np.array([-1, 7, 7]),
        tokens=np.array([1, 2, 3]),
        hidden_states=states.astype(np.float16),
    )


@pytest.mark.parametrize(
    ("row", "said"), [(0, "token 0 of 'a b'"), (1, "token 1 of 'a b'"), (2, "token 1 of 'a c'")]
)
def test_a_state_that_is_not_finite_is_named_by_its_question(row: int, said: str) -> None:
    states = np.zeros((3, TEXT_DIM))
    states[row, -1] = np.inf
    with pytest.raises(CacheError, match=rf"{said} \(row {row}\)"):
        question_shard(make_spec(), questions(states))
    strange = replace(questions(states), paths=[[], []])
    with pytest.raises(CacheError, match=rf" row {row}: not finite"):
        question_shard(make_spec(), strange)
