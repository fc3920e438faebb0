"""Memory that runs out in an evaluation or a report halves its batches, and no answer changes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.batches.batch import BatchPart
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.evaluate.logits import load_logits
from frozen_vqa.pipeline.report.attention import see_split
from frozen_vqa.pipeline.runs.run import load_run
from tests.support.caches import Row, make_cache
from tests.support.heads import make_run
from tests.support.memory_errors import ERRORS


@pytest.mark.parametrize("kind", ERRORS)
def test_smaller_batches_give_the_same_answers(
    kind: Callable[[], Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    rows = [Row(i, i % 3, (("red", "2")[i % 2],) * 10) for i in range(24)]
    made = make_cache(tmp_path / "cache", {"val": rows})
    make_run(made, tmp_path / "run")
    run, cache = load_run(tmp_path / "run"), FeatureCache(made.directory)
    run = replace(run, config=replace(run.config, batch_size=24))
    real, sizes = BatchPart.logits, list[int]()

    def limited(part: BatchPart, head: nn.Module) -> Tensor:
        sizes.append(len(part.questions))
        if len(part.questions) > 7:
            raise kind()
        return real(part, head)

    def answers() -> list[Any]:
        kept = evaluate(run, cache, "val", keep_logits=True)
        assert kept.logits is not None
        seen = see_split(run, cache, cache.split("val"), {3})
        plain = evaluate(run, cache, "val", write=False)
        assert plain.answers == kept.answers
        return [load_logits(kept.logits)[0], seen.classes, seen.probabilities]

    before = answers()
    monkeypatch.setattr(BatchPart, "logits", limited)
    for one, other in zip(answers(), before, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert sizes == 3 * [24, 12, *[6] * 4]
    said = capsys.readouterr().err
    assert said.count("memory does not suffice for a batch; trying 6 questions") == 3
