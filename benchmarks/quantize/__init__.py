"""Quantization beside every peer: accuracy, time and size on the same data, in one run."""
