"""The frozen encoders: what they give is what transformers gives, from small real models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoImageProcessor,
    AutoModel,
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from pipeline.encoders import Fit, ImageEncoder, TextEncoder
from pipeline.errors import ModelError
from pipeline.quiet import quiet_transformers

PATCH, OWN_SIZE, LAYERS = 14, 56, 3
BOS, EOS, TURN = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
QUESTIONS = ("What is red?", "Who is there?", "Is it a cat?", "How many dogs?")


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        yield


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter a value of its own: zeros and ones would hide what is left out."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.1, 0.2, generator=generator)
    return model


def save_dinov2(
    folder: Path, *, registers: int | None = None, layers: int = 2, dtype: Any = torch.float32
) -> Path:
    kind: Any = {
        "hidden_size": 24,
        "num_hidden_layers": layers,
        "num_attention_heads": 3,
        "mlp_ratio": 2,
        "image_size": OWN_SIZE,
        "patch_size": PATCH,
    }
    if registers is None:
        model: Any = Dinov2Model(Dinov2Config(**kind))
    else:
        config = Dinov2WithRegistersConfig(num_register_tokens=registers, **kind)
        model = Dinov2WithRegistersModel(config)
    with quiet_transformers():
        randomised(model).to(dtype).save_pretrained(folder)
        BitImageProcessorPil(
            size={"shortest_edge": 64},
            crop_size={"height": OWN_SIZE, "width": OWN_SIZE},
            image_mean=[0.4, 0.5, 0.6],
            image_std=[0.2, 0.3, 0.25],
            resample=3,
        ).save_pretrained(folder)
    return folder


def byte_tokenizer(*, adds_bos: bool) -> Tokenizer:
    """Return a tokenizer like Llama 3's: byte-level, with control tokens, and BOS if asked for."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[BOS, EOS, TURN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(QUESTIONS, trainer)
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
        )
    return tokenizer


def save_llama(
    folder: Path,
    *,
    adds_bos: bool = True,
    tokenizer_bos: str | None = BOS,
    config_bos: int | None = 0,
    **settings: Any,
) -> Path:
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        bos_token_id=config_bos,
        eos_token_id=1,
        pad_token_id=None,
        **settings,
    )
    with quiet_transformers():
        randomised(LlamaModel(config)).save_pretrained(folder)
        PreTrainedTokenizerFast(
            tokenizer_object=byte_tokenizer(adds_bos=adds_bos),
            bos_token=tokenizer_bos,
            eos_token=EOS,
            extra_special_tokens=[TURN],
        ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dinov2")
    return {
        "plain": save_dinov2(folder / "plain"),
        "4 registers": save_dinov2(folder / "registers", registers=4),
        "1 register": save_dinov2(folder / "one", registers=1),
    }


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("llama")
    scaled = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    return {
        "3": save_llama(folder / "3", num_key_value_heads=4),
        "3.1": save_llama(
            folder / "3.1",
            num_key_value_heads=2,
            rope_parameters=scaled,
            max_position_embeddings=128,
            head_dim=12,
        ),
    }


def picture(width: int = 90, height: int = 61) -> Image.Image:
    values = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def encoded(encoder: ImageEncoder, *images: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
    return encoder.encode(np.stack([encoder.pixels(image) for image in images]))


def through_transformers(folder: Path, image: Image.Image, **options: Any) -> torch.Tensor:
    """Return all tokens of one picture, without a line of our own."""
    with quiet_transformers(), torch.inference_mode():
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
        model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        return model(**processor(image, return_tensors="pt", **options)).last_hidden_state


KINDS = [("plain", 0), ("4 registers", 4), ("1 register", 1)]


@pytest.mark.parametrize(("kind", "registers"), KINDS)
@pytest.mark.parametrize("side", [None, 28, 84])
def test_patch_embeddings_of_the_whole_picture_are_those_of_transformers(
    dinov2: dict[str, Path], kind: str, registers: int, side: int | None
) -> None:
    """28 and 84 are sizes that the model was not made for: its positions are interpolated."""
    encoder = ImageEncoder(str(dinov2[kind]), image_size=side)
    square = side or OWN_SIZE
    direct = [
        through_transformers(
            dinov2[kind], image, do_center_crop=False, size={"height": square, "width": square}
        )[0]
        for image in (picture(), picture(40, 120))
    ]

    patches, cls = encoded(encoder, picture(), picture(40, 120))

    assert encoder.image_size == square
    assert encoder.grid == (square // PATCH, square // PATCH)
    for i, tokens in enumerate(direct):
        torch.testing.assert_close(patches[i], tokens[1 + registers :], atol=1e-5, rtol=0)
        torch.testing.assert_close(cls[i], tokens[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [None, 84])
def test_crop_is_the_processors_own_resize_and_cut(
    dinov2: dict[str, Path], side: int | None
) -> None:
    folder, square = dinov2["plain"], side or OWN_SIZE
    own = {"shortest_edge": 64 * square // OWN_SIZE}
    options = {"size": own, "crop_size": {"height": square, "width": square}} if side else {}
    direct = through_transformers(folder, picture(), **options)

    patches, _ = encoded(ImageEncoder(str(folder), fit="crop", image_size=side), picture())
    whole, _ = encoded(ImageEncoder(str(folder), image_size=side), picture())

    torch.testing.assert_close(patches, direct[:, 1:], atol=1e-5, rtol=0)
    assert (whole - patches).abs().max() > 0.1  # so the comparison can tell them apart


def test_patches_come_in_rows_from_the_top_left(tmp_path: Path) -> None:
    """Without layers a patch embedding depends on its own pixels alone."""
    encoder = ImageEncoder(str(save_dinov2(tmp_path / "flat", layers=0)))
    black = np.zeros((1, OWN_SIZE, OWN_SIZE, 3), dtype=np.uint8)
    marked = black.copy()
    marked[0, 1 * PATCH : 2 * PATCH, 3 * PATCH : 4 * PATCH] = 255  # row 1, column 3

    before, after = encoder.encode(black)[0], encoder.encode(marked)[0]

    changed = (before != after).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == [1 * 4 + 3]


@pytest.mark.parametrize(
    ("side", "near"),
    [(55, 56), (64, 70), (60, 56), (15, 14), (13, 14), (1, 14), (0, 14), (-14, 14)],
)
def test_a_size_between_patches_is_refused_with_the_nearest(
    dinov2: dict[str, Path], side: int, near: int
) -> None:
    match = (
        rf"image size {side} is not a multiple of .*/plain's patch size 14; .*--image-size {near}$"
    )
    with pytest.raises(ModelError, match=match):
        ImageEncoder(str(dinov2["plain"]), image_size=side)


@pytest.mark.parametrize("keep", [{"size": {"height": 42, "width": 42}}, {}])
def test_a_processor_that_does_not_crop_still_has_a_size(
    tmp_path: Path, dinov2: dict[str, Path], keep: dict[str, Any]
) -> None:
    folder = save_dinov2(tmp_path / "model")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings |= {"crop_size": None, "do_center_crop": False, **keep}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))

    assert ImageEncoder(str(folder)).image_size == (42 if keep else OWN_SIZE)


@pytest.mark.parametrize("part", ["vision", "text"])
def test_weights_are_frozen_in_eval_mode_and_in_the_dtype_asked_for(
    tmp_path: Path, llama: dict[str, Path], part: str
) -> None:
    """A checkpoint stored in bfloat16 runs in float32 where that is asked for."""
    folder = save_dinov2(tmp_path / "half", dtype=torch.bfloat16) if part == "vision" else None
    encoder: Any = ImageEncoder(str(folder)) if folder else TextEncoder(str(llama["3"]))

    assert "weights" not in vars(encoder)  # nothing is loaded before the first batch
    assert not any(module.training for module in encoder.weights.modules())
    parameters = list(encoder.weights.parameters())
    assert len(parameters) > 10
    assert not any(parameter.requires_grad for parameter in parameters)
    assert {parameter.dtype for parameter in parameters} == {torch.float32}
    output = (
        encoded(encoder, picture())[0]
        if folder
        else encoder.encode(encoder.tokens(["Who is there?"]))
    )
    assert not output.requires_grad


def test_settings_name_what_fixes_the_numbers(dinov2: dict[str, Path]) -> None:
    encoder = ImageEncoder(str(dinov2["plain"]), fit="crop", image_size=28)
    settings = encoder.settings
    assert settings.pop("revision").startswith("xxh3:")
    assert settings == {
        "model": str(dinov2["plain"]),
        "image size": 28,
        "fit": "crop",
        "compute dtype": "float32",
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.25],
        "resample": 3,
    }


def test_two_folders_with_other_weights_have_other_revisions(dinov2: dict[str, Path]) -> None:
    revisions = {ImageEncoder(str(folder)).settings["revision"] for folder in dinov2.values()}
    assert len(revisions) == 3


def test_a_folder_is_known_by_its_absolute_path(
    dinov2: dict[str, Path], llama: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dinov2["plain"].parent)
    assert ImageEncoder("plain").name == str(dinov2["plain"])
    monkeypatch.chdir(llama["3"].parent)
    assert TextEncoder("./3").name == str(llama["3"])


def test_tiny_is_the_demo_encoder_even_beside_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert ImageEncoder("tiny").name == "tiny"
    assert TextEncoder("tiny").name == "tiny"


@pytest.mark.parametrize("which", ["3", "3.1"])
@pytest.mark.parametrize("layer", [-1, -2, 0, 1, 2, LAYERS, -LAYERS - 1])
def test_hidden_states_are_those_of_transformers_on_each_question_alone(
    llama: dict[str, Path], which: str, layer: int
) -> None:
    encoder = TextEncoder(str(llama[which]), layer=layer)
    batch = [[0, 17, 250, 9, 33], [0, 90, 90, 4, 250], [0, 201, 5, 17, 8]]
    with quiet_transformers(), torch.inference_mode():
        model = AutoModel.from_pretrained(llama[which], dtype=torch.float32).eval()
        direct = [
            model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
            for ids in batch
        ]

    torch.testing.assert_close(encoder.encode(batch), torch.stack(direct), atol=1e-6, rtol=1e-6)


def test_the_last_layer_is_taken_after_the_final_norm(llama: dict[str, Path]) -> None:
    encoder = TextEncoder(str(llama["3.1"]))
    seen: list[torch.Tensor] = []
    norm: Any = encoder.weights.norm
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))

    states = encoder.encode([[0, 17, 250, 9]])

    (before,) = seen
    assert (states - before).abs().max() > 0.1
    assert torch.equal(states, norm(before))


def test_layers_differ(llama: dict[str, Path]) -> None:
    """Else the comparison by layer could not tell one from its neighbour."""
    ids = [[0, 17, 250, 9]]
    states = [TextEncoder(str(llama["3"]), layer=k).encode(ids) for k in range(LAYERS + 1)]
    for a in range(LAYERS + 1):
        for b in range(a):
            assert (states[a] - states[b]).abs().max() > 0.01


@pytest.mark.parametrize("layer", [LAYERS + 1, -LAYERS - 2, 99])
def test_a_layer_that_is_not_there_is_refused(llama: dict[str, Path], layer: int) -> None:
    match = rf"text layer {layer} does not exist in .*: it has 3 layers, .* from -4 to 3$"
    with pytest.raises(ModelError, match=match):
        TextEncoder(str(llama["3"]), layer=layer)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_one_layer_has_one_name_in_the_settings(llama: dict[str, Path], layer: int) -> None:
    """A cache made with --text-layer 3 may be extended with --text-layer -1."""
    settings = TextEncoder(str(llama["3"]), layer=layer).settings
    assert settings["layer"] == layer - LAYERS - 1
    assert settings == TextEncoder(str(llama["3"]), layer=layer - LAYERS - 1).settings


def test_states_do_not_depend_on_the_neighbours(llama: dict[str, Path]) -> None:
    encoder = TextEncoder(str(llama["3.1"]))
    rng = np.random.default_rng(1)
    batch = [[0, *rng.integers(3, 300, 8).tolist()] for _ in range(5)]

    together = encoder.encode(batch)
    alone = torch.cat([encoder.encode([ids]) for ids in batch])

    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)


def test_states_of_a_prefix_do_not_depend_on_what_follows(llama: dict[str, Path]) -> None:
    """What the cache's prefix sharing rests on."""
    encoder = TextEncoder(str(llama["3.1"]))
    whole = encoder.encode([[0, 17, 250, 9, 33, 120]])
    for length in range(1, 6):
        prefix = encoder.encode([[0, 17, 250, 9, 33][:length]])
        torch.testing.assert_close(prefix, whole[:, :length], atol=1e-6, rtol=1e-6)


def test_the_longest_question_is_what_the_model_has_positions_for(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model", max_position_embeddings=24)

    encoder = TextEncoder(str(folder))

    assert encoder.max_tokens == 24
    assert TextEncoder("tiny").max_tokens == 512


@pytest.mark.parametrize("adds_bos", [True, False])
def test_bos_comes_first_and_once(tmp_path: Path, adds_bos: bool) -> None:
    """Llama 3's own tokenizer adds BOS; others do not."""
    encoder = TextEncoder(str(save_llama(tmp_path / "model", adds_bos=adds_bos)))
    plain = byte_tokenizer(adds_bos=False)

    tokens = encoder.tokens(QUESTIONS)

    assert (encoder.tokenizer("Who?").input_ids[0] == 0) == adds_bos  # so that the test bites
    assert tokens == [[0, *plain.encode(question).ids] for question in QUESTIONS]
    assert encoder.tokens([]) == []


def test_bos_may_stand_in_the_models_config_alone(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model", adds_bos=False, tokenizer_bos=None, config_bos=7)
    assert TextEncoder(str(folder)).tokens(["Who?"])[0][0] == 7


def test_a_model_without_bos_is_refused(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model", adds_bos=False, tokenizer_bos=None, config_bos=None)
    with pytest.raises(ModelError, match="has no BOS token"):
        TextEncoder(str(folder))


@pytest.mark.parametrize("control", [BOS, EOS, TURN])
def test_what_looks_like_a_control_token_stays_text(llama: dict[str, Path], control: str) -> None:
    encoder = TextEncoder(str(llama["3"]))
    question = f"What{control} is red?"

    ((bos, *tokens),) = encoder.tokens([question])

    assert bos == 0
    assert not {0, 1, 2} & set(tokens)
    assert len(encoder.tokenizer(question, add_special_tokens=False).input_ids) < len(tokens)
    spelled = "".join(encoder.tokenizer.convert_ids_to_tokens(tokens)).replace("Ġ", " ")
    assert spelled == question


@pytest.mark.parametrize("make", [ImageEncoder, TextEncoder])
def test_an_encoder_of_the_wrong_kind_is_refused(
    dinov2: dict[str, Path], llama: dict[str, Path], make: Callable[..., Any]
) -> None:
    folder = llama["3"] if make is ImageEncoder else dinov2["4 registers"]
    found = "llama" if make is ImageEncoder else "dinov2_with_registers"
    needed = "dinov2, dinov2_with_registers" if make is ImageEncoder else "llama"
    match = rf"{folder} is a '{found}' model; needed is one of: {needed}$"
    with pytest.raises(ModelError, match=match):
        make(str(folder))


@pytest.mark.parametrize("fit", ["whole", "crop"])
def test_pixels_are_uint8_of_the_models_size(dinov2: dict[str, Path], fit: Fit) -> None:
    """A white picture stays white whatever is done to it: nothing is filled in or cut short."""
    encoder = ImageEncoder(str(dinov2["plain"]), fit=fit, image_size=42)
    for size in ((90, 61), (5, 300), (42, 42)):
        pixels = encoder.pixels(Image.new("RGB", size, "white"))
        assert pixels.shape == (42, 42, 3)
        assert pixels.dtype == np.uint8
        assert (pixels == 255).all()


def test_transformers_is_as_talkative_after_loading_as_before(llama: dict[str, Path]) -> None:
    def is_shown() -> tuple[int, bool]:
        return logging.get_verbosity(), logging.is_progress_bar_enabled()

    found = is_shown()
    logging.set_verbosity_info()
    logging.enable_progress_bar()
    before = is_shown()
    inside = []
    with quiet_transformers():
        inside.append(is_shown())
    TextEncoder(str(llama["3"])).encode([[0, 5]])
    with pytest.raises(ZeroDivisionError), quiet_transformers():
        1 / 0  # noqa: B018
    after = is_shown()
    logging.set_verbosity(found[0])
    assert inside == [(logging.ERROR, False)]
    assert after == before == (logging.INFO, True)
