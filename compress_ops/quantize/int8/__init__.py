"""Weights and activations in 8 bits: static (QDQ, QOperator) and dynamic."""
