"""mnist: a minimal CNN on MNIST, and whether rendered digits help it."""
