"""Reinforcement learning by hand."""
