"""Everything that only a GPU can show, in a few minutes."""
