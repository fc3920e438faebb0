"""Time, memory and growth of both stages, each run as a user runs it."""
