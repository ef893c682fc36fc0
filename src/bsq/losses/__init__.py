"""Losses of training. What enters: pixels and reconstructions. What leaves: float32 scalars, each in its own unit."""
