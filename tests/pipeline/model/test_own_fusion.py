"""A head with a fusion of the user's own: what it is given, and that all else holds for it too."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from frozen_vqa.pipeline.ask.head import VqaHead
from frozen_vqa.pipeline.batches.dataset import FeatureDataset
from frozen_vqa.pipeline.model.config import HeadSettings
from frozen_vqa.pipeline.model.size import bound_parameters, count_parameters
from frozen_vqa.pipeline.plugins import trust
from tests.support import own_code
from tests.support.caches import Made, Row, make_cache
from tests.support.own_code import _nothing_named  # noqa: F401  # in force in every test
from tests.support.trainings import make_trainer

ANSWERS = ("red", "blue", "2")


@pytest.fixture
def data(tmp_path: Path) -> FeatureDataset:
    """Pictures with one to five questions of one to four tokens."""
    rng = np.random.default_rng(3)
    rows = [
        Row(image, int(rng.integers(9)), (ANSWERS[int(rng.integers(3))],))
        for image in range(12)
        for _ in range(1 + image % 5)
    ]
    made = make_cache(tmp_path / "cache", {"train": rows})
    return FeatureDataset(made.directory, "train", answers=ANSWERS)


def make_head(data: FeatureDataset, **settings: object) -> VqaHead:
    how: dict = {"fusion": trust(own_code.Attends), "width": 8, "heads": 2, "layers": 2}
    torch.manual_seed(0)
    return VqaHead.untrained(data.cache.spec, 3, HeadSettings(**(how | settings))).eval()


def logits(data: FeatureDataset, head: VqaHead, rows: list[int], grouped: bool) -> Tensor:
    """Return the logits of these questions in their order."""
    data.grouped = grouped
    batch = data.collate([data[row] for row in rows])
    places = {row: i for i, row in enumerate(batch.questions.tolist())}
    return batch.logits(head)[[places[row] for row in rows]]


@pytest.mark.parametrize("settings", [{}, {"position_embedding": False, "answer_head": "linear"}])
@torch.no_grad()
def test_a_question_gets_the_same_in_any_batch(data: FeatureDataset, settings: dict) -> None:
    """Grouped, in plain order and alone, with the padding that this brings."""
    head, rows = make_head(data, **settings), list(range(len(data)))
    grouped = logits(data, head, rows, True)
    torch.testing.assert_close(logits(data, head, rows, False), grouped, atol=1e-5, rtol=0)
    for row in rows[::5]:
        alone = logits(data, head, [row], True)[0]
        torch.testing.assert_close(alone, grouped[row], atol=1e-5, rtol=0)
    assert float(grouped.std(0).max()) > 1e-3


@torch.no_grad()
def test_it_gets_projected_vectors_and_zeros_as_padding(data: FeatureDataset) -> None:
    head = make_head(data, position_embedding=False)
    given: list[tuple[Tensor, ...]] = []
    assert isinstance(head.own_fusion, nn.Module)
    head.own_fusion.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    batch = data.collate([data[row] for row in range(len(data))])
    batch.logits(head)
    ((patches, tokens, mask),) = given
    assert bool((tokens[~mask] == 0).all())
    assert bool((tokens[mask] != 0).any(-1).all())
    for i, row in enumerate(batch.questions.tolist()):
        states = nn.functional.layer_norm(data[row].hidden_states.float(), (7,))
        seen = nn.functional.layer_norm(data[row].patch_embeddings.float(), (5,))
        assert head.text_projection is not None
        assert head.vision_projection is not None
        expected = head.text_projection.linear(states)
        torch.testing.assert_close(tokens[i, : len(states)], expected, atol=1e-5, rtol=0)
        assert int(mask[i].sum()) == len(states)
        torch.testing.assert_close(
            patches[i], head.vision_projection.linear(seen), atol=1e-5, rtol=0
        )


def test_first_weights_of_its_own_stay(data: FeatureDataset) -> None:
    torch.manual_seed(5)
    config = make_head(data).config
    torch.manual_seed(5)
    alone = own_code.Attends(config).state_dict()
    torch.manual_seed(5)
    head = VqaHead(config)
    inside = {k.removeprefix("own_fusion."): v for k, v in head.state_dict().items()}
    assert all(torch.equal(inside[name], tensor) for name, tensor in alone.items())
    assert head.head.bias[0].item() == pytest.approx(-np.log(3))


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_its_parameters_are_counted(data: FeatureDataset, layers: int) -> None:
    head = make_head(data, layers=layers)
    number = sum(p.numel() for p in head.parameters())
    assert count_parameters(head.config) == number == bound_parameters(head.config)


@pytest.mark.parametrize("how", [{}, {"ema": 0.9, "accumulate": 2}])
def test_a_training_resumes_to_the_same_weights(scenes: Made, how: dict) -> None:
    settings = {"fusion": trust(own_code.Attends), "dropout": 0.2, "layers": 2, "epochs": 2, **how}
    whole = make_trainer(scenes, **settings)
    whole.epoch(0)
    tensors = {name: tensor.clone() for name, tensor in whole.tensors().items()}
    resumed = make_trainer(scenes, **settings)
    resumed.restore(tensors, whole.counters)
    whole.epoch(1)
    expected = {name: tensor.clone() for name, tensor in whole.tensors().items()}
    resumed.restore(tensors, resumed.counters)  # the generators are those of the end of the epoch
    resumed.epoch(1)
    for name, tensor in resumed.tensors().items():
        assert torch.equal(tensor, expected[name]), name
