"""Several processes of one program, started by torchrun."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.repository import ROOT


def torchrun(ranks: int, program: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a program on so many ranks, with the tests' modules at hand, and wait for its end."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    command += ["--master-addr", "localhost", "--master-port", str(port), "--", str(program)]
    return subprocess.run(
        [*command, *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
