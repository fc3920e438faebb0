"""Batches of cached features: their order, their reading, and where the features are kept.

May import answers, metrics, model, system.
"""
