"""Weights alone in few bits: blocks with scales, codebooks, signs; activations stay as they are."""
