"""Everything between the command line and the cache.

    stage one   sources, jsonl, hub, shapes -> plan -> images, encoders -> extract -> cache
    stage two   cache -> batches -> model (attention) -> train -> runs
    after       evaluate (metric, answers) -> compare (bootstrap) -> tables, contact_sheet

`commands.py` and `demo.py` put these parts together for `cli.py`. Axis names of tensors are listed
in `attention.py`; words (patch embeddings, hidden states, attention mask, ...) mean what the README
says. Nothing here imports `cli.py`, and `cache/` imports nothing of this.
"""
