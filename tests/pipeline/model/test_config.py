"""The settings that fix the shape of a head."""

import json
from dataclasses import asdict, replace

import pytest

from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.model.config import ModelConfig

CONFIG = ModelConfig(
    vision_dim=5, text_dim=7, grid=(2, 3), answers=9, width=8, heads=2, layers=1, dropout=0.5
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "addition"}, "fusion is 'addition'.*co-attention, text-to-image"),
        ({"vision_dim": 0}, "vision_dim is 0; it must be at least 1"),
        ({"text_dim": 0}, "text_dim is 0"),
        ({"answers": 0}, "answers is 0"),
        ({"width": 0}, "width is 0"),
        ({"heads": -1}, "heads is -1"),
        ({"layers": 0}, "layers is 0"),
        ({"width": 9, "heads": 2}, "width 9 cannot be split over 2 heads"),
        ({"merge": "sum"}, "merge is 'sum'; it must be one of concat, gated"),
        ({"pooling": "max"}, "pooling is 'max'.*mean, attention"),
        ({"answer_head": "big"}, "answer_head is 'big'.*mlp, linear"),
        ({"feature_dropout": 1.0}, "feature_dropout is 1.0"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"dropout": float("nan")}, "dropout is nan"),
    ],
)
def test_bad_shapes_are_refused_by_name(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **changes)


def test_a_config_survives_json() -> None:
    assert ModelConfig(**json.loads(json.dumps(asdict(CONFIG)))) == CONFIG
