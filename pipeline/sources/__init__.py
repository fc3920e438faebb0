"""Data sets as examples: a module per kind, and the checks they share. May import errors, system."""
