"""The folder of a run: which of its files are ours (`cache/disk/folders.py`), and its lock.

A training holds the lock as long as it lasts, and `evaluate` while it writes. So two trainings
never mix their files, and an evaluation never stands beside weights that it did not score.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.cache.disk.folders import OwnFolder
from frozen_vqa.cache.disk.lock import WriterLock, sole_writer
from frozen_vqa.cache.errors import CacheBusyError, explain_write_errors
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.typed_json import finite_json
from frozen_vqa.pipeline.config import ANSWERS
from frozen_vqa.pipeline.errors import RunBusyError, RunError
from frozen_vqa.pipeline.runs.sealed import LastTwo, unseal_json

WAIT_SECONDS = 10.0
"""How long an evaluation waits for others to write their results into the same run."""

Stamp = tuple[int, ...]

CURRENT, PREVIOUS = "model.safetensors", "model.previous.safetensors"
STATE = "state/state.safetensors"
ENVIRONMENT, METRICS = "environment.json", "metrics.jsonl"
LARGEST_TEXT = 16 << 20
"""Bytes that are read of any other file of a run; ours have some thousand."""
TRAINED = ("config.toml", "config.json", ANSWERS, "run.json", METRICS, ENVIRONMENT)
FOLDERS = ("state", "evaluation", "tensorboard")
"""The folders of a run. None is a link, or a command would write and delete elsewhere."""
RESULTS = ("results.json", "results.jsonl", "results.csv", "results.txt")
"""The file of answers in the official form of the data set."""
LOGITS = "logits.safetensors"
EVALUATED = (*RESULTS, "scores.json", LOGITS)
REPORT = "report.html"


def explain_run_write_errors(run: Path, *, replaces: bool = False) -> AbstractContextManager[None]:
    """Turn an `OSError` of a block that writes to a run, or replaces it, into a `RunError`."""
    advice = "or give another --run; every file that the run still has is whole"
    if replaces:
        advice = "and run the same command again; it has begun to remove the run that was here"
    return explain_write_errors(run, RunError, f"Make room {advice}.")


def weight_files(run: Path) -> LastTwo:
    """Return the paths of the weights of a run."""
    return LastTwo(run / CURRENT)


def state_files(run: Path) -> LastTwo:
    """Return the paths of the states of a run."""
    return LastTwo(run / STATE)


def remove_results(run: Path) -> None:
    """Remove what the weights of a run answered, before others take their place."""
    own = own_run(run)
    with explain_run_write_errors(run):
        own.remove(name for name in own.names() if name.startswith("evaluation/"))


def own_run(path: Path) -> OwnFolder:
    """Return what tells which files of a run are ours; its README.md tells by a line in it."""
    return OwnFolder(path, "a run", RunError, "--run")


def training_files(path: Path) -> list[str]:
    """Return the names of all files that a training may write, states first."""
    tensors = (*state_files(path).paths, *weight_files(path).paths)
    return [*(str(file.relative_to(path)) for file in tensors), *TRAINED]


def claim_run(path: Path) -> OwnFolder:
    """Make a folder that of a run, or raise `RunError` if it may be somebody else's."""
    own = own_run(path)
    with explain_run_write_errors(path):
        own.claim(_known_files(own))
        own.require_real(*FOLDERS)
    return own


def require_free(path: Path) -> None:
    """Raise `RunError` if there is a run in a folder."""
    if (path / "config.json").exists():
        raise RunError(
            f"{path}: there is a run in this folder already. Give another --run, --resume to "
            f"continue this one, or --overwrite to replace it."
        )


def require_place(path: Path, *, overwrite: bool) -> None:
    """Raise `RunError` if a training cannot begin in a folder: it is taken, not ours, or in use."""
    if not overwrite:
        require_free(path)
    own = own_run(path)
    with explain_run_write_errors(path):
        own.require(_known_files(own))
    with ExitStack() as held:
        if own.is_marked():
            hold_run(path, held)


def hold_run(
    path: Path, held: ExitStack, *, seconds: float = 0.0, names: Sequence[str] = ()
) -> WriterLock:
    """Hold a run's lock until `held` is closed, to write these files; wait for it as long as this.

    Raises `RunBusyError` if another process holds it, and `RunError` if the folder or a file of
    these names is not ours.
    """
    own, until = claim_run(path), time.monotonic() + seconds
    while True:
        try:
            with explain_run_write_errors(path):
                lock = held.enter_context(sole_writer(path, what="run"))
                own.note(*names)
                own.remove_partials()
                return lock
        except CacheBusyError as error:
            if time.monotonic() >= until:
                raise RunBusyError(str(error)) from None
        time.sleep(0.05)


def has_training(path: Path) -> bool:
    """Whether a training has left states or results in a folder; a killed one may have neither."""
    kept = *state_files(path).paths, *weight_files(path).paths, path_in(path, METRICS)
    return any(file.exists() for file in kept)


def stamp_weights(path: Path) -> Stamp:
    """Return what tells the weights of a run from any that come later; () if there are none."""
    try:
        found = weight_files(path).current.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def writing_results(path: Path, stamp: Stamp) -> Iterator[OwnFolder]:
    """Hold a run's lock, to write what the weights of this stamp answered.

    Other evaluations hold it for moments, so this waits for them. Raises `RunBusyError` if another
    process trains the run, and `RunError` if the weights are no longer these.
    """
    with ExitStack() as held:
        hold_run(path, held, seconds=WAIT_SECONDS)
        if stamp_weights(path) != stamp:
            raise RunError(
                f"{path}: another process has changed the weights since this one loaded them, so "
                f"its answers are not those of this run. Run the same command again."
            )
        yield own_run(path)


def require_place_for_results(path: Path, stamp: Stamp, names: Sequence[str]) -> None:
    """Raise as `writing_results` does or if a file is in the way, before hours of work."""
    with writing_results(path, stamp) as own, explain_run_write_errors(path):
        own.require_ours(*names)


def _known_files(own: OwnFolder) -> list[str]:
    """Return the files of a run without a mark, as a copy may be: run.json shows it to be one."""
    if own.is_marked():
        return []
    try:
        unseal_json(finite_json(read_file(own.path / "run.json", most=LARGEST_TEXT)))
    except (OSError, ValueError, RecursionError):
        return []
    paths = [path_in(own.path, name) for name in training_files(own.path)]
    for name in (*EVALUATED, REPORT):
        paths += own.path.glob(f"evaluation/**/{name}")
    # Only a killed process leaves a coming version, and a copy of its folder has a mark.
    coming = {files(own.path).coming for files in (weight_files, state_files)}
    return [str(p.relative_to(own.path)) for p in paths if p not in coming and p.exists()]


def require_sweep_folder(path: Path) -> None:
    """Raise `RunError` if the folder of a sweep's run folders may be somebody else's."""
    with explain_run_write_errors(path):
        _own_sweep(path).require(_runs_in(path))


def require_real_heads(path: Path, heads: Iterable[str]) -> None:
    """Raise `RunError` if the run folder of a head of a sweep is a link, perhaps to elsewhere."""
    _own_sweep(path).require_real(*heads)


def claim_sweep_folder(path: Path) -> None:
    """Make the folder of a sweep's run folders, or raise as `require_sweep_folder` does."""
    with explain_run_write_errors(path):
        _own_sweep(path).claim(_runs_in(path))


def _own_sweep(path: Path) -> OwnFolder:
    """Return what tells whether the folder of a sweep is ours; its files are those of its runs."""
    return OwnFolder(path, "the runs of a sweep", RunError, "--run")


def _runs_in(path: Path) -> list[str]:
    """Return the names of a folder's run folders if it holds nothing else."""
    inside = sorted(path.iterdir()) if path.is_dir() else []
    runs = [
        str(run.name) for run in inside if own_run(run).is_marked() or _known_files(own_run(run))
    ]
    return runs if len(runs) == len(inside) else []


def claim_published(path: Path) -> OwnFolder:
    """Let a folder take a published run: it is new, or holds one that was not trained there.

    Raises `RunError` otherwise.
    """
    own = OwnFolder(path, "a published run", RunError, "save_pretrained")
    if (card := path / "README.md").is_symlink():
        raise RunError(
            f"{card}: a link, and the library of the Hub would write where it leads, so nothing "
            f"was written. Remove it, or give save_pretrained another folder."
        )
    with explain_run_write_errors(path):
        own.claim(_known_files(own))
        own.note(*training_files(path))
    return own
