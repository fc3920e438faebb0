"""Data sets as examples: a module for each kind, and what all of them check. May import errors."""
