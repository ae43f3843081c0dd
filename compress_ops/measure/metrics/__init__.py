"""Scores of outputs against labels, one file a family; `table` lists them."""
