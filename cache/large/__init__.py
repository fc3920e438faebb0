"""A list and a dictionary that move to a file when they grow beyond `KEPT` values.

    nameless.py   the file, which ends with the process, whatever ends it
    lists.py      values in their order, packed in blocks
    dicts.py      what belongs to a key, found by a digest of the key

The plan of ten million pictures is made of them, so its memory does not grow with the data set. Up
to `KEPT` values they are a Python list and a Python dictionary, and as fast.
"""
