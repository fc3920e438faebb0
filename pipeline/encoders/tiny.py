"""The demo encoders: small DINOv2 and Llama checkpoints, built once from a fixed seed.

They are **untrained**: their random weights keep the content of a picture and a question, but know
nothing of the world. They let a user try the whole pipeline without a download. They are written
to the user's cache folder once, and the code of the real checkpoints loads them.

    ~/.cache/frozen-vqa/tiny-2/vision   Dinov2Model, 64 patches of 14 x 14 at 112 pixels
    ~/.cache/frozen-vqa/tiny-2/text     LlamaModel and a byte-level BPE tokenizer with BOS
"""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from frozen_vqa.cache.disk.files import user_caches
from frozen_vqa.cache.errors import explain_write_errors
from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.errors import ModelError

NAME = "tiny"
RECIPE = 2
"""Raise it whenever a line below changes the weights, so that no old folder is used."""

IMAGE_SIZE = 112
TEXT_DIM = 128
# The tokenizer learns its merges from these frequent words of questions about pictures.
QUESTION_WORDS = """
what which who where when why how is are was were does do did can could has have will would the
a an this that these those there it its he she they his her their in on at of to from with for by
and or not no any some all many much more less than as same most least number color colour shape
size kind type material time day name brand word letter sport animal food fruit room side left
right above below behind front top bottom middle center corner next near under over inside outside
between leftmost rightmost topmost lowest highest larger smaller bigger taller large small big tall
long short old young new open closed full empty red green blue yellow orange purple pink brown
black white gray grey teal silver gold circle circles square squares triangle triangles rectangle
rectangles object objects shape shapes thing things image picture photo contain contains present
shown visible see man men woman women boy girl child children person people player dog dogs cat
cats horse bird birds cow sheep elephant giraffe zebra bear car cars bus train truck bike
motorcycle boat plane street road sign light tree trees grass water snow sand sky sun cloud clouds
table chair bed bench couch window door wall floor plate bowl cup glass bottle pizza cake banana
apple phone computer laptop screen keyboard book clock hat shirt pants shoes dress tie glasses bag
umbrella ball racket bat board kite wearing holding sitting standing walking running riding eating
drinking playing looking doing flying going made used being yes zero one two three four five
"""


def tiny_checkpoint(part: str) -> Path:
    """Return the folder of the tiny encoder `part` ("vision" or "text"); build it if necessary."""
    caches = user_caches()
    if caches is None:
        raise ModelError(
            "the home folder is not known, and the tiny encoders are kept there; set HOME, or set "
            "XDG_CACHE_HOME to a folder that you can write"
        )
    folder = caches / "frozen-vqa" / f"{NAME}-{RECIPE}"
    if not folder.exists():
        advice = "Set XDG_CACHE_HOME to a folder that you can write, for the tiny encoders."
        with explain_write_errors(folder.parent, ModelError, advice):
            folder.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            _build(scratch)
            with suppress(OSError):  # another process was faster; its folder holds the same files
                scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return path_in(folder, part)


def _build(folder: Path) -> None:
    import torch

    from frozen_vqa.pipeline.encoders.checkpoint import quiet_transformers

    # The caller's random state must not advance.
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(20260101)
        _save_vision(folder / "vision")
        _save_text(folder / "text")


def _save_vision(folder: Path) -> None:
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=192,
        num_hidden_layers=2,
        num_attention_heads=6,
        mlp_ratio=2,
        image_size=IMAGE_SIZE,
        patch_size=14,
    )
    Dinov2Model(config).save_pretrained(folder)
    BitImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE * 8 // 7},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        resample=3,
        do_convert_rgb=True,
    ).save_pretrained(folder)


def _save_text(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    bos, eos = "<|begin_of_text|>", "<|end_of_text|>"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = QUESTION_WORDS.split()
    # Each word at the start of a question, capitalised and not, and inside one after a space.
    corpus = [form for word in words for form in (word, word.capitalize(), f" {word}")] + ["?"]
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=[bos, eos],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=TEXT_DIM,
        intermediate_size=2 * TEXT_DIM,
        num_hidden_layers=2,
        num_attention_heads=16,
        num_key_value_heads=16,
        max_position_embeddings=512,
        bos_token_id=tokenizer.token_to_id(bos),
        eos_token_id=tokenizer.token_to_id(eos),
        initializer_range=0.05,
    )
    model = LlamaModel(config)
    # By default a token's own embedding is outweighed six to one by the mean of those before it.
    torch.nn.init.normal_(model.embed_tokens.weight)
    # Yet a word has to carry the words before it, as in a trained model: in "left of the red
    # object" the last word must know "left", or no head learns the relation. So each of many
    # attention heads picks few of the words before, at the same strength as the word itself.
    for layer in model.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            torch.nn.init.normal_(projection.weight, std=0.3)
        for projection in (layer.self_attn.v_proj, layer.self_attn.o_proj):
            torch.nn.init.normal_(projection.weight, std=0.12)
    model.save_pretrained(folder)
