"""A frozen language model: questions to hidden states.

Its family says what is special about it (families/text.py). As in `image_encoder.py`, the model is
never trained, and its weights come with the first batch.
"""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozen_vqa.cache.format.parts import LAST
from frozen_vqa.pipeline.encoders.checkpoint import Checkpoint, computing
from frozen_vqa.pipeline.encoders.checks.causality import (
    QUESTION,
    longest_exact,
    require_causal_config,
    require_own_states,
    require_shared_prefixes,
)
from frozen_vqa.pipeline.encoders.checks.layers import (
    every_state,
    one_layer,
    states_of,
    stored_layers,
)
from frozen_vqa.pipeline.encoders.checks.quantise import Quantize
from frozen_vqa.pipeline.encoders.checks.repository import no_revisions
from frozen_vqa.pipeline.encoders.checks.tokenizer import require_bounded
from frozen_vqa.pipeline.encoders.families.text import TEXT
from frozen_vqa.pipeline.encoders.frozen import FrozenEncoder
from frozen_vqa.pipeline.encoders.model_name import full_name
from frozen_vqa.pipeline.encoders.own_model import (
    QuestionModel,
    is_own_model,
    make_own_model,
    require_shape,
)
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.plugins import running

TOKENIZER_FILES = (
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model"),
)


class TextEncoder(FrozenEncoder):
    """A frozen model of one of the families, or a `QuestionModel` of the user's own.

    `max_tokens` is the number of positions that the model was made for, BOS included. `causal`
    tells whether a state depends on no later token, so that questions share the states of their
    common beginnings; it is checked by the configuration, and on states when it is loaded.
    `encodes_trees` tells whether there is `encode_tree`.

    Args:
        model: A name on the Hub, a local folder, "tiny", or "module:Name" that `trust` knows.
        revision: Branch, tag or commit of a model on the Hub; None for the main branch.
        local_only: Whether to take a model of the Hub from this machine alone.
        layer: Index into the model's hidden states; -1 is the last layer, after the final norm. Or
            several, whose states lie side by side.
        quantize: Whether the weights are quantised when they are loaded, and how (checks/quantise).

    Raises:
        ModelError: if the model cannot be loaded, is of another kind, or has no such layer.
        PluginError: if code of the user's own cannot be used, or the user has not named it.
    """

    causal, encodes_trees = True, True

    def __new__(cls, model: str, **_: Any) -> "TextEncoder":
        """Return one of the class that the name means."""
        return super().__new__(OwnTextEncoder if is_own_model(model) else cls)

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        layer: int | Sequence[int] = LAST,
        device: torch.device | str = "cpu",
        compute_dtype: torch.dtype = torch.float32,
        local_only: bool = False,
        quantize: Quantize | None = None,
    ) -> None:
        from transformers import AutoTokenizer

        self.name = model if model == TINY else full_name(model)
        self.device = torch.device(device)
        self.compute_dtype, self.quantize = compute_dtype, quantize
        place = tiny_checkpoint("text") if model == TINY else model
        self.checkpoint = Checkpoint(place, revision=revision, local_only=local_only)
        self.config, self.family = self.checkpoint.config(TEXT)
        self.causal = self.encodes_trees = self.family.causal
        if self.causal:
            require_causal_config(model, self.config)
        self.checkpoint.fetch("tokenizer.json", TOKENIZER_FILES)
        # Or its configuration could name these files anywhere on this disk.
        self.tokenizer = self.checkpoint.part(AutoTokenizer, merges_file=None, gguf_file=None)
        require_bounded(self.tokenizer, model)
        self.depth: int = self.config.num_hidden_layers
        self.layers = stored_layers(layer, self.depth, model, "--text-layer")
        self.dim: int = self.config.hidden_size * len(self.layers)
        self.max_tokens: int = longest_exact(self.config)
        bos = self.tokenizer.bos_token_id
        bos = self.config.bos_token_id if bos is None else bos
        if bos is None:
            raise ModelError(
                f"{model} has no BOS token, neither in its tokenizer nor as bos_token_id in its "
                f"config.json, and the state of a first word would be an outlier; use another copy"
            )
        self.bos: int = bos
        self._end = [] if self.causal else self._end_of_question()

    def settings_at(self, layer: int) -> dict[str, Any]:
        return {
            "model": self.name,
            "revision": self.checkpoint.revision,
            "layer": layer,
            "compute dtype": str(self.compute_dtype).removeprefix("torch."),
            **({"quantize": self.quantize} if self.quantize else {}),
        }

    @cached_property
    def weights(self) -> torch.nn.Module:
        """The frozen model, loaded on first use; `ModelError` if it is not causal."""
        weights = self.checkpoint.load(self.config, self.compute_dtype, self.device, self.quantize)
        (tokens,) = self.tokens([QUESTION])
        encode = partial(self._run, weights)
        require = require_shared_prefixes if self.causal else require_own_states
        require(self.name, encode, tokens[: self.max_tokens], self.compute_dtype)
        return weights

    def _end_of_question(self) -> list[int]:
        """Return what a model that reads both ways was trained to find after a text."""
        end = self.tokenizer.sep_token_id
        end = self.tokenizer.eos_token_id if end is None else end
        if end is None:
            raise ModelError(f"{self.name} has no token for the end of a text; use another copy")
        return [end]

    def tokens(self, questions: Sequence[str]) -> list[list[int]]:
        """Tokenise whole questions, BOS first, or what the model was trained to find in its place.

        Without BOS the state of the first word is an outlier that swamps all others. Qwen calls
        none BOS, and its config.json names the token that stood between texts. Text that looks like
        a control token stays text. The end of the text is marked only if the model reads both ways.
        """
        if not questions:
            return []
        with computing(self.name):
            ids = self.tokenizer(
                list(questions), add_special_tokens=False, split_special_tokens=True
            ).input_ids
        return [[self.bos, *question, *self._end] for question in ids]

    @torch.inference_mode()
    def encode(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Encode token ids, (questions, length), to (questions, length, dim) on the device.

        With equal lengths the model sees no padding, so a state does not depend on the other
        questions of the batch.
        """
        return self._run(self.weights, tokens)

    @torch.inference_mode()
    def encode_tree(self, tokens: Sequence[int], parents: Sequence[int]) -> Tensor:
        """Encode a tree of prefixes, each once: (prefixes, dim) on the device.

        A token sees those on the way to it alone, at the positions that they have in a question.

        Args:
            tokens: The last token of each prefix.
            parents: The place of the prefix that is one token shorter, before it; -1 for none.
        """
        places = np.arange(len(tokens))
        sees = np.zeros((len(tokens), len(tokens)), np.bool_)
        depths = np.full(len(tokens), -1)
        above = places  # of each prefix one that is ever shorter, from itself on
        while (left := above >= 0).any():
            sees[places[left], above[left]] = True
            depths[left] += 1
            above = np.where(left, np.asarray(parents)[above], -1)
        masks = self.family.tree_masks(self.config, sees, depths)
        ids, positions = (
            torch.as_tensor(one, dtype=torch.long, device=self.device)[None]
            for one in (tokens, depths)
        )
        return self._run(
            self.weights,
            ids,
            attention_mask={kind: self._mask(one) for kind, one in masks.items()}
            if isinstance(masks, dict)
            else self._mask(masks),
            position_ids=positions,
        )[0]

    def _mask(self, sees: np.ndarray) -> Tensor:
        """Return what is added to attention: (1, 1, prefixes, prefixes) on the device."""
        hidden = torch.from_numpy(~sees).to(self.device)
        mask = torch.zeros(hidden.shape, device=self.device, dtype=self.compute_dtype)
        return mask.masked_fill_(hidden, torch.finfo(self.compute_dtype).min)[None, None]

    @torch.inference_mode()
    def _run(
        self, weights: torch.nn.Module, tokens: Sequence[Sequence[int]] | Tensor, **how: Any
    ) -> Tensor:
        """Return the states of a batch of token ids."""
        ids = torch.as_tensor(tokens, dtype=torch.long, device=self.device)
        every = every_state(self.layers)
        with computing(self.name):
            output = weights(input_ids=ids, use_cache=False, output_hidden_states=every, **how)
        return states_of(output, self.layers)


class OwnTextEncoder(TextEncoder):
    """A `QuestionModel` of the user's own; `TextEncoder("module:Name")` makes it."""

    encodes_trees = False  # its `encode` takes questions, not what a token sees

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        layer: int | Sequence[int] = LAST,
        device: torch.device | str = "cpu",
        compute_dtype: torch.dtype = torch.float32,
        local_only: bool = False,
        quantize: Quantize | None = None,
    ) -> None:
        if revision:
            raise no_revisions(model)
        one_layer(layer, model, "states", "--text-layer")
        self.name, self.device = model, torch.device(device)
        self.compute_dtype = compute_dtype
        self._own: QuestionModel = make_own_model(
            model, "--text-model", self.device, compute_dtype, ("dim", "max_tokens", "tokens")
        )
        self.dim, self.max_tokens = self._own.dim, self._own.max_tokens
        if quantize:
            raise ModelError(f"{model} loads its weights by itself; leave out --quantize")
        tokens = self.tokens([QUESTION])[0][: self.max_tokens]
        require_shared_prefixes(model, self.encode, tokens, compute_dtype)

    def moved_to(self) -> str | None:
        return None

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "revision": self._own.revision,
            "layer": LAST,
            "compute dtype": str(self.compute_dtype).removeprefix("torch."),
        }

    def tokens(self, questions: Sequence[str]) -> list[list[int]]:
        if not questions:
            return []
        with running(self.name, "its tokens"):
            found = [list(map(int, one)) for one in self._own.tokens(list(questions))]
        if len(found) != len(questions) or not all(found):
            raise ModelError(f"{self.name}: its tokens must give each question at least one token")
        return found

    @torch.inference_mode()
    def encode(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        ids = torch.tensor(tokens, dtype=torch.long, device=self.device)
        with running(self.name, "its encode"):
            states = self._own.encode(ids)
        require_shape(self.name, states, (*ids.shape, self.dim))
        return states
