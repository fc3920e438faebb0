"""One head trained by several ranks, with the steps that one process would take.

Every batch of the plan is split over the ranks by its pictures, so a step has the same questions
whatever the number of ranks. DistributedDataParallel averages the gradients of the parts; each is
weighted so that the average is the gradient of the whole batch. So all ranks have the same gradient
and norm, make the same step, and have the same weights; only sums are rounded otherwise than in one
process. What dropout draws is a function of seed, place and rank: a training that goes on needs
nobody's generator, but the same number of ranks.
"""

import math
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.system.ranks import Ranks, local_ranks


def parallel(model: VqaModel, ranks: Ranks, device: torch.device) -> nn.Module:
    """Return what to call in place of a head, so that backward passes leave the same gradients.

    For one process it is the head itself. All ranks have to call it.

    Raises:
        ConfigError: if ranks would have to share a GPU.
    """
    if ranks.world == 1:
        return model
    if device.type == "cuda":
        if local_ranks() > torch.cuda.device_count():
            raise ConfigError(
                f"{local_ranks()} ranks on a machine with {torch.cuda.device_count()} GPUs; each "
                f"needs one of its own. Give --nproc-per-node {torch.cuda.device_count()}."
            )
        torch.cuda.set_device(device)
    # A group of its own, because torch never gives it back. Threads of a group that lives on may
    # still have to do with its last sum when Python ends, and abort the process then.
    wrapped = DistributedDataParallel(model, process_group=dist.new_group())
    # After its first backward pass it arranges gradients anew, in the order in which they came.
    # Sums over three or more ranks are rounded by where they lie, so that pass has to be over
    # before the first step, or a training that goes on would differ from an undisturbed one.
    shapes = model.config
    nothing = wrapped(
        torch.zeros(1, math.prod(shapes.grid), shapes.vision_dim, device=device),
        torch.zeros(1, 1, 1, shapes.text_dim, device=device),
        torch.ones(1, 1, 1, dtype=torch.bool, device=device),
    )
    (0 * nothing).sum().backward()
    model.zero_grad(set_to_none=True)
    return wrapped


def summed(model: nn.Module, now: bool) -> AbstractContextManager[None]:
    """Let passes in the block sum gradients over the ranks, or leave that to a later block."""
    if isinstance(model, DistributedDataParallel) and not now:
        return model.no_sync()
    return nullcontext()


def seed_draws(*numbers: int) -> None:
    """Let what is drawn from here on be a function of these numbers."""
    seed = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    torch.manual_seed(int(seed[0]))
