"""Scores of units, and the evidence that they look at."""
