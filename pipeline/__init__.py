"""Everything between the command line and the cache, in packages that import one way.

    commands ── extract ── encoders ── sources
        │
        └── train, evaluate ── predict ── batches, runs ── answers, config ── model, metrics

`system` (the machine) and `errors` serve all packages. Each package says what it may import, and
`tests/test_imports.py` holds it to that.
"""
