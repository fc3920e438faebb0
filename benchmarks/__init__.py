"""Runnable comparisons. Each prints a table, and one JSON object with --json.

    python -m benchmarks.loader               reading features from the cache and from other formats
    python -m benchmarks.loader.first_touch   what the digests cost a reader
    python -m benchmarks.step                 our training step and that of a usual trainer
    python -m benchmarks.sweep                eight heads in one pass and eight single trainings
    python -m benchmarks.end_to_end           wall time, memory and growth of the whole pipeline
    python -m benchmarks.end_to_end.memory    memory of a training over 8 GB of mapped features
    python -m benchmarks.rehearsal            VQAv2 in miniature with models of real size
    python -m benchmarks.torture              kills, full disks and flipped bits
    python -m benchmarks.fuzz                 mutated files for every reader
    python -m benchmarks.mutants              small faults that the tests have to notice
    python -m benchmarks.accuracy.ablations   one setting changed at a time
    python -m benchmarks.accuracy.priors      generated scenes without the picture or the question
    python -m benchmarks.statistics           how far intervals and tests can be trusted

`harness.py` starts fresh processes, runs rounds and prints tables; `generated.py` writes caches of
made-up features, `models.py` encoders of real size with random weights.
"""
