"""Two machines of a torchrun: two torchruns on this one, each with a stage of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.repository import ROOT


def start_machine(
    port: int, log: Path, program: Path, words: Sequence[object]
) -> "subprocess.Popen[bytes]":
    """Start one of two machines with one rank, whose words go to a log; it meets at this port."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
    command += ["--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "test"]
    command += [
        "--rdzv-endpoint",
        f"localhost:{port}",
        "--local-addr",
        "localhost",
        "--max-restarts",
        "3",
    ]
    # Or one that comes back would wait for what the other has said before (pytorch #135712).
    settings = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("ab") as out:
        return subprocess.Popen(
            [*command, "--", str(program), *map(str, words)],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | settings,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(one) for one in task.read_text().split()]
    return found


def kill_machine(machine: "subprocess.Popen[bytes]") -> None:
    """Kill all processes of a machine at once; each rank has a session of its own."""
    for pid in [machine.pid, *children(machine.pid)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    machine.wait()
