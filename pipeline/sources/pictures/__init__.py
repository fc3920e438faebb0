"""The pictures of a data set: which of them are the same."""
