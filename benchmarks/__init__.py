"""Runnable comparisons; each prints a table, and one JSON object with --json.

loader.py       features from the cache against what people use for that (peers.py)
first_touch.py  what the digests cost a reader
pipeline.py     the whole pipeline: wall time, memory, growth; extraction against its encoder
                (bare_encoder.py, growth.py)
torture.py      kills, full disks and flipped bits against the cache
harness.py      fresh processes, rounds, tables      generated.py  caches of made-up features
"""
