"""Data sets of which a question has several texts to choose from."""
