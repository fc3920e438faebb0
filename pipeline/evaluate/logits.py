"""The logits of a whole split, kept so that others can combine heads in their own way.

RUN/evaluation/<split>/logits.safetensors holds the tensor `logits`, (questions, answers) float32;
the largest of each row is the answer in results.json. float16 would halve the file, but it would
round different logits to equal ones. The metadata holds under `run` a JSON object with
`question_ids` and `answers`, which name the rows and the columns, and a digest of everything.
`load_logits` checks that digest; a plain reader of safetensors does not.

With choices, the columns are the choices of each question in their order, "choice 1" first. Where a
question has fewer, the logit is -1e17.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from frozen_vqa.cache import SplitTable
from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.errors import explain_write_errors
from frozen_vqa.cache.format.records.files import Id
from frozen_vqa.pipeline.batches.plan import plan_batches
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.batches.rows import same_pictures
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.predict import batch_logits, require_finite_logits
from frozen_vqa.pipeline.runs.sealed import read_sealed, seal

WRITE_ADVICE = "Check the permissions of the run folder and the free space of its disk."


@torch.inference_mode()
def split_logits(
    model: VqaModel, reader: BatchReader, split: SplitTable, *, batch_size: int, answers: int
) -> np.ndarray:
    """Return the logits of every question of a split: (questions, answers or choices) float32.

    Raises as `require_finite_logits` does.
    """
    model.eval()
    found = np.empty((len(split), answers), dtype=np.float32)
    order = plan_batches(same_pictures(split), batch_size=batch_size, grouped=True, shuffle=None)
    for batch in reader.batches(order):
        logits = batch_logits(model, batch).cpu()
        require_finite_logits(logits, batch.questions, reader)
        found[batch.questions] = logits.numpy()
    return found


def save_logits(
    path: Path, logits: np.ndarray, *, question_ids: Sequence[Id], answers: Sequence[str]
) -> None:
    """Write logits with the names of their rows and columns, whole or not at all.

    Raises:
        RunError: if the file cannot be written.
    """
    record = {"question_ids": list(question_ids), "answers": list(answers)}
    with explain_write_errors(path, RunError, WRITE_ADVICE):
        write_atomically(path, seal({"logits": torch.from_numpy(logits)}, record))


def load_logits(path: Path) -> tuple[np.ndarray, Sequence[Id], Sequence[str]]:
    """Return logits, the question ids of their rows, and the answers of their columns.

    Raises:
        RunError: if the file cannot be read, or differs from the file that was saved.
    """
    again = "make it again with `evaluate --save-logits`"
    try:
        tensors, record = read_sealed(path, "logits")
        return tensors["logits"].numpy(), record["question_ids"], record["answers"]
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    except (ValueError, KeyError) as error:
        raise RunError(f"{path}: {error}; {again}") from error
