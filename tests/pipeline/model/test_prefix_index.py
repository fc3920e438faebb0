"""Features computed once per prefix reach each token, and count as often as they occur."""

import pytest
import torch
from torch.testing import assert_close

from frozen_vqa.pipeline.model.pooling import Pooling
from frozen_vqa.pipeline.model.prefix_index import PrefixIndex, Text, gather_rows

ROWS = torch.arange(12.0).reshape(6, 2) ** 1.5
"""Six distinct prefixes of a batch, of width 2."""

OF_PICTURES = torch.tensor([[5, 0, 3], [2, 0, 0]])
"""Those of two pictures; the second has one, and padding."""

OF_TOKENS = torch.tensor([[[0, 2, 0], [0, 1, 2]], [[0, 0, 0], [0, 0, 0]]])
MASK = torch.tensor(
    [[[True, True, False], [True, True, True]], [[True, False, False], [False, False, False]]]
)
QUESTIONS = [[[5, 3], [5, 0, 3]], [[2], []]]
"""The rows of each question's tokens, as OF_TOKENS and MASK say."""

PREFIXES = Text(ROWS, "prefix", PrefixIndex(MASK, OF_PICTURES, OF_TOKENS))


def test_prefixes_come_to_their_pictures() -> None:
    assert torch.equal(PREFIXES.per_picture().x, ROWS[OF_PICTURES])


def test_prefixes_come_to_their_tokens_from_either_layout() -> None:
    tokens = PREFIXES.per_token()

    for i, questions in enumerate(QUESTIONS):
        for s, rows in enumerate(questions):
            assert torch.equal(tokens.x[i, s, : len(rows)], ROWS[rows])
    assert torch.equal(PREFIXES.per_picture().per_token().x, tokens.x)


def test_text_meets_patches_per_picture_only_while_its_questions_share_them() -> None:
    pictures, tokens = PREFIXES.per_picture(), PREFIXES.per_token()
    for text in (PREFIXES, pictures):
        assert torch.equal(text.meet_patches(1).x, pictures.x)
        assert torch.equal(text.meet_patches(2).x, tokens.x)
    assert pictures.meet_patches(1) is pictures
    assert tokens.meet_patches(1) is tokens.meet_patches(2) is tokens.per_token() is tokens


def test_prefixes_of_one_slot_are_its_tokens() -> None:
    mask = torch.tensor([[[True, True, True]], [[True, False, False]]])
    single = Text(ROWS, "prefix", PrefixIndex(mask, OF_PICTURES))
    tokens = single.per_token()
    assert torch.equal(tokens.x, ROWS[OF_PICTURES][:, None])
    assert_close(mean(single), mean(tokens))


def mean(text: Text) -> torch.Tensor:
    return Pooling("mean", 2).over_text(text)(text.x)


@pytest.mark.parametrize(
    "text",
    [PREFIXES, PREFIXES.per_picture(), PREFIXES.per_token()],
    ids=lambda text: text.layout,
)
def test_the_mean_of_a_question_equals_a_loop(text: Text) -> None:
    """An empty slot averages to zero."""
    got = mean(text)

    assert got.shape == (2, 2, 2)
    for i, questions in enumerate(QUESTIONS):
        for s, rows in enumerate(questions):
            real = [ROWS[row] for row in rows]
            expected = sum(real) / len(real) if real else torch.zeros(2)
            assert_close(got[i, s], expected)


def test_a_mean_keeps_its_precision() -> None:
    assert mean(PREFIXES.map(torch.Tensor.double)).dtype == torch.float64
    assert mean(PREFIXES.map(torch.Tensor.bfloat16)).dtype == torch.bfloat16


def test_a_gathered_row_gets_the_gradients_of_all_its_places() -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rows = torch.tensor([[2, 0, 2], [1, 2, 0]])  # never the last
    upstream = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1))

    got = gather_rows(x, rows)
    got.backward(upstream)

    expected = torch.zeros(4, 3)
    for i, row in enumerate(rows.flatten().tolist()):
        expected[row] += upstream.flatten(0, 1)[i]
    assert torch.equal(got, x[rows])
    assert x.grad is not None
    assert_close(x.grad, expected)
    assert not x.grad[3].any()


def test_on_another_device_gradients_of_rows_add_up_in_one_order() -> None:
    """On a GPU the gradient of `index_select` does not, and a resumed training would differ."""
    x = torch.zeros(4, 3, device="meta", requires_grad=True)
    found = gather_rows(x, torch.zeros(2, 3, dtype=torch.int64, device="meta"))
    assert found.shape == (2, 3, 3)
    assert found.grad_fn is not None
    assert found.grad_fn.name() == "EmbeddingBackward0"
