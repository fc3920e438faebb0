"""A list that lies in a file is the list that lies in memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.cache.large.lists import AT_ONCE, BLOCK, LongList
from tests.support.large import in_files

INDEX = st.none() | st.integers(-4 * BLOCK, 4 * BLOCK)


@settings(deadline=None, max_examples=40)
@given(
    kept=st.integers(0, 2 * BLOCK) | st.just(10**6),
    length=st.integers(0, 4 * BLOCK),
    more=st.sampled_from([0, 1, BLOCK, AT_ONCE + 1]),
    large=st.booleans(),
    cuts=st.lists(st.builds(slice, INDEX, INDEX, INDEX.filter(lambda step: step != 0))),
)
def test_it_is_a_list(kept: int, length: int, more: int, large: bool, cuts: list[slice]) -> None:
    plain = [(number, "text" * (number % 3)) for number in range(length + more)]
    with in_files(kept):
        long = LongList(
            plain[:length], lambda one: [*one], lambda found: (found[0], found[1]), large=large
        )
        for value in plain[length:]:
            long.append(value)
        length += more
        for cut in cuts:
            assert list(long[cut]) == plain[cut]
        for index in range(-length - 1, length + 1):
            if -length <= index < length:
                assert long[index] == plain[index]
            else:
                with pytest.raises(IndexError):
                    long[index]
        assert len(long) == length
        assert list(long) == plain
        assert long == plain
        assert plain == long
        assert long != [*plain, 0]
