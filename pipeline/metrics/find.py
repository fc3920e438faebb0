"""All metrics by name, and the layout that a file has."""

import difflib
from collections.abc import Iterable, Mapping

from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.metrics.metric import Layout, Metric
from frozen_vqa.pipeline.metrics.named import (
    aokvqa,
    clevr,
    daquar,
    gqa,
    medical,
    nlvr2,
    scienceqa,
    tallyqa,
    textvqa,
    visual7w,
    vizwiz,
    vqav2,
)

_MODULES = (
    *(vqav2, vizwiz, textvqa, gqa, clevr, aokvqa, medical),
    *(tallyqa, daquar, visual7w, scienceqa, nlvr2),
)
METRICS: Mapping[str, Metric] = {one.name: one for module in _MODULES for one in module.METRICS}
LAYOUTS: tuple[Layout, ...] = tuple(dict.fromkeys(one.layout for one in METRICS.values()))


def find_metric(name: str) -> Metric:
    """Return the metric of this name; raise `MetricError` if there is none."""
    if name in METRICS:
        return METRICS[name]
    near = difflib.get_close_matches(name, METRICS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(METRICS)}"
    raise MetricError(f"unknown metric {name!r:.60}; {hint}")


def pick_metric(answer_counts: Iterable[int], *names: str | None) -> Metric:
    """Return the metric of the first name that is given.

    Without one it is "2021", or "plain" if a question has under ten answers.
    """
    for name in names:
        if name:
            return find_metric(name)
    return METRICS["2021" if all(count >= 10 for count in answer_counts) else "plain"]
