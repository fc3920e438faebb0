"""VQAv2 in miniature through the real commands, and what the whole of it would take."""
