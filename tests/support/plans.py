"""Pictures, sizes and orders to plan batches of."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from frozen_vqa.pipeline.batches.plan import Grid

# Few pictures and many questions, so that pictures with more than MAX_SLOTS occur.
some_image_rows = st.one_of(
    st.lists(st.integers(0, 4), max_size=60), st.lists(st.integers(0, 1000), max_size=60)
).map(lambda rows: np.array(rows, dtype=np.int64))
batch_sizes = st.integers(1, 40)
shuffles = st.none() | st.tuples(st.integers(0, 2**32), st.integers(0, 100))


def as_lists(plan: Sequence[Grid]) -> list[list[list[int]]]:
    return [[entry.tolist() for entry in grid] for grid in plan]
