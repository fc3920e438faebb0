"""Your own pictures and questions: JSONL, a JSON list, CSV or TSV, told apart by what is there.

source ── layout (which file is which split) ── tables (a file as records)
   └───── records (a record as an example) ──┬─ columns (which name is which field)
                                             └─ pictures (which file a path means)
"""
