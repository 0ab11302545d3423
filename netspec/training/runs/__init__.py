"""A run as it lies on the disk: its folder, what it was started with, checkpoints, weights."""
