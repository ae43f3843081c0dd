"""Number formats: codes, scales, zero points, blocks, roundings, and how well they stand for floats."""
