"""Mutated files for every reader of ours: read as before, read as other finite values, or refused.

    python -m benchmarks.fuzz [--minutes N] [--reader NAME ...] [--seed N] [--kept FOLDER]
    python -m benchmarks.fuzz --reader NAME --replay SEED

`readers.py` lists the files, each with what reads it and how its digests are made anew;
`mutations.py` changes bytes and structure. The valid files are those of the attack harness
(`tests/support/forged.py`). An input is a function of its reader and its seed, so a seed is all
that is kept of a failure.
"""
