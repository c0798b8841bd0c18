"""Synthetic digits that a Houdini scene and a Python renderer draw from one table."""
