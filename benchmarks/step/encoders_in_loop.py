"""A training without a cache: frozen encoders run inside the loop, then the same head learns.

    python -m benchmarks.step.encoders_in_loop CACHE --config JSON [--kept SHARE] [--quick]
        [--seconds S --warmup STEPS --steps N]

DINOv2-base and Llama-3.2-1B as their configurations describe them, with random weights, which take
as long as the real ones. Batches are those of our grouped order over CACHE, of which nothing else
is read. In the encoders' favour: each picture is encoded once for all its questions of the batch,
pictures lie ready as tensors of 224 x 224 pixels, every question has 8 tokens and none is padding,
and the faster of float32 and bfloat16 is taken. With --quick both encoders have one layer, and
Llama a small vocabulary. Prints one JSON object. `python -m benchmarks.step` starts this.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig

from benchmarks.models import DINOV2_BASE, IMAGE_SIZE, LLAMA_1B, TOKENS, dinov2, llama
from benchmarks.step.data import load_data, new_trainer
from benchmarks.step.variant import AfterStep, Clock, speed, synchronize
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import choose_device
from frozen_vqa.pipeline.train.loss import soft_target_loss
from frozen_vqa.pipeline.train.trainer import Trainer

PROBE_PICTURES, PROBE_QUESTIONS = 4, 32


def _encoder(config: PretrainedConfig, device: torch.device) -> nn.Module:
    return (
        AutoModel.from_config(config, dtype=torch.float32).eval().requires_grad_(False).to(device)
    )


class EncodersInLoop:
    """A training whose features are made in every step.

    Args:
        trainer: Ours, of which the model, the optimizer and the plan of batches are used.
        quick: Whether to take small stand-ins for the encoders.
    """

    def __init__(self, trainer: Trainer, *, quick: bool) -> None:
        small = {"num_hidden_layers": 1} if quick else {}
        self.trainer = trainer
        self.vision = _encoder(dinov2(DINOV2_BASE | small), trainer.device)
        words = llama(LLAMA_1B | small | ({"vocab_size": 1024} if quick else {}))
        self.text = _encoder(words, trainer.device)
        self.vocabulary = words.vocab_size
        self._choose_dtype()

    @torch.no_grad()
    def encode(self, pictures: int, questions: int) -> tuple[Tensor, Tensor]:
        """Encode made-up pictures and questions.

        Returns:
            Patch embeddings (pictures, 256, 768) and hidden states (questions, 8, 2048).
        """
        device = self.trainer.device
        pixels = torch.randn(pictures, 3, IMAGE_SIZE, IMAGE_SIZE, device=device, dtype=self.dtype)
        tokens = torch.randint(self.vocabulary, (questions, TOKENS), device=device)
        patches = self.vision(pixel_values=pixels).last_hidden_state[:, 1:]
        # A cache of keys and values is for generating text; none is generated.
        states = self.text(input_ids=tokens, use_cache=False).last_hidden_state
        return patches, states

    def _choose_dtype(self) -> None:
        """Turn the encoders into the faster of float32 and bfloat16."""
        seconds = {}
        for dtype in (torch.float32, torch.bfloat16):
            self._turn_into(dtype)
            self.encode(1, 1)
            began = time.perf_counter()
            self.encode(PROBE_PICTURES, PROBE_QUESTIONS)
            synchronize()
            seconds[dtype] = time.perf_counter() - began
        fastest = min(seconds, key=lambda dtype: seconds[dtype])
        self._turn_into(fastest)

    def _turn_into(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.vision.to(dtype)
        self.text.to(dtype)

    def epoch(self, number: int, after_step: AfterStep) -> float:
        """Train for one epoch and return its mean loss."""
        trainer = self.trainer
        model, device, config = trainer.model.train(), trainer.device, trainer.config
        total = torch.zeros((), device=device)
        questions = 0
        for grid in trainer.plan(number):
            rows = [int(row) for entry in grid for row in entry]
            lengths = torch.tensor([len(entry) for entry in grid], device=device)
            patches, states = self.encode(len(grid), len(rows))
            taken = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
            hidden_states = states.new_zeros(*taken.shape, *states.shape[1:])
            hidden_states[taken] = states
            mask = taken[..., None].expand(*taken.shape, TOKENS)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                logits = model(patches, hidden_states, mask)
            loss = soft_target_loss(logits.float(), torch.zeros_like(logits, dtype=torch.float32))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            trainer.optimizer.step()
            trainer.optimizer.zero_grad(set_to_none=True)
            total += loss.detach() * len(rows)
            questions += len(rows)
            after_step(len(rows))
        return total.item() / questions


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--config", type=json.loads, required=True)
    parser.add_argument("--kept", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    console.quiet = True
    config = TrainConfig(**args.config)
    data = load_data(args.cache, config, kept=args.kept)
    trainer = new_trainer(data, config, choose_device("auto"))
    runner = EncodersInLoop(trainer, quick=args.quick)
    clock = Clock(args.warmup, args.seconds, args.steps)
    found = speed(runner.epoch, clock, config.epochs)
    print(json.dumps(found | {"encoder_dtype": str(runner.dtype).removeprefix("torch.")}))


if __name__ == "__main__":
    main()
