"""What this process has open: a test compares it before and after."""

import os
from collections import Counter


def open_files() -> Counter[str]:
    """What this process has open, but for the folder that says so, and how often."""
    found: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        try:
            found[os.readlink(f"/proc/self/fd/{number}")] += 1
        except FileNotFoundError:
            continue
    return found
