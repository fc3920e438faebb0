"""The folder of a run: its files, their digests, and loading a head from them.

May import answers, config, model, plugins, system.
"""
