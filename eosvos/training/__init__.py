"""Training: stages, callbacks, checkpoints, and the evaluation at the end."""
