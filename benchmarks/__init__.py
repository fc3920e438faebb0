"""Runnable comparisons; each prints a table, and one JSON object with --json.

loader.py       features from the cache against a copy in memory and what people use (lines.py,
                ours.py, peers*.py; reading.py and ceilings.py measure, loader_summary.py tells)
first_touch.py  what the digests cost a reader
step.py         the training step against a usual trainer, plain order, no cache (step_*.py,
                usual_*.py, encoders_in_loop.py)
sweep.py        eight heads in one pass against eight trainings (sweep_*.py)
pipeline.py     the whole pipeline: wall time, memory, growth; extraction against its encoder
                (bare_encoder.py, growth*.py)
memory.py       what a training over 8 GB of mapped features holds of its own
ablations.py    one setting changed at a time; its table is in docs/results.md
priors.py       generated scenes without the picture, or without the question
torture.py      kills, full disks and flipped bits against the cache and a training (torture_*.py,
                disturbed.py)
harness.py      fresh processes, rounds, tables      generated.py  caches of made-up features
"""
