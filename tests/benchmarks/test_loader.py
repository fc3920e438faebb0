from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks import generated
from benchmarks.accuracy.ablations import DEFAULT, summary
from benchmarks.accuracy.priors import image_only, question_only
from benchmarks.harness import rounds
from benchmarks.loader import __main__ as loader
from benchmarks.loader.summary import limits
from frozen_vqa.cache import FeatureCache
from frozen_vqa.cache.disk.integrity import read_prefixes
from frozen_vqa.cache.format.digests import row_digests
from frozen_vqa.cache.verify import verify
from frozen_vqa.pipeline.answers.vocabulary import build_vocabulary
from frozen_vqa.pipeline.sources.shapes import ShapesSource
from tests.support.caches import make_spec


def test_a_generated_cache_is_whole_and_no_two_rows_are_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generated, "POOL_PATCHES", 12)  # of which 42 rows must overlap
    generated.write_cache(
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
    parents, _ = read_prefixes(tmp_path, cache.manifest)
    for path in np.split(questions.path_rows, questions.path_offsets[1:-1]):
        assert parents[path].tolist() == [-1, *path[:-1]]
    assert set(questions.lengths()) <= set(range(generated.SHORTEST, generated.LONGEST + 1))
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


def test_ablations_are_means_over_seeds_against_the_defaults() -> None:
    found = [
        {"choice": choice, "seed": seed, "accuracy": value, "relations": None}
        | {"questions_per_second": 1000.0, "parameters": 7}
        for choice, values in {DEFAULT: [50.0, 52.0], "layers = 2": [55.0]}.items()
        for seed, value in enumerate(values)
    ]
    rows = summary(found)
    assert [list(row.values()) for row in rows] == [
        ["all defaults", "51.00 ± 1.41", "", "1,000", "7", "2"],
        ["`layers = 2`", "55.00", "+4.00", "1,000", "7", "1"],
    ]


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_the_loaders_digests_are_those_of_its_rows(dtype: str, tmp_path: Path) -> None:
    cache = loader.write_ours(tmp_path, 3, dtype)
    rows = np.empty((3, *loader.ROW_SHAPE), dtype)
    scales = np.empty((3, cache.spec.patches), np.float16) if dtype == "int8" else None
    cache.read_images(np.arange(3), rows, scales)
    assert np.array_equal(np.load(tmp_path / loader.digests_name(dtype)), row_digests(rows))
    assert len({row.tobytes() for row in rows}) == 3


def test_reading_alone_is_what_the_ratios_over_loaders_can_come_to() -> None:
    found = {"best_h5py_loader": 5.0, "usual_h5py_loader": None, "flat_npy": 1.1}
    assert limits(found, 1.5) == {"best_h5py_loader": 7.5, "usual_h5py_loader": None}


def test_priors_are_those_of_whoever_knows_one_half() -> None:
    source = ShapesSource(images=60, seed=3)
    examples = source.examples("test")

    # Who has seen the very questions knows most of each text; nobody gets less than by another.
    usual: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        usual[example.question][example.answers[0]] += 1
    most = sum(found.most_common(1)[0][1] for found in usual.values())
    assert question_only(examples, examples) == pytest.approx(100 * most / len(examples))
    assert question_only(examples, []) == 0
    # About a scene "yes" or "no" is the best guess, and right for a quarter of the questions.
    assert 15 < image_only(source, examples, times=20) < 35
