"""Everything between the command line and the cache, in rooms that import one way.

    commands ── extract ── encoders ── sources
        │
        └── train, evaluate ── predict ── batches, runs ── answers, config ── model, metrics

`system` (the machine) and `errors` serve them all. Each room says what it may import, and a test
holds it to that.
"""
