"""Llama 3, 3.1 and 3.2: questions to hidden states.

As in `image_encoder.py`, the model is never trained, and its weights come with the first batch.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from frozen_vqa.pipeline.encoders.checkpoint import Checkpoint, computing, full_name
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import ModelError

MODEL_TYPES = ("llama",)


class TextEncoder:
    """A frozen Llama.

    `max_tokens` is the number of positions that the model was made for, BOS included.

    Args:
        model: A name on the Hub, a local folder, or "tiny".
        local_only: Whether to take a model of the Hub from this machine alone.
        layer: Index into the model's hidden states; -1 is the last layer, after the final norm.

    Raises:
        ModelError: if the model cannot be loaded, is of another kind, or has no such layer.
    """

    def __init__(
        self,
        model: str,
        *,
        layer: int = -1,
        device: torch.device | str = "cpu",
        compute_dtype: torch.dtype = torch.float32,
        local_only: bool = False,
    ) -> None:
        from transformers import AutoTokenizer

        self.name = model if model == TINY else full_name(model)
        self.layer = layer
        self.device = torch.device(device)
        self.compute_dtype = compute_dtype
        place = tiny_checkpoint("text") if model == TINY else model
        self.checkpoint = Checkpoint(place, local_only=local_only)
        self.config = self.checkpoint.config(MODEL_TYPES)
        # Or its configuration could name these files anywhere on this disk.
        self.tokenizer = self.checkpoint.part(AutoTokenizer, merges_file=None, gguf_file=None)
        layers: int = self.config.num_hidden_layers
        if not -layers - 1 <= layer <= layers:
            raise ModelError(
                f"text layer {layer} does not exist in {model}: it has {layers} layers, so "
                f"--text-layer goes from {-layers - 1} to {layers}"
            )
        self.dim: int = self.config.hidden_size
        self.max_tokens: int = self.config.max_position_embeddings
        bos = self.tokenizer.bos_token_id
        bos = self.config.bos_token_id if bos is None else bos
        if bos is None:
            raise ModelError(f"{model} has no BOS token, which every Llama 3 has; use another copy")
        self.bos: int = bos

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that determines this encoder's numbers, for the cache's spec."""
        # Each layer gets one spelling: -1 and `layers` name the same states.
        layers = self.config.num_hidden_layers
        return {
            "model": self.name,
            "revision": self.checkpoint.revision,
            "layer": self.layer - layers - 1 if self.layer >= 0 else self.layer,
            "compute dtype": str(self.compute_dtype).removeprefix("torch."),
        }

    @cached_property
    def weights(self) -> torch.nn.Module:
        """The frozen model, loaded on first use."""
        return self.checkpoint.load(self.config, self.compute_dtype, self.device)

    def tokens(self, questions: Sequence[str]) -> list[list[int]]:
        """Tokenise whole questions, BOS first.

        Without BOS the state of the first word is an outlier that swamps all others. Text that
        looks like a control token stays text.
        """
        if not questions:
            return []
        with computing(self.name):
            ids = self.tokenizer(
                list(questions), add_special_tokens=False, split_special_tokens=True
            ).input_ids
        return [[self.bos, *question] for question in ids]

    @torch.inference_mode()
    def encode(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Encode token ids, (questions, length), to (questions, length, dim) on the device.

        With equal lengths the model sees no padding, so a state does not depend on the other
        questions of the batch.
        """
        ids = torch.tensor(tokens, dtype=torch.long, device=self.device)
        weights, every = self.weights, self.layer != -1
        with computing(self.name):
            output = weights(input_ids=ids, use_cache=False, output_hidden_states=every)
        if self.layer == -1:
            return output.last_hidden_state
        return output.hidden_states[self.layer]
