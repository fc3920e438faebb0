"""One module per command: it does the work and prints it. May import everything else in `pipeline`."""
