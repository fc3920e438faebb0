"""Mutation tests: small faults are put into the code, and the tests have to notice each.

    python -m benchmarks.mutants [PATH ...] [--each N] [--seed N] [--processes N] [--out JSON]

`mutations.py` makes the faults, `__main__.py` draws some for each module and runs the module's own
tests on each. A mutant that no test notices survives; `docs/mutants.md` lists the survivors that
change no result, with the reason. Public tools copy modules by the path under which they are
imported, and ours lie at the top of the repository; nor do they choose tests by module, without
which a run takes days.
"""
