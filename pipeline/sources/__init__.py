"""Data sets as examples: one module per kind, and the checks they share. May import plugins."""
