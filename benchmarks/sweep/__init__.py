"""A sweep of eight heads, compared with eight single trainings."""
