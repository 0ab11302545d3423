"""Training: the loop, checkpoints, metrics and logs."""
