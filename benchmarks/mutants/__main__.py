"""Draws mutants of each module and runs its tests on them; exit code 1 if too many survive.

    python -m benchmarks.mutants --out build/mutants.json

Each mutant gets a process of its own, forked after torch is loaded, in a copy of this checkout.
The tests that mirror the module come first; what survives them meets those of the whole room.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.mutants.mutations import Mutant, find_mutants

ROOT = Path(__file__).parents[2]
EXPLAINED = ROOT / "docs" / "mutants.md"
NEEDED = 0.95
MARKS = "not slow and not gpu and not browser"
"""Golden files are read if `FROZEN_VQA_DATA` names their folder."""

RESUME = ("tests/pipeline/train/test_resume*.py",)
RUNS = ("tests/pipeline/runs", *RESUME)
TESTS: dict[str, tuple[str, ...]] = {
    "cache": ("tests/cache",),
    "pipeline/batches": ("tests/pipeline/batches",),
    "pipeline/download": ("tests/pipeline/download", "tests/system/test_download.py"),
    "pipeline/metrics": ("tests/pipeline/metrics",),
    "pipeline/model": ("tests/pipeline/model",),
    "pipeline/serve": ("tests/pipeline/serve", "tests/pipeline/commands/test_ask_serve.py"),
    "pipeline/sources": ("tests/pipeline/sources",),
    "pipeline/runs/sealed.py": RUNS,
    "pipeline/runs/state.py": RUNS,
    "pipeline/runs/weights.py": RUNS,
    "pipeline/train/resume.py": RESUME,
}
"""Modules, or folders of them, and their tests besides those that mirror them."""

ALSO: dict[str, tuple[str, ...]] = {
    "cache/convert.py": ("tests/pipeline/commands/test_convert_cache*.py",),
    "cache/memory.py": ("tests/pipeline/batches/test_residency*.py",),
    "cache/names.py": ("tests/test_paths.py",),
    "pipeline/batches/plan.py": ("tests/pipeline/train/test_parallel.py",),
    "pipeline/metrics/named": ("tests/pipeline/metrics/test_score*.py",),
    "pipeline/model/attention.py": ("tests/pipeline/report/test_deletion.py",),
    "pipeline/model/own_fusion.py": ("tests/pipeline/test_plugins.py",),
    "pipeline/serve/server.py": ("tests/pipeline/commands/test_ask_serve.py",),
    "pipeline/sources/official": ("tests/pipeline/sources/official/test_reader.py",),
    "pipeline/sources/open_source.py": ("tests/pipeline/test_plugins_data.py",),
}
"""Tests of modules, or folders of them, under other names or in other rooms."""


def modules_in(path: str) -> list[str]:
    """Return the modules at or below a path of `TESTS`."""
    found = [ROOT / path] if path.endswith(".py") else sorted((ROOT / path).rglob("*.py"))
    return [str(file.relative_to(ROOT)) for file in found if file.name != "__init__.py"]


def stages_of(module: str) -> list[tuple[str, ...]]:
    """Return the tests that mirror a module, and those for what survives these."""
    folder, stem = ROOT / "tests" / Path(module).parent, Path(module).stem
    mirror = [*folder.glob(f"test_{stem}.py"), *folder.glob(f"test_{stem}_*.py")]
    also = [tests for path, tests in ALSO.items() if module.startswith(path)]
    mirror += [path for tests in also for pattern in tests for path in ROOT.glob(pattern)]
    named = next(tests for path, tests in TESTS.items() if module.startswith(path))
    room = [path for pattern in named for path in ROOT.glob(pattern)]
    return [
        tuple(sorted({str(path.relative_to(ROOT)) for path in paths}))
        for paths in (mirror, room)
        if paths
    ]


def draw(module: str, count: int, seed: int) -> list[Mutant]:
    """Draw mutants, at most one a line. Those of a module do not depend on the other modules."""
    mutants = find_mutants(module, (ROOT / module).read_bytes())
    random.Random(f"{seed} {module}").shuffle(mutants)
    return list({mutant.line: mutant for mutant in mutants}.values())[:count]


@dataclass
class Copy:
    """A copy of the checkout under the name by which it is imported."""

    folder: Path
    mtimes: Iterator[int] = field(default_factory=lambda: iter(range(10**9, 2 * 10**9)))

    @property
    def root(self) -> Path:
        return self.folder / "frozen_vqa"

    def make(self) -> None:
        """Copy what git tracks or would."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True,
        )  # fmt: skip
        for name in listed.stdout.decode().split("\0"):
            if name and (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.root / name)

    def write(self, module: str, source: bytes) -> None:
        """Write a module with a time of its own, by which Python knows its bytecode as old."""
        (self.root / module).write_bytes(source)
        os.utime(self.root / module, (mtime := next(self.mtimes), mtime))

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self, tests: Sequence[str]) -> int:
        """Run tests in a child process; return its number."""
        if child := os.fork():
            return child
        code = 70
        try:
            os.setsid()
            handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            for stream in (1, 2):
                os.dup2(handle, stream)
            os.chdir(self.root)
            os.environ["PYTHONPATH"] = str(self.folder)
            elsewhere = [path for path in sys.path if path not in ("", str(ROOT))]
            sys.path[:] = [str(self.folder), *elsewhere]
            for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
                del sys.modules[name]
            import pytest

            options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-m", MARKS]
            code = pytest.main([*options, f"--basetemp={self.folder / 'tmp'}", *tests])
            sys.stdout.flush()
        finally:
            os._exit(code)  # what the parent would clean up stays


@dataclass(frozen=True)
class Task:
    """Tests that are to run, perhaps on a mutant."""

    tests: tuple[str, ...]
    limit: float  # in seconds
    mutant: Mutant | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a task."""

    task: Task
    code: int  # 0: no test failed; -1: it took too long
    seconds: float
    log: str


class Runner:
    """Runs tests in several processes at once, each in a copy of its own."""

    def __init__(self, folder: Path, processes: int) -> None:
        self.free = [Copy(folder / str(number)) for number in range(processes)]
        for copy in self.free:
            copy.make()
        self.running: dict[int, tuple[Copy, Task, float]] = {}

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Yield the outcome of each task when it is done."""
        waiting = list(reversed(tasks))
        while waiting or self.running:
            while waiting and self.free:
                self._start(self.free.pop(), waiting.pop())
            time.sleep(0.05)
            for child in list(self.running):
                if outcome := self._look_at(child):
                    yield outcome

    def _start(self, copy: Copy, task: Task) -> None:
        if task.mutant:
            copy.write(task.mutant.module, task.mutant.source())
        self.running[copy.start(task.tests)] = copy, task, time.monotonic()

    def _look_at(self, child: int) -> Outcome | None:
        copy, task, began = self.running[child]
        seconds = time.monotonic() - began
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended and seconds < task.limit:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # and what it has started
        if not ended:
            os.waitpid(child, 0)
        del self.running[child]
        if task.mutant:
            copy.write(task.mutant.module, task.mutant.original)
        self.free.append(copy)
        code = os.waitstatus_to_exitcode(status) if ended else -1
        return Outcome(task, code, seconds, copy.log.read_text(errors="replace"))


def measure(runner: Runner, stages: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], float]:
    """Return how long tests may take on a mutant, from how long they take without one."""
    limits = {}
    for outcome in runner.run([Task(tests, 900.0) for tests in dict.fromkeys(stages)]):
        print(f"{' '.join(outcome.task.tests)}: {outcome.seconds:.1f} s", flush=True)
        if outcome.code:
            sys.exit(f"these tests fail without a mutant:\n{outcome.log[-3000:]}")
        limits[outcome.task.tests] = 30 + 5 * outcome.seconds
    return limits


def explained() -> set[tuple[str, ...]]:
    """Return module, line and change of the survivors whose reason stands in the docs."""
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| `(.+?)` \| .+ \|$", EXPLAINED.read_text(), re.M)
    return {tuple(cell.replace("\\|", "|") for cell in row) for row in rows}


def judge(runner: Runner, mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, str]]:
    """Yield each mutant with "noticed", "survived", or "explained" if it may survive."""
    stages = {mutant.module: stages_of(mutant.module) for mutant in mutants}
    known, left = explained(), list(mutants)
    for stage in range(2):
        work = [(m, tests) for m in left for tests in stages[m.module][stage : stage + 1]]
        limits = measure(runner, [tests for _, tests in work])
        for outcome in runner.run([Task(tests, limits[tests], m) for m, tests in work]):
            mutant = outcome.task.mutant
            assert mutant is not None
            if outcome.code:
                left.remove(mutant)
                yield mutant, "noticed"
            else:
                print(f"not noticed by {' '.join(outcome.task.tests)}: {mutant}", flush=True)
    for mutant in left:
        excused = (mutant.module, mutant.text, mutant.change) in known
        yield mutant, "explained" if excused else "survived"


def main() -> None:
    """Run, show and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("paths", nargs="*", default=list(TESTS), help="modules or folders")
    parser.add_argument("--each", type=int, default=8, help="mutants of a module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.json")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch  # noqa: F401  (once for all children)

    modules = [module for path in options.paths for module in modules_in(path)]
    drawn = [mutant for m in modules for mutant in draw(m, options.each, options.seed)]
    found: dict[Mutant, str] = {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for mutant, outcome in judge(Runner(Path(folder), options.processes), drawn):
            found[mutant] = outcome
            print(f"{len(found)}/{len(drawn)} {outcome} {mutant}", flush=True)
            lines = [{"outcome": found[m], **m.to_json()} for m in found]
            options.out.write_text(json.dumps({"seed": options.seed, "mutants": lines}, indent=1))
    counts = Counter(found.values())
    share = counts["noticed"] / max(1, len(found) - counts["explained"])
    print(f"{dict(counts)}: {share:.1%} of the mutants that are not explained were noticed")
    sys.exit(share < NEEDED)


if __name__ == "__main__":
    main()
