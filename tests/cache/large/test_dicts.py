"""A dictionary that lies in a file is the dictionary that lies in memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.cache.large.dicts import LargeDict, Numbers, Places
from tests.support.large import in_files

KEYS = st.integers(-(2**63), 2**63 - 1) | st.text(max_size=3)
VALUES = st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=3) | st.none()


@settings(deadline=None, max_examples=40)
@given(
    kept=st.integers(0, 4) | st.just(10**6),
    pairs=st.lists(st.tuples(st.sampled_from([7, "7", "", 0]) | KEYS, VALUES), max_size=80),
    others=st.lists(KEYS, max_size=5),
)
def test_it_is_a_dictionary_whose_keys_keep_their_first_values(
    kept: int, pairs: list[tuple[int | str, object]], others: list[int | str]
) -> None:
    plain: dict[int | str, object] = {}
    with in_files(kept):
        large = LargeDict[int | str, object]()
        for key, value in pairs:
            assert large.setdefault(key, value) == plain.setdefault(key, value)
            assert len(large) == len(plain)
        for key in [*plain, *others, 7, "7"]:
            assert (key in large) == (key in plain)
            assert large.get(key, "none") == plain.get(key, "none")
    assert list(large) == list(plain)
    assert list(large.items()) == list(plain.items())
    assert list(large.values()) == list(plain.values())
    assert [*map(list, large.in_order)] == [list(plain), list(plain.values())]
    assert dict(large) == plain
    with pytest.raises(KeyError):
        large["none of these"]


@settings(deadline=None, max_examples=40)
@given(kept=st.integers(0, 4), keys=st.lists(st.sampled_from([7, "7", "", 0, 2**70, -1])))
def test_numbers_count_the_different_keys(kept: int, keys: list[int | str]) -> None:
    different = list(dict.fromkeys(keys))
    with in_files(kept):
        numbers = Numbers[int | str]()
        assert [numbers[key] for key in keys] == [different.index(key) for key in keys]
    assert numbers.count == len(different)


def test_a_table_that_grows_keeps_the_places_of_all_keys() -> None:
    places = Places(4)
    for number in range(3_000):
        place, slot = places.find(f"key {number}")
        assert place == -1
        places.put(slot, number)
    assert [places.find(f"key {number}")[0] for number in range(3_001)] == [*range(3_000), -1]
