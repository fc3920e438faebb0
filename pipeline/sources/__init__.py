"""Data sets as examples: a module per kind, and checks they share. May import errors, system."""
