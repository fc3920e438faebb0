"""Batches of cached features: their order, their reading, and where they lie meanwhile.

May import answers, model, system.
"""
