"""Clean-ups of a graph that leave what it computes as it is: folding, fusing, constants, duplicates."""
