"""What each command does, and what it prints. May import everything else in `pipeline`."""
