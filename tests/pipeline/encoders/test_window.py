"""The window in the settings of a cache: recorded as given, and refused where it is another."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.cache import CacheMismatchError
from frozen_vqa.cache.typed_json import finite_json
from frozen_vqa.pipeline.encoders.window import LARGEST, window_of, window_settings
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.extract.origin import _encoder_options
from frozen_vqa.pipeline.system.texts import to_json
from tests.support.caches import make_spec as spec

VALUES = st.floats(-LARGEST, LARGEST)


@given(st.tuples(VALUES, VALUES).filter(lambda pair: pair[0] < pair[1]))
def test_a_window_comes_back_as_it_was_given(window: tuple[float, float]) -> None:
    stored = finite_json(to_json({"model": "m", **window_settings(window)}))
    assert window_of(stored) == window


def test_no_window_leaves_no_trace() -> None:
    assert window_settings(None) == {}
    assert window_of({"model": "m"}) is None


@pytest.mark.parametrize(
    "wrong", [None, 3, "0 1", [], [1], [1, 2, 3], [2, 1], [1, 1], ["0", "1"], [0, 1e99], [True, 2]]
)
def test_a_forged_window_is_refused(wrong: object) -> None:
    with pytest.raises(ModelError, match="the settings of the image encoder: window"):
        window_of({"window": wrong})  # type: ignore[dict-item]


def test_a_cache_of_another_window_is_refused_and_its_command_has_its_own() -> None:
    plain = spec()
    ours = spec(vision={**plain.vision, "window": [0, 4095]})
    for other in (plain, spec(vision={**plain.vision, "window": [0, 4096]})):
        for one, two in ((ours, other), (other, ours)):
            with pytest.raises(CacheMismatchError, match=r"vision window is .*, asked for"):
                one.require(two, Path("cache"))
    words = _encoder_options(ours)
    assert words[words.index("--window") :][1:3] == ["0", "4095"]
    assert "--window" not in _encoder_options(plain)
