"""Ranges of activations: seen on calibration data, clipped, and how well codes stand for them."""
