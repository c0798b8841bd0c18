"""warmup: a small CNN on MNIST with the whole training loop in the open."""
