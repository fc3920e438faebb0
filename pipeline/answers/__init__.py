"""Answers as classes: the vocabulary, and the soft targets of training.

May import metrics, sources.
"""
