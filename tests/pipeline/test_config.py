"""Settings: defaults, then the file, then flags; and what is refused."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.pipeline.config import (
    PRESETS,
    TrainConfig,
    TrainSettings,
    load_config,
    make_config,
)
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.model.config import FUSIONS, POOLINGS, AnswerHead, Merge

texts = st.text(min_size=1).filter(lambda text: text.isprintable())
configs = st.builds(
    TrainConfig,
    fusion=st.sampled_from(FUSIONS),
    layers=st.integers(1, 9),
    width=st.integers(1, 10_000),
    dropout=st.floats(0, 0.99),
    feature_dropout=st.floats(0, 0.99),
    text_self_attention=st.booleans(),
    merge=st.sampled_from(get_args(Merge)),
    pooling=st.sampled_from(POOLINGS),
    answer_head=st.sampled_from(get_args(AnswerHead)),
    lr=st.floats(1e-12, 10, exclude_min=True),
    weight_decay=st.floats(0, 1),
    warmup=st.floats(0, 1),
    clip=st.floats(1e-6, 1e9),
    group_by_image=st.booleans(),
    ema=st.floats(0, 0.9999),
    seed=st.integers(0, 2**63 - 1),
    train_split=texts,
    val_split=texts,
    top_answers=st.integers(0, 5000),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "config.toml"


@given(config=configs)
def test_toml_round_trip(config: TrainConfig, file: Path) -> None:
    file.write_text(config.to_toml(), encoding="utf-8")
    assert load_config(file, {}) == config


def test_every_setting_is_in_the_file() -> None:
    names = [line.split(" = ")[0] for line in TrainConfig().to_toml().splitlines()]
    assert names == [field.name for field in fields(TrainConfig)]


def test_without_a_file_there_are_defaults() -> None:
    assert load_config(None, {}) == TrainConfig()


def test_flags_win_over_the_file(file: Path) -> None:
    file.write_text('fusion = "concat"\nepochs = 3\ngroup_by_image = true\n')
    config = load_config(file, {"epochs": 5, "group_by_image": False, "fusion": None, "lr": None})
    assert config == replace(TrainConfig(), fusion="concat", epochs=5, group_by_image=False)


def test_a_whole_number_is_a_number(file: Path) -> None:
    file.write_text("lr = 1\nclip = 5\n")
    config = load_config(file, {"dropout": 0})
    assert [config.lr, config.clip, config.dropout] == [1.0, 5.0, 0.0]
    assert all(type(getattr(config, name)) is float for name in ("lr", "clip", "dropout"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epoch = 3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("batchsize = 3", "unknown key 'batchsize'; did you mean 'batch_size'?"),
        ("zzz = 3", "unknown key 'zzz'; known are: fusion, layers, "),
        ("[model]\nwidth = 3", "unknown key 'model'; "),
        ("epochs = ", "not a TOML file ("),
        ("a" + ".a" * 40_000 + " = 1", "not a TOML file (a line has more than 200 dots)"),
        ("epochs = 3\nepochs = 4", "not a TOML file ("),
        ("epochs = '3'", "epochs is '3'; a whole number is needed"),
        ("epochs = 3.0", "epochs is 3.0; a whole number is needed"),
        ("layers = true", "layers is True; a whole number is needed"),
        ("lr = true", "lr is True; a number is needed"),
        ("group_by_image = 1", "group_by_image is 1; true or false is needed"),
        ("width = -1", "width is -1; it must be at least 0"),
        ("pooling = 'max'", "pooling is 'max'; it must be one of mean, attention"),
        ("feature_dropout = 1", "feature_dropout is 1.0; it must be at least 0 and below 1"),
        ("fusion = 'sum'", "fusion is 'sum'; it must be one of co-attention, "),
        ("epochs = 0", "epochs is 0; it must be at least 1"),
        ("accumulate = 0", "accumulate is 0; it must be at least 1"),
        ("batch_size = -4", "batch_size is -4; it must be at least 1"),
        ("lr = 0", "lr is 0.0; it must be above 0"),
        ("lr = 11", "lr is 11.0; it must be above 0 and at most 10"),
        ("lr = nan", "lr is nan; it must be above 0"),
        ("lr = inf", "lr is inf; it must be above 0 and at most 10"),
        ("clip = 0", "clip is 0.0; it must be above 0"),
        ("warmup = -0.5", "warmup is -0.5; it must be from 0 to 1"),
        ("warmup = 1.5", "warmup is 1.5; it must be from 0 to 1"),
        ("weight_decay = -1", "weight_decay is -1.0; it must be from 0 to"),
        ("weight_decay = inf", "weight_decay is inf; it must be from 0 to"),
        ("dropout = 1", "dropout is 1.0; it must be "),
        ("dropout = -0.1", "dropout is -0.1; it must be "),
        ("ema = 1", "ema is 1.0; it must be at least 0 and below 1"),
        ("patience = -1", "patience is -1; it must be at least 0"),
        ("seed = -1", "seed is -1; it must be at least 0"),
        ("top_answers = -1", "top_answers is -1; it must be at least 0"),
        ("min_answer_count = 0", "min_answer_count is 0; it must be at least 1"),
    ],
)
def test_what_a_file_may_not_say(content: str, message: str, file: Path) -> None:
    file.write_text(content + "\n")
    with pytest.raises(ConfigError, match=re.escape(f"{file}: ") + ".*" + re.escape(message)):
        load_config(file, {})


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(
            epochs="three",  # type: ignore[arg-type]
            lr=None,  # type: ignore[arg-type]
            layers=0,
            clip=-1,
            fusion="sum",  # type: ignore[arg-type]
        )
    for name in (
        "epochs is 'three'",
        "lr is None",
        "layers is 0",
        "clip is -1.0",
        "fusion is 'sum'",
    ):
        assert name in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read \(No such file"):
        load_config(tmp_path / "none.toml", {})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.toml: not a TOML file"):
        load_config(binary, {})


def test_a_wrong_flag_needs_no_file() -> None:
    with pytest.raises(
        ConfigError, match=r"^epochs is 0; it must be at least 1 and below 2\*\*31$"
    ):
        load_config(None, {"epochs": 0})


@pytest.mark.parametrize("name", PRESETS)
def test_file_and_flags_win_over_a_preset(name: str, file: Path) -> None:
    file.write_text(f'preset = "{name}"\nheads = 2\nepochs = 3\n')
    config = load_config(file, {"epochs": 4, "preset": None})
    assert config == replace(TrainConfig(), **{**PRESETS[name], "heads": 2, "epochs": 4})
    assert load_config(None, {"preset": name}) == replace(TrainConfig(), **PRESETS[name])


def test_a_preset_that_is_given_wins_over_that_of_the_file(file: Path) -> None:
    file.write_text('preset = "small"\nlr = 0.01\n')
    config = load_config(file, {"preset": "large"})
    assert (config.width, config.lr) == (1024, 0.01)


def test_an_unknown_preset_is_refused(file: Path) -> None:
    file.write_text("preset = 'huge'\n")
    message = f"{file}: preset is 'huge'; it must be one of basic, small, large"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(file, {})


def test_settings_by_name_are_those_of_the_config() -> None:
    """With the same types, so that an editor and mypy know each of them."""
    typed = get_type_hints(TrainSettings)
    assert typed.pop("preset") is str
    fusion = typed.pop("fusion")
    assert get_args(fusion)[0] is str
    config = get_type_hints(TrainConfig)
    assert typed == {f.name: config[f.name] for f in fields(TrainConfig) if f.name != "fusion"}


def test_a_setting_that_is_nearly_known_is_asked_about() -> None:
    with pytest.raises(ConfigError, match="unknown setting 'epoch'; did you mean 'epochs'"):
        make_config({"epoch": 3})
