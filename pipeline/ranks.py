"""The processes of one `torchrun`, or this one alone.

Each rank takes every N-th piece of work and tells the others nothing until all are done. Only the
first rank writes what there is one of, and only it prints.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch.distributed

from pipeline.display import console
from pipeline.errors import PipelineError

T = TypeVar("T")

PATIENCE = timedelta(days=1)
"""How long a rank waits for the others. One that has died is noticed by whoever waits for it."""


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is."""

    rank: int = 0
    world: int = 1

    @property
    def lead(self) -> bool:
        """Whether this process writes what there is one of."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> list[tuple[int, T]]:
        """Return this rank's share of `items`, each with its place among all."""
        return [(i, items[i]) for i in range(self.rank, len(items), self.world)]

    def wait(self) -> None:
        """Wait until every rank is here.

        Raises:
            PipelineError: if another rank is gone.
        """
        if self.world > 1:
            with _others_live():
                torch.distributed.barrier()

    def agree(self, number: int) -> int:
        """Return the number of the first rank.

        Raises:
            PipelineError: if another rank is gone.
        """
        if self.world == 1:
            return number
        said = torch.tensor([number])
        with _others_live():
            torch.distributed.broadcast(said, src=0)
        return int(said)


@contextmanager
def _others_live() -> Iterator[None]:
    """Say that another rank is gone, where torch says it at length."""
    try:
        yield
    except RuntimeError as error:
        raise PipelineError(
            "another rank has stopped; its own message says why. "
            "Run the same command again to go on, with any number of ranks."
        ) from error


@contextmanager
def torchrun_ranks() -> Iterator[Ranks]:
    """Join the ranks that `torchrun` started; without it, yield a single one."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ:  # some schedulers set WORLD_SIZE for other ends
        yield Ranks()
        return
    # gloo on every device: nothing but "I am done" is said.
    torch.distributed.init_process_group("gloo", timeout=PATIENCE)
    ranks = Ranks(torch.distributed.get_rank(), world)
    console.quiet = not ranks.lead
    try:
        yield ranks
    finally:
        console.quiet = False
        torch.distributed.destroy_process_group()
