"""The file of a sweep: lists, tables, names, and what heads have to have in common."""

from pathlib import Path

import pytest

from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.train.sweep_config import load_sweep


def heads(tmp_path: Path, text: str, **overrides: object) -> dict[str, TrainConfig]:
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    return load_sweep(path, overrides)


def test_lists_are_combined(tmp_path: Path) -> None:
    found = heads(tmp_path, 'epochs = 3\nlr = [0.001, 1e-5]\nfusion = ["concat", "co-attention"]\n')
    assert found == {
        f"fusion={fusion},lr={lr}": TrainConfig(epochs=3, fusion=fusion, lr=lr)  # type: ignore
        for fusion in ("concat", "co-attention")
        for lr in (0.001, 1e-05)
    }


def test_tables_are_heads_of_their_own(tmp_path: Path) -> None:
    """A table wins over what is above it, and is combined with the lists that are left."""
    text = """
        width = 64
        seed = [0, 1]
        [[head]]
        name = "wide"
        width = 512
        [[head]]
        fusion = "concat"
        seed = 5
        [[head]]
        name = "rates"
        lr = [0.01, 0.02]
        seed = 0
        """
    found = heads(tmp_path, text, layers=2, epochs=None)
    assert found == {
        "wide,seed=0": TrainConfig(width=512, seed=0, layers=2),
        "wide,seed=1": TrainConfig(width=512, seed=1, layers=2),
        "fusion=concat,width=64,lr=0.001,seed=5": TrainConfig(
            fusion="concat", width=64, seed=5, layers=2
        ),
        "rates,lr=0.01": TrainConfig(width=64, lr=0.01, layers=2),
        "rates,lr=0.02": TrainConfig(width=64, lr=0.02, layers=2),
    }


def test_flags_win_over_lists(tmp_path: Path) -> None:
    found = heads(tmp_path, "seed = [0, 1]\nlr = [0.1, 0.2]\n", seed=7)
    assert found == {f"lr={lr}": TrainConfig(lr=lr, seed=7) for lr in (0.1, 0.2)}


def test_one_head_has_a_name_too(tmp_path: Path) -> None:
    assert heads(tmp_path, "seed = [3]\n") == {"head": TrainConfig(seed=3)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_size = [8, 16]", r"batch_size is 8 for one head and 16 for another.*two sweeps"),
        ("[[head]]\n[[head]]\norder_seed = 1", r"order_seed is 0 for one head and 1 for another"),
        ("lr = []", r"lr is an empty list"),
        ("lr = [0.1, 'much']", r"lr is 'much'; a number is needed"),
        ("lr = [0.1, 0.1]", r"two heads have the name 'head'"),
        ("head = 3", r"head has to be tables"),
        ("head = []", r"head has to be tables"),
        ("[[head]]\nwidht = 3", r"unknown key 'widht'; did you mean 'width'"),
        ("widht = 3", r"unknown key 'widht'; did you mean 'width'"),
        ("name = 'a'", r"unknown key 'name'"),
        ("[[head]]\nname = '../a'", r"name is '\.\./a'; the name of a folder is needed"),
        ("[[head]]\nname = 3", r"name is 3; the name of a folder is needed"),
        ("[[head]]\nname = 'a'\n[[head]]\nname = 'a'\nlr = 0.1", r"two heads have the name 'a'"),
    ],
)
def test_what_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        heads(tmp_path, text)
    assert "sweep.toml: " in str(refused.value)
