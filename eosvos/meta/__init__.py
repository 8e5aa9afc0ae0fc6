"""Learning to fine-tune: initial weights and learning rates, the inner loop, and the loop that trains them."""
