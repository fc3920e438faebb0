"""Multiple choice in data of one's own: the share of questions whose right choice was chosen."""

from frozen_vqa.pipeline.metrics.metric import Metric, chance, equal_to_one, right_choice
from frozen_vqa.pipeline.metrics.named import vqav2

METRICS = (
    Metric(
        name="choice",
        rule="multiple choice: the right choice",
        layout=vqav2.LAYOUT,
        score=equal_to_one(),
        given=right_choice,
        figures=chance,
    ),
)
