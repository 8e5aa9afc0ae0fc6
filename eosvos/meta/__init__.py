"""Learning to fine-tune: initial weights and rates, the inner loop, and the loop that trains them."""
