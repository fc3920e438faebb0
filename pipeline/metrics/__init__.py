"""The metrics of all data sets by name, and the official files that they read and write.

May import sources, system.
"""
