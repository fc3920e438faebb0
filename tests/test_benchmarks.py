from pathlib import Path

import numpy as np

from benchmarks.generated import LONGEST, SHORTEST, write_cache
from benchmarks.harness import rounds
from cache import FeatureCache
from cache.verify import verify
from pipeline.answers import build_vocabulary
from tests.caches import make_spec


def test_a_generated_cache_is_whole_and_no_two_rows_are_alike(tmp_path: Path) -> None:
    write_cache(
        tmp_path,
        images=42,
        questions_per_image=5,
        distinct_questions=30,
        answers=3,
        spec=make_spec(),
        rows_per_shard=10,
    )
    cache = FeatureCache(tmp_path)

    assert [damage for _, damage in verify(tmp_path, cache.manifest) if damage] == []
    assert [record.rows for record in cache.manifest.images] == [10, 10, 10, 10, 2]
    out = np.empty((42, cache.spec.patches, cache.spec.vision_dim), cache.spec.dtype)
    cache.read_images(np.arange(42), out)
    assert len({row.tobytes() for row in out}) == 42
    questions = cache.questions
    assert len({questions.states(row).tobytes() for row in range(30)}) == 30
    assert set(questions.lengths()) <= set(range(SHORTEST, LONGEST + 1))
    assert len(questions.hidden_states) < 0.6 * len(questions.path_rows)  # they share prefixes
    train, val = cache.split("train"), cache.split("val")
    assert not set(train.image_rows) & set(val.image_rows)
    assert (len(train), len(val)) == (200, 10)
    assert {len(answers) for answers in train.answers} == {10}
    assert len(build_vocabulary(train.answers)) == 3


def test_rounds_run_each_task_once_a_round_in_an_order_of_its_own() -> None:
    calls: list[tuple[str, int]] = []

    def task(name: str, i: int) -> dict[str, int]:
        calls.append((name, i))
        return {"round": i}

    tasks = {name: lambda i, name=name: task(name, i) for name in "abcde"}
    found = rounds(tasks, 4)

    assert found == {name: [{"round": i} for i in range(4)] for name in "abcde"}
    orders = [tuple(name for name, i in calls if i == number) for number in range(4)]
    assert all(sorted(order) == sorted("abcde") for order in orders)
    assert len(set(orders)) > 1
    again = list(calls)
    calls.clear()
    rounds(tasks, 4)
    assert calls == again
