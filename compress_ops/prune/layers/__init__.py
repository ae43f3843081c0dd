"""Whole residual blocks that go."""
