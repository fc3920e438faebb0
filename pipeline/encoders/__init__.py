"""The frozen encoders: loads them, prepares their inputs, runs them.

May import plugins, sources, system.
"""
