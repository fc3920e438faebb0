"""One module per command: its work and its output. May import everything else in `pipeline`."""
