"""Caches that go to others and come from them: the commands `push` and `pull`, and the card.

May import system, watch.
"""
