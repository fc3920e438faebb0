"""The training step, compared with a usual trainer, plain order, and no cache at all."""
