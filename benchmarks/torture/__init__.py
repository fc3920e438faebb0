"""Kills, full disks and flipped bits, against the promises of the cache and of a training."""
