"""McNemar's exact test against whole numbers and published cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.pipeline.evaluate.mcnemar import McNemar, mcnemar, two_sided_p


def exact(ahead: int, behind: int) -> float:
    flips, choices, tail = ahead + behind, 1, 0
    for i in range(min(ahead, behind) + 1):
        tail += choices
        choices = choices * (flips - i) // (i + 1)
    return min(1.0, 2 * tail / 2**flips)  # Python divides whole numbers of any size exactly


@given(st.integers(0, 60), st.integers(0, 60))
def test_it_is_that_of_whole_numbers(ahead: int, behind: int) -> None:
    assert two_sided_p(ahead, behind) == pytest.approx(exact(ahead, behind), rel=1e-9)


@pytest.mark.parametrize("pair", [(3_050, 2_950), (2_700, 3_300), (40, 900), (2_000, 2_000)])
def test_large_counts(pair: tuple[int, int]) -> None:
    assert two_sided_p(*pair) == pytest.approx(exact(*pair), rel=1e-7)


@pytest.mark.parametrize(
    ("ahead", "behind", "p"),
    [
        (0, 0, 1.0),
        (3, 7, 0.34375),  # 2 * (1 + 10 + 45 + 120) / 1024
        (9, 1, 0.021484375),  # 2 * 11 / 1024
        (0, 5, 0.0625),
        (4, 4, 1.0),
        (0, 200_000, 0.0),
    ],
)
def test_known_values(ahead: int, behind: int, p: float) -> None:
    assert two_sided_p(ahead, behind) == pytest.approx(p, rel=1e-12, abs=0)
    assert two_sided_p(behind, ahead) == two_sided_p(ahead, behind)


def test_fractions_count_by_their_sign() -> None:
    ours = np.array([1.0, 0.9, 0.3, 0.0, 0.6, (0.1 + 0.2) / 3])
    theirs = np.array([0.0, 0.6, 0.6, 0.0, 0.3, 0.3 / 3])  # the last differ by rounding alone
    assert mcnemar(ours, theirs) == McNemar(3, 1, pytest.approx(0.625))
