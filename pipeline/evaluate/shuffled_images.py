"""The control without the right picture: each question is asked about another one of the split.

A head that scores as much as before has not looked. Questions about one picture stay together, so
that the control differs from the evaluation by nothing but which picture is shown.
"""

import numpy as np

from frozen_vqa.pipeline.errors import MetricError

SEED = 0


def shuffled_images(image_rows: np.ndarray) -> np.ndarray:
    """Return which picture each question is asked about; for none it is its own: (questions,).

    The pictures of the split stand in one circle, in an order of a fixed seed, and each one's
    questions get the next picture.

    Args:
        image_rows: (questions,) row of each question's own picture.

    Raises:
        MetricError: if there is one picture only.
    """
    pictures, which = np.unique(image_rows, return_inverse=True)
    if len(pictures) < 2:
        raise MetricError("a split with a single picture has no other to ask its questions about")
    circle = np.random.default_rng(SEED).permutation(len(pictures))
    following = np.empty_like(circle)
    following[circle] = np.roll(circle, -1)
    return np.asarray(pictures[following[which]])
