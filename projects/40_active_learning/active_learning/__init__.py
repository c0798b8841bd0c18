"""active_learning: which images to label next, and the controls that a claim needs."""
