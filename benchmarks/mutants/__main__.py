"""Draws mutants of each module and runs its tests on them; exit code 1 if too many survive.

Each mutant gets a process of its own, forked after torch is loaded, in a copy of this checkout.
The tests are those that mirror the module, then those of its room, then a few named ones.
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
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.mutants.mutations import Mutant, find_mutants

ROOT = Path(__file__).parents[2]
EXPLAINED = ROOT / "docs" / "mutants.md"
NEEDED = 0.95

RESUME = ("tests/pipeline/train/test_resume*.py",)
RUNS = ("tests/pipeline/runs", *RESUME)
TESTS: dict[str, tuple[str, ...]] = {
    "cache": ("tests/cache",),
    "pipeline/batches": ("tests/pipeline/batches",),
    "pipeline/metrics": ("tests/pipeline/metrics",),
    "pipeline/model": ("tests/pipeline/model",),
    "pipeline/sources": ("tests/pipeline/sources",),
    "pipeline/runs/sealed.py": RUNS,
    "pipeline/runs/state.py": RUNS,
    "pipeline/runs/weights.py": RUNS,
    "pipeline/train/resume.py": RESUME,
}
"""Modules, or folders of them, and their tests besides those that mirror them."""

ALSO: dict[str, tuple[str, ...]] = {
    "cache/convert.py": ("tests/pipeline/commands/test_convert_cache*.py",),
}
"""Tests of single modules in other rooms."""


def modules_in(path: str) -> list[str]:
    """Return the modules at or below a path of `TESTS`."""
    found = [ROOT / path] if path.endswith(".py") else sorted((ROOT / path).rglob("*.py"))
    return [str(file.relative_to(ROOT)) for file in found if file.name != "__init__.py"]


def tests_of(module: str) -> list[str]:
    """Return the tests of a module, the most specific first."""
    folder, stem = ROOT / "tests" / Path(module).parent, Path(module).stem
    found = sorted([*folder.glob(f"test_{stem}.py"), *folder.glob(f"test_{stem}_*.py")])
    rooms = [path for path in (folder,) if path.is_dir() and "train" not in path.parts]
    named = next(tests for path, tests in TESTS.items() if module.startswith(path))
    named = (*ALSO.get(module, ()), *named)
    more = [path for pattern in named for path in sorted(ROOT.glob(pattern))]
    return [str(path.relative_to(ROOT)) for path in dict.fromkeys([*found, *rooms, *more])]


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

    def start(self, tests: Sequence[str], log: Path) -> int:
        """Run tests in a child process; return its number."""
        if child := os.fork():
            return child
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(handle, stream)
        os.chdir(self.root)
        os.environ["PYTHONPATH"] = str(self.folder)
        sys.path[:] = [
            str(self.folder),
            *(path for path in sys.path if path not in ("", str(ROOT))),
        ]
        for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
            del sys.modules[name]
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        code = pytest.main([*options, f"--basetemp={self.folder / 'tmp'}", *tests])
        sys.stdout.flush()
        os._exit(code)


@dataclass
class Running:
    """A child process that runs tests."""

    copy: Copy
    module: str
    mutant: Mutant | None
    began: float
    limit: float


class Runner:
    """Runs the tests of each module, and of its mutants, in several processes at once."""

    def __init__(self, folder: Path, processes: int) -> None:
        self.free = [Copy(folder / str(number)) for number in range(processes)]
        for copy in self.free:
            copy.make()
        self.running: dict[int, Running] = {}

    def outcomes(
        self, work: Sequence[tuple[str, Mutant | None, float]]
    ) -> Iterator[tuple[Running, int, float]]:
        """Yield each piece of work when it is done, its exit code (-1: too long), and seconds."""
        waiting = list(reversed(work))
        while waiting or self.running:
            while waiting and self.free:
                self._start(*waiting.pop())
            time.sleep(0.05)
            for child, run in list(self.running.items()):
                seconds = time.monotonic() - run.began
                ended, status = os.waitpid(child, os.WNOHANG)
                if not ended and seconds < run.limit:
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)  # and what it has started
                if not ended:
                    os.waitpid(child, 0)
                del self.running[child]
                run.copy.write(run.module, (ROOT / run.module).read_bytes())
                self.free.append(run.copy)
                yield run, os.waitstatus_to_exitcode(status) if ended else -1, seconds

    def _start(self, module: str, mutant: Mutant | None, limit: float) -> None:
        copy, source = self.free.pop(), (ROOT / module).read_bytes()
        copy.write(module, mutant.apply(source) if mutant else source)
        child = copy.start(tests_of(module), copy.folder / "log")
        self.running[child] = Running(copy, module, mutant, time.monotonic(), limit)


def explained() -> set[tuple[str, str, str]]:
    """Return the survivors whose reason stands in the docs: module, line and change."""
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| `(.+?)` \| .+ \|$", EXPLAINED.read_text(), re.M)
    return {tuple(cell.replace("\\|", "|") for cell in row) for row in rows}


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
    mutants = {module: draw(module, options.each, options.seed) for module in modules}
    known, results = explained(), []
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Path(folder), options.processes)
        usual = {}
        for run, code, seconds in runner.outcomes([(m, None, 600.0) for m in modules]):
            if code:
                sys.exit(f"{run.module}: its tests fail without a fault ({code}):\n"
                         f"{(run.copy.folder / 'log').read_text()[-2000:]}")  # fmt: skip
            usual[run.module] = seconds
            print(f"{run.module}: {len(mutants[run.module])} mutants, {seconds:.1f} s", flush=True)
        work = [(m, mutant, 30 + 5 * usual[m]) for m in modules for mutant in mutants[m]]
        for run, code, seconds in runner.outcomes(work):
            mutant = run.mutant
            assert mutant is not None
            outcome = "noticed" if code else "survived"
            if not code and (mutant.module, mutant.text, mutant.change) in known:
                outcome = "explained"
            results.append({**asdict(mutant), "change": mutant.change, "outcome": outcome,
                            "exit_code": code, "seconds": round(seconds, 1)})  # fmt: skip
            print(f"{len(results)}/{len(work)} {outcome}: {mutant.module}:{mutant.line} "
                  f"`{mutant.text}` {mutant.change}", flush=True)  # fmt: skip
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps({"seed": options.seed, "mutants": results}, indent=1))
    counts = Counter(result["outcome"] for result in results)
    share = counts["noticed"] / max(1, len(results) - counts["explained"])
    print(f"{dict(counts)}: {share:.1%} of those that change a result were noticed")
    sys.exit(share < NEEDED)


if __name__ == "__main__":
    main()
