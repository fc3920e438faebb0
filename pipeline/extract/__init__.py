"""Stage one: what to encode, in which order, and the shards that come of it.

May import encoders, sources, system.
"""
