"""The processes of one `torchrun`, or this one alone.

In stage one each rank takes every N-th piece of work, without messages until all are done; in stage
two all take every step together (`pipeline/train/parallel.py`). Only the first rank prints and
writes shared files. If several ranks fail, only the first one to fail says why, because the other
failures follow from it.
"""

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import uuid4

from frozen_vqa.pipeline.errors import ConfigError, PipelineError
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import count_in_environment

if TYPE_CHECKING:  # a single process does without
    import torch

T = TypeVar("T")
S = TypeVar("S", bound=Sequence[Any])

PATIENCE = timedelta(days=1)
"""How long a rank waits for the others. A waiting rank notices one that has died."""

MEETING = timedelta(minutes=10)
"""How long a rank waits for the others to start."""


@dataclass(frozen=True)
class Ranks:
    """The rank of this process, and the number of processes.

    All ranks have to call `wait`, `agree`, `tell`, `largest` and `total` together. They raise
    RuntimeError if another rank is gone; `torchrun_ranks` explains it.
    """

    rank: int = 0
    world: int = 1

    @property
    def lead(self) -> bool:
        """Whether this process writes shared files."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> list[tuple[int, T]]:
        """Return this rank's share of `items`, each with its index."""
        return [(i, items[i]) for i in range(self.rank, len(items), self.world)]

    def stretch(self, items: S) -> S:
        """Return this rank's share of `items` as a run of neighbours."""
        first, end = (len(items) * rank // self.world for rank in (self.rank, self.rank + 1))
        return cast(S, items[first:end])

    def wait(self) -> None:
        self.largest(0)

    def agree(self, number: int) -> int:
        """Return the number of the first rank."""
        if self.world == 1:
            return number
        import torch

        return int(self.total(torch.tensor([number if self.lead else 0])))

    def tell(self, make: Callable[[], T]) -> T:
        """Return what the first rank makes, whose machine alone may have what it is made of."""
        if self.world == 1:
            return make()
        import torch
        import torch.distributed as dist

        found = [make() if self.lead else None]
        dist.broadcast_object_list(found, device=torch.device("cpu"))
        return cast(T, found[0])

    def largest(self, *numbers: int) -> tuple[int, ...]:
        """Return the maximum over the ranks of each number."""
        if self.world == 1:
            return numbers
        import torch
        import torch.distributed as dist

        said = torch.tensor(numbers)
        dist.all_reduce(said, dist.ReduceOp.MAX)
        return tuple(said.tolist())

    def total(self, numbers: "torch.Tensor") -> "torch.Tensor":
        """Return the sum of a CPU tensor over the ranks; exact where all but one have zeros."""
        if self.world > 1:
            import torch.distributed as dist

            dist.all_reduce(numbers)
        return numbers


ALONE = Ranks()


def by_torchrun() -> bool:
    """Whether torchrun started this process. Some schedulers set one of the two variables."""
    return {"RANK", "WORLD_SIZE"} <= os.environ.keys()


def local_ranks() -> int:
    """Return how many ranks share this machine."""
    return count_in_environment("LOCAL_WORLD_SIZE", 1) if by_torchrun() else 1


def machines() -> int:
    """Return how many machines the ranks are on."""
    return count_in_environment("GROUP_WORLD_SIZE", 1) if by_torchrun() else 1


@contextmanager
def torchrun_ranks() -> Iterator[Ranks]:
    """Join the ranks that `torchrun` started; without it, yield a single one.

    Raises:
        ConfigError: if the environment is not that of a `torchrun`.
        PipelineError: if another rank was killed.
        SystemExit: with 1, if another rank failed before and says why.
    """
    world = count_in_environment("WORLD_SIZE", 1) if by_torchrun() else 1
    if world == 1:
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    store, rank = _meet(world)
    # Ranks agree on the CPU; a GPU only sums gradients, so that no agreement waits for it.
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    console.quiet = rank > 0
    failed, before = False, signal.getsignal(signal.SIGTERM)
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
        yield Ranks(rank, world)
    except BaseException as error:
        failed = True
        if isinstance(error, Exception):
            # torchrun soon ends all ranks; the message of this one must come first.
            before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if _failed_before(store, isinstance(error, Exception)):
            sys.exit(1)
        if _lost_contact(error):
            raise PipelineError(
                "another rank was killed, or its machine is gone. To resume, run the same torchrun "
                "command again, train-head with --resume."
            ) from error
        raise
    finally:
        console.quiet = False
        if not (failed and gpus):  # NCCL might wait for a rank that is gone
            gc.collect()  # a head still in memory would keep gloo's threads, which must end now
            if dist.is_initialized():
                dist.destroy_process_group()
        signal.signal(signal.SIGTERM, before)


def _meet(world: int) -> tuple[Any, int]:
    """Return what the ranks share, and this one's number, once all have started."""
    rank = count_in_environment("RANK", 0)
    lacking = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if lacking or rank >= world:
        found = f"{' and '.join(lacking)} not" if lacking else f"RANK is {rank} of {world}"
        raise ConfigError(
            f"the environment variables RANK and WORLD_SIZE are set, but {found}, so these are not "
            f"those of torchrun; start the command with torchrun, or unset RANK and WORLD_SIZE"
        )
    count_in_environment("MASTER_PORT", 0)
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, _ = next(rendezvous("env://", timeout=MEETING))
        store = _new_part(store, rank, world)
    except (RuntimeError, ValueError, OSError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0][:200]
        raise PipelineError(
            f"the ranks of torchrun cannot meet at {place}, where MASTER_ADDR and MASTER_PORT "
            f"point ({reason}); start all ranks with torchrun, or unset RANK and WORLD_SIZE"
        ) from error
    store.set_timeout(PATIENCE)
    return store, rank


def _new_part(store: Any, rank: int, world: int) -> Any:
    """Return a part of what the ranks share that is empty.

    torchrun may keep the store when it starts the ranks once more, and with it what dead ranks
    wrote there, such as their addresses. So the first rank names the part anew, and tells each rank
    that is alive by the name that this one has given itself.
    """
    from torch.distributed.distributed_c10d import PrefixStore

    own = uuid4().hex
    store.set(f"rank {rank}", own)
    if rank:
        part = store.get(f"part of {own}").decode()  # waits
        store.set(f"{part} has {rank}", "")
        return PrefixStore(part, store)
    absent, until = set(range(1, world)), time.monotonic() + MEETING.total_seconds()
    while absent and time.monotonic() < until:
        for other in absent:
            if store.check([f"rank {other}"]):
                store.set(f"part of {store.get(f'rank {other}').decode()}", own)
        absent = {other for other in absent if not store.check([f"{own} has {other}"])}
        time.sleep(0.05)
    if absent:
        raise RuntimeError(f"rank {min(absent)} is absent")
    return PrefixStore(own, store)


def _failed_before(store: Any, fails: bool) -> bool:
    """Whether another rank has failed already; note it if this one does."""
    try:
        return store.add("failed", int(fails)) > int(fails)
    except RuntimeError:  # torchrun itself is gone
        return False


def _lost_contact(error: BaseException) -> bool:
    """Whether torch raises this error because another rank is gone."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )
