"""One head trained by several ranks, with the steps that one process would take.

Each batch of the plan is split over the ranks by its pictures, so a step has the same questions for
any number of ranks. DistributedDataParallel averages the gradients of the parts; each part is
weighted so that the average is the gradient of the whole batch. All ranks therefore make the same
step and have the same weights; only sums are rounded differently than in one process. Dropout is a
function of seed, batch and rank: a resumed training needs no generator states of other ranks, but
it needs the same number of ranks.

Where several machines read a cache at a URL, each reads one share of its pictures (`plan.py`), so
that its stage holds that share alone. The order of batches is then another one, which one process
has too if it is told the number of shares.

Several heads in one process, as in a sweep, draw from generators of their own in turn.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from frozen_vqa.cache import FeatureCache, SplitTable
from frozen_vqa.pipeline.batches.plan import share_of
from frozen_vqa.pipeline.batches.rows import same_pictures
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.predict import plan_answers
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import generator_state, set_generator_state
from frozen_vqa.pipeline.system.ranks import Ranks, local_ranks, machines


def with_shares(config: TrainConfig, cache: FeatureCache, ranks: Ranks) -> TrainConfig:
    """Return settings with a share of the pictures for each machine that stages a cache."""
    here = ranks.agree(machines())
    if config.shares or here < 2 or not cache.arrivals:
        return config
    console.print(
        f"{here} machines: each batch has as many questions about the pictures of each machine's "
        f"own shards; one process repeats this order with shares = {here} in its --config"
    )
    return replace(config, shares=here)


def pictures_of_rank(
    train: SplitTable, val: SplitTable, config: TrainConfig, ranks: Ranks
) -> np.ndarray:
    """Return the rows of all pictures that a rank reads in any epoch, and when it answers."""
    shares = config.shares or 1
    share = share_of(same_pictures(train), shares) * ranks.world
    mine = (share < (ranks.rank + 1) * shares) & (share + ranks.world > ranks.rank * shares)
    answered = ranks.stretch(plan_answers(val, config.batch_size)).rows
    return np.append(train.picture_rows[mine], val.picture_rows[answered])


def distribute(model: VqaModel, ranks: Ranks, device: torch.device) -> nn.Module:
    """Return a wrapper of a head whose backward passes leave the same gradients on all ranks.

    For one process it is the head itself. All ranks have to call it. Raises `ConfigError` if ranks
    would have to share a GPU.
    """
    if ranks.world == 1:
        return model
    if device.type == "cuda":
        if local_ranks() > torch.cuda.device_count():
            raise ConfigError(
                f"{local_ranks()} ranks on a machine with {torch.cuda.device_count()} GPUs; each "
                f"needs its own GPU. Give --nproc-per-node {torch.cuda.device_count()}."
            )
        torch.cuda.set_device(device)
    # The head has its own group, because torch never frees one. Threads of a group that still
    # exists may be busy with its last sum when Python ends, and then abort the process.
    wrapped = DistributedDataParallel(model, process_group=dist.new_group())
    # After its first backward pass it rearranges gradients in the order in which they came. The
    # rounding of sums over three or more ranks depends on that arrangement, so this pass has to
    # be over before the first step, or a resumed training would differ from an undisturbed one.
    shapes = model.config
    nothing = wrapped(
        torch.zeros(1, shapes.patches, shapes.vision_dim, device=device),
        torch.zeros(1, 1, 1, shapes.text_dim, device=device),
        torch.ones(1, 1, 1, dtype=torch.bool, device=device),
    )
    (0 * nothing).sum().backward()
    model.zero_grad(set_to_none=True)
    return wrapped


def sync_gradients(model: nn.Module, now: bool) -> AbstractContextManager[None]:
    """Let passes in the block sum gradients over the ranks, or leave that to a later block."""
    if isinstance(model, DistributedDataParallel) and not now:
        return model.no_sync()
    return nullcontext()


def seed_draws(*numbers: int) -> None:
    """Make all later random draws a function of these numbers."""
    seed = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    torch.manual_seed(int(seed[0]))


class Generators:
    """States of the generators of the CPU and of a device, which begin as they are now."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._states = self._now()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let the block draw from these states, and restore those of before."""
        before = self._now()
        self._set(self._states)
        try:
            yield
            self._states = self._now()
        finally:
            self._set(before)

    def _now(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        return torch.get_rng_state(), generator_state(self._device)

    def _set(self, states: tuple[torch.Tensor, torch.Tensor | None]) -> None:
        torch.set_rng_state(states[0])
        if states[1] is not None:
            set_generator_state(self._device, states[1])
