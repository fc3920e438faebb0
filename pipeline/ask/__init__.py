"""A head and its encoders in memory, and what they are asked.

May import encoders, extract, model, plugins, predict, report, runs, sources, system.
"""
