"""Data sets from the net: what may be fetched, and how it comes to lie on the disk whole.

May import system.
"""
