"""Words made once come to the places where they occur, and count there as often as they occur."""

import pytest
import torch
from torch.testing import assert_close

from frozen_vqa.pipeline.model.prefix_index import Words, gathered, masked_mean

ROWS = torch.arange(12.0).reshape(6, 2) ** 1.5
"""Six distinct prefixes of a batch, of width 2."""

OF_IMAGES = torch.tensor([[5, 0, 3], [2, 0, 0]])
"""Those of two pictures; the second has one, and padding."""

PATHS = torch.tensor([[[0, 2, 0], [0, 1, 2]], [[0, 0, 0], [0, 0, 0]]])
MASK = torch.tensor(
    [[[True, True, False], [True, True, True]], [[True, False, False], [False, False, False]]]
)
QUESTIONS = [[[5, 3], [5, 0, 3]], [[2], []]]
"""The rows of each question's words, as PATHS and MASK say."""

SHARED = Words(MASK, OF_IMAGES, PATHS)


def test_words_come_to_their_pictures() -> None:
    assert torch.equal(SHARED.at_images(ROWS), ROWS[OF_IMAGES])


def test_words_come_to_their_slots_from_wherever_they_are() -> None:
    at_images = SHARED.at_images(ROWS)
    at_slots = SHARED.at_slots(ROWS)

    for i, questions in enumerate(QUESTIONS):
        for s, rows in enumerate(questions):
            assert torch.equal(at_slots[i, s, : len(rows)], ROWS[rows])
    assert torch.equal(SHARED.at_slots(at_images), at_slots)


def test_words_stay_where_they_have_come_to() -> None:
    at_images, at_slots = SHARED.at_images(ROWS), SHARED.at_slots(ROWS)
    assert SHARED.at_images(at_images) is at_images
    assert SHARED.at_images(at_slots) is at_slots
    assert SHARED.at_slots(at_slots) is at_slots


def test_words_of_one_slot_are_its_tokens() -> None:
    mask = torch.tensor([[[True, True, True]], [[True, False, False]]])
    single = Words(mask, OF_IMAGES)
    at_slots = single.at_slots(ROWS)
    assert torch.equal(at_slots, ROWS[OF_IMAGES][:, None])
    assert_close(single.mean(ROWS), masked_mean(at_slots, mask))


@pytest.mark.parametrize("place", ["rows", "images", "slots"])
def test_the_mean_of_a_question_equals_a_loop(place: str) -> None:
    moved = {"rows": ROWS, "images": SHARED.at_images(ROWS), "slots": SHARED.at_slots(ROWS)}

    got = SHARED.mean(moved[place])

    assert got.shape == (2, 2, 2)
    for i, questions in enumerate(QUESTIONS):
        for s, rows in enumerate(questions):
            real = [ROWS[row] for row in rows]
            expected = sum(real) / len(real) if real else torch.zeros(2)
            assert_close(got[i, s], expected)


def test_a_mean_keeps_its_precision() -> None:
    assert SHARED.mean(ROWS.double()).dtype == torch.float64
    assert SHARED.mean(ROWS.bfloat16()).dtype == torch.bfloat16


def test_a_gathered_row_gets_the_gradients_of_all_its_places() -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rows = torch.tensor([[2, 0, 2], [1, 2, 0]])  # never the last
    upstream = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1))

    got = gathered(x, rows)
    got.backward(upstream)

    expected = torch.zeros(4, 3)
    for place, row in enumerate(rows.flatten().tolist()):
        expected[row] += upstream.flatten(0, 1)[place]
    assert torch.equal(got, x[rows])
    assert x.grad is not None
    assert_close(x.grad, expected)
    assert not x.grad[3].any()


def test_rows_on_another_device_are_gathered_by_what_adds_in_one_order() -> None:
    """On a GPU the gradient of `index_select` does not, and a resumed training would differ."""
    x = torch.zeros(4, 3, device="meta", requires_grad=True)
    found = gathered(x, torch.zeros(2, 3, dtype=torch.int64, device="meta"))
    assert found.shape == (2, 3, 3)
    assert found.grad_fn is not None
    assert found.grad_fn.name() == "EmbeddingBackward0"


def test_masked_mean_of_nothing_is_zero() -> None:
    words = torch.full((2, 3, 4), 5.0)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    assert masked_mean(words, mask).tolist() == [[5.0] * 4, [0.0] * 4]
