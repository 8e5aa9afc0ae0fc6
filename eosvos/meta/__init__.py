"""Learning to fine-tune: initial weights, inner learning rates, the inner loop, and the outer loop."""
