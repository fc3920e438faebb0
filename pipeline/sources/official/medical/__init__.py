"""Data sets of medical pictures."""
