"""splatting: 3-D Gaussian splatting by hand, on a CPU."""
