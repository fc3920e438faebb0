"""Stage one: plans what to encode, encodes it, and stores the shards.

May import encoders, plugins, sources, system, watch.
"""
