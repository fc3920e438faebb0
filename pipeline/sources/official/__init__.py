"""Data sets in the files that their authors publish: a module each, on one shared `reader.py`.

reader ── records (of a JSON list, an object by id, or lines) ── fields ── a question
                                                            └─── path ── its picture
"""
