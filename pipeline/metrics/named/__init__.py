"""The metrics and official layouts of data sets, a module each.

A module holds a `LAYOUT`, or the one of another data set, and `METRICS`; `find.py` lists them.
"""
