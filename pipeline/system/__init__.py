"""The machine: devices, processes, signals, the terminal. May import errors."""
