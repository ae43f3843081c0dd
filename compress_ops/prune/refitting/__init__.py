"""Layers solved anew after pruning, in closed form."""
