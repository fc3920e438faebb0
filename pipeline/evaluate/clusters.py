"""What is drawn at random together: the pictures, or whatever else joins questions.

Intervals and tests take questions of one cluster as right or wrong together. Frames of one video,
or slices of one patient, are not independent pictures: put them into one folder, and name that.
"""

from typing import Literal

import numpy as np

from frozen_vqa.cache import FeatureCache, SplitTable
from frozen_vqa.pipeline.errors import MetricError

By = Literal["image", "folder", "question"]

UNITS: dict[By, str] = {"image": "pictures", "folder": "folders", "question": "wordings"}


def cluster_questions(cache: FeatureCache, table: SplitTable, by: By) -> np.ndarray:
    """Return (questions,) values that are equal for the questions of one cluster.

    "image" joins the questions that are about the same picture, or about pictures of one question.
    "folder" is what stands before the last / of the first picture's id, "question" the text of a
    question.
    Raises `MetricError` if no picture of the split has a folder.
    """
    if by == "image":
        return table.linked_rows
    if by == "question":
        return table.question_rows
    ids = [first for first, *_ in table.ids_of_pictures(cache.image_ids())]
    folders = [image_id.rpartition("/")[0] for image_id in ids]
    if not any(folders):
        raise MetricError(
            f"{cache.name}: no picture of this split has a folder in its id, such as "
            f"{ids[0]!r}, so --cluster-by folder finds no clusters; take "
            f"--cluster-by image, or name the pictures FOLDER/NAME and extract again"
        )
    return np.array(folders)
