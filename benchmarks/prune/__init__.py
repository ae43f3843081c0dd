"""Pruning: what goes, what it costs in accuracy, how much faster the result is, and the proof."""
