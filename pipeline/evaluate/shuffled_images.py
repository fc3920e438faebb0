"""A control: each question is asked about another picture of the split.

A head that scores as well as before does not use the picture. Questions about one picture stay
together, so that the control changes nothing but the picture that is shown.
"""

import numpy as np

from frozen_vqa.pipeline.errors import MetricError

SEED = 0


def assign_other_images(image_rows: np.ndarray) -> np.ndarray:
    """Return the picture that each question is asked about, never its own: (questions,).

    The pictures of the split stand in a circle, in an order of a fixed seed. The questions about a
    picture get the next picture of the circle. `image_rows` has the picture of each question.

    Raises:
        MetricError: if the split has a single picture.
    """
    pictures, which = np.unique(image_rows, return_inverse=True)
    if len(pictures) < 2:
        raise MetricError(
            "the split has a single picture, so --shuffle-images has no other picture to show; "
            "evaluate a split with more pictures"
        )
    circle = np.random.default_rng(SEED).permutation(len(pictures))
    following = np.empty_like(circle)
    following[circle] = np.roll(circle, -1)
    return np.asarray(pictures[following[which]])
