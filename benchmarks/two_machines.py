"""Training on two machines: its losses, what each machine stages, and machines that die.

    python -m benchmarks.two_machines [--pictures N] [--epochs N] [--folder DIR] [--json]

Needs root, Linux and `ip`: each machine is a network namespace, and a cable joins the two. Each
keeps its own stage of one cache at a URL (`file://`), and runs torchrun in a loop, as a cluster's
manager does. Trials:

    undisturbed       two machines; then one process with the settings of that run
    worker killed     the rank of the second machine, by SIGKILL: torchrun starts it again
    machine killed    all processes of one machine, by SIGKILL; its loop starts torchrun again
    cable cut         the second machine loses its network, then its processes, so that the first
                      hears nothing; then both come back

A disturbed training must end, with the weights of the undisturbed one.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.generated import write_cache
from benchmarks.harness import ROOT, Json, finish, machine, show
from frozen_vqa.cache import CacheSpec, load_manifest
from frozen_vqa.cache.stores.open_store import open_store
from frozen_vqa.cache.stores.push import push_cache
from frozen_vqa.pipeline.runs.state import EpochLine, parse_metrics
from frozen_vqa.pipeline.system.console import console

SPEC = CacheSpec({}, {}, (8, 8), 384, 128, "float16")
ROWS_PER_SHARD = 50
ADDRESSES = "10.213.77.1", "10.213.77.2"
PORT = 29_577
THREADS = {"OMP_NUM_THREADS": "1"}
"""Of each process, because both machines have the cores of one."""
KILL_AFTER = 2
"""Epochs that are done before something dies."""
PATIENCE = 900.0
"""Seconds after which a trial counts as hung."""
SETTINGS = 'width = 64\nheads = 4\nbatch_size = 96\nmin_answer_count = 1\nprecision = "float32"\n'


def succeed(*words: object) -> None:
    """Run a command that has to succeed."""
    where = os.environ | THREADS
    subprocess.run([str(word) for word in words], check=True, capture_output=True, env=where)


class Machine:
    """A network namespace in which torchrun runs in a loop until it succeeds."""

    def __init__(self, number: int) -> None:
        self.number, self.name = number, f"vqa{os.getpid()}-{number}"
        self.link = f"v{os.getpid()}{'ab'[number]}"
        self._loop: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self, words: list[object], log: Path) -> None:
        """Start the loop's next torchrun."""
        self.words, self.log = words, log
        self.starts += 1
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", 2]
        torchrun += ["--nproc-per-node", 1, "--max-restarts", 3, "--rdzv-backend", "c10d"]
        torchrun += ["--rdzv-id", "trial", "--rdzv-endpoint", f"{ADDRESSES[0]}:{PORT}"]
        torchrun += ["--local-addr", ADDRESSES[self.number]]
        torchrun += ["--rdzv-conf", f"is_host={int(self.number == 0)}"]  # both have one host name
        torchrun += ["--", ROOT / "cli.py", *words]
        command = ["ip", "netns", "exec", self.name, *map(str, torchrun)]
        settings = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "GLOO_SOCKET_IFNAME": self.link}
        settings |= THREADS | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with log.open("ab") as out:
            self._loop = subprocess.Popen(
                command, env=os.environ | settings, stdout=out, stderr=out
            )

    def look(self) -> bool:
        """Return whether the training has ended well; start torchrun again if it has not."""
        assert self._loop is not None
        if self._loop.poll():
            self.start(self.words, self.log)
        return self._loop.returncode == 0

    def processes(self) -> list[int]:
        """Return all processes of this machine, torchrun first."""
        found = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True
        )
        return sorted(map(int, found.stdout.split()))

    def kill(self, *, rank_alone: bool = False) -> None:
        """Kill its processes, or the rank that torchrun has started."""
        for pid in self.processes()[int(rank_alone) :]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def cable(self, state: str) -> None:
        """Plug the cable in ("up") or out ("down")."""
        succeed("ip", "-n", self.name, "link", "set", self.link, state)


@contextmanager
def two_machines() -> Iterator[list[Machine]]:
    """Yield two machines with a cable between them; whatever they run ends with the block."""
    machines = [Machine(number) for number in range(2)]
    with ExitStack() as held:
        for one in machines:
            succeed("ip", "netns", "add", one.name)
            held.callback(succeed, "ip", "netns", "delete", one.name)
            held.callback(one.kill)
        first, second = machines
        succeed("ip", "link", "add", first.link, "netns", first.name, "type", "veth",
            "peer", "name", second.link, "netns", second.name)  # fmt: skip
        for one, address in zip(machines, ADDRESSES, strict=True):
            succeed("ip", "-n", one.name, "address", "add", f"{address}/24", "dev", one.link)
            succeed("ip", "-n", one.name, "link", "set", "lo", "up")
            one.cable("up")
        yield machines


def words_of(folder: Path, trial: str, number: int, epochs: int) -> list[object]:
    """Return the command of one machine; torchrun repeats it, so it says --resume at once.

    The second machine does not see the run folder of the first.
    """
    run = folder / trial if number == 0 else folder / "elsewhere" / trial
    return [
        "train-head", "--cache", f"file://{folder}/store", "--stage", folder / f"stage {number}",
        "--run", run, "--config", folder / "head.toml", "--epochs", epochs,
        "--residency", "mapped", "--no-report", "--resume",
    ]  # fmt: skip


def lines(run: Path) -> list[EpochLine]:
    """Return the figures of a run's epochs so far."""
    path = run / "metrics.jsonl"
    return parse_metrics(path.read_bytes()) if path.exists() else []


def train(folder: Path, trial: str, epochs: int, disturb: str = "") -> Json:
    """Train on two machines that are disturbed once; return how it went."""
    started = time.monotonic()
    with two_machines() as machines:
        for one in machines:
            one.start(words_of(folder, trial, one.number, epochs), folder / f"{trial} {one.number}")
        while not min(one.look() for one in machines):  # looks at both
            if disturb and len(lines(folder / trial)) >= KILL_AFTER:
                disturb_once(machines, disturb)
                disturb = ""
            if time.monotonic() - started > PATIENCE:
                raise TimeoutError(f"{folder}: {trial} hangs; its logs are there")
            time.sleep(0.1)
        starts = [one.starts for one in machines]
    return {"seconds": round(time.monotonic() - started, 1), "starts of torchrun": starts}


def disturb_once(machines: list[Machine], how: str) -> None:
    """Let a machine, its rank or its cable fail."""
    victim = machines[how != "first machine killed"]
    if how == "cable cut":
        victim.cable("down")
    victim.kill(rank_alone=how == "worker killed")
    if how == "cable cut":
        time.sleep(5)
        victim.cable("up")


def compare(one: Path, two: Path) -> Json:
    """Return the largest differences between the epochs of two runs, and if weights are equal."""
    pairs = list(zip(lines(one), lines(two), strict=True))
    weights = [(path / "model.safetensors").read_bytes() for path in (one, two)]
    return {
        "loss differs by": max(abs(a.loss - b.loss) for a, b in pairs),
        "accuracy differs by": max(abs(a.accuracy - b.accuracy) for a, b in pairs),
        "same weights": weights[0] == weights[1],
    }


def measure(pictures: int, epochs: int, folder: Path) -> Json:
    """Return what each trial found."""
    cache, store = folder / "cache", open_store(f"file://{folder}/store")
    write_cache(
        cache,
        images=pictures,
        questions_per_image=3,
        distinct_questions=64,
        answers=10,
        spec=SPEC,
        rows_per_shard=ROWS_PER_SHARD,
    )
    manifest = load_manifest(cache)
    push_cache(cache, manifest, store, card=b"-", mark=b"-", advance=lambda _: None)
    (folder / "head.toml").write_text(SETTINGS)
    whole = sum(record.bytes for record in manifest.images)

    def staged() -> Json:
        folders = [folder / f"stage {number}" for number in range(2)]
        sizes = [sum(one.stat().st_size for one in it.rglob("images/*.h5")) for it in folders]
        return {"staged of all shards": [round(one / whole, 3) for one in sizes]}

    undisturbed = train(folder, "two", epochs) | staged()
    alone = ["train-head", "--cache", cache, "--run", folder / "one", "--no-report"]
    succeed(sys.executable, ROOT / "cli.py", *alone, "--config", folder / "two" / "config.toml")
    found = {"beside one process": undisturbed | compare(folder / "one", folder / "two")}
    for how in ("worker killed", "second machine killed", "first machine killed", "cable cut"):
        console.print(how)
        found[how] = train(folder, how, epochs, how) | staged()
        found[how] |= compare(folder / "two", folder / how)
    return found


def main() -> None:
    """Print a table; the JSON object has all numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=int, default=1_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder without it")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    options = parser.parse_args()
    if os.geteuid() or not shutil.which("ip"):
        sys.exit("two_machines: needs root and the command ip, to make network namespaces")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or the machines would stay
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = measure(options.pictures, options.epochs, Path(folder).resolve())
    report(found, options.json)


def report(found: Mapping[str, Json], as_json: bool) -> None:
    """Print what was found."""
    show("Two machines", [{"trial": trial, **some} for trial, some in found.items()])
    finish({"machine": machine(), **found}, as_json=as_json, path=None)


if __name__ == "__main__":
    main()
