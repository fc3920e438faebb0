"""The head: its settings, its layers, and the plain formulas that every fast path equals.

May import plugins, system.
"""
