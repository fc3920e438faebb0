"""One rank of `train-head`; `torchrun` starts it.

torchrun ... train_worker.py RANK:EVENT:STEP train-head ...

Before its STEP-th step (from 0) rank RANK ("all" for each) is killed, gets a signal, or fails, once
if torchrun starts it again. A state is saved after every step.
"""

import os
import signal
import sys

from frozen_vqa import cli
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.train.loop import TrainingLoop
from frozen_vqa.pipeline.train.trainer import Trainer


def main() -> None:
    rank, event, step = sys.argv.pop(1).split(":")
    TrainingLoop.save_is_due = True  # type: ignore[assignment]
    real = Trainer._update
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

    def update(self: Trainer) -> None:
        if self.counters.step == int(step) and rank in ("all", os.environ["RANK"]) and first:
            if event == "fails":
                raise RunError("made to fail")
            os.kill(os.getpid(), getattr(signal, event))
        real(self)

    Trainer._update = update  # type: ignore[method-assign]
    cli.main()


if __name__ == "__main__":
    main()
